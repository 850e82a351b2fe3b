//! `[consume] dedupe`: what is not handled a second time.

use std::time::Duration;

use crate::manifest::{Dedupe, DedupeBy, read::Section, report::Problem, values::quoted};

const WINDOW_MIN: Duration = Duration::from_secs(1);
const WINDOW_MAX: Duration = Duration::from_secs(30 * 24 * 60 * 60);
const WINDOW_DEFAULT: Duration = Duration::from_secs(60 * 60);
const IDS_MAX: usize = 500_000;
const IDS_DEFAULT: usize = 100_000;

/// What the ids are, or a table with it.
pub(super) fn dedupe(section: &mut Section<'_>) -> Option<Dedupe> {
    let alone = |text: &str| Ok(Dedupe { by: by(text)?, window: WINDOW_DEFAULT, ids: IDS_DEFAULT, memory: false });
    section.text_or("dedupe", alone, |table| {
        table.require("by", "by = \"message-id\"");
        let window = table.duration("window", WINDOW_MIN..=WINDOW_MAX).unwrap_or(WINDOW_DEFAULT);
        let ids = table.integer("ids", 1..=IDS_MAX).unwrap_or(IDS_DEFAULT);
        let memory = table.flag("memory").unwrap_or_default();
        Some(Dedupe { by: table.checked("by", by)?, window, ids, memory })
    })
}

fn by(text: &str) -> Result<DedupeBy, Problem> {
    match (text, text.strip_prefix("header:")) {
        ("message-id", _) => Ok(DedupeBy::MessageId),
        (_, Some(name)) if !name.is_empty() => Ok(DedupeBy::Header(name.to_owned())),
        _ => {
            let problem = Problem::new(format!("messages cannot be told apart by {}", quoted(text)));
            Err(problem.hint("`\"message-id\"`, or `\"header:NAME\"`"))
        }
    }
}
