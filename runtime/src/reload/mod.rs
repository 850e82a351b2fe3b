//! What is decided about a change of the files while the host runs: what it means for each worker, whether a new version
//! stays, when it is time to look. Plain functions and values; `app::reload` carries out what they say.

mod calm;
mod changes;
mod history;
mod plan;
mod probation;

pub use calm::{Calm, Told};
pub use changes::{Change, changes};
pub use history::{Cause, Entry, Event, History};
pub use plan::{Candidate, Refusal, Running, Step, Wanted, plan};
pub use probation::{Standing, Verdict};
