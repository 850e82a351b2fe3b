//! What the child does: it bounds itself, before it has seen anything of the plugin, and then compiles.

use std::{
    io::{self, Read as _, Write as _},
    os::unix::process::parent_id,
    thread,
};

use nix::sys::{
    prctl,
    resource::{Resource, setrlimit},
    signal::Signal,
};
use wasmtime::Engine;

use super::{
    super::{
        LoadError, adapt, engine,
        inspect::{FileKind, inspect},
        plugin::{complaint, describe},
    },
    Form, tag,
};

/// Open files: the three standard streams, and what a library may look into for a moment.
const OPEN_FILES_MAX: u64 = 16;

/// The stack of each of the compiler's threads, in bytes: as large as the one that a program begins with.
pub(super) const STACK_BYTES: usize = 8 * 1024 * 1024;

/// What the child is told on its command line.
pub struct Bounds {
    /// The process that it must not outlive.
    pub parent: u32,
    /// Bytes of address space.
    pub memory: u64,
    /// Seconds of computing.
    pub cpu_seconds: u64,
}

/// Compiles the plugin on standard input to code on standard output; a command that is a core module stays one, or
/// becomes a component.
///
/// Errors: the bounds cannot be set, the host is gone, or a stream broke.
pub fn run(bounds: &Bounds, form: Form) -> anyhow::Result<()> {
    confine(bounds)?;
    // A stack of its own is there from the start: one that grows ends without a word when memory is used up.
    let compiler =
        thread::Builder::new().name("compiler".into()).stack_size(STACK_BYTES).spawn(move || answer(form))?;
    compiler.join().unwrap_or_else(|_| Err(anyhow::anyhow!("the compiler panicked")))
}

fn answer(form: Form) -> anyhow::Result<()> {
    let mut plugin = Vec::new();
    io::stdin().lock().read_to_end(&mut plugin)?;
    let (tag, content) = match compile(&plugin, form) {
        Ok(code) => (tag::CODE, code),
        Err(LoadError::NotAHandler(text)) => (tag::NOT_A_HANDLER, text.into_bytes()),
        Err(LoadError::Compile(text)) => (tag::REFUSED, text.into_bytes()),
        Err(other) => (tag::REFUSED, other.to_string().into_bytes()),
    };
    let mut stdout = io::stdout().lock();
    stdout.write_all(&[tag])?;
    stdout.write_all(&(content.len() as u64).to_le_bytes())?;
    stdout.write_all(&content)?;
    Ok(stdout.flush()?)
}

fn confine(bounds: &Bounds) -> anyhow::Result<()> {
    prctl::set_pdeathsig(Signal::SIGKILL)?;
    // It may have ended before the line above.
    anyhow::ensure!(parent_id() == bounds.parent, "the host is gone");
    prctl::set_no_new_privs()?;
    // It touches a little of much: clearing huge pages would be a third of its work.
    prctl::set_thp_disable(true)?;
    let limits = [
        (Resource::RLIMIT_AS, bounds.memory),
        (Resource::RLIMIT_CPU, bounds.cpu_seconds),
        (Resource::RLIMIT_CORE, 0),
        (Resource::RLIMIT_FSIZE, 0),
        (Resource::RLIMIT_NOFILE, OPEN_FILES_MAX),
    ];
    for (resource, limit) in limits {
        setrlimit(resource, limit, limit)?;
    }
    Ok(())
}

/// The code of a plugin, for the host's engine.
pub(in crate::sandbox) fn compile(plugin: &[u8], form: Form) -> Result<Vec<u8>, LoadError> {
    let refused = |error: wasmtime::Error| LoadError::Compile(describe(&error));
    let unfit = |what: String, error: anyhow::Error| {
        LoadError::NotAHandler(format!("{what}: {}", complaint(&format!("{error:#}"))))
    };
    let engine = Engine::new(&engine::code_config(form.determined)).map_err(refused)?;
    match inspect(plugin).kind {
        FileKind::Handler | FileKind::Command => engine.precompile_component(plugin).map_err(refused),
        FileKind::CoreCommand if form.module => engine.precompile_module(plugin).map_err(refused),
        FileKind::CoreCommand => {
            let adapted =
                adapt::adapt_command(plugin).map_err(|error| unfit("does not fit WASI 0.1".to_owned(), error))?;
            engine.precompile_component(&adapted).map_err(refused)
        }
        FileKind::CoreHandler { export } => {
            let adapted = adapt::adapt(plugin)
                .map_err(|error| unfit(format!("is a core module whose `{export}` does not fit"), error))?;
            engine.precompile_component(&adapted).map_err(refused)
        }
        kind => Err(LoadError::NotAHandler(kind.to_string())),
    }
}
