//! What files, environments and flags come to, and what is said when they are wrong.

use super::*;

const FILE: &str = r#"
    plugins = { folder = "../plugins", require-digest = true }
    manifests = "/srv/manifests"
    cache = "cache"
state = "/var/lib/wabbit"
    admin = "0.0.0.0:80"
    admin-token = "env:TOKEN"
    log-format = "json"
    grace = "1m"
    strict = true

    [amqp]
    url = "amqp://shop:secret@rabbit/shop"
    ca = "ca.pem"
    heartbeat = "20s"
    connect-timeout = "7s"
    publish-timeout = "1s"

    [limits]
    running = 8
    memory = "1MiB"
    body = "2MiB"
    publications = 3
    headers = 2
    output = 4096
    host-calls = 4
    handles = 5
    tables = 6
    random = 7
    log = 8192

    [compile]
    at-once = 4
    time = "2s"
    memory = "1GiB"
    file = "1MiB"
    code = "3MiB"

    [keyvalue]
    value = 100
    store = "4KiB"
    memory = "8KiB"
    disk = "16KiB"

    [http]
    ca = "trusted.pem"
    connect-timeout = "2s"
    idle-timeout = "3s"
    running = 9
    body = "1KiB"

    [reload]
    watch = "poll"
    poll = "5s"

    [environment.production]
    amqp.url = "amqps://shop:secret@rabbit.example.com/shop"
    limits.running = 1000

    [environment.quiet]
    admin = "off"
"#;

fn resolve(text: &str, overrides: &Overrides) -> Result<Settings, SettingsError> {
    Settings::resolve(Some((Path::new("/etc/wabbit/wabbit.toml"), text)), overrides, folders())
}

fn folders() -> Defaults {
    Defaults { cache: Some("/cache".into()), state: Some("/state".into()), cores: 5 }
}

fn environment(name: &str) -> Overrides {
    Overrides { environment: Some(name.to_owned()), ..Overrides::default() }
}

/// The addresses, without their passwords.
fn shown(settings: &Settings) -> Vec<String> {
    settings.amqp.urls.iter().map(BrokerUrl::to_string).collect()
}

#[test]
fn defaults() {
    let settings = Settings::resolve(None, &Overrides::default(), folders()).unwrap();
    let expected = Settings {
        file: "wabbit.toml".into(),
        amqp: Amqp {
            urls: BrokerUrls::parse("amqp://guest:guest@127.0.0.1:5672/%2f").unwrap(),
            ca: None,
            heartbeat: Duration::from_secs(10),
            connect_timeout: Duration::from_secs(5),
            publish_timeout: Duration::from_secs(30),
        },
        plugins: "plugins".into(),
        require_digest: false,
        manifests: "manifests".into(),
        cache: "/cache".into(),
        state: Some("/state".into()),
        admin: Some("127.0.0.1:9290".parse().unwrap()),
        admin_token: None,
        log_format: LogFormat::Text,
        grace: Duration::from_secs(30),
        strict: false,
        host: HostLimits {
            running: 256,
            max_memory: 256 << 20,
            max_body: 16 << 20,
            max_publications: 1000,
            max_headers: 1000,
            max_output: 64 << 20,
            max_host_calls: 10_000_000,
            max_handles: 10_000,
            max_tables: 100_000,
            max_random: 16 << 20,
            max_log: 1 << 20,
        },
        compile: Compile {
            at_once: 4,
            time: Duration::from_secs(60),
            memory: 2 << 30,
            file: 64 << 20,
            code: 512 << 20,
        },
        keyvalue: keyvalue::Limits { value: 1 << 20, store: 64 << 20, memory: 256 << 20, disk: 1 << 30 },
        http: Http {
            ca: None,
            connect_timeout: Duration::from_secs(5),
            idle_timeout: Duration::from_secs(30),
            running: 256,
            body: 16 << 20,
        },
        reload: Reload { watch: WatchBy::Events, poll: Duration::from_secs(2) },
    };
    assert_eq!(settings, expected);
    assert_eq!(resolve("", &Overrides::default()).unwrap(), expected);
}

