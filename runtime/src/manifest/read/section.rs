//! One table of a file, read key by key.

use std::{
    collections::BTreeMap,
    ops::{Range, RangeInclusive},
    time::Duration,
};

use toml::{
    Spanned,
    de::{DeInteger, DeString, DeTable, DeValue},
};

use super::Notes;
use crate::manifest::{
    report::{Place, Problem},
    values::{self, nearest_or_all, quoted},
};

/// A table whose keys are asked for by name. A key of the wrong type or value is noted and counts as absent.
pub(crate) struct Section<'t> {
    table: Option<&'t DeTable<'t>>,
    span: Option<Range<usize>>,
    asked: Vec<&'static str>,
    notes: &'t Notes<'t>,
}

impl<'t> Section<'t> {
    pub(super) fn top(table: &'t DeTable<'t>, notes: &'t Notes<'t>) -> Self {
        Self { table: Some(table), span: None, asked: Vec::new(), notes }
    }

    /// Whether the key is there, whatever its value.
    pub fn has(&self, key: &str) -> bool {
        self.table.is_some_and(|table| table.contains_key(key))
    }

    /// Where the value of a key stands.
    pub fn place(&self, key: &str) -> Option<Place> {
        let value = self.table?.get(key)?;
        Some(Place::of(self.notes.text, value.span()))
    }

    /// Notes a problem with a key's value, or with the section where the key is absent.
    pub fn report(&self, key: &str, problem: Problem) {
        let value = self.table.and_then(|table| table.get(key));
        self.notes.report(value.map(Spanned::span).or_else(|| self.span.clone()), problem);
    }

    /// Notes a problem at a value that [`Self::value`] gave out.
    pub fn report_at(&self, value: &Spanned<DeValue<'_>>, problem: Problem) {
        self.notes.report(Some(value.span()), problem);
    }

    /// Notes that a key without a default is absent.
    pub fn require(&self, key: &str, example: &str) {
        if !self.has(key) {
            self.report(key, Problem::new(format!("`{key}` is missing")).hint(format!("add `{example}`")));
        }
    }

    /// The value as it stands there.
    pub fn value(&mut self, key: &'static str) -> Option<&'t Spanned<DeValue<'t>>> {
        if !self.asked.contains(&key) {
            self.asked.push(key);
        }
        self.table?.get(key)
    }

