//! Reaching out of the sandbox. Each of these is to come to nothing.

use std::{
    env, fs,
    io::{self, Read},
    net::{TcpListener, TcpStream, ToSocketAddrs, UdpSocket},
    path::Path,
    process::Command,
    sync::{
        Mutex,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use wabbit_sdk::Delivery;
use wasip2::{cli::terminal_stdout, filesystem::preopens};

/// What a former delivery left behind, if it could.
static COUNT: AtomicU32 = AtomicU32::new(0);
static KEPT: Mutex<Vec<u8>> = Mutex::new(Vec::new());

/// Paths that a program would look at first.
const PATHS: &[&str] = &[
    "/",
    ".",
    "..",
    "../..",
    "../manifests",
    "../../../../../../etc/passwd",
    "/etc/passwd",
    "/etc/shadow",
    "/proc/self/environ",
    "/proc/self/mem",
    "/proc/1/environ",
    "/dev/zero",
    "/dev/mem",
    "/tmp",
    "/root",
    "plugins",
    "manifests/good.toml",
    "wabbit.toml",
    "//etc//passwd",
    "./../etc/passwd",
    "..\\..\\",
    "C:\\",
    "\0",
    "/var/run/docker.sock",
    "~/.ssh/id_rsa",
];

/// `Err` says what was reached; nothing where `act` is none of these.
pub fn reach(act: &str, argument: &str, delivery: &Delivery) -> Option<Result<(), String>> {
    Some(match act {
        "read-files" => nothing(PATHS, |path| fs::read(path).map(drop)),
        "read-file" => nothing(&[argument], |path| fs::read(path).map(drop)),
        "list-folders" => nothing(PATHS, |path| fs::read_dir(path).map(drop)),
        "look-at-files" => nothing(PATHS, |path| fs::symlink_metadata(path).map(drop)),
        "write-files" => nothing(PATHS, |path| fs::write(Path::new(path).join("hostile"), b"x")),
        "make-folders" => nothing(PATHS, |path| fs::create_dir_all(Path::new(path).join("hostile"))),
        "make-links" => nothing(PATHS, |path| fs::hard_link(path, "link")),
        "rename-files" => nothing(PATHS, |path| fs::rename(path, "hostile")),
        "remove-files" => nothing(PATHS, |path| fs::remove_file(path).or_else(|_| fs::remove_dir_all(path))),
        "preopens" => empty("folders", preopens::get_directories().len()),
        "environment" => empty("variables", env::vars_os().count()),
        "secret" => match env::var("WABBIT_AMQP_URL").or_else(|_| env::var("HOME")).or_else(|_| env::var("PATH")) {
            Ok(secret) => Err(secret),
            Err(_) => Ok(()),
        },
        "arguments" => empty("arguments", env::args_os().count()),
        "stdin" => {
            let mut input = Vec::new();
            let _ = io::stdin().read_to_end(&mut input);
            empty("bytes of standard input", input.len())
        }
        "terminal" => empty("a terminal", usize::from(terminal_stdout::get_terminal_stdout().is_some())),
        "connect" => nothing(&[argument, "127.0.0.1:22", "169.254.169.254:80", "[::1]:9290"], |address| {
            let address = address.parse().map_err(io::Error::other)?;
            TcpStream::connect_timeout(&address, Duration::from_millis(50)).map(drop)
        }),
        "listen" => nothing(&["127.0.0.1:0", "0.0.0.0:0", "[::]:0"], |address| TcpListener::bind(address).map(drop)),
        "udp" => nothing(&["127.0.0.1:0", "0.0.0.0:0"], |address| UdpSocket::bind(address).map(drop)),
        "resolve" => nothing(&["localhost:80", "example.com:80", "metadata.google.internal:80"], |name| {
            name.to_socket_addrs().map(drop)
        }),
        "spawn" => nothing(&["sh", "/bin/sh", "wabbit"], |program| Command::new(program).spawn().map(drop)),
        "state" => state(),
        "headers" => headers(delivery),
        _ => return None,
    })
}

fn nothing<'a>(places: &[&'a str], reach: impl Fn(&'a str) -> io::Result<()>) -> Result<(), String> {
    match places.iter().find(|place| reach(place).is_ok()) {
        Some(place) => Err((*place).into()),
        None => Ok(()),
    }
}

fn empty(what: &str, count: usize) -> Result<(), String> {
    if count == 0 { Ok(()) } else { Err(format!("{count} {what}")) }
}

/// Leaves something in each kind of memory, and looks for what was left before.
fn state() -> Result<(), String> {
    let count = COUNT.fetch_add(1, Ordering::Relaxed);
    let mut kept = KEPT.lock().map_err(|error| error.to_string())?;
    let before = kept.len();
    kept.extend_from_slice(b"left behind");
    if count == 0 && before == 0 { Ok(()) } else { Err(format!("the state of {count} deliveries")) }
}

/// Headers that only the host may write, and what it makes of them.
fn headers(delivery: &Delivery) -> Result<(), String> {
    match delivery.properties.headers.iter().find(|(name, _)| name.to_ascii_lowercase().starts_with("x-wabbit-")) {
        Some((name, _)) => Err(format!("the header {name}")),
        None if delivery.attempt > 2 => Err(format!("attempt {}", delivery.attempt)),
        None => Ok(()),
    }
}
