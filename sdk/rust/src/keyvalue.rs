//! What outlives a delivery: the store of `[grant] keyvalue`.
//!
//! ```
//! use wabbit_sdk::{Delivery, Error, Outcome, keyvalue};
//!
//! #[wabbit_sdk::handler]
//! fn handle(delivery: Delivery) -> Result<Outcome, Error> {
//!     let orders = keyvalue::open("orders")?;
//!     let seen = orders.increment(&delivery.routing_key, 1)?;
//!     println!("{} orders for {}", seen, delivery.routing_key);
//!     Ok(Outcome::ack())
//! }
//! # keyvalue::provide("orders");
//! # assert_eq!(handle(Delivery::of("").with_routing_key("eu")), Ok(Outcome::ack()));
//! # assert_eq!(keyvalue::open("orders").unwrap().get("eu").unwrap().as_deref(), Some(&b"1"[..]));
//! ```
//!
//! What is written takes effect at once, not with the settlement: a delivery that is tried again writes again.
//!
//! Outside a host, in a handler's own tests, [`provide`] says which stores there are.

use std::fmt;

/// Why a store did not do as it was asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyValueError(String);

impl fmt::Display for KeyValueError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for KeyValueError {}

/// The store of this name, which the manifest grants. It goes by `default`, too.
pub fn open(name: &str) -> Result<Store, KeyValueError> {
    host::open(name).map(Store)
}

/// A store that is open.
pub struct Store(host::Bucket);

impl Store {
    /// The value of a key.
    pub fn get(&self, key: &str) -> Result<Option<Vec<u8>>, KeyValueError> {
        self.0.get(key)
    }

    /// Gives a key a value.
    pub fn set(&self, key: &str, value: impl AsRef<[u8]>) -> Result<(), KeyValueError> {
        self.0.set(key, value.as_ref())
    }

    /// Takes a key away, if it is there.
    pub fn delete(&self, key: &str) -> Result<(), KeyValueError> {
        self.0.delete(key)
    }

    /// Whether a key is there.
    pub fn exists(&self, key: &str) -> Result<bool, KeyValueError> {
        self.0.exists(key)
    }

    /// Adds to a number, which is 0 where the key is not there, and returns the sum. Nobody comes in between. In `get`
    /// and `set` the number is written in decimal digits.
    pub fn increment(&self, key: &str, by: u64) -> Result<u64, KeyValueError> {
        self.0.increment(key, by)
    }

    /// All keys, in their order.
    pub fn keys(&self) -> Result<Vec<String>, KeyValueError> {
        let mut keys = Vec::new();
        let mut cursor = None;
        loop {
            let (more, next) = self.0.list(cursor)?;
            keys.extend(more);
            cursor = next;
            if cursor.is_none() {
                return Ok(keys);
            }
        }
    }
}

#[cfg(not(target_arch = "wasm32"))]
pub use host::provide;

#[cfg(target_arch = "wasm32")]
mod host {
    use super::KeyValueError;

    mod bindings {
        wit_bindgen::generate!({
            path: "../wit",
            inline: "
                package wabbit:sdk-keyvalue;
                world keyvalue {
                    import wasi:keyvalue/store@0.2.0-draft;
                    import wasi:keyvalue/atomics@0.2.0-draft;
                }
            ",
            world: "wabbit:sdk-keyvalue/keyvalue",
            generate_all,
        });
    }

    use bindings::wasi::keyvalue::{
        atomics,
        store::{self, Error},
    };

    impl From<Error> for KeyValueError {
        fn from(error: Error) -> Self {
            Self(match error {
                Error::NoSuchStore => "the manifest grants no such store".into(),
                Error::AccessDenied => "the store is not for this handler".into(),
                Error::Other(text) => text,
            })
        }
    }

    pub(super) struct Bucket(store::Bucket);

    pub(super) fn open(name: &str) -> Result<Bucket, KeyValueError> {
        Ok(Bucket(store::open(name)?))
    }

    impl Bucket {
        pub(super) fn get(&self, key: &str) -> Result<Option<Vec<u8>>, KeyValueError> {
            Ok(self.0.get(key)?)
        }

