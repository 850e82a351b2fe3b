//! The switches of the host that `scripts/build-faulty` makes. It is the host, word for word, but for the places in
//! `mistakes.toml`; nothing of this is in the host that is shipped.

use std::{
    collections::BTreeSet,
    sync::{
        LazyLock, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

/// Where the host dies: `WABBIT_DIE_AT=POINT:N` or `POINT:N:MS`. At the Nth time that it comes to the point (from 1) it
/// is killed, after so many milliseconds in which the connections' own threads go on.
static DIE_AT: LazyLock<Option<(String, u64, u64)>> = LazyLock::new(|| {
    let value = std::env::var("WABBIT_DIE_AT").ok()?;
    let mut parts = value.split(':');
    let point = parts.next().unwrap_or_default().to_owned();
    let mut number = |default| parts.next().map_or(default, |n| n.parse().expect("WABBIT_DIE_AT=POINT:N:MS"));
    Some((point, number(1), number(0)))
});
static PLANTED: LazyLock<Option<String>> = LazyLock::new(|| std::env::var("WABBIT_PLANTED").ok());
static REACHED: AtomicU64 = AtomicU64::new(0);
static REMEMBERED: Mutex<BTreeSet<u64>> = Mutex::new(BTreeSet::new());

/// A step of settlement is done, the next not begun.
pub fn point(name: &str) {
    if let Some((point, n, pause)) = &*DIE_AT
        && point == name
        && REACHED.fetch_add(1, Ordering::SeqCst) + 1 == *n
    {
        eprintln!("killed at {name}");
        std::thread::sleep(Duration::from_millis(*pause));
        let _ = nix::sys::signal::kill(nix::unistd::Pid::this(), nix::sys::signal::Signal::SIGKILL);
    }
}

/// Whether this mistake is made: `WABBIT_PLANTED=NAME`.
pub fn planted(name: &str) -> bool {
    PLANTED.as_deref() == Some(name)
}

/// Keeps a number over the life of a connection.
pub fn remember(number: u64) {
    REMEMBERED.lock().unwrap_or_else(PoisonError::into_inner).insert(number);
}

/// Whether a number was kept; it is then forgotten.
pub fn recall(number: u64) -> bool {
    REMEMBERED.lock().unwrap_or_else(PoisonError::into_inner).remove(&number)
}

/// Ends the process in the ways in which a host can die of a message.
pub fn poison(body: &[u8]) {
    match body.strip_prefix(b"poison:") {
        Some(b"abort") => std::process::abort(),
        Some(b"exit") => std::process::exit(3),
        Some(b"kill") => {
            let _ = nix::sys::signal::kill(nix::unistd::Pid::this(), nix::sys::signal::Signal::SIGKILL);
        }
        Some(b"fault") => {
            // SAFETY: none; that is the point.
            unsafe { std::ptr::without_provenance_mut::<u8>(8).write_volatile(1) }
        }
        Some(b"stack") => {
            std::hint::black_box(deeper(1));
        }
        _ => {}
    }
}

fn deeper(depth: u64) -> u64 {
    let room = std::hint::black_box([depth; 4096]);
    if depth == 0 { 0 } else { deeper(depth + 1) + room[1] }
}
