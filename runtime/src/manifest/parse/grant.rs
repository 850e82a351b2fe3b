//! `[grant]` without `publish`: what a handler may reach while it runs.

use std::{collections::BTreeSet, path::PathBuf};

use crate::manifest::{
    FilesGrant, KeyValueGrant, SecretSource,
    read::Section,
    report::Problem,
    values::{name, quoted},
};

const STORE_NAME_BYTES_MAX: usize = 100;
/// Folders of a handler.
const FOLDERS_MAX: usize = 16;
const GUEST_PATH_BYTES_MAX: usize = 255;
const FOLDER_BYTES_MIN: usize = 4 << 10;
const FOLDER_BYTES_MAX: usize = 1 << 40;
const FOLDER_BYTES_DEFAULT: usize = 100 << 20;
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

/// Where a secret is, as a manifest or the settings say it.
pub(crate) fn secret(text: &str) -> Result<SecretSource, Problem> {
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

/// `keyvalue`: a store's name, or a table with it.
pub(super) fn keyvalue(section: &mut Section<'_>) -> Option<KeyValueGrant> {
    let alone = |name: &str| Ok(KeyValueGrant { store: store_name(name)?, shared: false, memory: false });
    section.text_or("keyvalue", alone, |table| {
        table.require("store", "store = \"NAME\"");
        let shared = table.flag("shared").unwrap_or_default();
        let memory = table.flag("memory").unwrap_or_default();
        Some(KeyValueGrant { store: table.checked("store", store_name)?, shared, memory })
    })
}

fn store_name(text: &str) -> Result<String, Problem> {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    if text.is_empty() || text.len() > STORE_NAME_BYTES_MAX || !text.chars().all(plain) {
        let problem = Problem::new(format!("{} cannot be a store's name", quoted(text)));
        return Err(problem.hint(format!("letters, digits, `-`, `_` and `.`, at most {STORE_NAME_BYTES_MAX} of them")));
    }
    Ok(text.to_owned())
}

/// `files`: folders, each with the path that the handler sees it by.
pub(super) fn files(section: &mut Section<'_>) -> Vec<FilesGrant> {
    let mut guests = BTreeSet::new();
    let folders: Vec<_> = section.sections("files", |folder| {
        folder.require("host", "host = \"FOLDER\"");
        folder.require("guest", "guest = \"/FOLDER\"");
        let host = folder.checked("host", |path| match path {
            "" => Err(Problem::new("an empty path")),
            path if path.contains('\0') => Err(Problem::new("no path has a zero byte in it")),
            path => Ok(PathBuf::from(path)),
        });
        let guest = folder.checked("guest", guest_path);
        if guest.as_ref().is_some_and(|guest| !guests.insert(guest.clone())) {
            folder.report("guest", Problem::new("two folders cannot have the same path"));
        }
        let write = folder.flag("write").unwrap_or_default();
        let max = folder.size("max", FOLDER_BYTES_MIN..=FOLDER_BYTES_MAX);
        if max.is_some() && !write {
            let problem = Problem::new("`max` has no meaning where nothing is written");
            folder.report("max", problem.hint("add `write = true`, or leave `max` out"));
        }
        let max = max.unwrap_or(FOLDER_BYTES_DEFAULT) as u64;
        Some(FilesGrant { host: host?, guest: guest?, write, max })
    });
    if folders.len() > FOLDERS_MAX {
        section.report("files", Problem::new(format!("more than {FOLDERS_MAX} folders")));
    }
    folders.into_iter().flatten().collect()
}

fn guest_path(text: &str) -> Result<String, Problem> {
    let inner = text.strip_prefix('/').map(|inner| inner.strip_suffix('/').unwrap_or(inner));
    let plain = |part: &str| !part.is_empty() && part != "." && part != ".." && !part.contains('\0');
    match inner {
        Some("") => Ok("/".to_owned()),
        Some(inner) if inner.len() < GUEST_PATH_BYTES_MAX && inner.split('/').all(plain) => Ok(format!("/{inner}")),
        _ => {
            let problem = Problem::new(format!("{} is not a path for a handler", quoted(text)));
            Err(problem.hint("write it from the root, without `.` and `..`: `\"/reports\"`"))
        }
    }
}

/// `env`: the variables of a command.
pub(super) fn env(section: &mut Section<'_>) -> Vec<(String, String)> {
    section.texts("env", |name, value| Ok((grant_name(name)?, no_zero(value)?))).unwrap_or_default()
}

/// `args`: the arguments of a command.
pub(super) fn args(section: &mut Section<'_>) -> Vec<String> {
    let no_table = |table: &mut Section<'_>| {
        table.report("", Problem::new("an argument is a string"));
        None
    };
    section.list("args", no_zero, no_table)
}

fn no_zero(text: &str) -> Result<String, Problem> {
    if text.contains('\0') { Err(Problem::new("it has a zero byte in it")) } else { Ok(text.to_owned()) }
}

/// A name that a handler reads a value by. It has to do for a variable of a command, too.
fn grant_name(text: &str) -> Result<String, Problem> {
    if text.is_empty() || text.contains('=') {
        return Err(Problem::new(format!("{} cannot be the name of a value", quoted(text))));
    }
    name(text)
}
