//! From the grants of a manifest to what the calls of a worker may reach.

use std::{
    collections::BTreeMap,
    env,
    fs::File,
    io::Read as _,
    path::{Path, PathBuf},
    sync::Arc,
};

use super::settings::Settings;
use crate::{
    manifest::{Manifest, SecretSource},
    sandbox::{Config, Grants, LoadError, Redactor, SECRET_BYTES_MAX, Secret},
};

/// How far the calls of a version reach.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reach {
    /// As far as the manifest grants.
    Real,
    /// Without a trace: settings and secrets are real, all else is empty and gone afterwards.
    Scratch,
    /// Nothing is called: it is only looked at. Secrets need not be there.
    Nothing,
}

/// Makes the grants of all workers.
pub struct Grantor {
    reach: Reach,
    /// Where relative paths in manifests begin.
    project: PathBuf,
}

impl Grantor {
    /// For the workers of these settings.
    pub fn new(settings: &Settings, reach: Reach) -> Self {
        Self { reach, project: settings.project() }
    }

    /// What this manifest grants.
    ///
    /// Errors: something that it names is not there, or not as it should be.
    pub fn grant(&self, manifest: &Manifest) -> Result<Grants, LoadError> {
        let mut secrets = BTreeMap::new();
        for (name, source) in &manifest.grant.secrets {
            if self.reach != Reach::Nothing {
                secrets.insert(name.clone(), self.secret(name, source)?);
            }
        }
        let redactor = Arc::new(Redactor::new(secrets.values())?);
        let config = Config { values: manifest.grant.config.clone().unwrap_or_default(), secrets };
        Ok(Grants { config, redactor })
    }

    fn secret(&self, name: &str, source: &SecretSource) -> Result<Secret, LoadError> {
        let value = match source {
            SecretSource::Env(variable) => match env::var(variable) {
                Ok(value) => Ok(value),
                Err(env::VarError::NotPresent) => Err("is not set".to_owned()),
                Err(env::VarError::NotUnicode(_)) => Err("is not UTF-8".to_owned()),
            },
            SecretSource::File(path) => read_secret(&self.project.join(path)),
        };
        value
            .and_then(|value| Secret::new(&value))
            .map_err(|problem| LoadError::Grant(format!("secret `{name}`: `{source}` {problem}")))
    }
}

/// The content of a file, without a line end after it.
fn read_secret(path: &Path) -> Result<String, String> {
    let cannot = |error: std::io::Error| format!("cannot be read: {error}");
    // Opening a pipe would wait for whoever writes to it.
    if !path.metadata().map_err(cannot)?.is_file() {
        return Err("is not a regular file".into());
    }
    // With room for the line end, and a byte more, by which one that is too long is found out.
    let most = SECRET_BYTES_MAX as u64 + 3;
    let mut bytes = Vec::new();
    File::open(path).map_err(cannot)?.take(most).read_to_end(&mut bytes).map_err(cannot)?;
    let mut text = String::from_utf8(bytes).map_err(|_| "is not UTF-8".to_owned())?;
    if text.ends_with('\n') {
        text.pop();
        if text.ends_with('\r') {
            text.pop();
        }
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn secrets_of_files_are_read_without_their_line_end() {
        let folder = tempfile::tempdir().unwrap();
        let check = |content: &[u8], expected: Result<&str, &str>| {
            let path = folder.path().join("secret");
            fs::write(&path, content).unwrap();
            let read = read_secret(&path);
            assert_eq!(read.as_deref().map_err(String::as_str), expected);
        };
        check(b"hunter2", Ok("hunter2"));
        check(b"hunter2\n", Ok("hunter2"));
        check(b"hunter2\r\n", Ok("hunter2"));
        check(b" two\nlines \n\n", Ok(" two\nlines \n"));
        check(b"", Ok(""));
        check(b"\xff\xfe", Err("is not UTF-8"));
        let long = read_secret(Path::new("/proc/self/maps")).map(|text| text.len());
        assert!(long.is_ok_and(|length| length <= SECRET_BYTES_MAX + 3));
        assert_eq!(read_secret(folder.path()), Err("is not a regular file".to_owned()));
        assert!(read_secret(&folder.path().join("none")).unwrap_err().starts_with("cannot be read: No such file"));
    }
}