#[test]
fn a_file_with_everything() {
    let settings = resolve(FILE, &Overrides::default()).unwrap();
    let expected = Settings {
        file: "wabbit.toml".into(),
        amqp: Amqp {
            urls: BrokerUrls::parse("amqp://shop:secret@rabbit/shop").unwrap(),
            ca: Some("/etc/wabbit/ca.pem".into()),
            heartbeat: Duration::from_secs(20),
            connect_timeout: Duration::from_secs(7),
            publish_timeout: Duration::from_secs(1),
        },
        plugins: "/etc/wabbit/../plugins".into(),
        require_digest: true,
        manifests: "/srv/manifests".into(),
        cache: "/etc/wabbit/cache".into(),
        state: Some("/var/lib/wabbit".into()),
        admin: Some("0.0.0.0:80".parse().unwrap()),
        admin_token: Some(SecretSource::Env("TOKEN".into())),
        log_format: LogFormat::Json,
        grace: Duration::from_secs(60),
        strict: true,
        host: HostLimits {
            running: 8,
            max_memory: 1 << 20,
            max_body: 2 << 20,
            max_publications: 3,
            max_headers: 2,
            max_output: 4096,
            max_host_calls: 4,
            max_handles: 5,
            max_tables: 6,
            max_random: 7,
            max_log: 8192,
        },
        keyvalue: keyvalue::Limits { value: 100, store: 4096, memory: 8192, disk: 16 << 10 },
        http: Http {
            ca: Some("/etc/wabbit/trusted.pem".into()),
            connect_timeout: Duration::from_secs(2),
            idle_timeout: Duration::from_secs(3),
            running: 9,
            body: 1 << 10,
        },
        compile: Compile { at_once: 4, time: Duration::from_secs(2), memory: 1 << 30, file: 1 << 20, code: 3 << 20 },
        reload: Reload { watch: WatchBy::Poll, poll: Duration::from_secs(5) },
    };
    assert_eq!(settings, expected);
    let ceilings = Ceilings {
        memory: 1 << 20,
        publications: 3,
        headers: 2,
        output: 4096,
        host_calls: 4,
        handles: 5,
        tables: 6,
        random: 7,
        log: 8192,
    };
    assert_eq!(settings.host.ceilings(), ceilings);
}

#[test]
fn an_environment_is_laid_over_the_rest() {
    let settings = resolve(FILE, &environment("production")).unwrap();
    assert_eq!(shown(&settings), ["amqps://shop:***@rabbit.example.com:5671/shop"]);
    assert_eq!(settings.amqp.heartbeat, Duration::from_secs(20));
    assert_eq!((settings.host.running, settings.host.max_publications), (1000, 3));
    assert_eq!(resolve(FILE, &environment("quiet")).unwrap().admin, None);
}

#[test]
fn addresses_are_a_list_or_one() {
    let settings = resolve(
        r#"
        amqp.url = ["amqp://u:p@one/v", "amqps://u:p@two/v"]
        environment.test.amqp.url = "amqp://alone"
        "#,
        &Overrides::default(),
    );
    assert_eq!(shown(&settings.unwrap()), ["amqp://u:***@one:5672/v", "amqps://u:***@two:5671/v"]);
    // The list is replaced as a whole.
    let text = "amqp.url = [\"amqp://one\", \"amqp://two\"]\nenvironment.test.amqp.url = \"amqp://alone\"";
    assert_eq!(shown(&resolve(text, &environment("test")).unwrap()), ["amqp://guest:***@alone:5672/%2f"]);
}

#[test]
fn flags_override_the_file() {
    let overrides = Overrides {
        config: None,
        environment: Some("production".to_owned()),
        plugins: Some("p".into()),
        manifests: Some("m".into()),
        cache: Some("c".into()),
        state: Some("s".into()),
        amqp_url: Some("amqp://other,amqp://another".to_owned()),
        admin: Some("off".to_owned()),
        log_format: Some("text".to_owned()),
        grace: Some("0s".to_owned()),
        strict: Some(false),
    };
    let settings = resolve(FILE, &overrides).unwrap();
    let folders = [&settings.plugins, &settings.manifests, &settings.cache].map(|path| path.to_str());
    assert_eq!(folders, [Some("p"), Some("m"), Some("c")]);
    assert_eq!(shown(&settings), ["amqp://guest:***@other:5672/%2f", "amqp://guest:***@another:5672/%2f"]);
    assert_eq!((settings.admin, settings.log_format), (None, LogFormat::Text));
    assert_eq!((settings.grace, settings.strict), (Duration::ZERO, false));
    // What no flag names is still the environment's.
    assert_eq!(settings.host.running, 1000);
}

