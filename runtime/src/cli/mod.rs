//! The command line: data on standard output, everything else on standard error.

mod bench;
mod broker;
mod build;
mod check;
mod child;
mod compare;
mod dead;
mod dev;
mod diff;
mod history;
mod host;
mod inspect;
mod invoke;
mod new;
mod publish;
mod record;
mod reload;
mod replay;
mod run;
mod test;
mod text;

use std::{env, panic::resume_unwind, path::PathBuf, process::ExitCode, thread};

use clap::{Args, Parser, Subcommand};

use crate::amqp::Trouble;
use crate::app::settings::{Overrides, Settings, SettingsError};
use crate::manifest::report::Style;
use crate::sandbox::compile::{
    self,
    child::{self as compiler, Bounds},
};

/// Something failed.
const FAILED: u8 = 1;
/// The command was used wrongly, as with an unknown flag.
const WRONG_USAGE: u8 = 2;
/// The configuration is wrong (`EX_USAGE` of BSD's sysexits).
const WRONG_CONFIGURATION: u8 = 64;

/// The stack of every thread, in bytes. A header can be nested as deep as a frame of 128 KiB has room for, which is
/// 26,000 lists, and lapin reads it by a call within a call, of 2.5 KiB each where it is compiled without optimisation. Of
/// a stack only that is memory which was used once.
const STACK_BYTES: usize = 128 << 20;

/// WebAssembly workers for RabbitMQ
#[derive(Parser)]
#[command(name = "wabbit", version, about, max_term_width = 100)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Run the workers of a folder of manifests
    Run(run::Run),
    /// Broker, host and compilers in one, for whoever writes handlers
    Dev(dev::Dev),
    /// Check all manifests and plugins, without a broker
    Check(check::Check),
    /// Have a running host look at its files, and say what it changed
    Reload(reload::Reload),
    /// Say what became of a worker's versions
    History(history::History),
    /// Say what a plugin is and what it asks for
    Inspect(inspect::Inspect),
    /// Send one message through one plugin, without a broker
    Invoke(invoke::Invoke),
    /// Measure a plugin in a host of its own, on your broker
    Bench(bench::Bench),
    /// Publish messages, and wait until the broker has confirmed them
    Publish(publish::Publish),
    /// Look at dead letters, replay or delete them
    Dead(dead::Dead),
    /// Make a new plugin, by the template of a language
    New(new::New),
    /// Compile the plugins whose sources changed
    Build(build::Build),
    /// Run an embedded broker, for development and tests
    Broker(broker::Broker),
    /// Play the scenarios of plugins, without a broker
    Test(test::Test),
    /// Copy new deliveries of a queue into a file
    Record(record::Record),
    /// Handle recorded deliveries, without a broker
    Replay(replay::Replay),
    /// Show where two plugins handle recorded deliveries differently
    Compare(compare::Compare),
    /// What the host runs for each plugin that it has to compile
    #[command(name = compile::COMMAND, hide = true)]
    CompilePlugin(CompilePlugin),
}

/// Bounds, as the host gives them.
#[derive(Args)]
struct CompilePlugin {
    parent: u32,
    memory: u64,
    cpu_seconds: u64,
    /// Whether a command that is a core module stays one
    #[arg(action = clap::ArgAction::Set)]
    module: bool,
    /// Whether the code does the same on every machine of an architecture
    #[arg(action = clap::ArgAction::Set)]
    determined: bool,
}

/// Flags that choose the settings. Each is also a variable, and overrides what the file says.
#[derive(Args, Clone)]
struct SettingsArgs {
    /// The settings; `wabbit.toml` is read where there is one
    #[arg(long, value_name = "FILE", env = "WABBIT_CONFIG")]
    config: Option<PathBuf>,
    /// A named environment of the settings
    #[arg(long, value_name = "NAME", env = "WABBIT_ENVIRONMENT")]
    environment: Option<String>,
    /// The folder of plugins [default: plugins]
    #[arg(long, value_name = "DIR", env = "WABBIT_PLUGINS")]
    plugins: Option<PathBuf>,
    /// The folder of manifests [default: manifests]
    #[arg(long, value_name = "DIR", env = "WABBIT_MANIFESTS")]
    manifests: Option<PathBuf>,
    /// The folder of compiled plugins [default: ~/.cache/wabbit]
    #[arg(long, value_name = "DIR", env = "WABBIT_CACHE")]
    cache: Option<PathBuf>,
    /// The broker, or several addresses of it, with commas in between [default:
    /// amqp://guest:guest@127.0.0.1:5672/%2f]
    #[arg(long, value_name = "URL[,URL…]", env = "WABBIT_AMQP_URL", hide_env_values = true)]
    amqp_url: Option<String>,
}

impl SettingsArgs {
    fn overrides(self) -> Overrides {
        let Self { config, environment, plugins, manifests, cache, amqp_url } = self;
        Overrides { config, environment, plugins, manifests, cache, amqp_url, ..Overrides::default() }
    }
}

