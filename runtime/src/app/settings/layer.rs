//! One layer of settings: what a file, an environment in it or the command line says, and nothing about the rest.

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
    time::Duration,
};

use super::{Amqp, BrokerUrl, BrokerUrls, Compile, Defaults, HostLimits, Http, LogFormat, Reload, Settings, WatchBy};
use crate::{
    keyvalue,
    manifest::{
        SecretSource,
        limits::{HANDLES, HEADERS, HOST_CALLS, LOG, OUTPUT, PUBLICATIONS, RANDOM, TABLES},
        read::Section,
        report::Problem,
        secret,
        values::quoted,
    },
};

pub(super) const GRACE_MAX: Duration = Duration::from_secs(60 * 60);
const HEARTBEAT_MIN: Duration = Duration::from_secs(1);
const HEARTBEAT_MAX: Duration = Duration::from_secs(60 * 60);
const TIMEOUT_MIN: Duration = Duration::from_millis(100);
const TIMEOUT_MAX: Duration = Duration::from_secs(10 * 60);
const POLL_MIN: Duration = Duration::from_millis(100);
const POLL_MAX: Duration = Duration::from_secs(60 * 60);
const COMPILE_TIME_MIN: Duration = Duration::from_millis(100);
const COMPILE_TIME_MAX: Duration = Duration::from_secs(60 * 60);
const KIB: usize = 1 << 10;
const MIB: usize = 1 << 20;
const GIB: usize = 1 << 30;

/// Plugins that are compiled at once by default, on however many cores: each may take `[compile] memory`.
const COMPILED_AT_ONCE_MAX: usize = 4;

/// Every setting, where it is given.
#[derive(Default)]
pub(super) struct Layer {
    pub plugins: Option<PathBuf>,
    pub require_digest: Option<bool>,
    pub manifests: Option<PathBuf>,
    pub cache: Option<PathBuf>,
    pub state: Option<PathBuf>,
    /// The inner value is none where the address is switched off.
    pub admin: Option<Option<SocketAddr>>,
    pub log_format: Option<LogFormat>,
    pub grace: Option<Duration>,
    pub strict: Option<bool>,
    pub urls: Option<BrokerUrls>,
    pub ca: Option<PathBuf>,
    pub heartbeat: Option<Duration>,
    pub connect_timeout: Option<Duration>,
    pub publish_timeout: Option<Duration>,
    pub running: Option<usize>,
    pub max_memory: Option<usize>,
    pub max_body: Option<usize>,
    pub max_publications: Option<usize>,
    pub max_headers: Option<usize>,
    pub max_output: Option<usize>,
    pub max_host_calls: Option<usize>,
    pub max_handles: Option<usize>,
    pub max_tables: Option<usize>,
    pub max_random: Option<usize>,
    pub max_log: Option<usize>,
    pub compile_at_once: Option<usize>,
    pub compile_time: Option<Duration>,
    pub compile_memory: Option<usize>,
    pub compile_file: Option<usize>,
    pub compile_code: Option<usize>,
    pub keyvalue_value: Option<usize>,
    pub keyvalue_store: Option<usize>,
    pub keyvalue_memory: Option<usize>,
    pub keyvalue_disk: Option<usize>,
    pub http_ca: Option<PathBuf>,
    pub http_connect_timeout: Option<Duration>,
    pub http_idle_timeout: Option<Duration>,
    pub http_running: Option<usize>,
    pub http_body: Option<usize>,
    pub admin_token: Option<SecretSource>,
    pub watch: Option<WatchBy>,
    pub poll: Option<Duration>,
}