    /// A string.
    pub fn text(&mut self, key: &'static str) -> Option<&'t str> {
        match self.value(key)?.get_ref() {
            DeValue::String(text) => Some(text),
            other => self.mismatch(key, "a string", other, None),
        }
    }

    /// A string that `check` makes a value of.
    pub fn checked<T>(&mut self, key: &'static str, check: impl FnOnce(&str) -> Result<T, Problem>) -> Option<T> {
        let text = self.text(key)?;
        check(text).map_err(|problem| self.report(key, problem)).ok()
    }

    /// One of a few words.
    pub fn one_of<T: Copy>(&mut self, key: &'static str, choices: &[(&'static str, T)]) -> Option<T> {
        let text = self.text(key)?;
        let chosen = choices.iter().find(|(word, _)| *word == text).map(|(_, value)| *value);
        if chosen.is_none() {
            let words: Vec<_> = choices.iter().map(|(word, _)| *word).collect();
            let problem = Problem::new(format!("`{key}` cannot be {}", quoted(text)));
            self.report(key, problem.hint(nearest_or_all(text, &words)));
        }
        chosen
    }

    /// A boolean.
    pub fn flag(&mut self, key: &'static str) -> Option<bool> {
        match self.value(key)?.get_ref() {
            DeValue::Boolean(flag) => Some(*flag),
            other => self.mismatch(key, "`true` or `false`", other, None),
        }
    }

    /// A whole number within bounds.
    pub fn integer(&mut self, key: &'static str, bounds: RangeInclusive<usize>) -> Option<usize> {
        match self.value(key)?.get_ref() {
            DeValue::Integer(number) => self.within(key, whole(number), bounds, usize::to_string),
            other => self.mismatch(key, "an integer", other, None),
        }
    }

    /// A number within bounds, whole or not.
    pub fn number(&mut self, key: &'static str, bounds: RangeInclusive<f64>) -> Option<f64> {
        match self.value(key)?.get_ref() {
            DeValue::Integer(number) => {
                let number = whole(number).and_then(|number| u32::try_from(number).ok()).map(f64::from);
                self.within(key, number, bounds, f64::to_string)
            }
            DeValue::Float(number) => self.within(key, number.as_str().parse().ok(), bounds, f64::to_string),
            other => self.mismatch(key, "a number", other, None),
        }
    }

    /// A duration within bounds, such as `"5s"`.
    pub fn duration(&mut self, key: &'static str, bounds: RangeInclusive<Duration>) -> Option<Duration> {
        match self.value(key)?.get_ref() {
            DeValue::String(_) => {
                let duration = self.checked(key, values::duration)?;
                self.within(key, Some(duration), bounds, values::show_duration)
            }
            other => {
                self.mismatch(key, "a duration", other, Some("write a number with its unit: `\"250ms\"`, `\"5s\"`"))
            }
        }
    }

    /// A number of bytes within bounds, such as `"64MiB"` or `65536`.
    pub fn size(&mut self, key: &'static str, bounds: RangeInclusive<usize>) -> Option<usize> {
        let bytes = match self.value(key)?.get_ref() {
            DeValue::Integer(number) => whole(number),
            DeValue::String(_) => usize::try_from(self.checked(key, values::size)?).ok(),
            other => return self.mismatch(key, "a size", other, Some("write it with its unit: `\"64MiB\"`")),
        };
        self.within(key, bytes, bounds, values::show_size)
    }

    /// A table. An absent one is read as an empty one, so that its defaults stand in one place.
    pub fn section<T>(&mut self, key: &'static str, read: impl FnOnce(&mut Section<'t>) -> T) -> T {
        let value = self.value(key);
        let table = value.and_then(|value| match value.get_ref() {
            DeValue::Table(table) => Some(table),
            other => self.mismatch(key, "a table", other, None),
        });
        self.inner(table, value.map(Spanned::span), read)
    }

    /// An array of tables: `[[key]]`, or `key = [{ … }]`.
    pub fn sections<T>(&mut self, key: &'static str, mut read: impl FnMut(&mut Section<'t>) -> T) -> Vec<T> {
        let read = |section: &Self, entry: &'t Spanned<DeValue<'t>>| match entry.get_ref() {
            DeValue::Table(table) => Some(section.inner(Some(table), Some(entry.span()), &mut read)),
            _ => section.bad_entry(key, "a table", entry),
        };
        self.array(key, &format!("write `[[{key}]]` above each one, or `{key} = [{{ … }}]`"), read)
    }

    /// An array of strings and tables.
    pub fn list<T>(
        &mut self,
        key: &'static str,
        read_text: impl Fn(&str) -> Result<T, Problem>,
        mut read: impl FnMut(&mut Section<'t>) -> Option<T>,
    ) -> Vec<T> {
        let read = |section: &Self, entry: &'t Spanned<DeValue<'t>>| match entry.get_ref() {
            DeValue::String(text) => read_text(text).map_err(|problem| section.report_at(entry, problem)).ok(),
            DeValue::Table(table) => section.inner(Some(table), Some(entry.span()), &mut read),
            _ => section.bad_entry(key, "a string or a table", entry),
        };
        self.array(key, &format!("put it in brackets: `{key} = [ … ]`"), read)
    }

    /// A string, or an array of strings, that `check` makes values of. None where one of them is wrong.
    pub fn one_or_more<T>(&mut self, key: &'static str, check: impl Fn(&str) -> Result<T, Problem>) -> Option<Vec<T>> {
        match self.value(key)?.get_ref() {
            DeValue::String(_) => self.checked(key, check).map(|value| vec![value]),
            DeValue::Array(entries) => {
                let read = |entry: &'t Spanned<DeValue<'t>>| match entry.get_ref() {
                    DeValue::String(text) => check(text).map_err(|problem| self.report_at(entry, problem)).ok(),
                    _ => self.bad_entry(key, "a string", entry),
                };
                // All of them are looked at before one that is wrong ends it.
                entries.iter().map(read).collect::<Vec<_>>().into_iter().collect()
            }
            other => self.mismatch(key, "a string or an array of strings", other, None),
        }
    }

    /// A string or a table.
    pub fn text_or<T>(
        &mut self,
        key: &'static str,
        read_text: impl Fn(&str) -> Result<T, Problem>,
        read: impl FnOnce(&mut Section<'t>) -> Option<T>,
    ) -> Option<T> {
        let value = self.value(key)?;
        match value.get_ref() {
            DeValue::String(_) => self.checked(key, read_text),
            DeValue::Table(table) => self.inner(Some(table), Some(value.span()), read),
            other => self.mismatch(key, "a string or a table", other, None),
        }
    }

    /// A table of tables, whose keys are names that the user chose.
    pub fn map<T>(&mut self, key: &'static str, read: impl Fn(&mut Section<'t>) -> T) -> BTreeMap<&'t str, T> {
        let Some(value) = self.value(key) else { return BTreeMap::new() };
        let DeValue::Table(entries) = value.get_ref() else {
            return self.mismatch(key, "a table", value.get_ref(), None).unwrap_or_default();
        };
        let read = |(name, entry): (&'t Spanned<DeString<'t>>, &'t Spanned<DeValue<'t>>)| match entry.get_ref() {
            DeValue::Table(table) => Some((&**name.get_ref(), self.inner(Some(table), Some(entry.span()), &read))),
            _ => self.bad_entry(key, "a table", entry),
        };
        entries.iter().filter_map(read).collect()
    }

    /// A table of strings, whose keys are names that the user chose: each with its name goes through `check`. None where
    /// the key is absent or no table.
    pub fn texts<T>(&mut self, key: &'static str, check: impl Fn(&str, &str) -> Result<T, Problem>) -> Option<Vec<T>> {
        self.text_entries(key, Self::report_at, check)
    }

    /// A string that goes through `check`, in a line that must not be shown where it is wrong.
    pub fn hidden<T>(&mut self, key: &'static str, check: impl FnOnce(&str) -> Result<T, Problem>) -> Option<T> {
        let value = self.value(key)?;
        let checked = match value.get_ref() {
            DeValue::String(text) => check(text),
            other => Err(Problem::new(format!("`{key}` must be a string, not {}", kind(other)))),
        };
        checked.map_err(|problem| self.notes.report_hidden(Place::of(self.notes.text, value.span()), problem)).ok()
    }

    /// The same where lines that are wrong must not be shown.
    pub fn hidden_texts<T>(
        &mut self,
        key: &'static str,
        check: impl Fn(&str, &str) -> Result<T, Problem>,
    ) -> Option<Vec<T>> {
        let report = |section: &Self, entry: &Spanned<DeValue<'_>>, problem| {
            let place = Place::of(section.notes.text, entry.span());
            section.notes.report_hidden(place, problem);
        };
        self.text_entries(key, report, check)
    }

    fn text_entries<T>(
        &mut self,
        key: &'static str,
        report: impl Fn(&Self, &Spanned<DeValue<'_>>, Problem),
        check: impl Fn(&str, &str) -> Result<T, Problem>,
    ) -> Option<Vec<T>> {
        let value = self.value(key)?;
        let DeValue::Table(entries) = value.get_ref() else {
            let found = kind(value.get_ref());
            let problem = Problem::new(format!("`{key}` must be a table, not {found}"));
            report(self, value, problem.hint(format!("write `{key} = {{ NAME = \"…\" }}`")));
            return None;
        };
        let read = |(name, entry): (&'t Spanned<DeString<'t>>, &'t Spanned<DeValue<'t>>)| {
            let name = name.get_ref();
            let checked = match entry.get_ref() {
                DeValue::String(text) => check(name, text),
                other => {
                    let problem = Problem::new(format!("{} must be a string, not {}", quoted(name), kind(other)));
                    Err(problem.hint("put it in quotes: a handler reads values as text"))
                }
            };
            checked.map_err(|problem| report(self, entry, problem)).ok()
        };
        Some(entries.iter().filter_map(read).collect())
    }

    fn array<T>(
        &mut self,
        key: &'static str,
        hint: &str,
        mut read: impl FnMut(&Self, &'t Spanned<DeValue<'t>>) -> Option<T>,
    ) -> Vec<T> {
        let Some(value) = self.value(key) else { return Vec::new() };
        let DeValue::Array(entries) = value.get_ref() else {
            return self.mismatch(key, "an array", value.get_ref(), Some(hint)).unwrap_or_default();
        };
        entries.iter().filter_map(|entry| read(self, entry)).collect()
    }

    /// Reads a table inside this one, to its end.
    fn inner<T>(
        &self,
        table: Option<&'t DeTable<'t>>,
        span: Option<Range<usize>>,
        read: impl FnOnce(&mut Section<'t>) -> T,
    ) -> T {
        let mut section = Section { table, span, asked: Vec::new(), notes: self.notes };
        let value = read(&mut section);
        section.end();
        value
    }

    /// Notes every key that nobody asked for.
    pub(super) fn end(self) {
        for (key, _) in self.table.into_iter().flatten() {
            let name: &str = key.get_ref();
            if self.asked.contains(&name) {
                continue;
            }
            if self.notes.is_full() {
                return;
            }
            let hint = nearest_or_all(name, &self.asked);
            let problem = Problem::new(format!("unknown key {}", quoted(name))).hint(hint);
            self.notes.report(Some(key.span()), problem);
        }
    }

    fn within<T: PartialOrd>(
        &self,
        key: &str,
        value: Option<T>,
        bounds: RangeInclusive<T>,
        show: impl Fn(&T) -> String,
    ) -> Option<T> {
        let inside = value.filter(|value| bounds.contains(value));
        if inside.is_none() {
            let (least, most) = (show(bounds.start()), show(bounds.end()));
            self.report(key, Problem::new(format!("`{key}` must be between `{least}` and `{most}`")));
        }
        inside
    }

    fn mismatch<T>(&self, key: &str, wanted: &str, found: &DeValue<'_>, hint: Option<&str>) -> Option<T> {
        let problem = Problem::new(format!("`{key}` must be {wanted}, not {}", kind(found)));
        self.report(key, Problem { hint: hint.map(str::to_owned), ..problem });
        None
    }

    fn bad_entry<T>(&self, key: &str, wanted: &str, entry: &Spanned<DeValue<'_>>) -> Option<T> {
        let found = kind(entry.get_ref());
        self.report_at(entry, Problem::new(format!("an entry of `{key}` must be {wanted}, not {found}")));
        None
    }
}

/// The value of a TOML integer that is not negative.
fn whole(number: &DeInteger<'_>) -> Option<usize> {
    usize::from_str_radix(number.as_str(), number.radix()).ok()
}

fn kind(value: &DeValue<'_>) -> &'static str {
    match value {
        DeValue::String(_) => "a string",
        DeValue::Integer(_) => "an integer",
        DeValue::Float(_) => "a float",
        DeValue::Boolean(_) => "a boolean",
        DeValue::Datetime(_) => "a date",
        DeValue::Array(_) => "an array",
        DeValue::Table(_) => "a table",
    }
}
