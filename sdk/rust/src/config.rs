//! What the manifest tells a handler: `[grant] config` and `[grant] secrets`.
//!
//! ```
//! use wabbit_sdk::{Delivery, Error, Outcome, config};
//!
//! #[wabbit_sdk::handler]
//! fn handle(_delivery: Delivery) -> Result<Outcome, Error> {
//!     let from = config::require("from")?;
//!     let token = config::secret("token")?;
//!     println!("sending as {from}, with the token {token}"); // prints `***`
//!     send(&from, token.expose())
//! }
//! # fn send(_: &str, _: &str) -> Result<Outcome, Error> { Ok(Outcome::ack()) }
//! ```
//!
//! Outside a host, in a handler's own tests, [`provide`] says what is there.

use std::fmt;

use crate::Error;

/// The value of this name in the manifest's `config` or `secrets`; none where it is in neither.
pub fn get(name: &str) -> Option<String> {
    host::get(name)
}

/// The same, and an error where there is none.
pub fn require(name: &str) -> Result<String, Error> {
    get(name).ok_or_else(|| Error::new(format!("the manifest grants no value `{name}`")))
}

/// The same of a secret, which is not printed by accident.
pub fn secret(name: &str) -> Result<Secret, Error> {
    require(name).map(Secret)
}

/// All names of `config` with their values. Secrets are left out.
pub fn all() -> Vec<(String, String)> {
    host::all()
}

/// A value that shows itself as `***`.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// The value itself.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

impl fmt::Display for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

#[cfg(not(target_arch = "wasm32"))]
pub use host::provide;

#[cfg(target_arch = "wasm32")]
mod host {
    mod bindings {
        wit_bindgen::generate!({
            path: "../wit",
            inline: "package wabbit:sdk-config; world config { import wasi:config/store@0.2.0-rc.1; }",
            world: "wabbit:sdk-config/config",
            generate_all,
        });
    }

    use bindings::wasi::config::store;

    // The values are there before a handler begins, so that reading them cannot fail.
    pub(super) fn get(name: &str) -> Option<String> {
        store::get(name).unwrap_or_default()
    }

    pub(super) fn all() -> Vec<(String, String)> {
        store::get_all().unwrap_or_default()
    }
}

#[cfg(not(target_arch = "wasm32"))]
mod host {
    use std::{cell::RefCell, collections::BTreeMap};

    thread_local! {
        static VALUES: RefCell<BTreeMap<String, String>> = RefCell::default();
    }

    /// Gives a name its value for the rest of this test: each test has a thread, and values, of its own.
    pub fn provide(name: &str, value: &str) {
        VALUES.with_borrow_mut(|values| values.insert(name.to_owned(), value.to_owned()));
    }

    pub(super) fn get(name: &str) -> Option<String> {
        VALUES.with_borrow(|values| values.get(name).cloned())
    }

    pub(super) fn all() -> Vec<(String, String)> {
        VALUES.with_borrow(|values| values.iter().map(|(name, value)| (name.clone(), value.clone())).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_map_stands_in_for_the_manifest() {
        assert_eq!((get("from"), all()), (None, Vec::new()));
        assert_eq!(require("from"), Err(Error::new("the manifest grants no value `from`")));
        provide("from", "shop@example.com");
        assert_eq!(require("from").as_deref(), Ok("shop@example.com"));
        assert_eq!(all(), [("from".to_owned(), "shop@example.com".to_owned())]);
    }

    #[test]
    fn a_secret_does_not_show_itself() {
        provide("token", "hunter2");
        let token = secret("token").unwrap();
        assert_eq!((format!("{token} {token:?}").as_str(), token.expose()), ("*** ***", "hunter2"));
    }
}