impl Layer {
    /// Reads the top of a file or an environment; relative paths follow the folder.
    pub fn read(section: &mut Section<'_>, folder: &Path) -> Self {
        let path = |text: &str| not_empty(text).map(|text| folder.join(text));
        let mut layer = Self {
            manifests: section.checked("manifests", path),
            cache: section.checked("cache", path),
            state: section.checked("state", path),
            admin: section.checked("admin", admin),
            admin_token: section.hidden("admin-token", secret),
            log_format: section.one_of("log-format", LogFormat::WORDS),
            grace: section.duration("grace", Duration::ZERO..=GRACE_MAX),
            strict: section.flag("strict"),
            ..Self::default()
        };
        let plugins = section.text_or(
            "plugins",
            |text| Ok((Some(path(text)?), None)),
            |plugins| Some((plugins.checked("folder", path), plugins.flag("require-digest"))),
        );
        (layer.plugins, layer.require_digest) = plugins.unwrap_or_default();
        section.section("amqp", |amqp| {
            // Where one address is wrong, that is what is said.
            let all = amqp.one_or_more("url", BrokerUrl::parse);
            layer.urls = all.and_then(|urls| BrokerUrls::new(urls).map_err(|problem| amqp.report("url", problem)).ok());
            layer.ca = amqp.checked("ca", path);
            layer.heartbeat = amqp.duration("heartbeat", HEARTBEAT_MIN..=HEARTBEAT_MAX);
            layer.connect_timeout = amqp.duration("connect-timeout", TIMEOUT_MIN..=TIMEOUT_MAX);
            layer.publish_timeout = amqp.duration("publish-timeout", TIMEOUT_MIN..=TIMEOUT_MAX);
            if layer.heartbeat.is_some_and(|heartbeat| heartbeat.subsec_nanos() != 0) {
                amqp.report("heartbeat", Problem::new("AMQP counts heartbeats in whole seconds"));
            }
        });
        section.section("limits", |limits| {
            layer.running = limits.integer("running", 1..=100_000);
            layer.max_memory = limits.size("memory", 64 * KIB..=4 * GIB);
            layer.max_body = limits.size("body", KIB..=512 * MIB);
            layer.max_publications = limits.integer("publications", PUBLICATIONS);
            layer.max_headers = limits.integer("headers", HEADERS);
            layer.max_output = limits.size("output", OUTPUT);
            layer.max_host_calls = limits.integer("host-calls", HOST_CALLS);
            layer.max_handles = limits.integer("handles", HANDLES);
            layer.max_tables = limits.integer("tables", TABLES);
            layer.max_random = limits.size("random", RANDOM);
            layer.max_log = limits.size("log", LOG);
        });
        section.section("compile", |compile| {
            layer.compile_at_once = compile.integer("at-once", 1..=64);
            layer.compile_time = compile.duration("time", COMPILE_TIME_MIN..=COMPILE_TIME_MAX);
            layer.compile_memory = compile.size("memory", 256 * MIB..=64 * GIB);
            layer.compile_file = compile.size("file", KIB..=GIB);
            layer.compile_code = compile.size("code", MIB..=4 * GIB);
        });
        section.section("keyvalue", |limits| {
            layer.keyvalue_value = limits.size("value", 1..=GIB);
            layer.keyvalue_store = limits.size("store", KIB..=1024 * GIB);
            layer.keyvalue_memory = limits.size("memory", KIB..=1024 * GIB);
            layer.keyvalue_disk = limits.size("disk", KIB..=1024 * GIB);
        });
        section.section("http", |http| {
            layer.http_ca = http.checked("ca", path);
            layer.http_connect_timeout = http.duration("connect-timeout", TIMEOUT_MIN..=TIMEOUT_MAX);
            layer.http_idle_timeout = http.duration("idle-timeout", TIMEOUT_MIN..=TIMEOUT_MAX);
            layer.http_running = http.integer("running", 1..=100_000);
            layer.http_body = http.size("body", KIB..=512 * MIB);
        });
        section.section("reload", |reload| {
            layer.watch = reload.one_of("watch", WatchBy::WORDS);
            layer.poll = reload.duration("poll", POLL_MIN..=POLL_MAX);
        });
        layer
    }

    /// This layer, and where it says nothing the one below.
    pub fn over(self, below: Self) -> Self {
        Self {
            plugins: self.plugins.or(below.plugins),
            require_digest: self.require_digest.or(below.require_digest),
            manifests: self.manifests.or(below.manifests),
            cache: self.cache.or(below.cache),
            state: self.state.or(below.state),
            admin: self.admin.or(below.admin),
            log_format: self.log_format.or(below.log_format),
            grace: self.grace.or(below.grace),
            strict: self.strict.or(below.strict),
            urls: self.urls.or(below.urls),
            ca: self.ca.or(below.ca),
            heartbeat: self.heartbeat.or(below.heartbeat),
            connect_timeout: self.connect_timeout.or(below.connect_timeout),
            publish_timeout: self.publish_timeout.or(below.publish_timeout),
            running: self.running.or(below.running),
            max_memory: self.max_memory.or(below.max_memory),
            max_body: self.max_body.or(below.max_body),
            max_publications: self.max_publications.or(below.max_publications),
            max_headers: self.max_headers.or(below.max_headers),
            max_output: self.max_output.or(below.max_output),
            max_host_calls: self.max_host_calls.or(below.max_host_calls),
            max_handles: self.max_handles.or(below.max_handles),
            max_tables: self.max_tables.or(below.max_tables),
            max_random: self.max_random.or(below.max_random),
            max_log: self.max_log.or(below.max_log),
            compile_at_once: self.compile_at_once.or(below.compile_at_once),
            compile_time: self.compile_time.or(below.compile_time),
            compile_memory: self.compile_memory.or(below.compile_memory),
            compile_file: self.compile_file.or(below.compile_file),
            compile_code: self.compile_code.or(below.compile_code),
            keyvalue_value: self.keyvalue_value.or(below.keyvalue_value),
            keyvalue_store: self.keyvalue_store.or(below.keyvalue_store),
            keyvalue_memory: self.keyvalue_memory.or(below.keyvalue_memory),
            keyvalue_disk: self.keyvalue_disk.or(below.keyvalue_disk),
            http_ca: self.http_ca.or(below.http_ca),
            http_connect_timeout: self.http_connect_timeout.or(below.http_connect_timeout),
            http_idle_timeout: self.http_idle_timeout.or(below.http_idle_timeout),
            http_running: self.http_running.or(below.http_running),
            http_body: self.http_body.or(below.http_body),
            admin_token: self.admin_token.or(below.admin_token),
            watch: self.watch.or(below.watch),
            poll: self.poll.or(below.poll),
        }
    }

