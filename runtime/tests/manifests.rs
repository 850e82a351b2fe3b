//! What a user is told about a manifest that is wrong: every `manifests/*.toml` with the text beside it.
//!
//! `UPDATE=1 cargo test -p wabbit --test manifests` writes the texts anew; read the difference before it is committed.

#![allow(clippy::panic, clippy::unwrap_used, reason = "a test that panics has failed")]

use std::{
    fs,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
};

use nix::{sys::stat::Mode, unistd::mkfifo};
use wabbit::manifest::{
    Ceilings, Folder, parse, read_folder,
    report::{Problem, Style, render, rows},
};

const CEILINGS: Ceilings = Ceilings::of_memory(256 << 20);

#[test]
fn every_error_is_worded_as_expected() {
    let mut manifests = files(&here().join("tests/manifests"), "toml");
    manifests.sort();
    assert!(manifests.len() > 20, "{manifests:?}");
    for path in manifests {
        let text = fs::read_to_string(&path).unwrap();
        let shown = Path::new("manifests").join(path.file_name().unwrap());
        match parse(&shown, &text, &CEILINGS) {
            Ok(manifest) => panic!("{} lies there for its errors, and has none: {manifest:?}", path.display()),
            Err(problems) => check(&path.with_extension("stderr"), &render(&shown, &problems, Style::Plain)),
        }
    }
}

#[test]
fn every_text_belongs_to_a_manifest() {
    let folder = here().join("tests/manifests");
    for text in files(&folder, "stderr") {
        assert!(
            text.ends_with("folder.stderr") || text.with_extension("toml").exists(),
            "{} is left over",
            text.display()
        );
    }
}

#[test]
fn every_problem_of_a_folder_is_worded_as_expected() {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| fs::write(folder.path().join(name), text).unwrap();
    let worker = |queue: &str| format!("plugin = \"a.wasm\"\n\n[[queue]]\nname = \"{queue}\"\n");
    write("good.toml", &worker("good"));
    write("server-named-1.toml", &worker(""));
    write("server-named-2.toml", &worker(""));
    write("shared-1.toml", &worker("jobs"));
    write("shared-2.toml", &format!("# A comment.\n{}\n{}", worker("own"), "[[queue]]\nname = \"jobs\"\n"));
    write("shared-3.toml", &worker("jobs"));
    write("broken.toml", "plugin = ");
    // It would share a queue with a good one, but is no worker until its other error is gone.
    write("broken-too.toml", &format!("{}colour = 1\n", worker("good")));
    write("large.toml", &"#".repeat((1 << 20) + 1));
    fs::write(folder.path().join("latin.toml"), b"plugin = \"a.wasm\"\n# caf\xe9\n").unwrap();
    symlink("nowhere", folder.path().join("dangling.toml")).unwrap();
    symlink("loop.toml", folder.path().join("loop.toml")).unwrap();
    symlink("/dev/null", folder.path().join("device.toml")).unwrap();
    mkfifo(&folder.path().join("pipe.toml"), Mode::S_IRWXU).unwrap();
    symlink("good.toml", folder.path().join("not-toml.link")).unwrap();
    // None of these is a manifest.
    for name in [".hidden.toml", "#edited.toml", "good.toml~", ".good.toml.swp", "README.md"] {
        write(name, "not a manifest");
    }
    fs::create_dir(folder.path().join("gallery.toml")).unwrap();

    let found = read_folder(folder.path(), &CEILINGS, |_| true).unwrap();
    let names: Vec<_> = found.manifests.iter().map(|manifest| manifest.name.as_str()).collect();
    assert_eq!(names, ["good", "server-named-1", "server-named-2"]);
    check(&here().join("tests/manifests/folder.stderr"), &shown(&found, folder.path()));
}

#[test]
fn folders_that_are_not_read() {
    let folder = tempfile::tempdir().unwrap();
    assert!(read_folder(&folder.path().join("none"), &CEILINGS, |_| true).is_err());
    assert_eq!(read_folder(folder.path(), &CEILINGS, |_| true).unwrap().manifests, []);

    for number in 0..10_001 {
        fs::write(folder.path().join(format!("{number}.toml")), "").unwrap();
    }
    let error = read_folder(folder.path(), &CEILINGS, |_| true).unwrap_err().to_string();
    assert!(error.starts_with("more than 10000 manifests in "), "{error}");
}

#[test]
fn what_is_too_much_is_refused_soon() {
    let worker = "plugin = \"a.wasm\"\n[[queue]]\nname = \"jobs\"\n";
    let arguments = format!("{worker}arguments = {{ x = \"{}\" }}", "x".repeat(60_000));
    assert_eq!(messages(&arguments), ["more than 60000 bytes of arguments"]);

    let queues: String = (0..1001).map(|number| format!("[[queue]]\nname = \"q{number}\"\n")).collect();
    assert_eq!(messages(&format!("plugin = \"a.wasm\"\n{queues}")), ["more than 1000 queues"]);

    let keys: String = (0..100_000).map(|number| format!("k{number} = 1\n")).collect();
    let found = messages(&format!("{keys}{worker}"));
    assert_eq!(found.len(), 101);
    assert_eq!(found.last().unwrap(), "there are more than 100 problems: the others are left out");
}