#[test]
fn errors() {
    let check = |overrides: &Overrides, text: &str, expected: &[&str]| {
        let error = resolve(text, overrides).unwrap_err();
        assert_eq!(error.render(Style::Plain), expected.join("\n") + "\n");
        assert!(!format!("{error:?}").contains("hunter2"));
    };
    let none = Overrides::default();
    check(
        &environment("prodution"),
        FILE,
        &["error: there is no environment `prodution`", "hint: did you mean `production`?"],
    );
    check(
        &environment("production"),
        "",
        &["error: there is no environment `production`", "hint: no file with an `[environment.NAME]` was read"],
    );
    check(
        &Overrides { amqp_url: Some("amqp://hunter2".to_owned() + "@h"), ..Overrides::default() },
        "",
        &[
            "error: `--amqp-url`: the broker's address has a user and no password",
            "hint: write it as `amqp://USER:PASSWORD@HOST:5672/VHOST`, the vhost `/` as `%2f`",
        ],
    );
    check(
        &Overrides { admin: Some("localhost:80".to_owned()), ..Overrides::default() },
        "",
        &[
            "error: `--admin`: `localhost:80` is not an address to listen on",
            "hint: write an IP address and a port, such as `127.0.0.1:9290`, or `off`",
        ],
    );
    check(
        &Overrides { grace: Some("2h".to_owned()), ..Overrides::default() },
        "",
        &["error: `--grace`: more than `1h`"],
    );
    check(
        &Overrides { log_format: Some("xml".to_owned()), ..Overrides::default() },
        "",
        &["error: `--log-format`: `xml` is not a log format", "hint: one of `text`, `json`"],
    );
    check(
        &Overrides { plugins: Some(PathBuf::new()), ..Overrides::default() },
        "",
        &["error: `--plugins`: an empty path"],
    );
    // The line is not shown, for it has a password; neither is one that it shares with another mistake.
    let text = "[amqp]\nurl = \"amqp://u:hunter2@\"\n";
    check(
        &none,
        text,
        &[
            "error: not the address of a broker: empty host",
            "--> /etc/wabbit/wabbit.toml:2:7",
            " = hint: write it as `amqp://USER:PASSWORD@HOST:5672/VHOST`, the vhost `/` as `%2f`",
        ],
    );
    check(
        &Overrides { amqp_url: Some("amqp://u:hunter2@a,amqp://v:hunter2@b".to_owned()), ..Overrides::default() },
        "",
        &[
            "error: `--amqp-url`: address 2 has another user than address 1",
            "hint: several addresses are the nodes of one cluster, written out each: \
             `amqp://U:P@ONE/V,amqp://U:P@TWO/V`",
        ],
    );
    // Each address is looked at, and they are compared when each is right.
    check(
        &none,
        "[amqp]\nurl = [\n  \"amqp://u:hunter2@a\",\n  \"http://b\",\n  7,\n  \"amqp://v:hunter2@\"]\n",
        &[
            "error: a broker's address begins with `amqp://` or `amqps://`",
            " --> /etc/wabbit/wabbit.toml:4:3",
            "  |",
            "4 |   \"http://b\",",
            "  |   ^^^^^^^^^^",
            "  |",
            "  = hint: write it as `amqp://USER:PASSWORD@HOST:5672/VHOST`, the vhost `/` as `%2f`",
            "",
            "error: an entry of `url` must be a string, not an integer",
            " --> /etc/wabbit/wabbit.toml:5:3",
            "  |",
            "5 |   7,",
            "  |   ^",
            "",
            "error: not the address of a broker: empty host",
            "--> /etc/wabbit/wabbit.toml:6:3",
            " = hint: write it as `amqp://USER:PASSWORD@HOST:5672/VHOST`, the vhost `/` as `%2f`",
        ],
    );
    check(
        &none,
        "[amqp]\nurl = [\"amqp://u:hunter2@a\", \"amqp://u:hunter3@a\"]\n",
        &[
            "error: address 2 has another password than address 1",
            "--> /etc/wabbit/wabbit.toml:2:7",
            " = hint: several addresses are the nodes of one cluster, written out each: \
             `amqp://U:P@ONE/V,amqp://U:P@TWO/V`",
        ],
    );
    check(
        &none,
        "amqp.url = []",
        &[
            "error: no address of a broker",
            " --> /etc/wabbit/wabbit.toml:1:12",
            "  |",
            "1 | amqp.url = []",
            "  |            ^^",
        ],
    );
    check(
        &none,
        "amqp = { url = \"amqp://u:hunter2@h\", heartbeat = \"1500ms\" }",
        &["error: AMQP counts heartbeats in whole seconds", "--> /etc/wabbit/wabbit.toml:1:50"],
    );
    check(
        &none,
        "[amqp]\nurl = \"amqp://u:hunter2@h\n",
        &["error: invalid basic string, expected `\"`", "--> /etc/wabbit/wabbit.toml:2:26"],
    );
    // An environment that nobody chose is checked as well.
    check(
        &none,
        "environment.test.limit.running = 1\nenvironment.live = 1",
        &[
            "error: unknown key `limit`",
            " --> /etc/wabbit/wabbit.toml:1:18",
            "  |",
            "1 | environment.test.limit.running = 1",
            "  |                  ^^^^^",
            "  |",
            "  = hint: did you mean `limits`?",
            "",
            "error: an entry of `environment` must be a table, not an integer",
            " --> /etc/wabbit/wabbit.toml:2:20",
            "  |",
            "2 | environment.live = 1",
            "  |                    ^",
        ],
    );
}

