//! The host's settings: `wabbit.toml`, the environment that was chosen in it, and what flags and variables override.

mod broker_url;
mod broker_urls;
mod layer;
mod live;
#[cfg(test)]
mod tests;

use std::{
    env, fmt,
    net::SocketAddr,
    path::{Path, PathBuf},
    time::Duration,
};

use crate::{
    keyvalue,
    manifest::{
        Ceilings, SecretSource,
        read::{document, text_of},
        report::{Problem, Style, render},
        values,
    },
};

pub use broker_url::BrokerUrl;
pub use broker_urls::BrokerUrls;
use layer::{GRACE_MAX, Layer, admin, not_empty};

/// The settings, where no other file is named.
const FILE: &str = "wabbit.toml";

/// What the host does, fully validated.
#[derive(Debug, Clone, PartialEq)]
pub struct Settings {
    /// The file that they were read from, if it is there. Default `wabbit.toml`.
    pub file: PathBuf,
    /// The broker, and how long it may take.
    pub amqp: Amqp,
    /// The folder of plugins. Default `plugins`.
    pub plugins: PathBuf,
    /// Whether a manifest has to say the digest of its plugin. Default false.
    pub require_digest: bool,
    /// The folder of manifests. Default `manifests`.
    pub manifests: PathBuf,
    /// The folder of compiled plugins. Default `$XDG_CACHE_HOME/wabbit`, else `$HOME/.cache/wabbit`.
    pub cache: PathBuf,
    /// The folder of what a host leaves to the next one after a crash. Default `$XDG_STATE_HOME/wabbit`, else
    /// `$HOME/.local/state/wabbit`; none where there is neither.
    pub state: Option<PathBuf>,
    /// Where health, workers and metrics are served; none for nowhere. Default 127.0.0.1:9290.
    pub admin: Option<SocketAddr>,
    /// What whoever changes something by the admin address has to say. Without one only a loopback address takes changes.
    pub admin_token: Option<SecretSource>,
    /// Default text.
    pub log_format: LogFormat,
    /// How long deliveries in hand may take when the host is stopped. Default 30 s.
    pub grace: Duration,
    /// Whether a bad manifest stops the host. Default false.
    pub strict: bool,
    /// Bounds that hold for the host as a whole.
    pub host: HostLimits,
    /// Bounds of the key-value stores.
    pub keyvalue: keyvalue::Limits,
    /// How handlers' HTTP requests are sent.
    pub http: Http,
    /// Bounds on compiling plugins.
    pub compile: Compile,
    /// How changes of files are noticed.
    pub reload: Reload,
}

/// `[reload]`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reload {
    /// Default by what the system tells.
    pub watch: WatchBy,
    /// How often changes are looked for that the system does not tell of, 100 ms to 1 h. Default 2 s.
    pub poll: Duration,
}

/// `[reload] watch`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum WatchBy {
    /// By what the system tells, and now and then by a look of its own.
    #[default]
    Events,
    /// By a look of its own alone.
    Poll,
    /// Not at all: `SIGHUP` and `wabbit reload` have it look.
    Off,
}

/// `[amqp]`.
#[derive(Debug, Clone, PartialEq)]
pub struct Amqp {
    /// Default `amqp://guest:guest@127.0.0.1:5672/%2f` alone.
    pub urls: BrokerUrls,
    /// A file with the certificates, in PEM, that an `amqps` broker is trusted by, beside the system's own.
    pub ca: Option<PathBuf>,
    /// Whole seconds, 1 s to 1 h. Default 10 s.
    pub heartbeat: Duration,
    /// For both connections to one address to be made. Default 5 s.
    pub connect_timeout: Duration,
    /// For a publication to be confirmed. Default 30 s.
    pub publish_timeout: Duration,
}

