//! A handler that does with its key-value store what its delivery says, and publishes what came of it.

use serde::Deserialize;
use serde_json::{Value, json};
use wabbit_sdk::{
    Delivery, Error, Outcome, Publication,
    keyvalue::{self, KeyValueError, Store},
};

#[derive(Deserialize)]
struct Command {
    #[serde(default = "store")]
    store: String,
    calls: Vec<Call>,
    /// The queue that the answers go to; nowhere where absent.
    to: Option<String>,
    /// Whether it fails in the end.
    #[serde(default)]
    fail: bool,
}

fn store() -> String {
    "default".into()
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Call {
    Get(String),
    Set(String, String),
    /// So many bytes.
    Fill(String, usize),
    Delete(String),
    Exists(String),
    Increment(String, u64),
    Keys,
}

#[wabbit_sdk::handler]
fn handle(delivery: Delivery) -> Result<Outcome, Error> {
    let Command { store, calls, to, fail } = delivery.json()?;
    let answers = match keyvalue::open(&store) {
        Ok(store) => calls.into_iter().map(|call| call.answer(&store)).collect(),
        Err(error) => vec![json!({ "error": error.to_string() })],
    };
    if fail {
        return Err(Error::new("as it was told"));
    }
    let told = to.map(|to| Publication::new("", to).json(&answers)).transpose()?;
    Ok(Outcome::ack().publish_all(told))
}

impl Call {
    fn answer(self, store: &Store) -> Value {
        self.run(store).unwrap_or_else(|error| json!({ "error": error.to_string() }))
    }

    fn run(self, store: &Store) -> Result<Value, KeyValueError> {
        Ok(match self {
            Self::Get(key) => store.get(&key)?.map(|value| String::from_utf8_lossy(&value).into_owned()).into(),
            Self::Set(key, value) => json!(store.set(&key, value)?),
            Self::Fill(key, length) => json!(store.set(&key, vec![b'x'; length])?),
            Self::Delete(key) => json!(store.delete(&key)?),
            Self::Exists(key) => store.exists(&key)?.into(),
            Self::Increment(key, by) => store.increment(&key, by)?.into(),
            Self::Keys => store.keys()?.into(),
        })
    }
}
