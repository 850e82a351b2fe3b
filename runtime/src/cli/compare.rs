//! `wabbit compare`: two plugins on the same recorded deliveries.

use std::path::PathBuf;

use clap::Args;
use serde_json::{Value as Json, json};

use super::{
    Failed, SettingsArgs,
    diff::{Diff, json_of},
    replay::{Lines, Stage, StageArgs, executor},
    settings,
};
use crate::{app::settings::LogFormat, scenario, telemetry};

#[derive(Args)]
pub(super) struct Compare {
    /// The plugin as it was
    #[arg(value_name = "OLD.wasm")]
    old: PathBuf,
    /// The plugin as it is to be
    #[arg(value_name = "NEW.wasm")]
    new: PathBuf,
    /// The deliveries, as `wabbit record` writes them
    #[arg(value_name = "FILE.jsonl")]
    recording: PathBuf,
    #[command(flatten)]
    stage: StageArgs,
    /// Print JSON, a line for each delivery whose outcomes differ
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    settings: SettingsArgs,
}

impl Compare {
    pub(super) fn execute(self) -> Result<(), Failed> {
        let settings = settings(&self.settings.overrides())?;
        telemetry::init_logging(LogFormat::Text)?;
        let stage = Stage::new(&self.stage, &settings)?;
        let mut lines = Lines::open(&self.recording, &settings)?;
        let executor = executor()?;
        // Each with a world of its own.
        let (mut old, mut new) = (stage.handler(&self.old, &executor)?, stage.handler(&self.new, &executor)?);
        let (diff, mut all, mut differ) = (Diff::new(), 0_usize, 0_usize);
        while let Some(line) = lines.next()? {
            all += 1;
            let before = old.handle(&executor, &line.recorded)?;
            let after = new.handle(&executor, &line.recorded)?;
            let differences = scenario::outcomes(&before, &after);
            if differences.is_empty() {
                continue;
            }
            differ += 1;
            if self.json {
                let rows: Vec<Json> = differences.iter().map(json_of).collect();
                println!("{}", json!({ "line": line.number, "differences": rows }));
            } else {
                println!("line {}", line.number);
                print!("{}", diff.show(&differences, 2));
            }
        }
        if !self.json {
            let deliveries = if all == 1 { "delivery" } else { "deliveries" };
            println!(
                "{all} {deliveries}: {}",
                if differ == 0 { "no outcome differs".into() } else { format!("{differ} differ") }
            );
        }
        if differ == 0 { Ok(()) } else { Err(Failed::Reported) }
    }
}
