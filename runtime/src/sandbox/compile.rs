//! Compiling, in a process of its own.
//!
//! A compiler is large, and the files that it is given may be written against it: they can make it crash, run for
//! hours, or take all memory. So each plugin is compiled by a child of the host, the same program again, which has the
//! file's bytes on its standard input, limits on time and memory, an empty environment, and dies with the host.

pub mod child;

use std::{
    io::{Read, Write as _},
    os::unix::process::{CommandExt as _, ExitStatusExt as _},
    process::{Child, Command, ExitStatus, Stdio},
    sync::mpsc,
    thread,
    time::{Duration, Instant},
};

use bytesize::ByteSize;
use nix::sys::signal::Signal;

use super::LoadError;
use crate::{app::settings::Compile, escape::escape};

/// The hidden command by which the program is its own compiler.
pub const COMMAND: &str = "compile-plugin";
/// The program that runs now, also when its file has been replaced or deleted since.
const PROGRAM: &str = "/proc/self/exe";
/// The threads of one child.
const THREADS: usize = 2;
/// How much is kept of what the child says when it breaks down, in bytes.
const COMPLAINT_BYTES_MAX: u64 = 4 * 1024;
/// What precedes an answer: what it is, and its length.
const HEADER_BYTES: usize = 9;

/// What an answer begins with.
mod tag {
    pub(super) const CODE: u8 = b'c';
    pub(super) const NOT_A_HANDLER: u8 = b'n';
    pub(super) const REFUSED: u8 = b'r';
}

/// How a child ended that gave no answer.
struct Broken {
    /// None where the time was over.
    status: Option<ExitStatus>,
    /// What it wrote on its standard error.
    complaint: String,
}

/// What a plugin is compiled to.
#[derive(Debug, Clone, Copy)]
pub struct Form {
    /// Whether a command that is a core module stays one.
    pub module: bool,
    /// Whether the code does the same on every machine of an architecture.
    pub determined: bool,
}

/// Compiles a plugin in a child process that has so much time. The thread is kept until it is done. A command that is a
/// core module stays one, or becomes a component.
pub(super) fn compile(plugin: &[u8], form: Form, limits: &Compile, time: Duration) -> Result<Vec<u8>, LoadError> {
    let cannot = |error: std::io::Error| LoadError::Compile(format!("the compiler cannot be started: {error}"));
    let deadline = Instant::now() + time;
    let mut child = Command::new(PROGRAM)
        .arg0("wabbit")
        .args([COMMAND, &std::process::id().to_string(), &limits.memory.to_string(), &cpu_seconds(time).to_string()])
        .args([form.module.to_string(), form.determined.to_string()])
        .env_clear()
        // By itself the allocator asks for 1 GiB of addresses at once, which would be half of the limit.
        .env("MIMALLOC_ARENA_RESERVE", "64MiB")
        // Functions are compiled side by side: beside deliveries that keep all cores busy, two threads get more of them.
        .env("RAYON_NUM_THREADS", THREADS.to_string())
        .env("RUST_MIN_STACK", child::STACK_BYTES.to_string())
        .current_dir("/")
        // Ctrl-C is for the host: a child that it ended would look like one that broke down.
        .process_group(0)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(cannot)?;
    let answered = talk(&mut child, plugin, limits.code, deadline);
    // It has answered, or is not to any more. One that ended by itself keeps its own status.
    let _ = child.kill();
    let status = child.wait().map_err(cannot)?;
    let (answer, complaint) = answered;
    let answer = match answer {
        None => Err(Broken { status: None, complaint }),
        Some(answer) => read_answer(answer, limits.code).ok_or(Broken { status: Some(status), complaint }),
    };
    match answer {
        Err(broken) => Err(explain(&broken, limits, time)),
        Ok(Err(too_large)) => Err(too_large),
        Ok(Ok((tag::CODE, code))) => Ok(code),
        Ok(Ok((tag, text))) => {
            let text = String::from_utf8_lossy(&text).into_owned();
            Err(if tag == tag::NOT_A_HANDLER { LoadError::NotAHandler(text) } else { LoadError::Compile(text) })
        }
    }
}

/// Hands over the plugin and takes what comes back, as far as it comes in time, and what was complained of.
fn talk(child: &mut Child, plugin: &[u8], code_max: usize, deadline: Instant) -> (Option<Vec<u8>>, String) {
    let (stdin, stdout, stderr) = (child.stdin.take(), child.stdout.take(), child.stderr.take());
    let (done, answer) = mpsc::sync_channel(1);
    thread::scope(|scope| {
        scope.spawn(move || {
            // A child that does not read to the end has ended, which is noticed by its answer.
            let _ = stdin.map(|mut stdin| stdin.write_all(plugin));
        });
        let complaint = scope.spawn(move || stderr.map(|stderr| read(stderr, COMPLAINT_BYTES_MAX)).unwrap_or_default());
        scope.spawn(move || {
            let bytes_max = (HEADER_BYTES + code_max) as u64 + 1;
            let _ = done.send(stdout.map(|stdout| read(stdout, bytes_max)).unwrap_or_default());
        });
        let answer = answer.recv_timeout(deadline.saturating_duration_since(Instant::now())).ok();
        // The pipes end with it, and so do these threads.
        let _ = child.kill();
        let complaint = complaint.join().unwrap_or_default();
        (answer, String::from_utf8_lossy(&complaint).into_owned())
    })
}

