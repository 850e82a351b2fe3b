//! `wabbit history`: what became of a worker's versions.

use clap::Args;
use hyper::Method;
use serde_json::Value as Json;

use super::{Failed, host::HostArgs};
use crate::escape::escape;

#[derive(Args)]
pub(super) struct History {
    /// The worker
    name: String,
    #[command(flatten)]
    host: HostArgs,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

impl History {
    pub(super) fn execute(self) -> Result<(), Failed> {
        // Whatever stands there becomes one part of a path.
        let name: String = self.name.bytes().map(|byte| format!("%{byte:02X}")).collect();
        let entries: Vec<Json> = self.host.ask(Method::GET, &format!("/workers/{name}/history"))?;
        if self.json {
            println!("{}", Json::from(entries));
            return Ok(());
        }
        for entry in &entries {
            let text = |key: &str| entry.get(key).and_then(Json::as_str).unwrap_or_default();
            let digest = text("digest").trim_start_matches("sha256:");
            let digest = digest.get(..DIGEST_SHOWN).unwrap_or(digest);
            let took = entry.get("took_ms").and_then(Json::as_u64).unwrap_or_default();
            let line = format!(
                "{}  {:<11}  {:<9}  {digest:<DIGEST_SHOWN$}  {:>6}  {}",
                text("at"),
                text("event"),
                text("cause"),
                format!("{took}ms"),
                text("reason")
            );
            println!("{}", escape(line.trim_end().as_bytes()));
        }
        Ok(())
    }
}

/// Characters of a digest that tell versions apart well enough for a person.
const DIGEST_SHOWN: usize = 12;
