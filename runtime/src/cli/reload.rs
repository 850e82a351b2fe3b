//! `wabbit reload`: a running host looks at its files.

use std::collections::BTreeMap;

use clap::Args;
use hyper::Method;
use serde::{Deserialize, Serialize};

use super::{Failed, host::HostArgs};

#[derive(Args)]
pub(super) struct Reload {
    #[command(flatten)]
    host: HostArgs,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// What the host answers.
#[derive(Serialize, Deserialize)]
struct Done {
    workers: BTreeMap<String, Did>,
}

/// What happened, and why.
#[derive(Serialize, Deserialize)]
struct Did {
    event: String,
    reason: String,
}

impl Reload {
    pub(super) fn execute(self) -> Result<(), Failed> {
        let done: Done = self.host.ask(Method::POST, "/reload")?;
        if self.json {
            println!("{}", serde_json::to_string(&done).map_err(anyhow::Error::from)?);
        } else {
            if done.workers.is_empty() {
                println!("nothing changed");
            }
            for (worker, Did { event, reason }) in &done.workers {
                match reason.as_str() {
                    "" => println!("{worker}: {event}"),
                    reason => println!("{worker}: {event}: {reason}"),
                }
            }
        }
        let refused = done.workers.values().any(|did| did.event == "refused");
        if refused { Err(Failed::Reported) } else { Ok(()) }
    }
}
