//! What a developer sees: lines that pass, and on a terminal the workers below them.

use std::{
    cell::RefCell,
    collections::BTreeMap,
    io::{IsTerminal as _, stderr, stdin},
};

use console::Term;
use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};
use nix::sys::termios::{SetArg, Termios, tcgetattr, tcsetattr};
use serde_json::Value as Json;
use tokio::sync::mpsc;

use super::rows::Shown;
use crate::{
    cli::build::Teller,
    escape::escape,
    project::build::{Built, Event},
};

/// Workers that have a line of their own; the others are counted.
const SHOWN_MAX: usize = 20;
/// How often the lines are drawn in a second, at most.
const DRAWN_PER_SECOND: u8 = 10;
/// Characters of an error in a worker's line.
const ERROR_CHARS_MAX: usize = 200;

/// What was pressed.
pub(super) enum Key {
    /// The worker's sample, by its place from 0.
    Worker(usize),
    /// The last sample once more.
    Again,
    Quit,
}

pub(super) struct Screen {
    lines: Option<Lines>,
    teller: Teller,
    /// What was said last of each worker, where only lines are printed.
    said: RefCell<BTreeMap<String, String>>,
    /// How the terminal was before keys were read one by one.
    terminal: Option<Termios>,
}

/// The lines below.
struct Lines {
    all: MultiProgress,
    workers: RefCell<Vec<ProgressBar>>,
    keys: ProgressBar,
}

impl Screen {
    /// Lines only where they go to no terminal, or that is asked for.
    pub(super) fn new(plain: bool) -> Self {
        let lines = (!plain && stderr().is_terminal()).then(|| {
            let all = MultiProgress::with_draw_target(ProgressDrawTarget::stderr_with_hz(DRAWN_PER_SECOND));
            let keys = all.add(line());
            keys.set_message("starting");
            Lines { all, workers: RefCell::default(), keys }
        });
        let terminal = lines.as_ref().and_then(|_| tcgetattr(stdin()).ok());
        // Above the workers, which come between it and the keys.
        let compiling = ProgressBar::new_spinner();
        let compiling = match &lines {
            Some(lines) => lines.all.insert_before(&lines.keys, compiling),
            None => compiling,
        };
        Self { lines, teller: Teller::new(true, compiling), said: RefCell::default(), terminal }
    }

    /// One line, or several.
    pub(super) fn say(&self, text: &str) {
        match &self.lines {
            Some(lines) => lines.all.suspend(|| eprintln!("{text}")),
            None => eprintln!("{text}"),
        }
    }

    /// A line of the host's log.
    pub(super) fn log(&self, line: &str) {
        self.say(&of_log(line));
    }

    /// What happens to a plugin that is compiled.
    pub(super) fn built(&self, event: Event) {
        // What did not change is no news each time that something else did.
        if matches!(event, Event::Ended(_, Ok(Built::Unchanged))) {
            return;
        }
        self.teller.tell(event);
    }

    /// The workers, as they are now.
    pub(super) fn workers(&self, shown: Vec<Shown>) {
        let Some(lines) = &self.lines else {
            let mut said = self.said.borrow_mut();
            for worker in &shown {
                let text = plain(worker);
                if said.get(&worker.row.name) != Some(&text) {
                    eprintln!("{text}");
                    said.insert(worker.row.name.clone(), text);
                }
            }
            return said.retain(|name, _| shown.iter().any(|worker| worker.row.name == *name));
        };
        let mut workers = lines.workers.borrow_mut();
        let wanted = shown.len().min(SHOWN_MAX);
        while workers.len() < wanted {
            workers.push(lines.all.insert_before(&lines.keys, line()));
        }
        for gone in workers.drain(wanted..) {
            lines.all.remove(&gone);
        }
        let width = shown.iter().map(|worker| worker.row.name.chars().count()).max().unwrap_or(0);
        for ((place, bar), worker) in workers.iter().enumerate().zip(&shown) {
            bar.set_message(coloured(place, worker, width));
        }
        let more = shown.len() - wanted;
        let more = if more > 0 { format!("{more} more workers · ") } else { String::new() };
        let keys = format!("{more}1-9 send the worker's sample · s send again · q quit");
        lines.keys.set_message(console::style(keys).dim().to_string());
    }

    /// The keys that are pressed, where there is a terminal to press them on.
    pub(super) fn keys(&self, keys_max: usize) -> anyhow::Result<mpsc::Receiver<Key>> {
        let (sender, keys) = mpsc::channel(keys_max);
        if self.lines.is_some() && stdin().is_terminal() {
            // Reading cannot be cut off: the thread ends with the process.
            std::thread::Builder::new().name("wabbit-keys".into()).spawn(move || {
                let term = Term::stderr();
                while let Ok(key) = term.read_key() {
                    let key = match key {
                        console::Key::Char('q') => Key::Quit,
                        console::Key::Char('s') | console::Key::Enter => Key::Again,
                        console::Key::Char(digit @ '1'..='9') => Key::Worker(digit as usize - '1' as usize),
                        _ => continue,
                    };
                    if sender.blocking_send(key).is_err() {
                        return;
                    }
                }
            })?;
        } else {
            // Nobody presses any, for as long as this is read.
            tokio::spawn(async move { sender.closed().await });
        }
        Ok(keys)
    }

