//! Pages of the documentation that are followed to the letter: what they say is typed, and what they show must come.
//!
//! The info string of a fenced block says what it is. GitHub shows its first word's language and hides the rest.
//!
//! - `toml PATH`, `rust PATH`: a file of that path. `rust shows PATH`: lines of one that is there, as they are.
//! - `sh`: commands, which end well. `sh until`: a command that is repeated until it ends well and shows what it should.
//! - `sh NAME`: a command that goes on running, in a terminal of that name.
//! - `text` or `json`, after commands: their output, line by line; `text unordered`: in any order.
//! - `text NAME`: lines that come up in that terminal. `text NAME stopped`: after Ctrl-C, with which it ends well.
//!
//! `…` stands for any part of a line, and alone on a line for any lines. Runs of blanks count as one.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use nix::sys::signal::Signal;

use crate::harness::process::{self, Lines, Output, Process};
use crate::harness::{DEADLINE, wait_until};

/// How long commands may take that compile something, or wait for another build to end.
const LONG: Duration = Duration::from_secs(900);

/// A fenced block of a page.
#[derive(Debug, Clone, PartialEq)]
pub struct Block {
    /// The words of its info string.
    pub info: Vec<String>,
    /// What is between the fences.
    pub text: String,
    /// Where it begins, counted from 1.
    pub line: usize,
}

/// The fenced blocks of a page, those within lists too.
pub fn blocks(markdown: &str) -> Vec<Block> {
    let mut blocks = Vec::new();
    let mut open: Option<(usize, Block)> = None;
    for (index, line) in markdown.lines().enumerate() {
        let indent = line.len() - line.trim_start().len();
        match (&mut open, line.trim_start().strip_prefix("```")) {
            (None, Some(info)) => {
                let info = info.split_whitespace().map(str::to_owned).collect();
                open = Some((indent, Block { info, text: String::new(), line: index + 1 }));
            }
            (None, None) => {}
            (Some(_), Some("")) => blocks.extend(open.take().map(|(_, block)| block)),
            (Some((indent, block)), _) => {
                block.text.push_str(line.get(*indent..).unwrap_or_default());
                block.text.push('\n');
            }
        }
    }
    assert!(open.is_none(), "a fence is not closed: {open:?}");
    blocks
}

/// The fenced blocks below a heading, up to the next heading of its level or a higher one.
pub fn blocks_below(markdown: &str, heading: &str) -> Vec<Block> {
    let level = |line: &str| line.find(' ').filter(|at| *at > 0 && line.bytes().take(*at).all(|byte| byte == b'#'));
    let blocks = blocks(markdown);
    let is_code = |number: usize| {
        blocks.iter().any(|block| (block.line..=block.line + block.text.lines().count()).contains(&number))
    };
    let mut lines = (1..).zip(markdown.lines()).skip_while(|(_, line)| *line != heading);
    let (start, _) = lines.next().unwrap_or_else(|| panic!("there is no heading `{heading}`"));
    let end = lines
        .find(|(number, line)| !is_code(*number) && level(line).is_some_and(|found| Some(found) <= level(heading)));
    let end = end.map_or(usize::MAX, |(number, _)| number);
    blocks.iter().filter(|block| (start..end).contains(&block.line)).cloned().collect()
}

/// Whether a line is as it is shown.
pub fn fits(shown: &str, line: &str) -> bool {
    let words = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ");
    let (shown, line) = (words(shown), words(line));
    let mut parts = shown.split('…');
    let Some(mut rest) = line.strip_prefix(parts.next().unwrap_or_default()) else { return false };
    let Some(last) = parts.next_back() else { return rest.is_empty() };
    for part in parts {
        match rest.split_once(part) {
            Some((_, after)) => rest = after,
            None => return false,
        }
    }
    rest.ends_with(last)
}

/// Whether all lines are as they are shown, in their order.
fn fit_in_order(shown: &[&str], lines: &[&str]) -> bool {
    match (shown.split_first(), lines.split_first()) {
        (None, None) => true,
        (Some((&"…", more)), rest) => {
            fit_in_order(more, lines) || rest.is_some_and(|(_, lines)| fit_in_order(shown, lines))
        }
        (Some((first, shown)), Some((line, lines))) => fits(first, line) && fit_in_order(shown, lines),
        _ => false,
    }
}

/// Whether each line that is shown is there, and no others but where `…` is shown.
fn fit_in_any_order(shown: &[&str], lines: &[&str]) -> bool {
    let mut left = lines.to_vec();
    let all = shown.iter().filter(|shown| **shown != "…").all(|shown| {
        let found = left.iter().position(|line| fits(shown, line));
        found.map(|index| left.swap_remove(index)).is_some()
    });
    all && (left.is_empty() || shown.contains(&"…"))
}

/// Whether an output is what a block shows.
pub fn shows(block: &Block, output: &str) -> bool {
    let shown: Vec<_> = block.text.lines().map(str::trim).collect();
    let lines: Vec<_> = output.lines().collect();
    match block.info.get(1).map(String::as_str) {
        Some("unordered") => fit_in_any_order(&shown, &lines),
        _ => fit_in_order(&shown, &lines),
    }
}

