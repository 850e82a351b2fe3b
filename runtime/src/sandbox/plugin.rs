//! From a file to a plugin that can be instantiated.

use std::{borrow::Cow, fs::File, io::Read as _, path::Path, sync::Arc};

use wasmtime::{Engine, InstancePre, Module, component::Component};
use wasmtime_wasi::p2::bindings::CommandPre;

use super::{
    Digest, Sandbox, adapt,
    compiled::Compiled,
    contract::WorkerPre,
    host::Host,
    inspect::{self, FileKind, Inspection},
};

/// The largest file that is taken for a plugin, in bytes.
const FILE_BYTES_MAX: u64 = 128 * 1024 * 1024;
/// Goes into the digest of a core module that is compiled as a component.
const AS_COMPONENT: &[u8] = b"as a component";

/// A compiled plugin, shared by all workers that use it.
pub struct Plugin {
    /// The digest of the file.
    pub digest: Digest,
    /// Whether the compiled form came from the cache.
    pub cached: bool,
    pub(super) entry: Entry,
    inspection: Inspection,
}

impl Plugin {
    /// Whether these keys of a manifest's `[grant]` are all that it asks for.
    pub fn check_granted(&self, granted: &[&str]) -> Result<(), LoadError> {
        self.inspection.check_granted(granted).map_err(LoadError::Import)
    }

    /// Whether it is a WASI command.
    pub fn is_command(&self) -> bool {
        matches!(self.entry, Entry::Command(_))
    }
}

/// How a plugin is entered.
pub(super) enum Entry {
    Handler(WorkerPre<Host>),
    Command(CommandEntry),
}

/// A WASI command, of either kind.
pub(super) enum CommandEntry {
    Component(CommandPre<Host>),
    Core(InstancePre<Host>),
}

impl CommandEntry {
    pub(super) fn engine(&self) -> &Engine {
        match self {
            Self::Component(pre) => pre.engine(),
            Self::Core(pre) => pre.module().engine(),
        }
    }
}

/// Why a file cannot be a worker's plugin.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// The file is missing, or cannot be read.
    #[error("cannot be read: {0}")]
    Unreadable(#[from] std::io::Error),
    /// The file is not a handler: what it is, and what was expected.
    #[error("{0}")]
    NotAHandler(String),
    /// It imports what the host does not offer.
    #[error("{0}")]
    Import(String),
    /// What its manifest grants is not to be had.
    #[error("{0}")]
    Grant(String),
    /// The compiler refused it.
    #[error("does not compile: {0}")]
    Compile(String),
}

impl LoadError {
    /// In full, for the plugin in this file.
    pub fn of(&self, plugin: &Path) -> String {
        match self {
            Self::Grant(problem) => problem.clone(),
            Self::Unreadable(_) | Self::NotAHandler(_) | Self::Import(_) | Self::Compile(_) => {
                format!("plugin `{}` {self}", plugin.display())
            }
        }
    }
}

/// The bytes of a plugin, read once: what is looked at, hashed and compiled is the same.
pub struct Source {
    pub(super) bytes: Vec<u8>,
    /// The digest of the bytes.
    pub digest: Digest,
}

impl Source {
    /// Reads a file.
    pub fn read(path: &Path) -> Result<Self, LoadError> {
        let file = File::open(path)?;
        let metadata = file.metadata()?;
        if !metadata.is_file() {
            return Err(LoadError::NotAHandler("is not a regular file".into()));
        }
        if metadata.len() > FILE_BYTES_MAX {
            return Err(LoadError::NotAHandler(format!("has {} bytes, the limit is {FILE_BYTES_MAX}", metadata.len())));
        }
        let mut bytes = Vec::new();
        file.take(FILE_BYTES_MAX).read_to_end(&mut bytes)?;
        let digest = Digest::of(&bytes);
        Ok(Self { bytes, digest })
    }
}

