//! Whether a source changed. They are few, and looked at one by one: this works wherever files are.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

use anyhow::bail;

use crate::{folder::Stamp, project::is_source};

/// Files that are looked at. More of them are something else by mistake.
const FILES_MAX: usize = 10_000;

pub(super) struct Sources {
    folder: PathBuf,
    stamps: BTreeMap<PathBuf, Stamp>,
}

impl Sources {
    pub(super) fn new(folder: &Path) -> Self {
        Self { folder: folder.to_owned(), stamps: BTreeMap::new() }
    }

    /// Whether a file came, went or changed since the last time. Errors: there are too many.
    pub(super) fn look(&mut self) -> anyhow::Result<bool> {
        let mut stamps = BTreeMap::new();
        let mut open = vec![self.folder.clone()];
        while let Some(folder) = open.pop() {
            // One that goes in this moment has no files.
            let Ok(entries) = fs::read_dir(&folder) else { continue };
            for entry in entries.flatten() {
                let path = entry.path();
                if !entry.file_name().to_str().is_some_and(is_source) {
                    continue;
                }
                match entry.file_type() {
                    Ok(kind) if kind.is_dir() => open.push(path),
                    _ => {
                        if let Ok(stamp) = Stamp::of(&path) {
                            stamps.insert(path, stamp);
                        }
                    }
                }
                if stamps.len() > FILES_MAX {
                    bail!("`{}` has more than {FILES_MAX} files", self.folder.display());
                }
            }
        }
        let changed = stamps != self.stamps;
        self.stamps = stamps;
        Ok(changed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_made_from_sources_is_none() {
        let folder = tempfile::tempdir().unwrap();
        let mut sources = Sources::new(folder.path());
        assert!(!sources.look().unwrap());
        let put = |name: &str, text: &str| {
            let path = folder.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        };
        put("hello/src/lib.rs", "one");
        assert!(sources.look().unwrap());
        assert!(!sources.look().unwrap());
        put(".build/hello/log", "compiled");
        put("hello/target/x", "x");
        put("hello/node_modules/x", "x");
        assert!(!sources.look().unwrap());
        put("hello/src/lib.rs", "and another");
        assert!(sources.look().unwrap());
        fs::remove_file(folder.path().join("hello/src/lib.rs")).unwrap();
        assert!(sources.look().unwrap());
    }
}
