//! Pages held against the sources: keys of manifests and settings, headers of dead letters, limits, the map.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use super::{below, between, code_spans, read};
use crate::harness::places;

/// Rust without its unit tests, which stand at the end.
fn code(path: impl AsRef<Path>) -> String {
    let text = read(path);
    let tests = text.match_indices("#[cfg(test)]\n").map(|(at, _)| at);
    let end = tests.into_iter().find(|at| text[*at..].lines().nth(1).is_some_and(|line| line.ends_with('{')));
    text[..end.unwrap_or(text.len())].to_owned()
}

/// All Rust files of the host, from `runtime/src/`, those of tests left out.
fn sources() -> Vec<String> {
    let root = places::root().join("runtime/src");
    let mut open = vec![root.clone()];
    let mut found = Vec::new();
    while let Some(folder) = open.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                open.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") && !path.ends_with("tests.rs") {
                found.push(path.strip_prefix(&root).unwrap().display().to_string());
            }
        }
    }
    found.sort();
    assert!(found.len() > 30, "{found:?}");
    found
}

/// The cells of every row in a page's tables, heads and lines left out.
fn rows(page: &str) -> Vec<Vec<&str>> {
    let rows = page.lines().filter(|line| line.starts_with('|') && !line.starts_with("|---"));
    rows.map(|line| line.trim_matches('|').split(" | ").map(str::trim).collect()).collect()
}

// Keys.

/// The keys that a parser asks a section for.
fn keys(code: &str) -> BTreeSet<&str> {
    let asked = [
        "checked",
        "one_of",
        "flag",
        "integer",
        "number",
        "duration",
        "size",
        "section",
        "sections",
        "list",
        "map",
        "one_or_more",
        "text_or",
        "texts",
        "hidden_texts",
        "value",
    ];
    let asked = asked.iter().flat_map(|method| between(code, &format!(".{method}(\""), "\""));
    let planned =
        between(code, "planned(\"", "\")").into_iter().filter_map(|pair| pair.split_once("\", \"").map(|(_, key)| key));
    asked.chain(planned).collect()
}

/// Those that a page does not name in backticks, alone, in brackets or before a value.
fn unnamed<'k>(keys: &BTreeSet<&'k str>, page: &str) -> Vec<&'k str> {
    let words: BTreeSet<_> = code_spans(page).into_iter().flat_map(|span| span.split([' ', '[', ']', '.'])).collect();
    keys.iter().copied().filter(|key| !words.contains(key)).collect()
}

#[test]
fn every_key_is_on_its_page() {
    let parser: String = ["parse.rs", "parse/topology.rs", "parse/arguments.rs", "parse/grant.rs"]
        .map(|file| code(Path::new("runtime/src/manifest").join(file)))
        .concat();
    let manifest = keys(&parser);
    assert!(manifest.len() > 40 && manifest.contains("prefetch") && manifest.contains("breaker"), "{manifest:?}");
    assert_eq!(unnamed(&manifest, &read("docs/manifest.md")), Vec::<&str>::new());

    let settings = code("runtime/src/app/settings.rs") + &code("runtime/src/app/settings/layer.rs");
    let settings = keys(&settings);
    assert!(settings.len() > 15 && settings.contains("heartbeat"), "{settings:?}");
    assert_eq!(unnamed(&settings, &read("docs/settings.md")), Vec::<&str>::new());

    let scenario: String = ["parse.rs", "given.rs", "messages.rs", "expect.rs", "body.rs"]
        .map(|file| code(Path::new("runtime/src/scenario").join(file)))
        .concat();
    let scenario = keys(&scenario);
    assert!(scenario.len() > 15 && scenario.contains("log_contains"), "{scenario:?}");
    assert_eq!(unnamed(&scenario, &read("docs/testing.md")), Vec::<&str>::new());

    let sample = "top.flag(\"strict\"); planned(\"grant\", \"env\"),";
    assert_eq!(keys(sample), BTreeSet::from(["env", "strict"]));
    assert_eq!(unnamed(&keys(sample), "`[strict]`, environment and `env-file`"), ["env"]);
}

// Headers.

