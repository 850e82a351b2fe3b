//! Compiled plugins, kept between starts.
//!
//! Compiled code runs with all rights of the host, so an entry is used only where the folder is the user's own, the
//! name carries the digest of the content, and the content has that digest. An entry is written aside and renamed; it is
//! never changed in place, since another host may have it mapped. It is not synced: what a power cut leaves half of does
//! not have its digest, and is compiled again.

use std::{
    fs::{self, DirBuilder, File, OpenOptions},
    hash::{Hash, Hasher},
    io::{Read as _, Write as _},
    os::{
        fd::AsRawFd as _,
        unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _},
    },
    path::{Path, PathBuf},
    time::SystemTime,
};

use anyhow::{Context as _, bail};
use nix::{fcntl::OFlag, unistd::geteuid};
use sha2::{Digest as _, Sha256};
use wasmtime::Engine;

use super::{Digest, compiled::Compiled};

/// The most that the folder may hold, in bytes; the oldest entries go first.
const FOLDER_BYTES_MAX: u64 = 2 * 1024 * 1024 * 1024;
const SUFFIX: &str = ".cwasm";

/// A folder of compiled plugins.
pub(super) struct Cache {
    folder: PathBuf,
    /// What the engine's settings contribute to each key.
    compatibility: Digest,
}

impl Cache {
    /// Opens the folder, which is made when it is not there.
    ///
    /// Errors: it is a link, or belongs to somebody else, or others may write to it.
    pub(super) fn open(folder: &Path, engine: &Engine) -> anyhow::Result<Self> {
        DirBuilder::new().recursive(true).mode(0o700).create(folder).context("cannot be made")?;
        let metadata = fs::symlink_metadata(folder)?;
        if metadata.is_symlink() {
            bail!("must be a folder, and is a link; hint: give the folder that it leads to");
        }
        if !metadata.is_dir() || metadata.uid() != geteuid().as_raw() || metadata.mode() & 0o077 != 0 {
            bail!(
                "must be a folder of this user's own that nobody else may enter; hint: chmod 700 {}",
                folder.display()
            );
        }
        let mut hasher = Sha256Hasher(Sha256::new());
        env!("CARGO_PKG_VERSION").hash(&mut hasher);
        engine.precompile_compatibility_hash().hash(&mut hasher);
        Ok(Self { folder: folder.to_owned(), compatibility: Digest::of(&hasher.0.finalize()) })
    }

    /// The compiled form of the plugin with this digest, where there is a sound one.
    pub(super) fn load<C: Compiled>(&self, engine: &Engine, source: Digest) -> Option<C> {
        let key = self.key(source);
        self.entries(&key).into_iter().find_map(|entry| {
            Sound::look(&entry.path).and_then(|sound| sound.map(engine)).map_or_else(
                |error| {
                    tracing::warn!(entry = %entry.path.display(), "a cache entry is bad, compiling again: {error:#}");
                    let _ = fs::remove_file(&entry.path);
                    None
                },
                Some,
            )
        })
    }

    /// Keeps a compiled form. Failing to is not an error of the plugin: the next start compiles again.
    pub(super) fn store(&self, source: Digest, compiled: &[u8]) {
        let name = format!("{}-{}{SUFFIX}", self.key(source), Digest::of(compiled).hex());
        let write = || -> anyhow::Result<()> {
            let mut aside = tempfile::NamedTempFile::new_in(&self.folder)?;
            aside.write_all(compiled)?;
            aside.persist(self.folder.join(name))?;
            Ok(())
        };
        if let Err(error) = write() {
            tracing::warn!(folder = %self.folder.display(), "a compiled plugin is not kept: {error:#}");
        }
        self.prune(FOLDER_BYTES_MAX);
    }

    fn key(&self, source: Digest) -> String {
        let mut hasher = Sha256::new();
        hasher.update(source);
        hasher.update(self.compatibility);
        Digest::of(&hasher.finalize()).hex()
    }

    /// Those whose names begin with this.
    fn entries(&self, key: &str) -> Vec<Entry> {
        let Ok(folder) = fs::read_dir(&self.folder) else { return Vec::new() };
        folder
            .flatten()
            .filter_map(|entry| {
                let name = entry.file_name().into_string().ok()?;
                if !name.starts_with(key) || !name.ends_with(SUFFIX) {
                    return None;
                }
                let metadata = entry.metadata().ok()?;
                Some(Entry { path: entry.path(), bytes: metadata.len(), modified: metadata.modified().ok()? })
            })
            .collect()
    }

    fn prune(&self, bytes_max: u64) {
        let mut entries = self.entries("");
        entries.sort_by_key(|entry| std::cmp::Reverse(entry.modified));
        let mut bytes = 0;
        for entry in entries {
            bytes += entry.bytes;
            if bytes > bytes_max {
                let _ = fs::remove_file(entry.path);
            }
        }
    }
}

