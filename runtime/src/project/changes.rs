//! Whether a plugin has to be compiled again: digests of what it is made of, against those of the last time.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::Path,
};

use serde::{Deserialize, Serialize};

use super::{Error, is_source};
use crate::sandbox::Digest;

/// Files that one plugin, or the SDK of one language, is made of. More of them are something else by mistake.
const FILES_MAX: usize = 10_000;

/// Files by their paths, with the digests of their contents.
pub(super) type Files = BTreeMap<String, Digest>;

/// What is noted of a plugin that was compiled.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Stamp {
    /// What it was made of.
    pub(super) inputs: String,
    /// What came out.
    pub(super) output: String,
}

impl Stamp {
    /// The last one; none where there is none that can be read.
    pub(super) fn read(path: &Path) -> Option<Self> {
        serde_json::from_slice(&fs::read(path).ok()?).ok()
    }

    /// Notes this one.
    pub(super) fn write(&self, path: &Path) -> Result<(), Error> {
        let text = serde_json::to_vec(self).map_err(|error| Error::Other(error.to_string()))?;
        fs::write(path, text).map_err(Error::io("write", path))
    }
}

/// All files of a folder but those that are made from others, and those that are called like one of `without` at the
/// top. A link to a folder counts by where it leads, not by what is there, for it may lead in a circle.
pub(super) fn files(folder: &Path, without: &[&str]) -> Result<Files, Error> {
    let mut files = Files::new();
    let mut open = vec![(folder.to_owned(), String::new())];
    while let Some((path, prefix)) = open.pop() {
        for entry in fs::read_dir(&path).map_err(Error::io("read", &path))? {
            let path = entry.map_err(Error::io("read", &path))?.path();
            let Some(name) = path.file_name().and_then(|name| name.to_str()) else {
                return Err(Error::Other(format!("the name of `{}` is not UTF-8", path.display())));
            };
            if !is_source(name) || prefix.is_empty() && without.contains(&name) {
                continue;
            }
            let name = format!("{prefix}{name}");
            let is_folder = path.is_dir();
            let bytes = if is_folder && path.is_symlink() {
                fs::read_link(&path).map_err(Error::io("read", &path))?.into_os_string().into_encoded_bytes()
            } else if is_folder {
                open.push((path, format!("{name}/")));
                continue;
            } else if path.is_file() {
                fs::read(&path).map_err(Error::io("read", &path))?
            } else {
                continue;
            };
            files.insert(name, Digest::of(&bytes));
            if files.len() > FILES_MAX {
                return Err(Error::Other(format!("`{}` has more than {FILES_MAX} files", folder.display())));
            }
        }
    }
    Ok(files)
}

/// One digest of several folders' files.
pub(super) fn together<'f>(folders: impl IntoIterator<Item = (&'f str, &'f Files)>) -> Digest {
    let mut text = String::new();
    for (folder, files) in folders {
        for (name, digest) in files {
            // Escaped, so that no name looks like two lines.
            text.push_str(&format!("{folder:?} {name:?} {digest}\n"));
        }
    }
    Digest::of(text.as_bytes())
}

