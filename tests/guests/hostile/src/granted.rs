//! Reaching past what is granted while it runs: its manifest grants one origin, one store and one value, and it asks for
//! all others.

use wabbit_sdk::{
    config,
    http::{self, ErrorKind},
    keyvalue,
};

/// Places that are not the origin `https://granted.invalid`, though some look like it.
const URLS: &[&str] = &[
    "http://granted.invalid/",
    "https://granted.invalid:444/",
    "https://granted.invalid.evil.example/",
    "https://granted.invalid@127.0.0.1:9290/workers",
    "https://granted.invalid%00.evil.example/",
    "https://granted.invalid\\@evil.example/",
    "https://evil.example/?https://granted.invalid/",
    "https://evil.example#granted.invalid",
    "https://sub.granted.invalid/",
    "http://127.0.0.1:9290/workers",
    "http://localhost:15672/api/overview",
    "http://[::1]:9290/",
    "http://[::ffff:127.0.0.1]:9290/",
    "http://2130706433:9290/",
    "http://0x7f.1:9290/",
    "http://0.0.0.0:9290/",
    "http://169.254.169.254/latest/meta-data/",
    "http://metadata.google.internal/computeMetadata/v1/",
    "file:///etc/passwd",
    "unix:///var/run/docker.sock",
    "gopher://127.0.0.1:6379/_FLUSHALL",
    "http://\u{1b}[2J/",
    "http://\u{202e}/",
    "http:///",
    "",
];

/// Names of stores that others have, or that lead to somebody's.
const STORES: &[&str] = &[
    "",
    "good",
    "slow",
    "hostile",
    "orders",
    "MINE",
    "mine ",
    "mine\0",
    "../mine",
    "mine/../good",
    "dedupe",
    "%",
    "*",
];

/// Names of values that it is not given.
const NAMES: &[&str] =
    &["", "WABBIT_AMQP_URL", "HOME", "PATH", "token", "MINE", "mine\0", "*", "../mine", "env:HOME", "file:/etc/passwd"];

/// `Err` says what was reached; nothing where `act` is none of these.
pub fn reach(act: &str, argument: &str) -> Option<Result<(), String>> {
    Some(match act {
        "http-elsewhere" => URLS.iter().try_for_each(|url| refused(url)),
        "http-to" => refused(&format!("http://{argument}/")),
        "http-storm" => loop {
            let _ = http::get("https://evil.example/");
        },
        "stores" => match STORES.iter().find(|name| keyvalue::open(name).is_ok()) {
            Some(name) => Err(format!("the store {name:?}")),
            None => nobody_elses(),
        },
        "values" => match NAMES.iter().find_map(|name| config::get(name)) {
            Some(value) => Err(value),
            None if config::all() == [("mine".to_owned(), "granted".to_owned())] => Ok(()),
            None => Err(format!("{:?}", config::all())),
        },
        _ => return None,
    })
}

fn refused(url: &str) -> Result<(), String> {
    match http::get(url) {
        Err(error) if matches!(error.kind, ErrorKind::NotGranted | ErrorKind::Request) => Ok(()),
        other => Err(format!("{url}: {other:?}")),
    }
}

/// What is granted is there, and has nothing in it that another worker has put there.
fn nobody_elses() -> Result<(), String> {
    let keys = keyvalue::open("default").and_then(|store| store.keys()).map_err(|error| error.to_string())?;
    if keys.is_empty() { Ok(()) } else { Err(format!("{keys:?}")) }
}