/// An entry that is as it was written.
struct Sound(File);

impl Sound {
    fn look(path: &Path) -> anyhow::Result<Self> {
        // A pipe that nobody writes to is not waited for.
        let flags = OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC | OFlag::O_NONBLOCK;
        let mut file = OpenOptions::new().read(true).custom_flags(flags.bits()).open(path)?;
        let metadata = file.metadata()?;
        if !metadata.is_file() || metadata.uid() != geteuid().as_raw() || metadata.mode() & 0o022 != 0 {
            bail!("it is not a file of this user's own");
        }
        let expected = path.file_stem().and_then(|stem| stem.to_str()?.split_once('-')).map(|(_, digest)| digest);
        if expected != Some(content_digest(&mut file)?.as_str()) {
            bail!("its content is not what was written");
        }
        Ok(Self(file))
    }

    /// Maps the very file that was looked at.
    fn map<C: Compiled>(&self, engine: &Engine) -> anyhow::Result<C> {
        #[expect(unsafe_code, reason = "deserializing trusts the bytes")]
        // SAFETY: these are the bytes that this host, or one of the same user, compiled: only the owner may write to
        // the folder and the file, and the digest in the name is that of the content. The path leads to the file that
        // is open here, whatever was put under its name since.
        let compiled =
            unsafe { C::deserialize_file(engine, Path::new(&format!("/proc/self/fd/{}", self.0.as_raw_fd()))) };
        compiled.map_err(|error| anyhow::anyhow!("{error:#}"))
    }
}

struct Entry {
    path: PathBuf,
    bytes: u64,
    modified: SystemTime,
}

fn content_digest(file: &mut File) -> anyhow::Result<String> {
    let mut content = Vec::new();
    file.take(FOLDER_BYTES_MAX).read_to_end(&mut content)?;
    Ok(Digest::of(&content).hex())
}

/// Lets whatever is `Hash` go into a SHA-256, which is the same in every process.
struct Sha256Hasher(Sha256);