    /// With the defaults below it. None if it takes a cache folder and no layer has one.
    pub fn into_settings(self, file: PathBuf, defaults: Defaults) -> Option<Settings> {
        let seconds = |seconds| Duration::from_secs(seconds);
        Some(Settings {
            file,
            amqp: Amqp {
                urls: self.urls.unwrap_or_default(),
                ca: self.ca,
                heartbeat: self.heartbeat.unwrap_or(seconds(10)),
                connect_timeout: self.connect_timeout.unwrap_or(seconds(5)),
                publish_timeout: self.publish_timeout.unwrap_or(seconds(30)),
            },
            plugins: self.plugins.unwrap_or_else(|| PathBuf::from("plugins")),
            require_digest: self.require_digest.unwrap_or(false),
            manifests: self.manifests.unwrap_or_else(|| PathBuf::from("manifests")),
            cache: self.cache.or(defaults.cache)?,
            state: self.state.or(defaults.state),
            admin: self.admin.unwrap_or(Some(SocketAddr::from(([127, 0, 0, 1], 9290)))),
            admin_token: self.admin_token,
            log_format: self.log_format.unwrap_or_default(),
            grace: self.grace.unwrap_or(seconds(30)),
            strict: self.strict.unwrap_or(false),
            host: HostLimits {
                running: self.running.unwrap_or(256),
                max_memory: self.max_memory.unwrap_or(256 * MIB),
                max_body: self.max_body.unwrap_or(16 * MIB),
                max_publications: self.max_publications.unwrap_or(1000),
                max_headers: self.max_headers.unwrap_or(1000),
                max_output: self.max_output.unwrap_or(64 * MIB),
                max_host_calls: self.max_host_calls.unwrap_or(10_000_000),
                max_handles: self.max_handles.unwrap_or(10_000),
                max_tables: self.max_tables.unwrap_or(100_000),
                max_random: self.max_random.unwrap_or(16 * MIB),
                max_log: self.max_log.unwrap_or(MIB),
            },
            compile: Compile {
                at_once: self.compile_at_once.unwrap_or(defaults.cores.clamp(1, COMPILED_AT_ONCE_MAX)),
                time: self.compile_time.unwrap_or(seconds(60)),
                memory: self.compile_memory.unwrap_or(2 * GIB),
                file: self.compile_file.unwrap_or(64 * MIB),
                code: self.compile_code.unwrap_or(512 * MIB),
            },
            keyvalue: keyvalue::Limits {
                value: self.keyvalue_value.unwrap_or(MIB),
                store: self.keyvalue_store.unwrap_or(64 * MIB),
                memory: self.keyvalue_memory.unwrap_or(256 * MIB),
                disk: self.keyvalue_disk.unwrap_or(GIB),
            },
            http: Http {
                ca: self.http_ca,
                connect_timeout: self.http_connect_timeout.unwrap_or(seconds(5)),
                idle_timeout: self.http_idle_timeout.unwrap_or(seconds(30)),
                running: self.http_running.unwrap_or(256),
                body: self.http_body.unwrap_or(16 * MIB),
            },
            reload: Reload { watch: self.watch.unwrap_or_default(), poll: self.poll.unwrap_or(seconds(2)) },
        })
    }
}

/// An address to listen on, or none for `off`.
pub(super) fn admin(text: &str) -> Result<Option<SocketAddr>, Problem> {
    if text == "off" {
        return Ok(None);
    }
    text.parse().map(Some).map_err(|_| {
        Problem::new(format!("{} is not an address to listen on", quoted(text)))
            .hint("write an IP address and a port, such as `127.0.0.1:9290`, or `off`")
    })
}

pub(super) fn not_empty(text: &str) -> Result<&str, Problem> {
    if text.is_empty() { Err(Problem::new("an empty path")) } else { Ok(text) }
}
