//! What several commands read from their arguments.

use std::{io::Read as _, path::PathBuf};

use anyhow::Context as _;
use clap::Args;

use crate::delivery::{Table, Value};

/// Where a message's body comes from.
#[derive(Args)]
#[group(multiple = false)]
pub(super) struct BodyArgs {
    /// The body
    #[arg(long, value_name = "TEXT")]
    body: Option<String>,
    /// A file with the body, `-` for standard input
    #[arg(long, value_name = "FILE")]
    body_file: Option<PathBuf>,
}

impl BodyArgs {
    /// The body; empty where none is given.
    pub(super) fn read(&self) -> anyhow::Result<Vec<u8>> {
        match (&self.body, &self.body_file) {
            (Some(text), _) => Ok(text.clone().into_bytes()),
            (None, Some(path)) if path.as_os_str() == "-" => {
                let mut body = Vec::new();
                std::io::stdin().read_to_end(&mut body).context("cannot read standard input")?;
                Ok(body)
            }
            (None, Some(path)) => std::fs::read(path).with_context(|| format!("cannot read `{}`", path.display())),
            (None, None) => Ok(Vec::new()),
        }
    }
}

/// A header as it is written on the command line: `NAME=VALUE`. Whole numbers and `true` or `false` become such.
pub(super) fn header(text: &str) -> Result<(String, Value), String> {
    let (name, value) = text.split_once('=').ok_or("a header is written NAME=VALUE")?;
    if name.is_empty() || name.len() > 255 {
        return Err("a header's name has 1 to 255 bytes".into());
    }
    let value = match value {
        "true" => Value::Bool(true),
        "false" => Value::Bool(false),
        _ => match value.parse::<i64>() {
            Ok(n) => i32::try_from(n).map_or(Value::I64(n), Value::I32),
            Err(_) => Value::text(value),
        },
    };
    Ok((name.to_owned(), value))
}

/// A header table as JSON, for people to look at.
pub(super) fn table_json(table: &Table) -> serde_json::Value {
    table.iter().map(|(name, value)| (name.clone(), value_json(value))).collect::<serde_json::Map<_, _>>().into()
}

/// One value as JSON.
pub(super) fn value_json(value: &Value) -> serde_json::Value {
    use serde_json::json;
    match value {
        Value::Bool(b) => json!(b),
        Value::I8(n) => json!(n),
        Value::U8(n) => json!(n),
        Value::I16(n) => json!(n),
        Value::U16(n) => json!(n),
        Value::I32(n) => json!(n),
        Value::U32(n) => json!(n),
        Value::I64(n) => json!(n),
        Value::F32(n) => json!(n),
        Value::F64(n) => json!(n),
        Value::Decimal { scale, value } => json!({ "scale": scale, "value": value }),
        Value::Text(bytes) => json!(String::from_utf8_lossy(bytes)),
        Value::Bytes(bytes) => json!({ "bytes": bytes }),
        Value::Array(values) => values.iter().map(value_json).collect(),
        Value::Timestamp(seconds) => json!({ "timestamp": seconds }),
        Value::Table(table) => table_json(table),
        Value::Void => serde_json::Value::Null,
    }
}