/// How a command ended, where it is not simply done.
enum Failed {
    /// Exit 1, with this error.
    Error(anyhow::Error),
    /// Exit 1; all has been said.
    Reported,
    /// Exit 2, with this.
    Usage(String),
    /// Exit 64; this is said, unless it is empty.
    Configuration(String),
}

impl From<anyhow::Error> for Failed {
    fn from(error: anyhow::Error) -> Self {
        Self::Error(error)
    }
}

impl From<Trouble> for Failed {
    fn from(trouble: Trouble) -> Self {
        Self::Error(trouble.into())
    }
}

impl From<SettingsError> for Failed {
    fn from(error: SettingsError) -> Self {
        Self::Configuration(error.render(style()))
    }
}

/// Parses the command line and runs the command.
pub fn main() -> ExitCode {
    let command = Cli::parse().command;
    if let Command::CompilePlugin(CompilePlugin { parent, memory, cpu_seconds, module, determined }) = command {
        return ended(
            compiler::run(&Bounds { parent, memory, cpu_seconds }, compile::Form { module, determined })
                .map_err(Failed::Error),
        );
    }
    deepen_stacks();
    // The stack of the program's first thread is not ours to choose.
    match thread::Builder::new().name("wabbit".to_owned()).spawn(move || ended(command.execute())) {
        Ok(thread) => thread.join().unwrap_or_else(|panic| resume_unwind(panic)),
        Err(error) => ended(Err(Failed::Error(error.into()))),
    }
}

/// Gives threads that are not told otherwise a stack of [`STACK_BYTES`], those of lapin among them, which offers no other
/// way. Who sets the variable has the last word.
fn deepen_stacks() {
    const VARIABLE: &str = "RUST_MIN_STACK";
    if env::var_os(VARIABLE).is_none() {
        #[expect(unsafe_code, reason = "setting a variable is unsafe where other threads might read it")]
        // SAFETY: there is no other thread yet.
        unsafe {
            env::set_var(VARIABLE, STACK_BYTES.to_string());
        }
    }
}

impl Command {
    fn execute(self) -> Result<(), Failed> {
        match self {
            Self::Run(run) => run.execute(),
            Self::Dev(dev) => dev.execute(),
            Self::Check(check) => check.execute(),
            Self::Reload(reload) => reload.execute(),
            Self::History(history) => history.execute(),
            Self::Inspect(inspect) => inspect.execute(),
            Self::Invoke(invoke) => invoke.execute(),
            Self::Bench(bench) => bench.execute(),
            Self::Publish(publish) => publish.execute(),
            Self::Dead(dead) => dead.execute(),
            Self::New(new) => new.execute(),
            Self::Build(build) => build.execute(),
            Self::Broker(broker) => broker.execute(),
            Self::Test(test) => test.execute(),
            Self::Record(record) => record.execute(),
            Self::Replay(replay) => replay.execute(),
            Self::Compare(compare) => compare.execute(),
            // It bounds itself, and is not run from here.
            Self::CompilePlugin(_) => Err(Failed::Reported),
        }
    }
}

/// What a command ended with, told to the user and as an exit code.
fn ended(result: Result<(), Failed>) -> ExitCode {
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(Failed::Error(error)) => {
            eprintln!("error: {error:#}");
            ExitCode::from(FAILED)
        }
        Err(Failed::Reported) => ExitCode::from(FAILED),
        Err(Failed::Usage(message)) => {
            eprintln!("error: {message}");
            ExitCode::from(WRONG_USAGE)
        }
        Err(Failed::Configuration(message)) => {
            if !message.is_empty() {
                eprintln!("{}", message.trim_end());
            }
            ExitCode::from(WRONG_CONFIGURATION)
        }
    }
}

fn settings(overrides: &Overrides) -> Result<Settings, Failed> {
    Ok(Settings::load(overrides)?)
}

/// The settings of a command that needs the folder of manifests: a wrong path is said before anything is done.
fn settings_with_manifests(overrides: &Overrides) -> Result<Settings, Failed> {
    let settings = settings(overrides)?;
    if settings.manifests.is_dir() {
        return Ok(settings);
    }
    let folder = settings.manifests.display();
    Err(Failed::Configuration(format!(
        "error: `{folder}` is no folder of manifests\nhint: choose one with --manifests"
    )))
}

/// An executor for the commands that need one.
fn executor() -> anyhow::Result<tokio::runtime::Runtime> {
    // A handler that computes holds its thread for a tick at a time. By its defaults tokio looks at new tasks, timers and
    // sockets only after dozens of turns, each of which is a tick: new deliveries would wait for a third of a second.
    // Sockets at every other turn: what is woken there goes first, and would keep all others waiting at every turn.
    let mut builder = tokio::runtime::Builder::new_multi_thread();
    Ok(builder.global_queue_interval(1).event_interval(2).enable_all().build()?)
}

/// How problems are shown on standard error.
fn style() -> Style {
    if std::io::IsTerminal::is_terminal(&std::io::stderr()) { Style::Coloured } else { Style::Plain }
}