fn read(from: impl Read, bytes_max: u64) -> Vec<u8> {
    let mut bytes = Vec::new();
    let _ = from.take(bytes_max).read_to_end(&mut bytes);
    bytes
}

/// What the child says, and in how many bytes; nothing where it did not come to an end of it.
fn read_answer(mut bytes: Vec<u8>, code_max: usize) -> Option<Result<(u8, Vec<u8>), LoadError>> {
    let (header, _) = bytes.split_first_chunk::<HEADER_BYTES>()?;
    let [tag, length @ ..] = *header;
    let length = u64::from_le_bytes(length);
    if length > code_max as u64 {
        return Some(Err(LoadError::Compile(format!(
            "becomes {} of code, the limit is {}; hint: raise `code` in `[compile]` of `wabbit.toml`",
            ByteSize::b(length),
            ByteSize::b(code_max as u64)
        ))));
    }
    bytes.drain(..HEADER_BYTES);
    (bytes.len() as u64 == length).then_some(Ok((tag, bytes)))
}

/// Why there is no answer, as far as one can tell from outside.
fn explain(broken: &Broken, limits: &Compile, time: Duration) -> LoadError {
    let Broken { status, complaint } = broken;
    let Some(status) = status else { return LoadError::TooSlow(time) };
    let signal = status.signal().and_then(|signal| Signal::try_from(signal).ok());
    if signal == Some(Signal::SIGXCPU) {
        return LoadError::TooSlow(time);
    }
    LoadError::Compile(if complaint.contains("memory allocation of") || complaint.contains("annot allocate memory") {
        format!(
            "takes more memory than the limit of {}; hint: raise `memory` in `[compile]` of `wabbit.toml`",
            ByteSize::b(limits.memory as u64)
        )
    } else if complaint.contains("overflowed its stack") {
        "it is nested too deeply for the compiler".to_owned()
    } else {
        let said = complaint.lines().find(|line| !line.trim().is_empty()).map(|line| escape(line.as_bytes()));
        let said = said.map_or_else(String::new, |line| format!(": {line}"));
        match signal {
            Some(signal) => format!("the compiler was ended by {signal}{said}"),
            None => format!("the compiler broke down ({status}){said}"),
        }
    })
}

/// What a child may compute for in so much time, in the unit of the system's limit.
fn cpu_seconds(time: Duration) -> u64 {
    time.as_secs() + 1
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: Compile =
        Compile { at_once: 1, time: Duration::from_secs(60), memory: 2 << 30, file: 1 << 20, code: 1 << 20 };

    #[test]
    fn an_answer_is_whole_or_none() {
        let answer = |tag: u8, length: u64, text: &[u8]| [&[tag], &length.to_le_bytes()[..], text].concat();
        let read = |bytes| read_answer(bytes, LIMITS.code);
        assert!(matches!(read(answer(b'c', 4, b"code")), Some(Ok((b'c', code))) if code == b"code"));
        for broken in [Vec::new(), b"c".to_vec(), answer(b'c', 4, b"cod"), answer(b'c', 4, b"codes")] {
            assert!(read(broken).is_none());
        }
        let too_large = read(answer(b'c', 1 << 21, b"")).unwrap().unwrap_err().to_string();
        assert!(too_large.contains("becomes 2.0 MiB of code, the limit is 1.0 MiB; hint: raise `code`"), "{too_large}");
    }

    #[track_caller]
    fn check(status: Option<i32>, complaint: &str, expected: &str) {
        let broken = Broken { status: status.map(ExitStatus::from_raw), complaint: complaint.into() };
        let told = explain(&broken, &LIMITS, LIMITS.time).to_string();
        assert!(told.contains(expected), "{told}");
    }

    #[test]
    fn how_a_child_ended_is_told() {
        check(None, "", "does not compile within the limit of 1m; hint: raise `time` in `[compile]`");
        check(Some(Signal::SIGXCPU as i32), "", "within the limit of 1m");
        let no_memory = "memory allocation of 1073741824 bytes failed\n";
        check(Some(Signal::SIGABRT as i32), no_memory, "takes more memory than the limit of 2.0 GiB; hint: raise");
        let deep = "\nthread 'main' (1) has overflowed its stack\nfatal runtime error";
        check(Some(Signal::SIGABRT as i32), deep, "nested too deeply");
        check(Some(Signal::SIGSEGV as i32), "", "the compiler was ended by SIGSEGV");
        check(
            Some(101 << 8),
            "\nthread 'main' panicked at \x1b[0m:\n",
            "(exit status: 101): thread 'main' panicked at \\u{1b}",
        );
    }
}