/// Somebody who follows a page, in a folder.
pub struct Reader {
    folder: PathBuf,
    environment: Vec<(String, String)>,
    removed: Vec<&'static str>,
    replaced: Vec<(&'static str, String)>,
    terminals: BTreeMap<String, Terminal>,
}

struct Terminal {
    process: Process,
    lines: Lines,
}

/// What the last commands left for the next block to look at.
enum Last {
    Nothing,
    Output(String),
    Until(String),
}

impl Reader {
    /// A reader in that folder.
    pub fn new(folder: &Path) -> Reader {
        Reader {
            folder: folder.to_owned(),
            environment: Vec::new(),
            removed: vec!["WABBIT_", "MAKE", "MFLAGS", "RUST_LOG"],
            replaced: Vec::new(),
            terminals: BTreeMap::new(),
        }
    }

    /// Sets a variable of the environment.
    pub fn environment(mut self, name: &str, value: &str) -> Reader {
        self.environment.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Removes all variables whose names begin so.
    pub fn without(mut self, prefix: &'static str) -> Reader {
        self.removed.push(prefix);
        self
    }

    /// Types and expects something else than the page has, such as a port.
    pub fn replace(mut self, shown: &'static str, real: &str) -> Reader {
        self.replaced.push((shown, real.to_owned()));
        self
    }

    /// Follows all blocks; fails the test at the first that does not do or show what the page says.
    pub async fn follow(&mut self, page: &str, blocks: &[Block]) {
        let mut last = Last::Nothing;
        for block in blocks {
            let mut block = block.clone();
            block.text = self.replaced.iter().fold(block.text, |text, (shown, real)| text.replace(shown, real));
            let at = format!("{page}:{}", block.line);
            let info: Vec<_> = block.info.iter().map(String::as_str).collect();
            last = match (&*info, last) {
                (["sh"], _) => Last::Output(self.type_in(&at, &block.text).await),
                (["sh", "until"], _) => Last::Until(block.text),
                (["sh", terminal], _) => {
                    self.open(terminal, &at, &block.text);
                    Last::Nothing
                }
                (["text" | "json"] | ["text", "unordered"], Last::Output(output)) => {
                    assert!(shows(&block, &output), "{at}: shown is\n{}\nwhat came is\n{output}", block.text);
                    Last::Nothing
                }
                (["text"] | ["text", "unordered"], Last::Until(command)) => {
                    wait_until(DEADLINE, format!("what {at} shows"), async || {
                        let Output { code, stdout, .. } = self.attempt(&at, &command).await;
                        match code == 0 && shows(&block, &stdout) {
                            true => Ok(()),
                            false => Err(format!("what comes, with exit code {code}, is\n{stdout}")),
                        }
                    })
                    .await;
                    Last::Nothing
                }
                (["text", terminal], _) => {
                    self.expect(terminal, &at, &block).await;
                    Last::Nothing
                }
                (["text", terminal, "stopped"], _) => {
                    self.stop(terminal, &at, &block).await;
                    Last::Nothing
                }
                ([_, "shows", path], last) => {
                    let real =
                        fs::read_to_string(self.folder.join(path)).unwrap_or_else(|error| panic!("{at}: {error}"));
                    assert!(real.contains(block.text.trim_end()), "{at}: {path} is\n{real}");
                    last
                }
                ([_, path], _) if path.contains('/') => {
                    let path = self.folder.join(path);
                    fs::create_dir_all(path.parent().unwrap()).unwrap();
                    fs::write(path, &block.text).unwrap();
                    Last::Nothing
                }
                _ => panic!("{at}: nobody knows how to follow this block: {:?}", block.info),
            };
        }
    }

    /// Runs commands as one would in a terminal, where both outputs come out together; stops at the first that fails.
    async fn type_in(&self, at: &str, commands: &str) -> String {
        let output = self.attempt(at, commands).await;
        assert!(output.code == 0, "{at}: exit code {}\n{commands}{}", output.code, output.stdout);
        output.stdout
    }

    async fn attempt(&self, at: &str, commands: &str) -> Output {
        let shell = self.shell(&format!("set -eu; exec 2>&1\n{commands}"));
        let compiles = ["make ", "cargo ", "wabbit build"].iter().any(|word| commands.contains(word));
        process::run(at, shell, if compiles { LONG } else { DEADLINE }).await
    }

    fn open(&mut self, terminal: &str, at: &str, command: &str) {
        assert_eq!(command.lines().count(), 1, "{at}: one command that goes on");
        let lines = Lines::default();
        let process = Process::start(at, self.shell(&format!("exec {command}")), &lines);
        let before = self.terminals.insert(terminal.to_owned(), Terminal { process, lines });
        assert!(before.is_none(), "{at}: the terminal `{terminal}` is in use");
    }

    async fn expect(&mut self, terminal: &str, at: &str, block: &Block) {
        let Terminal { process, lines } = self.terminal(terminal, at);
        wait_until(DEADLINE, format!("what {at} shows"), async || {
            let ended = process.status();
            let all = lines.all();
            let missing = block.text.lines().find(|shown| !all.iter().any(|line| fits(shown, line)));
            match (missing, ended) {
                (None, _) => Ok(()),
                (Some(shown), Some(status)) => panic!("{at}: it ended with {status} and without\n{shown}\n{lines}"),
                (Some(shown), None) => Err(format!("`{shown}` is missing in\n{lines}")),
            }
        })
        .await;
    }

    async fn stop(&mut self, terminal: &str, at: &str, block: &Block) {
        self.terminal(terminal, at).process.signal(Signal::SIGINT);
        let status = self.terminal(terminal, at).process.ended(DEADLINE).await;
        assert!(status.success(), "{at}: {status}\n{}", self.terminal(terminal, at).lines);
        self.expect(terminal, at, block).await;
    }

    fn terminal(&mut self, terminal: &str, at: &str) -> &mut Terminal {
        self.terminals.get_mut(terminal).unwrap_or_else(|| panic!("{at}: there is no terminal `{terminal}`"))
    }

    fn shell(&self, commands: &str) -> Command {
        let mut shell = process::bound("bash");
        shell.args(["-c", commands]).current_dir(&self.folder).env("NO_COLOR", "1");
        for (name, _) in std::env::vars_os() {
            if self.removed.iter().any(|prefix| name.to_string_lossy().starts_with(prefix)) {
                shell.env_remove(name);
            }
        }
        shell.envs(self.environment.iter().map(|(name, value)| (name, value)));
        shell
    }
}

#[test]
fn lines_fit_what_is_shown() {
    for (shown, line) in [
        ("1 confirmed", "1 confirmed"),
        ("took …", "took 12.3µs"),
        ("… INFO greeting Ada", "2026-11-21T04:48:21.965115Z  INFO greeting Ada"),
        ("digest: sha256:…, size … bytes", "digest: sha256:00, size 7 bytes"),
        ("hello    0", "hello\t0"),
        ("…", ""),
    ] {
        assert!(fits(shown, line), "{shown}: {line}");
    }
    for (shown, line) in [
        ("1 confirmed", "11 confirmed"),
        ("1 confirmed", "1 confirmed, 1 returned"),
        ("took …", "it took 12.3µs"),
        ("… INFO greeting Ada", "2026-11-21T04:48:21.965115Z  INFO greeting Adam"),
        ("a … b … c", "a b c"),
        ("hello 0", "hello.dead 0"),
    ] {
        assert!(!fits(shown, line), "{shown}: {line}");
    }
}

#[test]
fn outputs_show_what_is_shown() {
    let block = |info: &str, text: &str| Block {
        info: info.split(' ').map(str::to_owned).collect(),
        text: text.to_owned(),
        line: 1,
    };
    assert!(shows(&block("text", "a\nb\n"), "a\nb\n"));
    assert!(shows(&block("text", "a\n…\nc\n"), "a\nb\nb\nc\n"));
    assert!(shows(&block("text", "a\n…\n"), "a\n"));
    assert!(shows(&block("text unordered", "b\na\n"), "a\nb\n"));
    assert!(shows(&block("text unordered", "b\n…\n"), "a\nb\n"));
    for (info, text, output) in [
        ("text", "a\nb\n", "b\na\n"),
        ("text", "a\n", "a\nb\n"),
        ("text", "a\nb\n", "a\n"),
        ("text", "…\nc\n", "a\nb\n"),
        ("text unordered", "a\n", "a\nb\n"),
        ("text unordered", "a\na\n", "a\nb\n"),
    ] {
        assert!(!shows(&block(info, text), output), "{info}: {text:?} {output:?}");
    }
}

#[test]
fn blocks_are_found() {
    let page = "# A\n\n```sh until\nls\n```\n\n- in a list\n\n  ```text\n  a\n    b\n  ```\n\n## B\n";
    let found = blocks(page);
    let texts: Vec<_> = found.iter().map(|block| (block.info.join(" "), block.text.as_str(), block.line)).collect();
    assert_eq!(texts, [("sh until".to_owned(), "ls\n", 3), ("text".to_owned(), "a\n  b\n", 9)]);

    let page = "# P\n\n## A\n```sh\n# a\n```\n\n### C\n```sh\nc\n```\n\n## B\n```sh\nb\n```\n";
    let below = |heading| blocks_below(page, heading).iter().map(|block| block.text.clone()).collect::<String>();
    assert_eq!((below("## A"), below("### C"), below("## B")), ("# a\nc\n".into(), "c\n".into(), "b\n".into()));
}

#[tokio::test]
#[should_panic(expected = "page.md:4: shown is")]
async fn an_output_that_differs_is_noticed() {
    let folder = crate::harness::places::folder("reader");
    Reader::new(folder.path()).follow("page.md", &blocks("```sh\necho one\n```\n```text\ntwo\n```\n")[..]).await;
}

#[tokio::test]
#[should_panic(expected = "page.md:1: exit code 1")]
async fn a_command_that_fails_is_noticed() {
    let folder = crate::harness::places::folder("reader");
    Reader::new(folder.path()).follow("page.md", &blocks("```sh\nfalse\necho one\n```\n")[..]).await;
}