impl Sandbox {
    /// Compiles a plugin, or takes its compiled form from the cache. Keeps a core busy for as long as the compiler
    /// takes: call it off the executor.
    ///
    /// With `files` it can be given folders: a command that is a core module then goes through a component, which takes
    /// some time of every delivery.
    pub fn load(&self, source: &Source, files: bool) -> Result<Arc<Plugin>, LoadError> {
        let inspection = inspect::inspect(&source.bytes);
        // What a manifest grants is the manifest's affair.
        inspection.check_known().map_err(LoadError::Import)?;
        let (entry, cached) = match &inspection.kind {
            FileKind::Handler => self.handler(source.digest, || Ok(Cow::Borrowed(&source.bytes)))?,
            FileKind::CoreHandler { export } => self.handler(source.digest, || {
                let adapted = adapt::adapt(&source.bytes).map(Cow::Owned);
                adapted.map_err(|error| {
                    LoadError::NotAHandler(format!("is a core module whose `{export}` does not fit: {error:#}"))
                })
            })?,
            FileKind::Command => self.command(source.digest, || Ok(Cow::Borrowed(&source.bytes)))?,
            FileKind::CoreCommand if files => {
                // What is kept in the cache under the file's own digest is the module.
                let digest = Digest::of(&[source.digest.as_ref(), AS_COMPONENT].concat());
                self.command(digest, || {
                    let adapted = adapt::adapt_command(&source.bytes).map(Cow::Owned);
                    adapted.map_err(|error| LoadError::NotAHandler(format!("does not fit WASI 0.1: {error:#}")))
                })?
            }
            FileKind::CoreCommand => {
                let (module, cached) = self.compiled::<Module>(source.digest, || Ok(Cow::Borrowed(&source.bytes)))?;
                let pre = self
                    .core_linker
                    .instantiate_pre(&module)
                    .map_err(|error| LoadError::NotAHandler(format!("does not fit WASI 0.1: {}", describe(&error))))?;
                (Entry::Command(CommandEntry::Core(pre)), cached)
            }
            kind => return Err(LoadError::NotAHandler(kind.to_string())),
        };
        Ok(Arc::new(Plugin { digest: source.digest, cached, entry, inspection }))
    }

    fn command<'a>(
        &self,
        digest: Digest,
        bytes: impl FnOnce() -> Result<Cow<'a, [u8]>, LoadError>,
    ) -> Result<(Entry, bool), LoadError> {
        let (component, cached) = self.compiled::<Component>(digest, bytes)?;
        let pre =
            self.linker.instantiate_pre(&component).and_then(CommandPre::new).map_err(|error| {
                LoadError::NotAHandler(format!("does not fit `wasi:cli/run`: {}", describe(&error)))
            })?;
        Ok((Entry::Command(CommandEntry::Component(pre)), cached))
    }

    fn handler<'a>(
        &self,
        digest: Digest,
        bytes: impl FnOnce() -> Result<Cow<'a, [u8]>, LoadError>,
    ) -> Result<(Entry, bool), LoadError> {
        let (component, cached) = self.compiled::<Component>(digest, bytes)?;
        let pre = self.linker.instantiate_pre(&component).and_then(WorkerPre::new).map_err(|error| {
            LoadError::NotAHandler(format!("does not fit the contract `{}`: {}", inspect::CONTRACT, describe(&error)))
        })?;
        Ok((Entry::Handler(pre), cached))
    }

    /// The compiled form of `bytes`, which this digest stands for, and whether it came from the cache.
    fn compiled<'a, C: Compiled>(
        &self,
        digest: Digest,
        bytes: impl FnOnce() -> Result<Cow<'a, [u8]>, LoadError>,
    ) -> Result<(C, bool), LoadError> {
        let cached = || self.cache.as_ref().and_then(|cache| cache.load::<C>(&self.engine, digest));
        if let Some(compiled) = cached() {
            return Ok((compiled, true));
        }
        let compile = |bytes: &[u8]| -> wasmtime::Result<C> {
            let Some(cache) = &self.cache else { return C::compile(&self.engine, bytes) };
            let compiled = C::precompile(&self.engine, bytes)?;
            cache.store(digest, &compiled);
            // Mapping the entry shares its pages with other hosts; where that does not work, the bytes at hand do.
            if let Some(compiled) = cached() {
                return Ok(compiled);
            }
            #[expect(unsafe_code, reason = "deserializing trusts the bytes")]
            // SAFETY: this engine made these bytes a moment ago, and they never left this process.
            unsafe {
                C::deserialize(&self.engine, &compiled)
            }
        };
        let compiled = compile(&bytes()?).map_err(|error| LoadError::Compile(describe(&error)))?;
        Ok((compiled, false))
    }
}

fn describe(error: &wasmtime::Error) -> String {
    let text = format!("{error:#}");
    if text.contains("component model async") || text.contains("component-model-async") {
        return "built for component-model async; rebuild with --sync".into();
    }
    text
}
