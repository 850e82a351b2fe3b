//! Child processes that cannot outlive the test run, however it ends.
//!
//! The kernel kills a child whose parent-death signal is set when the *thread* that started it ends, and the test
//! runner ends a thread after each test. So one thread that never ends starts them all: it dies with the process,
//! also by SIGKILL, and takes the children along.

use std::collections::VecDeque;
use std::ffi::OsStr;
use std::fmt::{self, Display};
use std::fs;
use std::io::{self, BufRead, BufReader, Read};
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex, OnceLock, mpsc};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::wait_until;

/// A command that is killed when the test process ends. Between the fork and the moment the signal is set, the parent
/// may have died already: the shell in between looks whether its parent is still the right one.
pub fn bound(program: impl AsRef<OsStr>) -> Command {
    let mut command = Command::new("setpriv");
    command
        .args(["--pdeathsig", "KILL", "--", "sh", "-c"])
        .arg(r#"[ "$PPID" = "$0" ] && exec "$@""#)
        .arg(std::process::id().to_string())
        .arg(program)
        .stdin(Stdio::null());
    command
}

/// Spawns a command from the thread that never ends.
fn spawn(command: Command) -> io::Result<Child> {
    type Request = (Command, mpsc::Sender<io::Result<Child>>);
    static SPAWNER: OnceLock<Mutex<mpsc::Sender<Request>>> = OnceLock::new();
    let spawner = SPAWNER.get_or_init(|| {
        let (sender, requests) = mpsc::channel::<Request>();
        thread::Builder::new()
            .name("spawner".into())
            .spawn(move || {
                for (mut command, reply) in requests {
                    let _ = reply.send(command.spawn());
                }
            })
            .unwrap();
        Mutex::new(sender)
    });
    let (reply, answer) = mpsc::channel();
    spawner.lock().unwrap().send((command, reply)).unwrap();
    answer.recv().unwrap()
}

/// A running child whose output is collected line by line. Dropping it kills it.
pub struct Process {
    name: String,
    child: Child,
    status: Option<ExitStatus>,
    readers: Vec<JoinHandle<()>>,
}

impl Process {
    /// Starts `command`; the lines that it writes to stdout and stderr are added to `lines`.
    pub fn start(name: &str, mut command: Command, lines: &Lines) -> Process {
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = spawn(command).unwrap_or_else(|error| panic!("cannot start {name}: {error}"));
        let readers = vec![lines.collect(child.stdout.take().unwrap()), lines.collect(child.stderr.take().unwrap())];
        Process { name: name.to_owned(), child, status: None, readers }
    }

    /// The process id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Its exit status, once it has ended.
    pub fn status(&mut self) -> Option<ExitStatus> {
        if self.status.is_none() {
            self.status = self.child.try_wait().unwrap();
        }
        self.status
    }

    /// Sends a signal. A child that has ended but was not waited for still owns its process id, so that this never
    /// reaches a stranger.
    pub fn signal(&mut self, signal: Signal) {
        let name = &self.name;
        assert!(self.status.is_none(), "{name} has already ended: {:?}", self.status);
        let id = Pid::from_raw(i32::try_from(self.child.id()).unwrap());
        kill(id, signal).unwrap_or_else(|error| panic!("cannot send {signal} to {name}: {error}"));
    }

    /// Waits until it has ended and everything it wrote is collected.
    pub async fn ended(&mut self, deadline: Duration) -> ExitStatus {
        let what = format!("{} to end", self.name);
        let status = wait_until(deadline, what, async || self.status().ok_or_else(|| "it still runs".to_owned())).await;
        self.join_readers();
        status
    }

    /// Ends it at once with SIGKILL.
    pub fn kill(&mut self) {
        if self.status().is_none() {
            let _ = self.child.kill();
            self.status = self.child.wait().ok();
        }
        self.join_readers();
    }

    /// What it wrote last may still be on its way. Children of its own that outlive it would keep its output open, so
    /// this does not wait for ever.
    fn join_readers(&mut self) {
        let end = Instant::now() + Duration::from_secs(2);
        for reader in self.readers.drain(..) {
            while !reader.is_finished() && Instant::now() < end {
                thread::sleep(Duration::from_millis(1));
            }
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}

/// The children of a process, by process id.
pub fn children(parent: u32) -> Vec<u32> {
    let ids = fs::read_dir("/proc").unwrap().flatten();
    let ids = ids.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    ids.filter(|id| stat(*id).is_some_and(|stat| stat.parent == parent)).collect()
}

/// The compilers that a host has as its children, by process id.
pub fn compilers(host: u32) -> Vec<u32> {
    let is_compiler = |id: &u32| {
        fs::read(format!("/proc/{id}/cmdline")).is_ok_and(|line| line.starts_with(b"wabbit\0compile-plugin\0"))
    };
    children(host).into_iter().filter(is_compiler).collect()
}

/// Whether there is a process of this id that has not ended.
pub fn is_running(id: u32) -> bool {
    stat(id).is_some_and(|stat| stat.state != "Z")
}

/// For how long a process has computed; nothing where it is not there.
pub fn computed(id: u32) -> Duration {
    stat(id).map_or(Duration::ZERO, |stat| stat.computed)
}

/// What the kernel says of a process.
struct Stat {
    state: String,
    parent: u32,
    computed: Duration,
}

fn stat(id: u32) -> Option<Stat> {
    let text = fs::read_to_string(format!("/proc/{id}/stat")).ok()?;
    // Behind the name, which may have anything in it.
    let fields: Vec<&str> = text.rsplit_once(')')?.1.split_ascii_whitespace().collect();
    let number = |at: usize| fields.get(at)?.parse::<u32>().ok();
    // In hundredths of a second, in user space and in the kernel.
    let computed = Duration::from_millis(10) * (number(11)? + number(12)?);
    Some(Stat { state: (*fields.first()?).to_owned(), parent: number(1)?, computed })
}

/// The last lines that a child wrote.
#[derive(Clone, Default)]
pub struct Lines(Arc<Mutex<VecDeque<String>>>);

impl Lines {
    /// What is kept in memory of one child.
    const LINES_MAX: usize = 20_000;
    const LINE_BYTES_MAX: u64 = 64 * 1024;

    fn collect(&self, output: impl Read + Send + 'static) -> JoinHandle<()> {
        let lines = self.clone();
        thread::spawn(move || {
            let mut output = BufReader::new(output);
            let mut line = Vec::new();
            // A line that is too long becomes several.
            while matches!(output.by_ref().take(Self::LINE_BYTES_MAX).read_until(b'\n', &mut line), Ok(1..)) {
                let text = String::from_utf8_lossy(&line).trim_end().to_owned();
                let mut kept = lines.0.lock().unwrap();
                if kept.len() == Self::LINES_MAX {
                    kept.pop_front();
                }
                kept.push_back(text);
                line.clear();
            }
        })
    }

    /// All lines that are kept, oldest first.
    pub fn all(&self) -> Vec<String> {
        self.0.lock().unwrap().iter().cloned().collect()
    }

    /// The first line that contains `text`.
    pub fn find(&self, text: &str) -> Option<String> {
        self.0.lock().unwrap().iter().find(|line| line.contains(text)).cloned()
    }

    /// Forgets what was written so far.
    pub fn clear(&self) {
        self.0.lock().unwrap().clear();
    }
}

/// The end of it, for a message about a failure.
impl Display for Lines {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let lines = self.all();
        for line in &lines[lines.len().saturating_sub(40)..] {
            writeln!(f, "  | {line}")?;
        }
        Ok(())
    }
}

/// What a command left that ran to its end.
#[derive(Debug)]
pub struct Output {
    /// The exit code; 128 and the signal for one that was killed, as in a shell.
    pub code: i32,
    pub stdout: String,
    pub stderr: String,
}

impl Output {
    /// Its stdout, where it ended well; otherwise the test fails with all that it said.
    #[track_caller]
    pub fn success(self) -> String {
        let Output { code, stdout, stderr } = &self;
        assert!(*code == 0, "exit code {code}\nstdout:\n{stdout}\nstderr:\n{stderr}");
        self.stdout
    }
}

/// Runs a command to its end. One that is not done by the deadline is killed, and the test fails.
pub async fn run(name: &str, command: Command, deadline: Duration) -> Output {
    let started = Instant::now();
    let (mut command, name) = (command, name.to_owned());
    let work = tokio::task::spawn_blocking(move || {
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = spawn(command).unwrap_or_else(|error| panic!("cannot start {name}: {error}"));
        let stdout = read_all(child.stdout.take().unwrap());
        let stderr = read_all(child.stderr.take().unwrap());
        let status = loop {
            if let Some(status) = child.try_wait().unwrap() {
                break status;
            }
            if started.elapsed() > deadline {
                let _ = child.kill();
                let _ = child.wait();
                let (stdout, stderr) = (stdout.join().unwrap(), stderr.join().unwrap());
                panic!("`{name}` did not end in {deadline:?}\nstdout:\n{stdout}\nstderr:\n{stderr}");
            }
            thread::sleep(Duration::from_millis(5));
        };
        Output { code: exit_code(status), stdout: stdout.join().unwrap(), stderr: stderr.join().unwrap() }
    });
    match work.await {
        Ok(output) => output,
        Err(failure) => std::panic::resume_unwind(failure.into_panic()),
    }
}

/// As a shell counts it.
pub fn exit_code(status: ExitStatus) -> i32 {
    status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or_default())
}

fn read_all(mut output: impl Read + Send + 'static) -> JoinHandle<String> {
    thread::spawn(move || {
        let mut bytes = Vec::new();
        let _ = output.read_to_end(&mut bytes);
        String::from_utf8_lossy(&bytes).into_owned()
    })
}
