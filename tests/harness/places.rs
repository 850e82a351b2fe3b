//! Where things are, and where tests may put things: folders below `target/tmp`, ports that nobody else uses.

use std::fs;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process;
use std::sync::Once;
use std::sync::atomic::{AtomicU16, Ordering};

use tempfile::TempDir;

/// The root of the project.
pub fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// The folder of the build that this test binary belongs to, such as `target/debug`.
pub fn build() -> PathBuf {
    let binary = std::env::current_exe().unwrap();
    // target/debug/deps/e2e-0123456789abcdef
    binary.ancestors().nth(2).unwrap().to_owned()
}

/// A fresh folder, removed when the value is dropped. A run that was killed cannot remove its own; the next run does.
pub fn folder(purpose: &str) -> TempDir {
    static SWEPT: Once = Once::new();
    SWEPT.call_once(sweep);
    tempfile::Builder::new().prefix(&format!("{purpose}-{}-", process::id())).tempdir_in(temporary()).unwrap()
}

/// `target/tmp`, which also holds what test runs share, such as compiled plugins.
pub fn temporary() -> PathBuf {
    let path = PathBuf::from(env!("CARGO_TARGET_TMPDIR"));
    fs::create_dir_all(&path).unwrap();
    path
}

/// Removes the folders of test processes that are gone. Their names hold the process id.
fn sweep() {
    for entry in fs::read_dir(temporary()).unwrap().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let owner = name.split('-').nth(1).and_then(|id| id.parse::<u32>().ok());
        if owner.is_some_and(|id| !Path::new("/proc").join(id.to_string()).exists()) {
            // Another run may be sweeping the same folder.
            let _ = fs::remove_dir_all(entry.path());
        }
    }
}

/// The first of four free ports in a row on 127.0.0.1. They lie below those that the kernel gives to outgoing
/// connections, and each run starts at a place of its own, so that two runs side by side rarely meet.
pub fn ports() -> u16 {
    const FIRST: u16 = 20_000;
    const BLOCKS: u16 = 2_000;
    static TAKEN: AtomicU16 = AtomicU16::new(0);
    let start = process::id().wrapping_mul(97) % u32::from(BLOCKS);
    for _ in 0..BLOCKS {
        let block = (u32::from(TAKEN.fetch_add(1, Ordering::Relaxed)) + start) % u32::from(BLOCKS);
        let port = FIRST + u16::try_from(block).unwrap() * 4;
        if (port..port + 4).all(|port| TcpListener::bind(("127.0.0.1", port)).is_ok()) {
            return port;
        }
    }
    panic!("no four free ports in a row between {FIRST} and {}", FIRST + BLOCKS * 4);
}