/// `[limits]` of the host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostLimits {
    /// Handlers that run at once, over all workers. Default 256.
    pub running: usize,
    /// Bytes of linear memory of one handler: no manifest can ask for more. Default 256 MiB.
    pub max_memory: usize,
    /// Bytes of one message's body, in both directions. Default 16 MiB.
    pub max_body: usize,
    /// Publications of one outcome. Default 1,000.
    pub max_publications: usize,
    /// Headers of one publication. Default 1,000.
    pub max_headers: usize,
    /// Bytes of one outcome, bodies and headers together. Default 64 MiB.
    pub max_output: usize,
    /// Calls of the host during one delivery. Default 10,000,000.
    pub max_host_calls: usize,
    /// Streams, timers and the like that a handler has open at once. Default 10,000.
    pub max_handles: usize,
    /// Elements of a handler's tables, all together. Default 100,000.
    pub max_tables: usize,
    /// Bytes of randomness that a handler takes during one delivery. Default 16 MiB.
    pub max_random: usize,
    /// Bytes that a worker logs in a second. Default 1 MiB.
    pub max_log: usize,
}

/// `[compile]`: what a plugin's file may cost before it runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Compile {
    /// Plugins that are compiled at once. Default one for each core, at most 4.
    pub at_once: usize,
    /// For one plugin, by the clock. Default 60 s.
    pub time: Duration,
    /// Bytes of address space that the compiler may take for one plugin. Default 2 GiB.
    pub memory: usize,
    /// Bytes of a plugin's file. Default 64 MiB.
    pub file: usize,
    /// Bytes of machine code that one plugin may become. Default 512 MiB.
    pub code: usize,
}

/// `[http]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Http {
    /// A file with the certificates, in PEM, that servers are trusted by, beside the system's own.
    pub ca: Option<PathBuf>,
    /// For a request to have its turn and its connection. Default 5 s.
    pub connect_timeout: Duration,
    /// How long a response may be silent in the middle of its body. Default 30 s.
    pub idle_timeout: Duration,
    /// Requests at once, over all workers. Default 256.
    pub running: usize,
    /// Bytes of the body of a request, and of a response. Default 16 MiB.
    pub body: usize,
}

/// How the log is written.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum LogFormat {
    /// A line for a person.
    #[default]
    Text,
    /// A line of JSON for a program.
    Json,
}

/// What flags and `WABBIT_*` variables say. Their values are checked with those of the file.
///
/// There is no `Debug`, for `amqp_url` holds a password.
#[derive(Clone, Default)]
pub struct Overrides {
    /// `--config`; where absent, `wabbit.toml` is read if it is there.
    pub config: Option<PathBuf>,
    /// `--environment`: a table `[environment.NAME]` of the file.
    pub environment: Option<String>,
    /// `--plugins`
    pub plugins: Option<PathBuf>,
    /// `--manifests`
    pub manifests: Option<PathBuf>,
    /// `--cache`
    pub cache: Option<PathBuf>,
    /// `--state`
    pub state: Option<PathBuf>,
    /// `--amqp-url`
    pub amqp_url: Option<String>,
    /// `--admin`: an address, or `off`.
    pub admin: Option<String>,
    /// `--log-format`: `text` or `json`.
    pub log_format: Option<String>,
    /// `--grace`, such as `30s`.
    pub grace: Option<String>,
    /// `--strict`
    pub strict: Option<bool>,
}

/// What the system has: its own folders for what a program keeps, and its cores.
#[derive(Debug, Clone, Default)]
pub struct Defaults {
    /// For what can be made again.
    pub cache: Option<PathBuf>,
    /// For what is to survive the process.
    pub state: Option<PathBuf>,
    /// How many threads can run at once; 0 where that is not known.
    pub cores: usize,
}

