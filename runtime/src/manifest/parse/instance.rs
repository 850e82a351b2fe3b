//! `[instance]`: whether a handler's instance handles more than one delivery.

use crate::manifest::{Instance, read::Section, report::Problem};

const DELIVERIES_MAX: usize = 1_000_000;

pub(super) fn instance(section: &mut Section<'_>) -> Instance {
    let default = Instance::default();
    let reuse = section.flag("reuse").unwrap_or(default.reuse);
    let max_deliveries = section.integer("max-deliveries", 1..=DELIVERIES_MAX);
    if max_deliveries.is_some() && !reuse {
        section
            .report("max-deliveries", Problem::new("each delivery has an instance of its own without `reuse = true`"));
    }
    let max_deliveries = max_deliveries.and_then(|most| u32::try_from(most).ok()).unwrap_or(default.max_deliveries);
    Instance { reuse, max_deliveries }
}
