//! From the grants of a manifest to what the calls of a worker may reach.

use std::{
    collections::{BTreeMap, HashMap},
    env,
    fs::{self, File},
    io::{self, Read as _},
    iter,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
};

use super::{dedupe::Dedupe, settings::Settings};
use crate::{
    keyvalue::{self, Places, Store},
    manifest::{FilesGrant, HttpGrant, KeyValueGrant, Manifest, SecretSource},
    outbound,
    sandbox::{
        Config, Effects, Folder, Grants, HttpGrants, KeyValue, LoadError, Redactor, SECRET_BYTES_MAX, Secret, Usage,
    },
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
    /// Where key-value stores are kept that outlive the host.
    state: Option<PathBuf>,
    /// Folders that are the host's own: who writes there could do what the host does.
    own: Vec<PathBuf>,
    places: Mutex<Places>,
    limits: keyvalue::Limits,
    outbound: Arc<outbound::Client>,
    /// What folders hold that are written to, by device and inode.
    usages: Mutex<HashMap<(u64, u64), Arc<Usage>>>,
}

impl Grantor {
    /// For the workers of these settings. Errors: what HTTP requests need is not to be had.
    pub fn new(settings: &Settings, reach: Reach) -> anyhow::Result<Self> {
        let own = [Some(&settings.plugins), Some(&settings.manifests), Some(&settings.cache), settings.state.as_ref()];
        Ok(Self {
            reach,
            project: settings.project(),
            state: settings.state.clone(),
            own: own.into_iter().flatten().cloned().collect(),
            places: Mutex::new(Places::new(settings.keyvalue.clone())),
            limits: settings.keyvalue.clone(),
            outbound: Arc::new(outbound::Client::new(&settings.http)?),
            usages: Mutex::default(),
        })
    }

    /// The same without a trace.
    pub fn scratch(&self) -> Self {
        Self {
            reach: Reach::Scratch,
            project: self.project.clone(),
            state: None,
            own: Vec::new(),
            places: Mutex::new(Places::new(self.limits.clone())),
            limits: self.limits.clone(),
            outbound: Arc::clone(&self.outbound),
            usages: Mutex::default(),
        }
    }

    /// Closes what is open, when all workers are gone.
    pub fn close(&self) {
        self.places.lock().unwrap_or_else(PoisonError::into_inner).close();
    }

    /// What this manifest grants, to a command or to a handler.
    ///
    /// Errors: something that it names is not there, or not as it should be, or is not for a plugin of this kind.
    pub fn grant(&self, manifest: &Manifest, command: bool) -> Result<Grants, LoadError> {
        let grant = &manifest.grant;
        let mut secrets = BTreeMap::new();
        for (name, source) in &manifest.grant.secrets {
            if self.reach != Reach::Nothing {
                secrets.insert(name.clone(), self.secret(name, source)?);
            }
        }
        let redactor = Arc::new(Redactor::new(secrets.values())?);
        let (env, args) = of_command(manifest, command, &secrets)?;
        let keyvalue = grant.keyvalue.as_ref().map(|granted| self.keyvalue(&manifest.name, granted)).transpose()?;
        let files = self.files(&grant.files)?;
        let config = Config { values: grant.config.clone().unwrap_or_default(), secrets };
        let http = (!grant.http.is_empty()).then(|| self.http(&grant.http));
        Ok(Grants { config, keyvalue, files, env, args, http, redactor })
    }

    fn keyvalue(&self, worker: &str, grant: &KeyValueGrant) -> Result<KeyValue, LoadError> {
        let namespace = match grant.shared {
            true => format!("shared/{}", grant.store),
            false => format!("worker/{worker}/{}", grant.store),
        };
        Ok(KeyValue { name: grant.store.clone(), store: self.store(&namespace, grant.memory)? })
    }

    fn store(&self, namespace: &str, memory: bool) -> Result<Store, LoadError> {
        let mut places = self.places.lock().unwrap_or_else(PoisonError::into_inner);
        match (&self.state, self.reach) {
            (_, Reach::Scratch | Reach::Nothing) => Ok(places.memory(namespace)),
            _ if memory => Ok(places.memory(namespace)),
            (Some(folder), Reach::Real) => places.disk(folder, namespace).map_err(LoadError::Grant),
            (None, Reach::Real) => Err(LoadError::Grant(
                "there is no folder for the key-value store; hint: name one with `--state`, or keep the values in \
                 memory: `memory = true`"
                    .into(),
            )),
        }
    }

