//! `[grant]` without `publish`: what a handler may reach while it runs.

use std::path::PathBuf;

use crate::manifest::{
    SecretSource,
    read::Section,
    report::Problem,
    values::{name, quoted},
};

/// What a secret's value begins with, and what a person is told to write.
const SECRET_FORMS: &str = "name where it is: `\"env:VARIABLE\"` or `\"file:PATH\"`";

/// `config`: none where the key is absent, so that an empty table grants the interface without a value.
pub(super) fn config(section: &mut Section<'_>) -> Option<Vec<(String, String)>> {
    section.texts("config", |key, value| Ok((grant_name(key)?, value.to_owned())))
}

/// `secrets`; the lines are not shown, for somebody may have written the secret itself.
pub(super) fn secrets(section: &mut Section<'_>) -> Vec<(String, SecretSource)> {
    section.hidden_texts("secrets", |key, value| Ok((grant_name(key)?, secret(value)?))).unwrap_or_default()
}

fn secret(text: &str) -> Result<SecretSource, Problem> {
    match text.split_once(':') {
        Some((_, "")) => Err(Problem::new("a secret needs a variable or a file").hint(SECRET_FORMS)),
        Some(("env", variable)) => match variable.contains(['=', '\0']) {
            true => Err(Problem::new("no variable can have this name").hint(SECRET_FORMS)),
            false => Ok(SecretSource::Env(variable.to_owned())),
        },
        Some(("file", path)) => Ok(SecretSource::File(PathBuf::from(path))),
        // The text is not repeated.
        _ => Err(Problem::new("a secret does not stand in a manifest").hint(SECRET_FORMS)),
    }
}

/// A name that a handler reads a value by. It has to do for a variable of a command, too.
fn grant_name(text: &str) -> Result<String, Problem> {
    if text.is_empty() || text.contains('=') {
        return Err(Problem::new(format!("{} cannot be the name of a value", quoted(text))));
    }
    name(text)
}
