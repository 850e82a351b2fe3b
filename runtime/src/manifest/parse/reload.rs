//! `[reload]`: how a new version proves itself.

use std::{path::PathBuf, time::Duration};

use crate::manifest::{Reload, read::Section, report::Problem};

const PROBATION_MAX: usize = 100_000;
const PROBATION_TIME_MIN: Duration = Duration::from_secs(1);
const PROBATION_TIME_MAX: Duration = Duration::from_secs(60 * 60);

pub(super) fn reload(section: &mut Section<'_>) -> Reload {
    let default = Reload::default();
    let smoke_effects = section.flag("smoke-effects");
    if smoke_effects.is_some() && !section.has("smoke") {
        section.report("smoke-effects", Problem::new("there is no `smoke` that could have effects"));
    }
    let probation = section.integer("probation", 0..=PROBATION_MAX).and_then(|probation| u32::try_from(probation).ok());
    Reload {
        smoke: section.checked("smoke", |path| match path {
            "" => Err(Problem::new("an empty path")),
            path => Ok(PathBuf::from(path)),
        }),
        smoke_effects: smoke_effects.unwrap_or(default.smoke_effects),
        probation: probation.unwrap_or(default.probation),
        probation_time: section
            .duration("probation-time", PROBATION_TIME_MIN..=PROBATION_TIME_MAX)
            .unwrap_or(default.probation_time),
        margin: section.number("margin", 0.0..=1.0).unwrap_or(default.margin),
    }
}
