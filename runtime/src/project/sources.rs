//! The folders that plugins are compiled from, and which language each is of.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

use super::{Error, is_source, language::Language, name::snake};
use crate::manifest::values::nearest;

/// A folder of sources.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Source {
    /// The folder's name.
    pub(super) name: String,
    /// The folder.
    pub(super) folder: PathBuf,
    /// The name of the file that it is compiled to.
    pub(super) file: String,
}

/// The folders in `sources`, by their names. Hidden ones are none.
pub(super) fn list(sources: &Path) -> Result<Vec<Source>, Error> {
    let mut found = Vec::new();
    for entry in fs::read_dir(sources).map_err(Error::io("read", sources))? {
        let folder = entry.map_err(Error::io("read", sources))?.path();
        if !folder.is_dir() {
            continue;
        }
        let Some(name) = folder.file_name().and_then(|name| name.to_str()) else {
            return Err(Error::Other(format!("the name of `{}` is not UTF-8", folder.display())));
        };
        if is_source(name) {
            let (name, file) = (name.to_owned(), format!("{}.wasm", snake(name)));
            found.push(Source { name, folder, file });
        }
    }
    found.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(found)
}

/// Those of them that are named, or all where none is. A name may be in kebab case or in snake case.
///
/// # Errors
///
/// Where one that is named is not there.
pub(super) fn chosen<'s>(all: &'s [Source], names: &[String]) -> Result<Vec<&'s Source>, String> {
    if names.is_empty() {
        return Ok(all.iter().collect());
    }
    let mut chosen = BTreeMap::new();
    for name in names {
        let same = |source: &&Source| snake(&source.name) == snake(name);
        let Some(source) = all.iter().find(|source| source.name == *name).or_else(|| all.iter().find(same)) else {
            let known: Vec<_> = all.iter().map(|source| source.name.as_str()).collect();
            let hint = nearest(name, &known).map(|hint| format!("\nhint: {hint}")).unwrap_or_default();
            return Err(format!("there are no sources named `{name}`{hint}"));
        };
        chosen.insert(&source.name, source);
    }
    Ok(chosen.into_values().collect())
}

/// Those of which two are compiled to the same file: each with the names of all.
pub(super) fn clashes(sources: &[Source]) -> BTreeMap<&str, Vec<&str>> {
    let mut files: BTreeMap<_, Vec<_>> = BTreeMap::new();
    for source in sources {
        files.entry(source.file.as_str()).or_default().push(source.name.as_str());
    }
    let shared = files.into_values().filter(|names| names.len() > 1);
    shared.flat_map(|names| names.clone().into_iter().map(move |name| (name, names.clone()))).collect()
}

/// The language whose marker is there.
///
/// # Errors
///
/// Where there is none, or several; the text says which there are.
pub(super) fn language(languages: &[Language], is_there: impl Fn(&str) -> bool) -> Result<&Language, String> {
    let marked = |language: &Language| format!("`{}` ({})", language.file.marker, language.file.title);
    let found: Vec<_> = languages.iter().filter(|language| is_there(&language.file.marker)).collect();
    match *found {
        [language] => Ok(language),
        [] => {
            let all: Vec<_> = languages.iter().map(marked).collect();
            Err(format!("it is of no language: it has none of {}", all.join(", ")))
        }
        _ => {
            let found: Vec<_> = found.into_iter().map(marked).collect();
            Err(format!("it is of more than one language: it has {}", found.join(" and ")))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::project::language::File;

    fn made(id: &str, marker: &str) -> Language {
        let file = File {
            title: id.to_uppercase(),
            marker: marker.into(),
            version: "true".into(),
            uses: Vec::new(),
            tools: Vec::new(),
        };
        Language { id: id.into(), folder: id.into(), file }
    }

    #[test]
    fn the_marker_tells_the_language() {
        let languages = [made("a", "a.x"), made("b", "b.x")];
        let told = |present: &[&str]| language(&languages, |name| present.contains(&name));
        assert_eq!(told(&["a.x", "c.x"]).map(|language| language.id.as_str()), Ok("a"));
        assert_eq!(told(&["c.x"]), Err("it is of no language: it has none of `a.x` (A), `b.x` (B)".into()));
        assert_eq!(
            told(&["b.x", "a.x"]),
            Err("it is of more than one language: it has `a.x` (A) and `b.x` (B)".into())
        );
    }

    #[test]
    fn folders_are_sources() {
        let root = tempfile::tempdir().unwrap();
        for folder in ["order-mail", "hello", ".build", "target"] {
            fs::create_dir(root.path().join(folder)).unwrap();
        }
        fs::write(root.path().join("Cargo.toml"), "").unwrap();
        let all = list(root.path()).unwrap();
        let names = |names: &[&str]| {
            let names: Vec<_> = names.iter().map(|name| (*name).to_owned()).collect();
            chosen(&all, &names).map(|found| found.iter().map(|source| source.file.as_str()).collect::<Vec<_>>())
        };
        assert_eq!(names(&[]), Ok(vec!["hello.wasm", "order_mail.wasm"]));
        assert_eq!(names(&["order_mail", "order-mail"]), Ok(vec!["order_mail.wasm"]));
        let error = "there are no sources named `helo`\nhint: did you mean `hello`?";
        assert_eq!(names(&["hello", "helo"]), Err(error.into()));
    }

    #[test]
    fn two_for_one_file_are_told() {
        let root = tempfile::tempdir().unwrap();
        for folder in ["a-b", "a_b", "c"] {
            fs::create_dir(root.path().join(folder)).unwrap();
        }
        let sources = list(root.path()).unwrap();
        assert_eq!(clashes(&sources), BTreeMap::from([("a-b", vec!["a-b", "a_b"]), ("a_b", vec!["a-b", "a_b"])]));
    }
}
