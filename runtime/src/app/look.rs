//! What lies in the folders, read: manifests, and the digests of the plugins that they name.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    io,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, SystemTime},
};

use super::{load::name_of, settings::Settings};
use crate::{
    folder::Stamp,
    manifest::{read_folder, report::Problem},
    reload::{Candidate, Wanted},
    sandbox::{Digest, LoadError, Source},
};

/// A file that was written so shortly before it was read may be written again and look the same: its digest is not kept.
const YOUNG: Duration = Duration::from_millis(100);

/// The digests of files, for as long as these look as they did.
#[derive(Default)]
pub(super) struct Digests(HashMap<String, (Stamp, Digest)>);

/// What lies there.
pub(super) struct Looked {
    pub wanted: Wanted,
    /// What is wrong with manifests, by file.
    pub problems: BTreeMap<PathBuf, Vec<Problem>>,
    /// Why there is no plugin to be had, by worker.
    pub missing: BTreeMap<String, String>,
}

impl Digests {
    /// Looks into the folders, and at none of the files that are being `written`. Errors: the folder of manifests cannot
    /// be read.
    pub(super) fn look(&mut self, settings: &Settings, written: &BTreeSet<PathBuf>) -> io::Result<Looked> {
        let is_written = |path: &Path| written.contains(path);
        let folder = read_folder(&settings.manifests, &settings.host.ceilings(), |path| !is_written(path))?;
        let mut wanted = Wanted::default();
        let without_word =
            folder.problems.keys().chain(written).filter(|path| path.parent() == Some(&settings.manifests));
        wanted.unsaid.extend(without_word.map(|path| name_of(path)));
        let mut missing = BTreeMap::new();
        let mut digests: HashMap<String, Result<Digest, String>> = HashMap::new();
        for manifest in folder.manifests {
            if is_written(&settings.plugins.join(&manifest.plugin)) {
                wanted.unsaid.insert(manifest.name);
                continue;
            }
            let digest = digests.entry(manifest.plugin.clone());
            let digest =
                digest.or_insert_with_key(|plugin| self.digest(settings, plugin).map_err(|error| error.to_string()));
            if let Err(error) = digest {
                missing.insert(manifest.name.clone(), error.clone());
            }
            let plugin = digest.as_ref().ok().copied();
            wanted.candidates.insert(manifest.name.clone(), Candidate { manifest: Arc::new(manifest), plugin });
        }
        self.0.retain(|name, _| digests.contains_key(name));
        Ok(Looked { wanted, problems: folder.problems, missing })
    }

    /// The digest of a plugin. Errors: why its file cannot be read.
    fn digest(&mut self, settings: &Settings, name: &str) -> Result<Digest, LoadError> {
        let stamp = Stamp::of(&settings.plugins.join(name))?;
        if let Some((then, digest)) = self.0.get(name)
            && *then == stamp
        {
            return Ok(*digest);
        }
        let digest = Source::read_in(&settings.plugins, name, settings.compile.file)?.digest;
        match SystemTime::now().duration_since(stamp.changed()) {
            Ok(age) if age > YOUNG => _ = self.0.insert(name.to_owned(), (stamp, digest)),
            _ => _ = self.0.remove(name),
        }
        Ok(digest)
    }
}

#[cfg(test)]
mod tests {
    use std::{fs, thread};

    use super::*;
    use crate::app::settings::{Defaults, Overrides};

    fn settings(folder: &Path) -> Settings {
        let overrides = Overrides {
            plugins: Some(folder.join("plugins")),
            manifests: Some(folder.join("manifests")),
            cache: Some(folder.join("cache")),
            ..Overrides::default()
        };
        Settings::resolve(None, &overrides, Defaults::default()).unwrap()
    }

    #[test]
    fn what_lies_there_is_told() {
        let folder = tempfile::tempdir().unwrap();
        let settings = settings(folder.path());
        fs::create_dir_all(&settings.plugins).unwrap();
        let mut digests = Digests::default();
        assert!(digests.look(&settings, &BTreeSet::new()).is_err(), "no folder of manifests");
        fs::create_dir_all(&settings.manifests).unwrap();
        for (name, plugin) in [("a", "a.wasm"), ("b", "a.wasm"), ("c", "c.wasm"), ("d", "d.wasm")] {
            let text = format!("plugin = \"{plugin}\"\n[[queue]]\nname = \"{name}\"\n");
            fs::write(settings.manifests.join(format!("{name}.toml")), text).unwrap();
        }
        fs::write(settings.manifests.join("bad.toml"), "plugin = 1").unwrap();
        let [a, c] = ["a.wasm", "c.wasm"].map(|name| settings.plugins.join(name));
        fs::write(&a, "one").unwrap();
        fs::write(&c, "half").unwrap();
        let written = BTreeSet::from([c.clone(), settings.manifests.join("b.toml")]);
        let mut look = |written: &BTreeSet<PathBuf>| {
            let Looked { wanted, problems, missing } = digests.look(&settings, written).unwrap();
            assert_eq!(problems.into_keys().collect::<Vec<_>>(), [settings.manifests.join("bad.toml")]);
            assert!(missing.keys().eq(["d"]), "{missing:?}");
            let candidates = wanted.candidates.into_iter().map(|(name, candidate)| (name, candidate.plugin));
            (candidates.collect::<BTreeMap<_, _>>(), wanted.unsaid)
        };
        let digest = |text: &str| Some(Digest::of(text.as_bytes()));
        let names = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<BTreeSet<_>>();
        let expected = BTreeMap::from([("a".to_owned(), digest("one")), ("d".to_owned(), None)]);
        assert_eq!(look(&written), (expected, names(&["b", "bad", "c"])));
        // As many bytes in the same moment.
        fs::write(&a, "two").unwrap();
        let none = BTreeSet::new();
        assert_eq!(look(&none).0["a"], digest("two"));
        assert_eq!(look(&none).1, names(&["bad"]));
        thread::sleep(YOUNG * 2);
        assert_eq!(look(&none).0["b"], digest("two"));
        fs::write(&a, "six").unwrap();
        assert_eq!(look(&none).0["b"], digest("six"));
    }
}
