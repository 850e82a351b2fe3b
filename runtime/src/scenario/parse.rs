//! From the text of a scenario to what it says. All that is wrong with it is found in one go.

use super::{
    Scenario, Step,
    expect::expect,
    given::{self, Given, clock},
    messages::delivery,
};
use crate::manifest::{read, report::Problem};

/// The largest file that a scenario names.
pub const FILE_BYTES_MAX: u64 = 16 << 20;

/// How a file that a scenario names is read, by its path from the scenario's own folder.
pub(super) type Files<'f> = &'f dyn Fn(&str) -> Result<Vec<u8>, String>;

/// Reads the world of a scenario alone. Its deliveries are not looked at.
///
/// Errors: all that is wrong with it, with the places.
pub fn given(text: &str, files: &dyn Fn(&str) -> Result<Vec<u8>, String>) -> Result<Given, Vec<Problem>> {
    read::document(text, |top| {
        let _ = (top.value("manifest"), top.value("delivery"));
        top.section("given", |section| given::given(section, files))
    })
}

/// Reads a scenario. `files` reads what it names.
///
/// Errors: all that is wrong, with the places.
pub fn parse(text: &str, files: &dyn Fn(&str) -> Result<Vec<u8>, String>) -> Result<Scenario, Vec<Problem>> {
    read::document(text, |top| {
        let manifest = top.text("manifest").map(|name| (name.to_owned(), top.place("manifest")));
        let given = top.section("given", |section| given::given(section, files));
        let steps = top.sections("delivery", |section| Step {
            delivery: delivery(section, files),
            clock: clock(section, "clock"),
            expect: section.section("expect", |section| expect(section, files)),
        });
        if !top.has("delivery") || steps.is_empty() {
            let problem = Problem::new("there is no delivery");
            top.report("delivery", problem.hint("add `[[delivery]]`, and below it what comes: `text = \"…\"`"));
        }
        Scenario { manifest, given, steps }
    })
}
