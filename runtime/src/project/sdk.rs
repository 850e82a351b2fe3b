//! The folder of SDKs: the one that is there, else the copy that the host carries.

use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
};

use rust_embed::RustEmbed;

use super::Error;

/// The folder `sdk` as it was when the host was built: without what is installed or built there, and without what only
/// the host's own tests need.
#[derive(RustEmbed)]
#[folder = "../sdk"]
#[exclude = ".*"]
#[exclude = "*/.*"]
#[exclude = "*/node_modules/*"]
#[exclude = "*/target/*"]
#[exclude = "*/__pycache__/*"]
#[exclude = "*/conformance/*"]
#[exclude = "*.wasm"]
struct Carried;

/// Where the folder is looked for when nobody says.
const DEFAULT: &str = "sdk";

/// What installs itself in the folder is nobody's source.
const IGNORED: &str = "/*/.tools/\nnode_modules/\n__pycache__/\ntarget/\n";

/// Finds the folder: the given one, else `sdk` in the current folder, which is written where there is none. The second
/// value says whether it was.
///
/// # Errors
///
/// Where the given one is not there, or nothing can be written.
pub fn find(given: Option<PathBuf>) -> Result<(PathBuf, bool), Error> {
    match given {
        Some(folder) if folder.is_dir() => Ok((folder, false)),
        Some(folder) => Err(Error::Other(format!("`{}` is no folder of SDKs", folder.display()))),
        None => {
            let folder = PathBuf::from(DEFAULT);
            let is_there = folder.is_dir();
            if !is_there {
                write(&folder)?;
            }
            Ok((folder, !is_there))
        }
    }
}

/// The same for a look alone: where nothing is there, it is a temporary folder, which goes with the second value.
///
/// # Errors
///
/// As [`find`].
pub fn look(given: Option<PathBuf>) -> Result<(PathBuf, Option<tempfile::TempDir>), Error> {
    if given.is_some() || Path::new(DEFAULT).is_dir() {
        return find(given).map(|(folder, _)| (folder, None));
    }
    let holder = tempfile::tempdir().map_err(Error::io("make a folder in", &std::env::temp_dir()))?;
    let folder = holder.path().join(DEFAULT);
    write(&folder)?;
    Ok((folder, Some(holder)))
}

/// Writes the copy that the host carries: aside, then renamed, so that there is all of it or nothing.
fn write(to: &Path) -> Result<(), Error> {
    let parent = to.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let aside =
        tempfile::Builder::new().prefix(".sdk-").tempdir_in(parent).map_err(Error::io("make a folder in", parent))?;
    for name in Carried::iter() {
        let Some(file) = Carried::get(&name) else { continue };
        put(&aside.path().join(&*name), &file.data)?;
    }
    put(&aside.path().join(".gitignore"), IGNORED.as_bytes())?;
    fs::set_permissions(aside.path(), fs::Permissions::from_mode(0o755)).map_err(Error::io("write", aside.path()))?;
    // From here on it is no temporary folder any more.
    fs::rename(aside.keep(), to).map_err(Error::io("write", to))
}

/// Scripts are told by their first line, since modes are not carried.
fn put(path: &Path, data: &[u8]) -> Result<(), Error> {
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder).map_err(Error::io("make", folder))?;
    }
    fs::write(path, data).map_err(Error::io("write", path))?;
    if data.starts_with(b"#!") {
        fs::set_permissions(path, fs::Permissions::from_mode(0o755)).map_err(Error::io("write", path))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::project::is_source;

    /// All files, and whether each can be executed.
    fn files(folder: &Path) -> BTreeMap<String, bool> {
        let mut open = vec![folder.to_owned()];
        let mut found = BTreeMap::new();
        while let Some(path) = open.pop() {
            for entry in fs::read_dir(&path).unwrap() {
                let entry = entry.unwrap();
                let name = entry.file_name().into_string().unwrap();
                if !is_source(&name) || name == "conformance" || name.ends_with(".wasm") {
                    continue;
                }
                let metadata = entry.metadata().unwrap();
                if metadata.is_dir() {
                    open.push(entry.path());
                } else if metadata.is_file() {
                    let name = entry.path().strip_prefix(folder).unwrap().display().to_string();
                    found.insert(name, metadata.permissions().mode() & 0o100 != 0);
                }
            }
        }
        found
    }

    #[test]
    fn what_is_carried_is_the_folder() {
        let sdk = Path::new(env!("CARGO_MANIFEST_DIR")).join("../sdk");
        let holder = tempfile::tempdir().unwrap();
        let copy = holder.path().join("copy");
        write(&copy).unwrap();
        let (real, carried) = (files(&sdk), files(&copy));
        assert!(real.get("rust/build") == Some(&true) && real.get("wit/worker.wit") == Some(&false), "{real:?}");
        // `make build` does this, since cargo does not notice files that are new.
        assert_eq!(carried, real, "touch runtime/src/project/sdk.rs, and try again");
        for name in real.keys().filter(|name| !name.ends_with(".lock")) {
            let same = fs::read(sdk.join(name)).unwrap() == fs::read(copy.join(name)).unwrap();
            assert!(same, "{name} differs");
        }
        assert!(copy.join(".gitignore").is_file());
    }
}