        pub(super) fn set(&self, key: &str, value: &[u8]) -> Result<(), KeyValueError> {
            Ok(self.0.set(key, value)?)
        }

        pub(super) fn delete(&self, key: &str) -> Result<(), KeyValueError> {
            Ok(self.0.delete(key)?)
        }

        pub(super) fn exists(&self, key: &str) -> Result<bool, KeyValueError> {
            Ok(self.0.exists(key)?)
        }

        pub(super) fn increment(&self, key: &str, by: u64) -> Result<u64, KeyValueError> {
            Ok(atomics::increment(&self.0, key, by)?)
        }

        pub(super) fn list(&self, cursor: Option<u64>) -> Result<(Vec<String>, Option<u64>), KeyValueError> {
            let found = self.0.list_keys(cursor)?;
            Ok((found.keys, found.cursor))
        }
    }
}

#[cfg(not(target_arch = "wasm32"))]
mod host {
    use std::{cell::RefCell, collections::BTreeMap, rc::Rc};

    use super::KeyValueError;

    type Values = Rc<RefCell<BTreeMap<String, Vec<u8>>>>;

    thread_local! {
        static STORES: RefCell<BTreeMap<String, Values>> = RefCell::default();
    }

    /// An empty store for the rest of this test: each test has a thread, and stores, of its own.
    pub fn provide(name: &str) {
        STORES.with_borrow_mut(|stores| stores.insert(name.to_owned(), Values::default()));
    }

    pub(super) struct Bucket(Values);

    pub(super) fn open(name: &str) -> Result<Bucket, KeyValueError> {
        let found = STORES.with_borrow(|stores| stores.get(name).cloned());
        found.map(Bucket).ok_or_else(|| KeyValueError("the manifest grants no such store".into()))
    }

    impl Bucket {
        pub(super) fn get(&self, key: &str) -> Result<Option<Vec<u8>>, KeyValueError> {
            Ok(self.0.borrow().get(key).cloned())
        }

        pub(super) fn set(&self, key: &str, value: &[u8]) -> Result<(), KeyValueError> {
            self.0.borrow_mut().insert(key.to_owned(), value.to_owned());
            Ok(())
        }

        pub(super) fn delete(&self, key: &str) -> Result<(), KeyValueError> {
            self.0.borrow_mut().remove(key);
            Ok(())
        }

        pub(super) fn exists(&self, key: &str) -> Result<bool, KeyValueError> {
            Ok(self.0.borrow().contains_key(key))
        }

        pub(super) fn increment(&self, key: &str, by: u64) -> Result<u64, KeyValueError> {
            let old = self.get(key)?.unwrap_or_else(|| b"0".into());
            let old = String::from_utf8(old).ok().and_then(|text| text.parse::<u64>().ok());
            let old = old.ok_or_else(|| KeyValueError(format!("the value of `{key}` is not a whole number")))?;
            let sum = old.checked_add(by).ok_or_else(|| KeyValueError(format!("`{key}` would be too large")))?;
            self.set(key, sum.to_string().as_bytes())?;
            Ok(sum)
        }

        pub(super) fn list(&self, _cursor: Option<u64>) -> Result<(Vec<String>, Option<u64>), KeyValueError> {
            Ok((self.0.borrow().keys().cloned().collect(), None))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_map_stands_in_for_the_store() {
        assert!(open("counts").is_err_and(|error| error.to_string() == "the manifest grants no such store"));
        provide("counts");
        let counts = open("counts").unwrap();
        assert_eq!((counts.increment("a", 2), counts.increment("a", 3)), (Ok(2), Ok(5)));
        counts.set("b", "text").unwrap();
        assert_eq!(open("counts").unwrap().get("b"), Ok(Some(b"text".to_vec())));
        assert!(counts.increment("b", 1).unwrap_err().to_string().contains("`b` is not a whole number"));
        counts.delete("b").unwrap();
        assert_eq!(
            (counts.exists("b"), counts.get("b"), counts.keys()),
            (Ok(false), Ok(None), Ok(vec!["a".to_owned()]))
        );
    }
}