/// What counts as compiled, of files before and after: those that the compiler made itself, such as a lock file, belong
/// to it; those that somebody changed meanwhile are as they were, so that the next build sees the change.
pub(super) fn compiled(before: &Files, after: &Files) -> Files {
    let names: BTreeSet<_> = before.keys().chain(after.keys()).collect();
    let known = names.into_iter().filter_map(|name| {
        let digest = before.get(name).or_else(|| after.get(name))?;
        Some((name.clone(), *digest))
    });
    known.collect()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    fn folder(files: &[(&str, &str)]) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        write(folder.path(), files);
        folder
    }

    fn write(folder: &Path, files: &[(&str, &str)]) {
        for (name, text) in files {
            let path = folder.join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
    }

    fn digest(folder: &tempfile::TempDir) -> Digest {
        together([("", &files(folder.path(), &["template"]).unwrap())])
    }

    const SOURCES: &[(&str, &str)] = &[("a.rs", "a"), ("src/b.rs", "b"), ("src/template", "t")];

    #[test]
    fn what_changes_is_noticed() {
        let first = digest(&folder(SOURCES));
        assert_eq!(digest(&folder(SOURCES)), first, "not by where it is");
        for change in [("a.rs", "b"), ("src/b.rs", ""), ("new", ""), ("src/new/c", ""), ("src/template", "u")] {
            let changed = folder(SOURCES);
            write(changed.path(), &[change]);
            assert_ne!(digest(&changed), first, "{change:?}");
        }
        let renamed = folder(&[("a.rs", "a"), ("src/c.rs", "b"), ("src/template", "t")]);
        assert_ne!(digest(&renamed), first);
        let swapped = folder(&[("a.rs", "b"), ("src/b.rs", "a"), ("src/template", "t")]);
        assert_ne!(digest(&swapped), first);
    }

    #[test]
    fn what_is_made_does_not_count() {
        let first = digest(&folder(SOURCES));
        for path in ["target/x", "src/target/x", "node_modules/x", ".git/x", "src/.hidden", "src/__pycache__/x"] {
            let built = folder(SOURCES);
            write(built.path(), &[(path, "x")]);
            assert_eq!(digest(&built), first, "{path}");
        }
        let with_template = folder(SOURCES);
        write(with_template.path(), &[("template/x", "x")]);
        assert_eq!(digest(&with_template), first);
        // Only at the top.
        write(with_template.path(), &[("src/nested/template/x", "x")]);
        assert_ne!(digest(&with_template), first);
    }

    #[test]
    fn links_do_not_lead_in_circles() {
        let linked = folder(SOURCES);
        symlink("..", linked.path().join("src/up")).unwrap();
        symlink("nowhere", linked.path().join("src/nowhere")).unwrap();
        let files = files(linked.path(), &[]).unwrap();
        assert_eq!(
            files.keys().map(String::as_str).collect::<Vec<_>>(),
            ["a.rs", "src/b.rs", "src/template", "src/up"]
        );
    }

    #[test]
    fn too_many_files_are_told() {
        let many = tempfile::tempdir().unwrap();
        for number in 0..=FILES_MAX {
            fs::write(many.path().join(number.to_string()), "").unwrap();
        }
        assert!(files(many.path(), &[]).unwrap_err().to_string().ends_with("has more than 10000 files"));
    }

    #[test]
    fn folders_are_told_apart() {
        let [a, b] = ["a", "b"].map(|name| Files::from([(name.to_owned(), Digest::of(b"x"))]));
        let none = Files::new();
        assert_ne!(together([("one", &a), ("two", &none)]), together([("one", &none), ("two", &a)]));
        assert_ne!(together([("one", &a)]), together([("one", &b)]));
    }

    #[test]
    fn a_change_while_it_compiles_is_seen_the_next_time() {
        let files = |list: &[(&str, &str)]| -> Files {
            list.iter().map(|(name, text)| ((*name).to_owned(), Digest::of(text.as_bytes()))).collect()
        };
        let before = files(&[("main", "1"), ("gone", "1"), ("lock", "1")]);
        let after = files(&[("main", "2"), ("lock", "1"), ("new.lock", "1")]);
        let counted = files(&[("main", "1"), ("gone", "1"), ("lock", "1"), ("new.lock", "1")]);
        assert_eq!(compiled(&before, &after), counted);
    }

    #[test]
    fn a_stamp_is_kept() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("stamp");
        assert_eq!(Stamp::read(&path), None);
        let stamp = Stamp { inputs: "a".into(), output: "b".into() };
        stamp.write(&path).unwrap();
        assert_eq!(Stamp::read(&path), Some(stamp));
        fs::write(&path, "{").unwrap();
        assert_eq!(Stamp::read(&path), None);
    }
}
