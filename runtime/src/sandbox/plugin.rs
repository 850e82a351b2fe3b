//! From a file to a plugin that can be instantiated.

use std::{
    collections::HashMap,
    path::Path,
    sync::{Arc, MutexGuard, PoisonError},
    time::Duration,
};

use bytesize::ByteSize;
use tokio::sync::Semaphore;
use wasmtime::{Engine, InstancePre, Module, component::Component};
use wasmtime_wasi::p2::bindings::CommandPre;

use super::{
    Digest, Sandbox, compile,
    contract::WorkerPre,
    host::Host,
    inspect::{self, FileKind, Inspection},
};
use crate::{
    escape::escape,
    folder::{self, Unread},
};

/// So many plugins that do not compile are remembered.
const HOPELESS_MAX: usize = 10_000;
/// More bytes of what is said against a plugin are not kept.
const COMPLAINT_BYTES_MAX: usize = 4_000;
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
    /// Places for instances that are kept, the host's.
    pub(super) places: Arc<Semaphore>,
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
    /// It is not the file that the manifest is for, or the manifest does not say which that is.
    #[error("{0}")]
    Digest(String),
    /// It imports what the host does not offer.
    #[error("{0}")]
    Import(String),
    /// What its manifest grants is not to be had.
    #[error("{0}")]
    Grant(String),
    /// It was tried, and failed.
    #[error("{0}")]
    Tried(String),
    /// The compiler refused it, or did not survive it.
    #[error("does not compile: {0}")]
    Compile(String),
    /// The compiler was ended after so much time.
    #[error(
        "does not compile within the limit of {}; hint: raise `time` in `[compile]` of `wabbit.toml`",
        humantime::format_duration(*.0)
    )]
    TooSlow(Duration),
}

impl LoadError {
    /// In full, for the plugin in this file.
    pub fn of(&self, plugin: &Path) -> String {
        match self {
            Self::Grant(problem) => problem.clone(),
            _ => format!("plugin `{}` {self}", plugin.display()),
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
    /// Reads a file of so many bytes at most, wherever it is.
    pub fn read(path: &Path, bytes_max: usize) -> Result<Self, LoadError> {
        Self::of(folder::read(path, bytes_max as u64), bytes_max)
    }

    /// Reads a file in a folder, which no link leads out of.
    pub fn read_in(folder: &Path, name: &str, bytes_max: usize) -> Result<Self, LoadError> {
        Self::of(folder::read_in(folder, Path::new(name), bytes_max as u64), bytes_max)
    }

    fn of(read: Result<Vec<u8>, Unread>, bytes_max: usize) -> Result<Self, LoadError> {
        let bytes = read.map_err(|unread| match unread {
            Unread::Io(error) => LoadError::Unreadable(error),
            Unread::TooLarge(size) => LoadError::NotAHandler(format!(
                "has {}, the limit is {}; hint: raise `file` in `[compile]` of `wabbit.toml`",
                ByteSize::b(size),
                ByteSize::b(bytes_max as u64)
            )),
            other => LoadError::NotAHandler(format!("is {other}")),
        })?;
        let digest = Digest::of(&bytes);
        Ok(Self { bytes, digest })
    }

    /// Bytes of the file.
    pub fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }
}

impl Sandbox {
    /// Compiles a plugin, or takes its compiled form from the cache. The thread is kept for as long as the compiler takes:
    /// call it off the executor.
    ///
    /// With `files` it can be given folders: a command that is a core module then goes through a component, which takes
    /// some time of every delivery.
    pub fn load(&self, source: &Source, files: bool) -> Result<Arc<Plugin>, LoadError> {
        self.load_within(source, files, self.compile.time)
    }

    /// The same, where the compiler has so much time; what takes longer is `LoadError::TooSlow`.
    pub fn load_within(&self, source: &Source, files: bool, time: Duration) -> Result<Arc<Plugin>, LoadError> {
        let inspection = look(source)?;
        let form = Form::new(source, &inspection.kind, files);
        let code = match self.cached(&form) {
            Some(code) => (code, true),
            None => (self.compile(source, &form, time)?, false),
        };
        self.plugin(source, inspection, code)
    }

    /// The plugin, if it takes no compiling: it is in the cache, or no time would make a plugin of the file.
    pub fn load_cached(&self, source: &Source, files: bool) -> Option<Result<Arc<Plugin>, LoadError>> {
        let inspection = match look(source) {
            Ok(inspection) => inspection,
            Err(error) => return Some(Err(error)),
        };
        let code = self.cached(&Form::new(source, &inspection.kind, files))?;
        Some(self.plugin(source, inspection, (code, true)))
    }

    /// Compiles a plugin in this very process, where nothing bounds the compiler, and puts it into the cache. For programs
    /// that cannot start themselves as a child, such as one that valgrind runs, and files that are trusted.
    pub fn compile_here(&self, source: &Source) -> Result<(), LoadError> {
        let form = Form::new(source, &look(source)?.kind, false);
        if self.cached(&form).is_none()
            && let Some(cache) = &self.cache
        {
            let how = compile::Form { module: form.module, determined: self.determined };
            cache.store(form.digest, &compile::child::compile(&source.bytes, how)?);
        }
        Ok(())
    }