/// Why there are no settings.
#[derive(Debug, Clone, PartialEq)]
pub enum SettingsError {
    /// Something is wrong with the file.
    File {
        /// Its path.
        path: PathBuf,
        /// All that is wrong.
        problems: Vec<Problem>,
    },
    /// Something is wrong with a flag or its variable.
    Flag {
        /// With its dashes.
        flag: &'static str,
        /// What is wrong; it never repeats a password.
        problem: Problem,
    },
    /// No environment of this name is in the file.
    UnknownEnvironment {
        /// The name that was asked for.
        name: String,
        /// Those that there are.
        known: Vec<String>,
    },
    /// Neither a setting nor the system says where the cache may be.
    NoCacheFolder,
}

impl Settings {
    /// Reads the file, if there is one, and the variables that name the cache folder.
    pub fn load(overrides: &Overrides) -> Result<Self, SettingsError> {
        let path = overrides.config.clone().unwrap_or_else(|| PathBuf::from(FILE));
        let xdg = |variable| env::var_os(variable).map(PathBuf::from);
        let defaults = Defaults {
            cache: default_folder(xdg("XDG_CACHE_HOME"), env::home_dir(), ".cache"),
            state: default_folder(xdg("XDG_STATE_HOME"), env::home_dir(), ".local/state"),
            cores: std::thread::available_parallelism().map_or(0, usize::from),
        };
        if overrides.config.is_none() && !path.exists() {
            return Self::resolve(None, overrides, defaults);
        }
        let invalid = |problem| SettingsError::File { path: path.clone(), problems: vec![problem] };
        let text = text_of(&path).map_err(invalid)?;
        Self::resolve(Some((&path, &text)), overrides, defaults)
    }

    /// The same without a look at the system: the file is given with its path, which relative paths in it follow.
    pub fn resolve(
        file: Option<(&Path, &str)>,
        overrides: &Overrides,
        defaults: Defaults,
    ) -> Result<Self, SettingsError> {
        let file_layer = file.map_or(Ok(Layer::default()), |(path, text)| from_file(path, text, overrides));
        let layer = match (file, &overrides.environment) {
            (None, Some(name)) => {
                return Err(SettingsError::UnknownEnvironment { name: name.clone(), known: Vec::new() });
            }
            _ => from_flags(overrides)?.over(file_layer?),
        };
        let path = overrides.config.clone().unwrap_or_else(|| PathBuf::from(FILE));
        layer.into_settings(path, defaults).ok_or(SettingsError::NoCacheFolder)
    }
}

impl Settings {
    /// The folder that the folder of manifests lies in: where relative paths in manifests begin.
    pub fn project(&self) -> PathBuf {
        let manifests = std::path::absolute(&self.manifests).unwrap_or_else(|_| self.manifests.clone());
        manifests.parent().map_or_else(|| manifests.clone(), Path::to_path_buf)
    }
}

impl HostLimits {
    /// What manifests are held to.
    pub fn ceilings(&self) -> Ceilings {
        Ceilings {
            memory: self.max_memory,
            publications: self.max_publications,
            headers: self.max_headers,
            output: self.max_output,
            host_calls: self.max_host_calls,
            handles: self.max_handles,
            tables: self.max_tables,
            random: self.max_random,
            log: self.max_log,
        }
    }
}

impl SettingsError {
    /// For a person to read, with the file's lines and hints.
    pub fn render(&self, style: Style) -> String {
        match self {
            Self::File { path, problems } => render(path, problems, style),
            Self::Flag { flag, problem } => format!("error: `{flag}`: {problem}\n"),
            Self::UnknownEnvironment { name, known } => {
                let hint = match known.as_slice() {
                    [] => "no file with an `[environment.NAME]` was read".to_owned(),
                    known => values::nearest_or_all(name, &known.iter().map(String::as_str).collect::<Vec<_>>()),
                };
                format!("error: there is no environment {}\nhint: {hint}\n", values::quoted(name))
            }
            Self::NoCacheFolder => {
                "error: there is no folder for compiled plugins\nhint: set `--cache`, or the variable `HOME`\n"
                    .to_owned()
            }
        }
    }
}

impl fmt::Display for SettingsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.render(Style::Plain).trim_end())
    }
}

