//! Where handlers are written: a folder with sources in `plugins/src`, their manifests, and the SDKs.
//!
//! What a language is stands in its own folder, `sdk/LANG`: nothing here knows one by name. `wabbit new` copies a
//! template from there, `wabbit build` runs the script `build` that is there.

pub mod build;
mod changes;
pub mod language;
pub mod name;
pub mod scaffold;
pub mod scenarios;
mod script;
pub mod sdk;
mod sources;

use std::{
    io,
    path::{Path, PathBuf},
};

/// Names of files and folders that are made by compilers and package managers, or kept for them: no source, wherever
/// they are. Hidden ones are not, either.
const MADE: &[&str] = &["node_modules", "target", "__pycache__"];

/// Whether this name in a folder of sources is one of a source.
pub(crate) fn is_source(name: &str) -> bool {
    !name.starts_with('.') && !MADE.contains(&name)
}

/// The folder of sources that this file of plugins is compiled from, where there is one.
pub(crate) fn sources_of(sources: &Path, plugin: &str) -> Option<PathBuf> {
    let all = sources::list(sources).ok()?;
    all.into_iter().find(|source| source.file == plugin).map(|source| source.folder)
}

/// Why a project is not what it has to be.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The system refused something.
    #[error("cannot {what} `{}`: {source}", path.display())]
    Io {
        /// What was tried, such as `read`.
        what: &'static str,
        /// The file or folder.
        path: PathBuf,
        /// The system's answer.
        source: io::Error,
    },
    /// A `language.toml` cannot be used.
    #[error("`{}` cannot be used: {reason}", path.display())]
    Language {
        /// Its path.
        path: PathBuf,
        /// What is wrong, with the line.
        reason: String,
    },
    /// Something else, which the text says, with a hint where there is one.
    #[error("{0}")]
    Other(String),
}

impl Error {
    /// For `map_err`: what was tried with this path.
    fn io(what: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Io { what, path, source }
    }
}
