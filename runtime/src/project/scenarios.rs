//! The scenarios of plugins: TOML files in the folder `scenarios` beside a handler.

use std::{
    fs, io,
    path::{Path, PathBuf},
    time::SystemTime,
};

use super::{
    Error, is_source,
    sources::{chosen, list},
};

/// The folder beside a handler. A plugin is not made of what is in it.
pub(super) const FOLDER: &str = "scenarios";
/// Files of a plugin whose times are looked at.
const FILES_MAX: usize = 10_000;

/// A plugin with scenarios.
#[derive(Debug)]
pub struct Tested {
    /// The name of its folder of sources.
    pub name: String,
    /// The name of its file in the folder of plugins.
    pub file: String,
    /// Its scenarios, by their names.
    pub scenarios: Vec<PathBuf>,
    folder: PathBuf,
    /// What its compiler left the last time.
    out: PathBuf,
}

/// The plugins that are named, or all that have scenarios where none is.
///
/// Errors: one that is named is not there, or has no scenarios; the folder of sources cannot be read.
pub fn tested(sources: &Path, names: &[String]) -> Result<Vec<Tested>, Error> {
    let all = list(sources)?;
    let mut found = Vec::new();
    for source in chosen(&all, names).map_err(Error::Other)? {
        let folder = source.folder.join(FOLDER);
        let scenarios = if folder.is_dir() { scenarios(&folder)? } else { Vec::new() };
        if scenarios.is_empty() && names.is_empty() {
            continue;
        }
        if scenarios.is_empty() {
            let hint = format!("write one as `{}`", folder.join("NAME.toml").display());
            return Err(Error::Other(format!("`{}` has no scenarios\nhint: {hint}", source.name)));
        }
        found.push(Tested {
            name: source.name.clone(),
            file: source.file.clone(),
            scenarios,
            folder: source.folder.clone(),
            out: sources.join(super::build::KEPT).join(&source.name).join("out.wasm"),
        });
    }
    Ok(found)
}

fn scenarios(folder: &Path) -> Result<Vec<PathBuf>, Error> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).map_err(Error::io("read", folder))? {
        let path = entry.map_err(Error::io("read", folder))?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        if name.ends_with(".toml") && !name.starts_with(['.', '#']) && path.is_file() {
            found.push(path);
        }
    }
    found.sort();
    Ok(found)
}

impl Tested {
    /// Whether a source is newer than the plugin, as far as the times of files tell. One that is not there is no older.
    ///
    /// Errors: a folder of sources cannot be read.
    pub fn is_stale(&self, plugins: &Path) -> Result<bool, Error> {
        let made = |path: &Path| path.metadata().and_then(|metadata| metadata.modified()).ok();
        // A file that came out the same was left alone in the folder of plugins.
        let Some(made) = made(&plugins.join(&self.file)).max(made(&self.out)) else { return Ok(false) };
        Ok(newest(&self.folder).map_err(Error::io("read", &self.folder))?.is_some_and(|newest| newest > made))
    }
}

/// When the newest file of a folder of sources was changed.
fn newest(folder: &Path) -> io::Result<Option<SystemTime>> {
    let (mut newest, mut count) = (None, 0);
    let mut open = vec![folder.to_owned()];
    while let Some(path) = open.pop() {
        for entry in fs::read_dir(&path)? {
            let entry = entry?;
            let name = entry.file_name();
            let name = name.to_string_lossy();
            if !is_source(&name) || path == folder && name == FOLDER {
                continue;
            }
            let kind = entry.file_type()?;
            if kind.is_dir() {
                open.push(entry.path());
            } else if kind.is_file() && count < FILES_MAX {
                count += 1;
                newest = newest.max(Some(entry.metadata()?.modified()?));
            }
        }
    }
    Ok(newest)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn scenarios_are_found_and_make_no_plugin_stale() {
        let project = tempfile::tempdir().unwrap();
        let write = |path: &str, age: u64| {
            let path = project.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(&path, "").unwrap();
            let time = SystemTime::now() - Duration::from_secs(age);
            fs::File::options().write(true).open(&path).unwrap().set_modified(time).unwrap();
        };
        let sources = project.path().join("src");
        write("src/a-b/handler.x", 100);
        write("src/a-b/scenarios/two.toml", 0);
        write("src/a-b/scenarios/one.toml", 0);
        write("src/a-b/scenarios/.hidden.toml", 0);
        write("src/a-b/scenarios/body.json", 0);
        write("src/none/handler.x", 0);
        let [found] = &tested(&sources, &[]).unwrap()[..] else { panic!() };
        let names: Vec<_> = found.scenarios.iter().map(|path| path.file_name().unwrap().to_str().unwrap()).collect();
        assert_eq!((found.file.as_str(), names), ("a_b.wasm", vec!["one.toml", "two.toml"]));
        let stale = || found.is_stale(project.path()).unwrap();
        assert!(!stale(), "there is no plugin");
        write("a_b.wasm", 50);
        assert!(!stale());
        write("src/a-b/handler.x", 10);
        assert!(stale());
        // It was compiled since, and came out the same.
        write("src/.build/a-b/out.wasm", 5);
        assert!(!stale());
        let error = tested(&sources, &["none".into()]).unwrap_err().to_string();
        assert!(error.starts_with("`none` has no scenarios\nhint: "), "{error}");
        assert!(tested(&sources, &["a_c".into()]).is_err());
    }
}