#[test]
fn every_header_of_ours_is_on_the_page_of_operations() {
    let sources = code("runtime/src/settle/copy.rs") + &code("runtime/src/amqp/publisher.rs");
    let headers: BTreeSet<_> = between(&sources, "\"x-wabbit-", "\"").into_iter().collect();
    assert!(headers.len() > 15 && headers.contains("reason"), "{headers:?}");
    let page = read("docs/operations.md");
    let named: BTreeSet<_> = code_spans(&page).into_iter().filter_map(|span| span.strip_prefix("x-wabbit-")).collect();
    let missing: Vec<_> = headers.difference(&named).collect();
    assert!(missing.is_empty(), "not on the page: {missing:?}");
    let more: Vec<_> = named.difference(&headers).filter(|name| !name.is_empty()).collect();
    assert!(more.is_empty(), "on the page alone: {more:?}");
}

// The map.

#[test]
fn the_map_is_complete() {
    let page = read("ARCHITECTURE.md");
    let map = below(&page, "## The map");
    let named: BTreeSet<_> = code_spans(map).into_iter().filter(|span| span.ends_with(".rs")).collect();
    let sources = sources();
    let real: BTreeSet<_> = sources.iter().map(String::as_str).collect();
    let differ: Vec<_> = named.symmetric_difference(&real).collect();
    assert!(differ.is_empty(), "on the map or in the sources, and not in both: {differ:?}");
}

#[test]
fn every_test_that_holds_an_invariant_is_there() {
    let page = read("ARCHITECTURE.md");
    let part = below(&page, "## Invariants");
    let named: BTreeSet<_> = rows(part).iter().skip(1).flat_map(|row| code_spans(row[1])).collect();
    assert!(named.len() > 30, "{named:?}");
    let mut all: String = sources().iter().map(|file| read(Path::new("runtime/src").join(file))).collect();
    // The tests of `client.rs` may stand in `client/tests.rs`.
    for file in sources() {
        let tests = places::root().join("runtime/src").join(file).with_extension("").join("tests.rs");
        all.push_str(&fs::read_to_string(tests).unwrap_or_default());
    }
    let folders = [
        "fuzz/tests",
        "tests",
        "tests/docs",
        "tests/faults",
        "tests/hostile",
        "tests/recovery",
        "tests/regressions",
        "tests/reload",
    ];
    for entry in folders.iter().flat_map(|folder| fs::read_dir(places::root().join(folder)).unwrap()) {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|extension| extension == "rs") {
            all.push_str(&fs::read_to_string(path).unwrap());
        }
    }
    let missing: Vec<_> = named.iter().filter(|name| !all.contains(&format!("fn {name}("))).collect();
    assert!(missing.is_empty(), "no such tests: {missing:?}");
}

// Limits.

/// The numbers that are constants of a file: counts, bytes, and microseconds for durations.
fn constants(code: &str) -> BTreeMap<&str, u64> {
    let mut found = BTreeMap::new();
    for line in code.lines() {
        let Some((_, rest)) =
            line.split_once("const ").filter(|(before, _)| before.trim().is_empty() || before.starts_with("pub"))
        else {
            continue;
        };
        let Some((name, rest)) = rest.split_once(": ") else { continue };
        let Some((kind, value)) = rest.trim_end_matches(';').split_once(" = ") else { continue };
        if matches!(kind, "usize" | "u64" | "u32" | "Duration") {
            let value = number(value, &found).unwrap_or_else(|| panic!("`{line}` is not understood"));
            found.insert(name, value);
        }
    }
    found
}

fn number(text: &str, known: &BTreeMap<&str, u64>) -> Option<u64> {
    for (call, factor) in [("from_secs(", 1_000_000), ("from_millis(", 1_000), ("from_micros(", 1)] {
        if let Some(inner) = text.strip_prefix("Duration::").and_then(|rest| rest.strip_prefix(call)) {
            return Some(number(inner.strip_suffix(')')?, known)? * factor);
        }
    }
    if let Some((one, other)) = text.split_once(" + ") {
        return Some(number(one, known)? + number(other, known)?);
    }
    if let Some((one, other)) = text.split_once(" * ") {
        return Some(number(one, known)? * number(other, known)?);
    }
    if let Some((one, other)) = text.split_once(" << ") {
        return Some(number(one, known)? << number(other, known)?);
    }
    text.replace('_', "").parse().ok().or_else(|| known.get(text).copied())
}