impl std::error::Error for SettingsError {}

/// The file's settings, with the chosen environment laid over the rest. Every environment is checked, chosen or not.
fn from_file(path: &Path, text: &str, overrides: &Overrides) -> Result<Layer, SettingsError> {
    let folder = path.parent().unwrap_or(Path::new(""));
    let read = document(text, |top| {
        let environments = top.map("environment", |section| Layer::read(section, folder));
        let environments = environments.into_iter().map(|(name, layer)| (name.to_owned(), layer));
        (Layer::read(top, folder), environments.collect::<Vec<_>>())
    });
    let (base, environments) = read.map_err(|problems| SettingsError::File { path: path.to_owned(), problems })?;
    let Some(name) = &overrides.environment else { return Ok(base) };
    let known = environments.iter().map(|(name, _)| name.escape_debug().to_string()).collect();
    let chosen = environments.into_iter().find(|(found, _)| found == name);
    let (_, chosen) = chosen.ok_or_else(|| SettingsError::UnknownEnvironment { name: name.clone(), known })?;
    Ok(chosen.over(base))
}

/// Paths on the command line are relative to the working folder, and are left as they are.
fn from_flags(overrides: &Overrides) -> Result<Layer, SettingsError> {
    Ok(Layer {
        plugins: folder("--plugins", &overrides.plugins)?,
        manifests: folder("--manifests", &overrides.manifests)?,
        cache: folder("--cache", &overrides.cache)?,
        state: folder("--state", &overrides.state)?,
        urls: flag("--amqp-url", &overrides.amqp_url, BrokerUrls::parse)?,
        admin: flag("--admin", &overrides.admin, admin)?,
        log_format: flag("--log-format", &overrides.log_format, LogFormat::parse)?,
        grace: flag("--grace", &overrides.grace, grace)?,
        strict: overrides.strict,
        ..Layer::default()
    })
}

fn flag<T>(
    flag: &'static str,
    value: &Option<String>,
    check: impl Fn(&str) -> Result<T, Problem>,
) -> Result<Option<T>, SettingsError> {
    let checked = value.as_deref().map(check).transpose();
    checked.map_err(|problem| SettingsError::Flag { flag, problem })
}

fn folder(flag: &'static str, path: &Option<PathBuf>) -> Result<Option<PathBuf>, SettingsError> {
    if path.as_ref().is_some_and(|path| path.as_os_str().is_empty()) {
        return Err(SettingsError::Flag { flag, problem: not_empty("").map_or_else(|problem| problem, Problem::new) });
    }
    Ok(path.clone())
}

fn grace(text: &str) -> Result<Duration, Problem> {
    let grace = values::duration(text)?;
    if grace > GRACE_MAX {
        return Err(Problem::new(format!("more than `{}`", values::show_duration(&GRACE_MAX))));
    }
    Ok(grace)
}

impl WatchBy {
    /// What `watch` may say.
    const WORDS: &[(&str, Self)] = &[("events", Self::Events), ("poll", Self::Poll), ("off", Self::Off)];
}

impl LogFormat {
    /// What `log-format` may say.
    const WORDS: &[(&str, Self)] = &[("text", Self::Text), ("json", Self::Json)];

    fn parse(text: &str) -> Result<Self, Problem> {
        let found = Self::WORDS.iter().find(|(word, _)| *word == text).map(|(_, format)| *format);
        found.ok_or_else(|| {
            Problem::new(format!("{} is not a log format", values::quoted(text))).hint("one of `text`, `json`")
        })
    }
}

/// The XDG rules: a relative path counts as absent.
fn default_folder(xdg: Option<PathBuf>, home: Option<PathBuf>, in_home: &str) -> Option<PathBuf> {
    let absolute = |path: &PathBuf| path.is_absolute();
    let base = xdg.filter(absolute).or_else(|| Some(home.filter(absolute)?.join(in_home)));
    base.map(|base| base.join("wabbit"))
}
