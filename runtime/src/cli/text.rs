//! What several commands read from their arguments.

use std::{
    io::Read as _,
    path::{Path, PathBuf},
};

use anyhow::Context as _;
use clap::Args;

use crate::delivery::Value;

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
            (None, Some(path)) => read(path),
            (None, None) => Ok(Vec::new()),
        }
    }
}

/// A file, or standard input for `-`.
pub(super) fn read(path: &Path) -> anyhow::Result<Vec<u8>> {
    if path.as_os_str() == "-" {
        let mut bytes = Vec::new();
        std::io::stdin().read_to_end(&mut bytes).context("cannot read standard input")?;
        return Ok(bytes);
    }
    std::fs::read(path).with_context(|| format!("cannot read `{}`", path.display()))
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
