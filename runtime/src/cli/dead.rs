//! `wabbit dead`: dead letters, looked at, sent back and deleted.

mod list;
mod replay;
mod show;

use std::{io::Write as _, sync::Arc};

use anyhow::Context as _;
use clap::{Args, Subcommand};

use super::{Failed, SettingsArgs, executor, settings};
use crate::{
    amqp::{self, Session},
    app::settings::Settings,
    outcome::SHORT_STRING_MAX,
};

/// What a letter is known by: 16 digits.
const ID: &str = "x-wabbit-id";

#[derive(Args)]
pub(super) struct Dead {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// List the dead-letter queues of all manifests
    List(list::List),
    /// Show the letters at the front of a queue, and leave them there
    Show(show::Show),
    /// Send letters back to the queue that they failed on
    Replay(replay::Replay),
    /// Delete all letters of a queue
    Purge(Purge),
}

#[derive(Args)]
struct Purge {
    /// The dead-letter queue
    #[arg(value_parser = queue_name)]
    queue: String,
    /// Yes, delete them for good
    #[arg(long)]
    yes: bool,
    #[command(flatten)]
    settings: SettingsArgs,
}

impl Dead {
    pub(super) fn execute(self) -> Result<(), Failed> {
        match self.command {
            Command::List(list) => list.execute(),
            Command::Show(show) => show.execute(),
            Command::Replay(replay) => replay.execute(),
            Command::Purge(purge) => purge.execute(),
        }
    }
}

impl Purge {
    fn execute(self) -> Result<(), Failed> {
        let Self { queue, yes, settings: args } = self;
        if !yes {
            return Err(Failed::Usage(format!(
                "this would delete every message in `{queue}` for good\nhint: look at them with `wabbit dead show`, or \
                 say so with --yes"
            )));
        }
        with_broker(&settings(&args.overrides())?, async |session| {
            waiting(&session, &queue).await?;
            let purged = amqp::purge(&session, &queue).await?;
            print(&format!("{purged} deleted\n"))
        })
    }
}

/// Does something with a session, and closes it in order.
fn with_broker(settings: &Settings, work: impl AsyncFnOnce(Arc<Session>) -> Result<(), Failed>) -> Result<(), Failed> {
    let executor = executor()?;
    let result = executor.block_on(async {
        let session = Arc::new(Session::connect_to_any(&settings.amqp).await?);
        let result = work(Arc::clone(&session)).await;
        session.close().await;
        result
    });
    executor.shutdown_background();
    result
}

/// How many messages wait in a queue; an error where there is no such queue.
async fn waiting(session: &Session, queue: &str) -> anyhow::Result<u32> {
    let count = amqp::count(session, queue).await?;
    count.with_context(|| format!("there is no queue `{queue}`; hint: `wabbit dead list` names those of the manifests"))
}

/// A queue's name on the command line.
fn queue_name(text: &str) -> Result<String, String> {
    match text.len() {
        1..=SHORT_STRING_MAX => Ok(text.to_owned()),
        _ => Err(format!("a queue's name has 1 to {SHORT_STRING_MAX} bytes")),
    }
}

/// Data for standard output; whoever reads it may have gone away.
fn print(text: &str) -> Result<(), Failed> {
    let mut out = std::io::stdout().lock();
    Ok(out.write_all(text.as_bytes()).and_then(|()| out.flush()).context("cannot write to standard output")?)
}