#[test]
fn where_the_folders_are() {
    let check = |xdg: Option<&str>, home: Option<&str>, expected: Option<&str>| {
        let found = default_folder(xdg.map(PathBuf::from), home.map(PathBuf::from), ".cache");
        assert_eq!(found.as_deref(), expected.map(Path::new), "{xdg:?} {home:?}");
    };
    check(Some("/xdg"), Some("/home/me"), Some("/xdg/wabbit"));
    check(Some("relative"), Some("/home/me"), Some("/home/me/.cache/wabbit"));
    check(Some(""), None, None);
    check(None, Some("/home/me"), Some("/home/me/.cache/wabbit"));
    check(None, Some(""), None);
    assert_eq!(
        default_folder(None, Some("/home/me".into()), ".local/state"),
        Some("/home/me/.local/state/wabbit".into())
    );
    let none = Settings::resolve(None, &Overrides::default(), Defaults::default());
    assert_eq!(none, Err(SettingsError::NoCacheFolder));
    let without_state = Defaults { state: None, ..folders() };
    assert_eq!(Settings::resolve(None, &Overrides::default(), without_state).unwrap().state, None);
}

#[test]
fn files_that_cannot_be_read() {
    let load = |path: &Path| Settings::load(&Overrides { config: Some(path.to_owned()), ..Overrides::default() });
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("other.toml");
    let message = |error: SettingsError| match error {
        SettingsError::File { problems, .. } => problems.first().map(|problem| problem.message.clone()),
        _ => None,
    };
    assert_eq!(load(&path).map_err(message), Err(Some("does not exist".to_owned())));
    assert_eq!(load(folder.path()).map_err(message), Err(Some("not a regular file".to_owned())));
    std::fs::write(&path, FILE).unwrap();
    assert_eq!(load(&path).unwrap().cache, folder.path().join("cache"));
}

#[test]
fn the_example_of_the_documentation_is_right() {
    let page = include_str!("../../../../docs/settings.md");
    let example = page.split("```").find_map(|part| part.strip_prefix("toml\n")).unwrap();
    let settings = resolve(example, &Overrides::default()).unwrap();
    let defaults = resolve("", &Overrides::default()).unwrap();
    assert_eq!((&settings.host, settings.grace), (&defaults.host, defaults.grace));
    assert_eq!(settings.amqp.urls, defaults.amqp.urls);
    assert!(resolve(example, &environment("production")).unwrap().strict);
}