#[test]
fn hostile_texts_are_refused_soon() {
    let texts = [
        "[".repeat(1 << 20),
        "a.".repeat(1 << 19),
        "a = [".repeat(100_000),
        "a = { b = ".repeat(100_000),
        "[[a]]\n".repeat(150_000),
        "= \n".repeat(300_000),
        "\" ' = ]".repeat(100_000),
        "\u{0}".repeat(1 << 20),
        format!("a{} = 1", ".a".repeat(10_000)),
        format!("a = {}1{}", "[".repeat(10_000), "]".repeat(10_000)),
        format!("{} = 1", "k".repeat(1 << 20)),
        "x = \u{202e}\u{1b}[2J".to_owned(),
    ];
    for text in texts {
        let start = std::time::Instant::now();
        let problems = parse(Path::new("hostile.toml"), &text, &CEILINGS).unwrap_err();
        let shown = render(Path::new("hostile.toml"), &problems, Style::Coloured);
        let begin: String = text.chars().take(20).collect();
        assert!(!problems.is_empty() && problems.len() <= 101, "{begin}: {}", problems.len());
        assert!(shown.len() < 200_000, "{begin}: {}", shown.len());
        assert!(start.elapsed().as_secs() < 20, "{begin}: {:?}", start.elapsed());
    }
}

#[test]
fn problems_as_a_program_reads_them() {
    let path = Path::new("manifests/a.toml");
    let problems = parse(path, "plugin = \"a.wasm\"\nqueu = 1\n", &CEILINGS).unwrap_err();
    let json = serde_json::to_value(rows(path, &problems)).unwrap();
    let expected = serde_json::json!([
        {
            "file": "manifests/a.toml", "line": null, "column": null,
            "message": "a worker needs a `[[queue]]`", "hint": "add `[[queue]]` with `name = \"…\"`",
        },
        {
            "file": "manifests/a.toml", "line": 2, "column": 1,
            "message": "unknown key `queu`", "hint": "did you mean `queue`?",
        },
    ]);
    assert_eq!(json, expected);
}

#[test]
fn the_examples_of_the_documentation_are_right() {
    let page = fs::read_to_string(here().join("../docs/manifest.md")).unwrap();
    let examples: Vec<_> = page.split("```toml\n").skip(1).filter_map(|rest| rest.split("```").next()).collect();
    assert!(examples.len() > 3);
    for example in examples {
        let path = Path::new("docs/manifest.md");
        let read = parse(Path::new("example.toml"), example, &CEILINGS);
        assert!(read.is_ok(), "{}", render(path, &read.unwrap_err(), Style::Plain));
    }
}

/// A message that no text here holds is one that nobody has read as a user would.
#[test]
fn every_message_is_shown_somewhere_here() {
    if updating() {
        return;
    }
    let mut shown: Vec<String> = vec![fs::read_to_string(here().join("tests/manifests.rs")).unwrap()];
    shown.extend(files(&here().join("tests/manifests"), "stderr").iter().map(|path| fs::read_to_string(path).unwrap()));
    let lines: Vec<&str> = shown.iter().flat_map(|text| text.lines()).collect();

    let sources = ["", "parse", "read", "values"].map(|folder| files(&here().join("src/manifest").join(folder), "rs"));
    let mut count = 0;
    for source in sources.iter().flatten() {
        let text = fs::read_to_string(source).unwrap();
        let code = text.split("#[cfg(test)]").next().unwrap();
        for literal in literals_after("Problem::new(", code).chain(literals_after("let message =", code)) {
            count += 1;
            let found = lines.iter().any(|line| fits(line, literal));
            assert!(found, "no text shows `{literal}` of {}", source.display());
        }
    }
    assert!(count > 40, "found {count} messages alone: are they still written as they were?");
}

/// The string literals that follow a marker within its statement.
fn literals_after<'c>(marker: &'c str, code: &'c str) -> impl Iterator<Item = &'c str> {
    code.split(marker).skip(1).filter_map(|rest| {
        let statement = rest.split(';').next()?;
        let (_, literal) = statement.split_once('"')?;
        // An escaped quote ends the look early, and what stands before it is enough to look for.
        literal.split(['"', '\\']).next()
    })
}

/// Whether a line has all parts of a format string, in their order.
fn fits(line: &str, format: &str) -> bool {
    let parts = format.split('{').map(|part| part.split_once('}').map_or(part, |(_, after)| after));
    let mut rest = Some(line);
    for part in parts {
        rest = rest.and_then(|rest| rest.split_once(part)).map(|(_, after)| after);
    }
    rest.is_some()
}

fn messages(text: &str) -> Vec<String> {
    let problems = parse(Path::new("worker.toml"), text, &CEILINGS).unwrap_err();
    problems.into_iter().map(|problem: Problem| problem.message).collect()
}

fn shown(folder: &Folder, at: &Path) -> String {
    let files = folder.problems.iter().map(|(path, problems)| render(path, problems, Style::Plain));
    files.collect::<Vec<_>>().join("\n").replace(&at.display().to_string(), "manifests")
}

fn check(expected: &Path, actual: &str) {
    if updating() {
        return fs::write(expected, actual).unwrap();
    }
    let text = fs::read_to_string(expected).unwrap_or_else(|error| {
        panic!("{}: {error}\nhint: `UPDATE=1 cargo test -p wabbit --test manifests` writes it", expected.display())
    });
    assert_eq!(text, actual, "{} differs", expected.display());
}

fn updating() -> bool {
    std::env::var_os("UPDATE").is_some()
}

fn here() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn files(folder: &Path, extension: &str) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    entries.filter(|path| path.extension().is_some_and(|found| found == extension)).collect()
}
