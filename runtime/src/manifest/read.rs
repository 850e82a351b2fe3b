//! From the text of a TOML file to values that know where they stand.
//!
//! A [`Section`] hands out its keys one by one. What is wrong is noted with its place and reading goes on, so that one
//! look finds everything; keys that nobody asked for are reported when the section ends.

mod file;
mod section;

use std::{
    cell::{Cell, RefCell},
    collections::BTreeSet,
    ops::Range,
};

use toml::de::DeTable;

pub(crate) use file::{text_in, text_of};
pub(crate) use section::Section;

use super::report::{Place, Problem};

/// More problems than these are counted and not kept.
const PROBLEMS_MAX: usize = 100;

/// Reads a file by handing its top to `read`. All problems that were noted on the way are the error.
pub(crate) fn document<T>(text: &str, read: impl FnOnce(&mut Section<'_>) -> T) -> Result<T, Vec<Problem>> {
    let notes = Notes { text, found: RefCell::default(), more: Cell::default() };
    let (tree, errors) = DeTable::parse_recoverable(text);
    if !errors.is_empty() {
        // What the parser made of a broken text says little, so that nothing else is said about it.
        return Err(syntax_problems(text, &errors));
    }

    let mut top = Section::top(tree.get_ref(), &notes);
    let value = read(&mut top);
    top.end();
    let problems = notes.into_problems();
    if problems.is_empty() { Ok(value) } else { Err(problems) }
}

/// One for each line: a slip often leads to several errors.
fn syntax_problems(text: &str, errors: &[toml::de::Error]) -> Vec<Problem> {
    let mut lines = BTreeSet::new();
    let mut problems = Vec::new();
    for error in errors.iter().take(PROBLEMS_MAX) {
        let place = error.span().map(|span| Place::of(text, span));
        if lines.insert(place.as_ref().map(|place| place.line)) {
            problems.push(Problem::new(error.message()).at(place));
        }
    }
    sort(&mut problems);
    problems
}

/// What all sections of a file share: its text, and what was found to be wrong.
struct Notes<'t> {
    text: &'t str,
    found: RefCell<Vec<Problem>>,
    more: Cell<bool>,
}

impl Notes<'_> {
    fn report(&self, span: Option<Range<usize>>, problem: Problem) {
        if !self.is_full() {
            let place = span.map(|span| Place::of(self.text, span));
            self.found.borrow_mut().push(problem.at(place));
        }
    }

    /// The same, and the line is not shown.
    fn report_hidden(&self, place: Place, problem: Problem) {
        if !self.is_full() {
            self.found.borrow_mut().push(problem.at(Some(Place { text: None, ..place })));
        }
    }

    /// Whether one problem more is one too many. It is asked before a problem is worked out, for a file may have a
    /// hundred thousand, and each costs a look through all of the text.
    fn is_full(&self) -> bool {
        let full = self.found.borrow().len() == PROBLEMS_MAX;
        self.more.set(self.more.get() || full);
        full
    }

    fn into_problems(self) -> Vec<Problem> {
        let mut found = self.found.into_inner();
        sort(&mut found);
        if self.more.get() {
            found.push(Problem::new(format!("there are more than {PROBLEMS_MAX} problems: the others are left out")));
        }
        found
    }
}

/// In the order of the file, what has no place first.
fn sort(problems: &mut [Problem]) {
    problems.sort_by_key(|problem| problem.place.as_ref().map(|place| (place.line, place.column)));
}