    /// What this worker has done, where its manifest asks for it. No grant leads to where it is kept.
    ///
    /// Errors: it is to be kept on disk, and there is no place for it.
    pub fn dedupe(&self, manifest: &Manifest) -> Result<Option<Dedupe>, LoadError> {
        let Some(policy) = &manifest.consume.dedupe else { return Ok(None) };
        let store = match policy.memory {
            true => None,
            false => Some(self.store(&format!("host/dedupe/{}", manifest.name), false)?),
        };
        Ok(Some(Dedupe::new(policy, store)))
    }

    fn http(&self, grants: &[HttpGrant]) -> Arc<HttpGrants> {
        let effects = if self.reach == Reach::Real { Effects::Real } else { Effects::Denied };
        Arc::new(HttpGrants::new(grants.to_vec(), Arc::clone(&self.outbound), effects))
    }

    fn files(&self, grants: &[FilesGrant]) -> Result<Vec<Folder>, LoadError> {
        match self.reach {
            Reach::Nothing | Reach::Scratch => return Ok(Vec::new()),
            Reach::Real => {}
        }
        let open = |grant: &FilesGrant| {
            let path = self.project.join(&grant.host);
            self.folder(&path, grant)
                .map_err(|problem| LoadError::Grant(format!("the folder `{}` {problem}", path.display())))
        };
        grants.iter().map(open).collect()
    }

    fn folder(&self, path: &Path, grant: &FilesGrant) -> Result<Folder, String> {
        let cannot = |what: &'static str| move |error: io::Error| format!("cannot be {what}: {error}");
        if !grant.write {
            return Ok(Folder::new(&grant.guest, Folder::open(path).map_err(cannot("opened"))?, None));
        }
        fs::create_dir_all(path).map_err(cannot("made"))?;
        let real = path.canonicalize().map_err(cannot("opened"))?;
        for own in self.own.iter().filter_map(|own| own.canonicalize().ok()) {
            if own.starts_with(&real) || real.starts_with(&own) {
                return Err(format!("cannot be written to: `{}` is the host's own", own.display()));
            }
        }
        let folder = Folder::open(&real).map_err(cannot("opened"))?;
        let id = folder.metadata().map(|metadata| (metadata.dev(), metadata.ino())).map_err(cannot("opened"))?;
        let mut usages = self.usages.lock().unwrap_or_else(PoisonError::into_inner);
        let usage = match usages.get(&id) {
            Some(usage) => Arc::clone(usage),
            None => {
                let usage = folder.try_clone().and_then(Usage::new).map_err(cannot("read"))?;
                Arc::clone(usages.entry(id).or_insert(Arc::new(usage)))
            }
        };
        Ok(Folder::new(&grant.guest, folder, Some((usage, grant.max))))
    }

    fn secret(&self, name: &str, source: &SecretSource) -> Result<Secret, LoadError> {
        secret(source, &self.project)
            .map_err(|problem| LoadError::Grant(format!("secret `{name}`: `{source}` {problem}")))
    }
}

/// Names and values.
type Variables = Vec<(String, String)>;

/// The variables and the arguments of a command, its secrets among the former.
///
/// Errors: the manifest grants them to what is no command.
pub(super) fn of_command(
    manifest: &Manifest,
    command: bool,
    secrets: &BTreeMap<String, Secret>,
) -> Result<(Variables, Vec<String>), LoadError> {
    let grant = &manifest.grant;
    for (key, given) in [("env", !grant.env.is_empty()), ("args", !grant.args.is_empty())] {
        if given && !command {
            return Err(LoadError::Grant(format!(
                "`[grant] {key}` is for WASI commands, and the plugin is a handler; hint: use `config`"
            )));
        }
    }
    let exposed = secrets.iter().map(|(name, secret)| (name.clone(), secret.expose().to_owned()));
    let env = if command { grant.env.clone().into_iter().chain(exposed).collect() } else { Vec::new() };
    let args = match grant.args.as_slice() {
        [] => Vec::new(),
        args => iter::once(&manifest.name).chain(args).cloned().collect(),
    };
    Ok((env, args))
}

/// Reads a secret; a relative path begins in this folder.
pub(crate) fn secret(source: &SecretSource, folder: &Path) -> Result<Secret, String> {
    let value = match source {
        SecretSource::Env(variable) => env::var(variable).map_err(|error| match error {
            env::VarError::NotPresent => "is not set".to_owned(),
            env::VarError::NotUnicode(_) => "is not UTF-8".to_owned(),
        }),
        SecretSource::File(path) => read_secret(&folder.join(path)),
    };
    value.and_then(|value| Secret::new(&value))
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
