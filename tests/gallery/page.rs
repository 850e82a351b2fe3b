//! The page of the gallery, held against its files and followed to the letter, section by section.

use std::collections::BTreeSet;
use std::env;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use wabbit_embedded_broker::{Limits, Server};

use super::rows::ROWS;
use super::stage::copy_manifests;
use crate::docs::pages::{Block, Reader, blocks, blocks_below};
use crate::harness::places;

const PAGE: &str = "docs/gallery.md";

fn read(path: &str) -> String {
    fs::read_to_string(places::root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// The section of a row, runs of blanks and line ends as one blank.
fn section(page: &str, row: &str) -> String {
    let heading = format!("\n## {row}\n");
    let part = page.split_once(&heading).unwrap_or_else(|| panic!("no section `{row}`")).1;
    part.split("\n## ").next().unwrap().split_whitespace().collect::<Vec<_>>().join(" ")
}

/// Each manifest of a row by its path, with its text.
fn manifests(row: &str) -> Vec<(String, String)> {
    let folder = places::root().join("manifests/gallery").join(row);
    let mut found: Vec<_> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    found.retain(|path| path.extension().is_some_and(|extension| extension == "toml"));
    found.sort();
    let name = |path: &Path| path.file_name().unwrap().to_str().unwrap().to_owned();
    found.iter().map(|path| (name(path), fs::read_to_string(path).unwrap())).collect()
}

/// The lines that somebody wrote by hand: no blank ones, no comments, no texts that explain, no tests.
fn lines(path: &str, text: &str) -> usize {
    let text = text.split("#[cfg(test)]").next().unwrap();
    // A text in Python that explains stands between these, every other time.
    let text: String = if path.ends_with(".py") { text.split("\"\"\"").step_by(2).collect() } else { text.to_owned() };
    let comment = if path.ends_with(".rs") { "//" } else { "#" };
    text.lines().filter(|line| !line.trim().is_empty() && !line.trim_start().starts_with(comment)).count()
}

#[test]
fn lines_are_those_that_are_written() {
    assert_eq!(lines("a.rs", "//! A handler.\n\nuse b;\n// why\nfn c() {}\n\n#[cfg(test)]\nmod tests {}\n"), 2);
    assert_eq!(
        lines("a.py", "#!/usr/bin/env python3\n\"\"\"What it does,\nand why.\"\"\"\n\nimport b\n\n# why\nc()\n"),
        2
    );
    assert_eq!(lines("a.toml", "# What it is.\na = 1\n\n[b]\nc = 2\n"), 3);
}

#[test]
fn each_row_is_on_the_page_with_its_picture_its_files_and_its_lines() {
    let page = read(PAGE);
    for row in &ROWS {
        let name = row.name;
        let section = section(&page, name);
        assert!(page.contains(&format!("| [{name}](#{name}) |")), "{name} is not in the table");
        assert!(section.contains("```mermaid "), "{name} has no picture");
        let client = if name == "orders" { "orders.py".into() } else { format!("gallery/{name}-client.py") };
        assert!(section.contains(&format!("`wabbit dev --manifests manifests/gallery/{name}`")), "{name}");
        assert!(section.contains(&format!("python3 examples/{client}")), "{name}");

        let mut plugins = BTreeSet::new();
        let mut written = 0;
        for (file, text) in manifests(name) {
            assert!(section.contains(&format!("/{file}")) || name == "topics" || name == "orders", "{name}: {file}");
            written += lines(&file, &text);
            let plugin = text.split("plugin = \"").nth(1).unwrap().split(".wasm").next().unwrap();
            plugins.insert(plugin.replace('_', "-"));
        }
        let sources = plugins.iter().map(|plugin| format!("plugins/src/{plugin}/src/lib.rs"));
        let handled: usize = sources.map(|path| lines(&path, &read(&path))).sum();
        let script = format!("examples/gallery/{name}-worker.py");
        let expected = format!(
            "[In pika](../{script}) it has {} lines; here the handler has {handled} and the manifest {written}.",
            lines(&script, &read(&script))
        );
        assert!(section.contains(&expected), "{name}: `{expected}` is not on the page");
    }
    let count = |script: &str| lines(script, &read(&format!("examples/gallery/{script}")));
    let [whole, least] = ["adapter-worker-whole.py", "adapter-worker.py"].map(count);
    let adapter: usize = manifests("adapter").iter().map(|(file, text)| lines(file, text)).sum();
    let adapter = adapter + lines("lib.rs", &read("plugins/src/forward/src/lib.rs"));
    let told = format!("has {whole} lines in the place of {least}. Handler and manifests have {adapter}.");
    assert!(page.contains(&told), "`{told}` is not on the page");
    let told = page.lines().filter(|line| line.starts_with("## ")).count();
    assert_eq!(told, ROWS.len() + 2, "sections");
}

/// What a newcomer has: manifests, plugins, scripts.
fn clone(folder: &Path) {
    let root = places::root().canonicalize().unwrap();
    let gallery = folder.join("manifests/gallery");
    for row in ROWS.iter().filter(|row| row.name != "orders") {
        copy_manifests(row.name, &[], &gallery.join(row.name));
    }
    copy_manifests("orders", &[], &folder.join("manifests"));
    symlink(fs::read_link(root.join("manifests/gallery/orders")).unwrap(), gallery.join("orders")).unwrap();
    for shared in ["examples", "plugins", "sdk"] {
        symlink(root.join(shared), folder.join(shared)).unwrap();
    }
}

/// Follows blocks, beside this broker if there is one.
async fn follow(blocks: &[Block], broker: Option<&Server>) {
    let folder = places::folder("gallery-page");
    clone(folder.path());
    let path = format!("{}:{}", places::build().display(), env::var("PATH").unwrap());
    let packages = places::root().canonicalize().unwrap().join("target/python");
    let mut reader = Reader::new(folder.path())
        .without("CARGO_")
        .environment("PATH", &path)
        .environment("CARGO_NET_OFFLINE", "true")
        .environment("PYTHONPATH", packages.to_str().unwrap())
        .environment("PYTHONDONTWRITEBYTECODE", "1")
        .environment("XDG_CACHE_HOME", places::temporary().join("cache").to_str().unwrap());
    if let Some(server) = broker {
        let url = format!("amqp://guest:guest@{}/%2F", server.local_addr());
        reader = reader.environment("WABBIT_AMQP_URL", &url);
    }
    let blocks: Vec<_> = blocks.iter().filter(|block| block.info[0] != "mermaid").cloned().collect();
    reader.follow(PAGE, &blocks).await;
}

/// Each section is followed by itself, beside what the command in its text starts.
#[tokio::test(flavor = "multi_thread")]
async fn the_page_does_what_it_shows() {
    let page = read(PAGE);
    let head = page.split("\n## ").next().unwrap();
    // With a broker of its own, whatever its port is.
    follow(&blocks(head), None).await;
    for rows in ROWS.chunks(3) {
        let sections = rows.iter().map(|row| {
            let command = format!("wabbit dev --manifests manifests/gallery/{}\n", row.name);
            let ready = manifests(row.name)
                .into_iter()
                .map(|(file, _)| format!("worker {}: consuming\n", file.trim_end_matches(".toml")));
            let section = blocks_below(&page, &format!("## {}", row.name));
            let line = section[0].line;
            let block = |info: &str, text| Block { info: vec![info.to_owned(), "dev".to_owned()], text, line };
            let mut followed = vec![block("sh", command), block("text", ready.collect())];
            followed.extend(section);
            async move {
                // Each has a broker for itself, whose port both sides know.
                let server = Server::bind("127.0.0.1:0", Limits::default()).await.unwrap();
                follow(&followed, Some(&server)).await;
                server.stop().await;
            }
        });
        futures_util::future::join_all(sections).await;
    }
}