impl Hasher for Sha256Hasher {
    fn write(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    fn finish(&self) -> u64 {
        // Only `write` is of use here: the whole digest is taken at the end.
        0
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt as _, chown, symlink};

    use nix::{sys::stat::Mode, unistd::mkfifo};
    use wasmtime::component::Component;

    use super::*;

    /// An empty component.
    const SOURCE: &[u8] = b"\0asm\x0d\0\x01\0";
    /// Another one, which exports something.
    const OTHER: &[u8] = b"\0asm\x0d\0\x01\0\x05\x03\x01\x01\0\x0b\x07\x01\0\x01c\x05\0\0";
    /// A user that is not the one of the tests.
    const NOBODY: u32 = 65_534;

    fn filled(folder: &Path) -> (Engine, Cache, PathBuf) {
        let engine = Engine::default();
        let cache = Cache::open(folder, &engine).unwrap();
        cache.store(Digest::of(SOURCE), &engine.precompile_component(SOURCE).unwrap());
        let path = cache.entries("").remove(0).path;
        (engine, cache, path)
    }

    fn folder() -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o700)).unwrap();
        folder
    }

    #[test]
    fn an_entry_is_found_again() {
        let folder = folder();
        let (engine, cache, _) = filled(folder.path());
        assert!(cache.load::<Component>(&engine, Digest::of(SOURCE)).is_some());
        assert!(cache.load::<Component>(&engine, Digest::of(b"other")).is_none());
    }

    #[test]
    fn a_damaged_entry_is_not_used_and_goes() {
        let damage: [fn(&mut Vec<u8>); 3] =
            [|bytes| bytes.truncate(bytes.len() / 2), |bytes| *bytes.last_mut().unwrap() ^= 1, |bytes| bytes.clear()];
        for damage in damage {
            let folder = folder();
            let (engine, cache, path) = filled(folder.path());
            let mut bytes = fs::read(&path).unwrap();
            damage(&mut bytes);
            fs::write(&path, bytes).unwrap();
            assert!(cache.load::<Component>(&engine, Digest::of(SOURCE)).is_none());
            assert!(!path.exists());
        }
    }

    #[test]
    fn an_entry_of_another_configuration_is_not_used() {
        let folder = folder();
        let (_, cache, path) = filled(folder.path());
        let mut config = wasmtime::Config::new();
        config.epoch_interruption(true);
        let other = Engine::new(&config).unwrap();
        assert!(
            Cache::open(folder.path(), &other).unwrap().load::<Component>(&other, Digest::of(SOURCE)).is_none(),
            "by its key"
        );
        assert!(path.exists());
        // Even under the right name: the engine looks for itself.
        assert!(cache.load::<Component>(&other, Digest::of(SOURCE)).is_none());
        assert!(!path.exists());
    }

    /// Why the folder is not used.
    fn refusal(folder: &Path) -> String {
        Cache::open(folder, &Engine::default()).err().expect("it is refused").to_string()
    }

    #[test]
    fn a_folder_that_others_may_enter_is_refused() {
        for mode in [0o755, 0o770, 0o701, 0o710] {
            let folder = folder();
            fs::set_permissions(folder.path(), fs::Permissions::from_mode(mode)).unwrap();
            assert!(refusal(folder.path()).contains("nobody else may enter; hint: chmod 700"), "{mode:o}");
        }
    }

    /// Only root can give a folder away; everybody else has one of root's before them.
    #[test]
    fn a_folder_of_somebody_else_is_refused() {
        let own = folder();
        let folder = if geteuid().is_root() {
            chown(own.path(), Some(NOBODY), Some(NOBODY)).unwrap();
            own.path()
        } else {
            Path::new("/")
        };
        assert!(refusal(folder).contains("a folder of this user's own"));
    }

    #[test]
    fn a_link_or_a_file_is_no_folder() {
        let outer = folder();
        let (own, link, file) = (outer.path().join("own"), outer.path().join("link"), outer.path().join("file"));
        Cache::open(&own, &Engine::default()).unwrap();
        symlink("own", &link).unwrap();
        assert!(refusal(&link).contains("is a link; hint: give the folder"));
        fs::remove_dir(&own).unwrap();
        assert!(refusal(&link).contains("cannot be made"));
        fs::write(&file, "").unwrap();
        assert!(refusal(&file).contains("cannot be made"));
        // On the way to it links are fine.
        fs::create_dir(&own).unwrap();
        Cache::open(&link.join("cache"), &Engine::default()).unwrap();
    }

    #[test]
    fn an_entry_that_is_no_file_of_the_users_own_is_not_used() {
        type Swap = fn(&Path);
        let aside = |path: &Path| path.with_file_name("aside");
        let swaps: [(&str, Swap); 5] = [
            ("others may write", |path| fs::set_permissions(path, fs::Permissions::from_mode(0o664)).unwrap()),
            ("a link", |path| {
                fs::rename(path, path.with_file_name("aside")).unwrap();
                symlink("aside", path).unwrap();
            }),
            ("a pipe", |path| {
                fs::remove_file(path).unwrap();
                mkfifo(path, Mode::S_IRUSR | Mode::S_IWUSR).unwrap();
            }),
            ("a folder", |path| {
                fs::remove_file(path).unwrap();
                fs::create_dir(path).unwrap();
            }),
            ("somebody else's", |path| match geteuid().is_root() {
                true => chown(path, Some(NOBODY), Some(NOBODY)).unwrap(),
                false => fs::remove_file(path).unwrap(),
            }),
        ];
        for (name, swap) in swaps {
            let folder = folder();
            let (engine, cache, path) = filled(folder.path());
            swap(&path);
            assert!(cache.load::<Component>(&engine, Digest::of(SOURCE)).is_none(), "{name}");
            // What a link leads to is left alone.
            assert_eq!(aside(&path).exists(), name == "a link", "{name}");
        }
    }

    #[test]
    fn what_is_mapped_is_what_was_looked_at() {
        let folder = folder();
        let (engine, cache, path) = filled(folder.path());
        let sound = Sound::look(&path).unwrap();
        // Code that is good, but not what the name says.
        let other = engine.precompile_component(OTHER).unwrap();
        fs::write(path.with_file_name("aside"), &other).unwrap();
        fs::rename(path.with_file_name("aside"), &path).unwrap();
        let exports = |component: &Component| component.component_type().exports(&engine).len();
        assert_eq!(exports(&sound.map::<Component>(&engine).unwrap()), 0);
        assert!(cache.load::<Component>(&engine, Digest::of(SOURCE)).is_none(), "it is looked at each time");
        assert!(!path.exists());
        // A name that is right for it: this is how one tells that it would have been used.
        cache.store(Digest::of(SOURCE), &other);
        assert_eq!(exports(&cache.load::<Component>(&engine, Digest::of(SOURCE)).unwrap()), 1);
    }

    #[test]
    fn the_oldest_entries_go_first() {
        let folder = folder();
        let (_, cache, path) = filled(folder.path());
        let bytes = fs::metadata(&path).unwrap().len();
        File::open(&path).unwrap().set_modified(SystemTime::UNIX_EPOCH).unwrap();
        cache.store(Digest::of(b"newer"), &fs::read(&path).unwrap());
        cache.prune(bytes);
        assert!(!path.exists());
        assert_eq!(cache.entries("").len(), 1);
    }
}
