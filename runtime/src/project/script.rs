//! Running the scripts of a language: bounded in time, and ended with all that they started.

use std::{io, process::ExitStatus, time::Duration};

use nix::{
    sys::signal::{Signal, killpg},
    unistd::Pid,
};
use tokio::process::Command;
use tokio_util::sync::CancellationToken;

/// How a script ended.
#[derive(Debug)]
pub(super) enum Ended {
    /// By itself.
    Exit(ExitStatus),
    /// It took too long, and was ended.
    Overran,
    /// It was ended because everything is to stop.
    Stopped,
}

/// Runs a command to its end, for so long at most. It gets a process group of its own, so that whatever it started
/// ends with it: a compiler that goes on by itself would write into files that nobody expects to change any more.
pub(super) async fn run(mut command: Command, limit: Duration, stop: &CancellationToken) -> io::Result<Ended> {
    let mut child = command.process_group(0).spawn()?;
    // Nobody has waited for it yet, so that its id is no other's.
    let group = child.id().and_then(|id| i32::try_from(id).ok()).map(Pid::from_raw);
    let ended = tokio::select! {
        status = child.wait() => return Ok(Ended::Exit(status?)),
        () = tokio::time::sleep(limit) => Ended::Overran,
        () = stop.cancelled() => Ended::Stopped,
    };
    if let Some(group) = group {
        // It may have ended this moment.
        let _ = killpg(group, Signal::SIGKILL);
    }
    child.wait().await?;
    Ok(ended)
}

#[cfg(test)]
mod tests {
    use std::{fs, path::Path, time::Instant};

    use super::*;

    fn shell(folder: &Path, text: &str) -> Command {
        let mut command = Command::new("bash");
        command.args(["-c", text]).current_dir(folder);
        command
    }

    /// Waits until the process is gone whose id stands in the file.
    async fn gone(path: &Path) {
        let end = Instant::now() + Duration::from_secs(20);
        loop {
            let id = fs::read_to_string(path).unwrap_or_default();
            // One that nobody has waited for yet is no more than a name.
            let status = fs::read_to_string(format!("/proc/{}/status", id.trim()));
            if !id.trim().is_empty() && status.map_or(true, |status| status.contains("State:\tZ")) {
                return;
            }
            assert!(Instant::now() < end, "{id} still runs");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    #[tokio::test]
    async fn a_script_ends_by_itself() {
        let folder = tempfile::tempdir().unwrap();
        let stop = CancellationToken::new();
        let ended = run(shell(folder.path(), "exit 3"), Duration::from_secs(60), &stop).await.unwrap();
        assert!(matches!(&ended, Ended::Exit(status) if status.code() == Some(3)), "{ended:?}");
    }

    #[tokio::test]
    async fn what_takes_too_long_ends_with_what_it_started() {
        let folder = tempfile::tempdir().unwrap();
        let script = shell(folder.path(), "sleep 600 & echo $! >child; wait");
        let ended = run(script, Duration::from_millis(500), &CancellationToken::new()).await.unwrap();
        assert!(matches!(ended, Ended::Overran), "{ended:?}");
        gone(&folder.path().join("child")).await;
    }

    #[tokio::test]
    async fn stopping_ends_it_with_what_it_started() {
        let folder = tempfile::tempdir().unwrap();
        let (script, stop) = (shell(folder.path(), "sleep 600 & echo $! >child; wait"), CancellationToken::new());
        let stopping = stop.clone();
        let started = folder.path().join("child");
        let stopper = async {
            while fs::read_to_string(&started).unwrap_or_default().is_empty() {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
            stopping.cancel();
        };
        let (ended, ()) = tokio::join!(run(script, Duration::from_secs(60), &stop), stopper);
        assert!(matches!(ended, Ok(Ended::Stopped)), "{ended:?}");
        gone(&started).await;
    }
}
