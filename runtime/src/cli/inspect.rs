//! `wabbit inspect`: what a file is.

use std::path::PathBuf;

use anyhow::Context as _;
use clap::Args;

use super::Failed;
use crate::{folder, sandbox::inspect::inspect};

/// The largest file that is looked into, in bytes: as large as the setting `file` may be.
const FILE_BYTES_MAX: u64 = 1 << 30;

#[derive(Args)]
pub(super) struct Inspect {
    /// The file
    file: PathBuf,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

impl Inspect {
    pub(super) fn execute(self) -> Result<(), Failed> {
        let bytes = folder::read(&self.file, FILE_BYTES_MAX)
            .with_context(|| format!("cannot read `{}`", self.file.display()))?;
        let found = inspect(&bytes);
        if self.json {
            println!("{}", serde_json::to_string(&found).map_err(anyhow::Error::from)?);
        } else {
            println!("{}: {}", self.file.display(), found.kind);
            println!("size: {} bytes", found.size);
            println!("digest: {}", found.digest);
            list("exports", &found.exports);
            list("imports", &found.imports);
            list("needs grants", &found.needs);
            list("made by", &found.producers);
        }
        if let Err(error) = found.check_known().and_then(|()| found.check_granted(&[])) {
            eprintln!("warning: {error}");
        }
        if found.kind.runs() { Ok(()) } else { Err(Failed::Reported) }
    }
}

fn list(title: &str, items: &[impl AsRef<str>]) {
    if items.is_empty() {
        println!("{title}: none");
        return;
    }
    println!("{title}:");
    for item in items {
        println!("  {}", item.as_ref());
    }
}