/// A number as a page has it: `1,000`, `64 KiB`, `5 s`.
fn shown_number(text: &str) -> Option<u64> {
    let (digits, unit) = text.split_once(' ').unwrap_or((text, ""));
    let factor = match unit {
        "" | "µs" => 1,
        "ms" => 1_000,
        "s" => 1_000_000,
        "min" => 60_000_000,
        "h" => 3_600_000_000,
        "KiB" => 1 << 10,
        "MiB" => 1 << 20,
        "GiB" => 1 << 30,
        _ => return None,
    };
    Some(digits.replace(',', "").parse::<u64>().ok()? * factor)
}

/// Names for sizes, which bound nothing.
const UNITS: &[&str] = &["KIB", "MIB", "GIB"];

#[test]
fn the_limits_on_the_page_are_those_of_the_sources() {
    let page = read("ARCHITECTURE.md");
    let part = below(&page, "## Limits");
    let mut shown = BTreeMap::new();
    for row in rows(part) {
        if let [name, file, value, _] = &*row
            && file.ends_with(".rs`")
        {
            let value = shown_number(value).unwrap_or_else(|| panic!("`{value}` is not understood"));
            let before = shown.insert((file.trim_matches('`').to_owned(), name.trim_matches('`').to_owned()), value);
            assert!(before.is_none(), "{name} of {file} is there twice");
        }
    }
    let mut real = BTreeMap::new();
    for file in sources() {
        for (name, value) in constants(&code(Path::new("runtime/src").join(&file))) {
            if !UNITS.contains(&name) {
                real.insert((file.clone(), name.to_owned()), value);
            }
        }
    }
    assert!(real.len() > 40, "{real:?}");
    let mut differ = Vec::new();
    for key in real.keys().chain(shown.keys()).collect::<BTreeSet<_>>() {
        let (real, shown) = (real.get(key), shown.get(key));
        if real != shown {
            differ.push(format!("{} of {}: {real:?} in the sources, {shown:?} on the page", key.1, key.0));
        }
    }
    assert!(differ.is_empty(), "\n{}", differ.join("\n"));
}

#[test]
fn settings_have_the_same_defaults_on_all_pages() {
    let page = read("ARCHITECTURE.md");
    let (part, _) = below(&page, "## Limits").split_once("| constant |").unwrap();
    let others = [("manifest", read("docs/manifest.md")), ("settings", read("docs/settings.md"))];
    let mut count = 0;
    for row in rows(part).iter().skip(1) {
        let [key, place, default, _] = &**row else { panic!("{row:?}") };
        let (_, other) = others.iter().find(|(start, _)| place.starts_with(start)).unwrap();
        let default = shown_number(default).unwrap_or_else(|| panic!("`{default}` is not understood"));
        let same = |row: &Vec<&str>| row.len() == 4 && row[0] == *key && shown_default(row[2]) == Some(default);
        let found = rows(other).iter().any(same);
        assert!(found, "{key} of {place} is not {default} elsewhere");
        count += 1;
    }
    assert!(count > 10);
}

/// A default as it is written in a file: `"5s"`, `"64MiB"`, `200`.
fn shown_default(cell: &str) -> Option<u64> {
    let text = cell.trim_matches('`').trim_matches('"');
    let unit = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (digits, unit) = text.split_at(unit);
    shown_number(format!("{digits} {unit}").trim_end())
}

#[test]
fn unit_tests_are_no_part_of_the_code() {
    let (copy, settings) = (code("runtime/src/settle/copy.rs"), code("runtime/src/app/settings.rs"));
    assert!(copy.contains("fn dead_letter(") && !copy.contains("#[test]"));
    assert!(settings.contains("fn default_folder("));
}

#[test]
fn numbers_are_understood() {
    let code = "const A: usize = 64 * 1_024;\npub(super) const B: Duration = Duration::from_secs(10 * 60);\n\
                const C: u64 = A + 8;\n    const D: u32 = 5;\nconst E: &str = \"x\";\nconst F: u8 = 1;\n";
    let found = constants(code);
    assert_eq!(found, BTreeMap::from([("A", 65_536), ("B", 600_000_000), ("C", 65_544), ("D", 5)]));
    for (text, value) in [("1,000", 1000), ("64 KiB", 65_536), ("10 min", 600_000_000), ("2 ms", 2_000)] {
        assert_eq!(shown_number(text), Some(value), "{text}");
    }
    assert_eq!(shown_number("10 parsecs"), None);
    assert_eq!(
        (shown_default("`\"5s\"`"), shown_default("`\"64MiB\"`"), shown_default("`200`")),
        (Some(5_000_000), Some(64 << 20), Some(200))
    );
}