    /// Leaves the terminal as it was.
    pub(super) fn close(&self) {
        if let Some(lines) = &self.lines
            && let Err(error) = lines.all.clear()
        {
            eprintln!("error: {error}");
        }
        if let Some(terminal) = &self.terminal
            && let Err(error) = tcsetattr(stdin(), SetArg::TCSANOW, terminal)
        {
            eprintln!("error: the terminal stays as it is: {error}");
        }
    }
}

fn line() -> ProgressBar {
    // A template that cannot be read would leave the default look.
    let style = ProgressStyle::with_template("{wide_msg}").unwrap_or_else(|_| ProgressStyle::default_spinner());
    ProgressBar::new_spinner().with_style(style)
}

/// A worker as a line of its own.
fn coloured(place: usize, worker: &Shown, width: usize) -> String {
    let Shown { row, rate, last } = worker;
    let state = match row.state.as_str() {
        "consuming" => console::style(&row.state).green(),
        "failed" | "refused" | "paused" => console::style(&row.state).red(),
        _ => console::style(&row.state).yellow(),
    };
    let number = if place < 9 { (place + 1).to_string() } else { " ".into() };
    let mut text = format!("{number} {:width$}  {state}", row.name);
    if row.settled() > 0 {
        text.push_str(&format!("  {rate:.0}/s  {}", counts(worker)));
    }
    if let Some(last) = last {
        text.push_str(&format!("  last {last}"));
    }
    if let Some(error) = error(worker) {
        text.push_str(&format!("  {}", console::style(error).red()));
    }
    text
}

/// A worker as a line among others.
fn plain(worker: &Shown) -> String {
    let mut text = format!("worker {}: {}", worker.row.name, worker.row.state);
    if worker.row.settled() > 0 {
        text.push_str(&format!(", {}", counts(worker)));
    }
    if let Some(error) = error(worker) {
        text.push_str(&format!(", {error}"));
    }
    text
}

fn counts(worker: &Shown) -> String {
    let counts = worker.row.counts.iter().filter(|(_, count)| **count > 0);
    let counts: Vec<_> = counts.map(|(outcome, count)| format!("{count} {outcome}")).collect();
    match worker.row.in_flight {
        0 => counts.join(", "),
        in_flight => format!("{}, {in_flight} in hand", counts.join(", ")),
    }
}

/// What is wrong with it: what keeps it from working, else its last version, else its last failure.
fn error(worker: &Shown) -> Option<String> {
    let row = &worker.row;
    let error = row.reason.as_ref().or(row.refused.as_ref()).or(row.last_error.as_ref())?;
    let line = error.lines().next().unwrap_or_default();
    let short: String = line.chars().take(ERROR_CHARS_MAX).collect();
    Some(if short.len() < error.len() { format!("{short}…") } else { short })
}

/// A line of the host's log, as a person reads it: a handler's own lines with its worker's name.
fn of_log(line: &str) -> String {
    let Ok(Json::Object(fields)) = serde_json::from_str(line) else { return escape(line.as_bytes()).to_string() };
    let text = |name: &str| fields.get(name).and_then(Json::as_str);
    let message = escape(text("message").unwrap_or_default().as_bytes()).to_string();
    if text("target") == Some("wabbit::handler") {
        return format!("{} | {message}", text("worker").unwrap_or_default());
    }
    let others = fields.iter().filter(|(name, _)| !["timestamp", "level", "message", "target"].contains(&&***name));
    let others = others.map(|(name, value)| match value {
        Json::String(value) => format!(" {name}={}", escape(value.as_bytes())),
        value => format!(" {name}={value}"),
    });
    let level = text("level").unwrap_or("INFO").to_lowercase();
    let level = if level == "info" { String::new() } else { format!("{level}: ") };
    format!("{level}{message}{}", others.collect::<String>())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::dev::rows::Row;

    #[test]
    fn a_handlers_line_has_its_workers_name() {
        let line = r#"{"timestamp":"x","level":"INFO","message":"greeting Ada","target":"wabbit::handler","worker":"hello","stream":"stdout"}"#;
        assert_eq!(of_log(line), "hello | greeting Ada");
        let line = r#"{"timestamp":"x","level":"WARN","message":"no broker","target":"wabbit::amqp","epoch":2}"#;
        assert_eq!(of_log(line), "warn: no broker epoch=2");
        assert_eq!(of_log("thread panicked\u{1b}"), "thread panicked\\u{1b}");
    }

    #[test]
    fn what_keeps_a_worker_from_working_is_said_first() {
        let row = Row {
            name: "hello".into(),
            state: "refused".into(),
            reason: Some("line 3: no plugin\nmore".into()),
            last_error: Some("a trap".into()),
            ..Row::default()
        };
        assert_eq!(plain(&Shown { row, rate: 0.0, last: None }), "worker hello: refused, line 3: no plugin…");
    }
}