    fn plugin(
        &self,
        source: &Source,
        inspection: Inspection,
        (code, cached): (Code, bool),
    ) -> Result<Arc<Plugin>, LoadError> {
        let entry = match (code, &inspection.kind) {
            (Code::Module(module), _) => {
                let pre = self
                    .core_linker
                    .instantiate_pre(&module)
                    .map_err(|error| LoadError::NotAHandler(format!("does not fit WASI 0.1: {}", describe(&error))))?;
                Entry::Command(CommandEntry::Core(pre))
            }
            (Code::Component(component), FileKind::Command | FileKind::CoreCommand) => {
                let pre = self.linker.instantiate_pre(&component).and_then(CommandPre::new).map_err(|error| {
                    LoadError::NotAHandler(format!("does not fit `wasi:cli/run`: {}", describe(&error)))
                })?;
                Entry::Command(CommandEntry::Component(pre))
            }
            (Code::Component(component), _) => {
                let pre = self.linker.instantiate_pre(&component).and_then(WorkerPre::new).map_err(|error| {
                    let problem = describe(&error);
                    LoadError::NotAHandler(format!("does not fit the contract `{}`: {problem}", inspect::CONTRACT))
                })?;
                Entry::Handler(pre)
            }
        };
        let (digest, places) = (source.digest, Arc::clone(&self.places));
        Ok(Arc::new(Plugin { digest, cached, entry, inspection, places }))
    }

    fn cached(&self, form: &Form) -> Option<Code> {
        let cache = self.cache.as_ref()?;
        match form.module {
            true => cache.load(&self.engine, form.digest).map(Code::Module),
            false => cache.load(&self.engine, form.digest).map(Code::Component),
        }
    }

    /// Has the plugin compiled, and keeps what it becomes.
    fn compile(&self, source: &Source, form: &Form, time: Duration) -> Result<Code, LoadError> {
        if let Some(error) = self.hopeless().get(&form.digest) {
            return Err(LoadError::Compile(error.clone()));
        }
        let code = compile::compile(
            &source.bytes,
            compile::Form { module: form.module, determined: self.determined },
            &self.compile,
            time,
        )
        .inspect_err(|error| {
            let mut hopeless = self.hopeless();
            if let (LoadError::Compile(text), true) = (error, hopeless.len() < HOPELESS_MAX) {
                hopeless.insert(form.digest, text.clone());
            }
        })?;
        if let Some(cache) = &self.cache {
            cache.store(form.digest, &code);
            // Mapping the entry shares its pages with other hosts; where that does not work, the bytes at hand do.
            if let Some(code) = self.cached(form) {
                return Ok(code);
            }
        }
        #[expect(unsafe_code, reason = "deserializing trusts the bytes")]
        // SAFETY: this program made these bytes a moment ago, in a child whose pipe nobody else has.
        let code = unsafe {
            match form.module {
                true => Module::deserialize(&self.engine, &code).map(Code::Module),
                false => Component::deserialize(&self.engine, &code).map(Code::Component),
            }
        };
        code.map_err(|error| LoadError::Compile(describe(&error)))
    }

    fn hopeless(&self) -> MutexGuard<'_, HashMap<Digest, String>> {
        self.hopeless.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What a file is compiled to.
struct Form {
    /// Whether the code is that of a core module. All else becomes a component.
    module: bool,
    /// What the code is known by.
    digest: Digest,
}

impl Form {
    fn new(source: &Source, kind: &FileKind, files: bool) -> Self {
        let core = matches!(kind, FileKind::CoreCommand);
        // What is kept in the cache under the file's own digest is the module.
        let digest =
            if core && files { Digest::of(&[source.digest.as_ref(), AS_COMPONENT].concat()) } else { source.digest };
        Self { module: core && !files, digest }
    }
}

/// What the file is, if it can be a plugin.
fn look(source: &Source) -> Result<Inspection, LoadError> {
    let inspection = inspect::inspect(&source.bytes);
    // What a manifest grants is the manifest's affair.
    inspection.check_known().map_err(LoadError::Import)?;
    if inspection.kind.runs() { Ok(inspection) } else { Err(LoadError::NotAHandler(inspection.kind.to_string())) }
}

/// What the compiler made of a file.
enum Code {
    Component(Component),
    Module(Module),
}

/// What is said against a plugin. It may repeat names of the plugin's: however long, and made for a terminal to act upon.
pub(super) fn complaint(text: &str) -> String {
    let bytes = text.as_bytes();
    match bytes.get(..COMPLAINT_BYTES_MAX) {
        Some(start) if bytes.len() > COMPLAINT_BYTES_MAX => escape(start) + "…",
        _ => escape(bytes),
    }
}

pub(super) fn describe(error: &wasmtime::Error) -> String {
    let text = complaint(&format!("{error:#}"));
    if text.contains("component model async") || text.contains("component-model-async") {
        return "built for component-model async; rebuild with --sync".into();
    }
    text
}
