//! From a file to a plugin that can be instantiated.

use std::{fs::File, io::Read as _, path::Path, sync::Arc};

use wasmtime::component::Component;

use super::{
    Digest, Sandbox,
    contract::WorkerPre,
    host::Host,
    inspect::{self, FileKind},
};

/// The largest file that is taken for a plugin, in bytes.
const FILE_BYTES_MAX: u64 = 128 * 1024 * 1024;

/// A compiled plugin, shared by all workers that use it.
pub struct Plugin {
    /// The digest of the file.
    pub digest: Digest,
    /// Whether the compiled form came from the cache.
    pub cached: bool,
    pub(super) pre: WorkerPre<Host>,
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
    /// The compiler refused it.
    #[error("does not compile: {0}")]
    Compile(String),
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
    pub fn load(&self, source: &Source) -> Result<Arc<Plugin>, LoadError> {
        let inspection = inspect::inspect(&source.bytes);
        match &inspection.kind {
            FileKind::Handler => {}
            kind => return Err(LoadError::NotAHandler(kind.refusal())),
        }
        inspection.check_imports().map_err(LoadError::Import)?;
        let compile_error = |error: wasmtime::Error| LoadError::Compile(describe(&error));
        let cached = self.cache.as_ref().and_then(|cache| cache.load(&self.engine, source.digest));
        let from_cache = cached.is_some();
        let component = match cached {
            Some(component) => component,
            None => self.compile(source).map_err(compile_error)?,
        };
        let pre = self.linker.instantiate_pre(&component).and_then(WorkerPre::new).map_err(|error| {
            LoadError::NotAHandler(format!("does not fit the contract `{}`: {}", inspect::CONTRACT, describe(&error)))
        })?;
        Ok(Arc::new(Plugin { digest: source.digest, cached: from_cache, pre }))
    }

    fn compile(&self, source: &Source) -> wasmtime::Result<Component> {
        let Some(cache) = &self.cache else { return Component::new(&self.engine, &source.bytes) };
        let compiled = self.engine.precompile_component(&source.bytes)?;
        cache.store(source.digest, &compiled);
        // Mapping the entry shares its pages with other hosts; where that does not work, the bytes at hand do.
        if let Some(component) = cache.load(&self.engine, source.digest) {
            return Ok(component);
        }
        #[expect(unsafe_code, reason = "deserializing trusts the bytes")]
        // SAFETY: this engine made these bytes a moment ago, and they never left this process.
        unsafe {
            Component::deserialize(&self.engine, &compiled)
        }
    }
}

fn describe(error: &wasmtime::Error) -> String {
    let text = format!("{error:#}");
    if text.contains("component model async") || text.contains("component-model-async") {
        return "built for component-model async; rebuild with --sync".into();
    }
    text
}
