//! The README, followed to the letter: a newcomer's first handler, from a fresh clone to a greeting in its queue, and
//! then two that send mail and write files.

use std::fs::{self, File};
use std::os::unix::fs::symlink;
use std::path::Path;

use crate::docs::pages::{Reader, blocks_below};
use crate::harness::{host, places};

const PAGE: &str = "README.md";

fn page() -> String {
    fs::read_to_string(places::root().join(PAGE)).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_handler_is_written_in_five_minutes() {
    let folder = places::folder("readme");
    // Says so where the host is older than its sources; else `make build` would find that out in the copy.
    host::run(folder.path(), &["--version"]).await.success();
    let clone = folder.path().join("wabbit");
    copy_sources(&places::root(), &clone);
    share_builds(&clone);

    let [broker, admin, api] = [(); 3].map(|()| places::ports().to_string());
    // The page shows lines of these files, and a port that may be in use here.
    for file in ["mail-api.py", "order-mail.toml"] {
        let path = clone.join("examples/mail-and-files").join(file);
        let text = fs::read_to_string(&path).unwrap();
        assert!(text.contains("8025"), "{file}: {text}");
        fs::write(&path, text.replace("8025", &api)).unwrap();
    }
    let mut reader = Reader::new(&clone)
        // What cargo sets for the tests is nothing that a newcomer has.
        .without("CARGO_PKG_")
        .without("CARGO_MANIFEST_")
        .without("CARGO_TARGET_")
        .without("CARGO_BIN_")
        .environment("CARGO_NET_OFFLINE", "true")
        .environment("XDG_CACHE_HOME", places::temporary().join("cache").to_str().unwrap())
        .environment("XDG_STATE_HOME", folder.path().join("state").to_str().unwrap())
        .environment("WABBIT_AMQP_URL", &format!("amqp://guest:guest@127.0.0.1:{broker}/%2f"))
        .environment("WABBIT_ADMIN", &format!("127.0.0.1:{admin}"))
        .replace("5672", &broker)
        .replace("9290", &admin)
        .replace("8025", &api);
    for part in ["## Write your own handler in five minutes", "## Let handlers send mail and write files"] {
        reader.follow(PAGE, &blocks_below(&page(), part)).await;
    }
}

#[test]
fn two_commands_show_it_all() {
    let blocks = blocks_below(&page(), "## Try it");
    let [block] = &*blocks else { panic!("one block of commands: {blocks:?}") };
    assert_eq!(block.text, "make demo\nmake test\n");
    let makefile = fs::read_to_string(places::root().join("Makefile")).unwrap();
    for target in ["demo:", "test:"] {
        assert!(makefile.lines().any(|line| line.starts_with(target) && line.contains("## ")), "no `{target}`");
    }
}

/// Copies what a clone has. Times of change are kept, so that cargo takes what was built from the originals.
fn copy_sources(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let (source, copy) = (entry.path(), to.join(entry.file_name()));
        let kind = entry.file_type().unwrap();
        if kind.is_dir() {
            let made = [".build", ".git", ".tools", "__pycache__", "node_modules", "target"];
            if !entry.file_name().to_str().is_some_and(|name| made.contains(&name)) {
                copy_sources(&source, &copy);
            }
        } else if kind.is_file() && source.extension().is_none_or(|extension| extension != "wasm") {
            fs::copy(&source, &copy).unwrap();
            let modified = entry.metadata().unwrap().modified().unwrap();
            File::options().write(true).open(&copy).unwrap().set_modified(modified).unwrap();
        }
    }
    // `make build` looks at the times of folders, too.
    File::open(to).unwrap().set_modified(from.metadata().unwrap().modified().unwrap()).unwrap();
}

/// Links what was built and installed already, so that nothing heavy is built again.
fn share_builds(clone: &Path) {
    let root = places::root().canonicalize().unwrap();
    let share = |path: &Path| {
        if root.join(path).exists() {
            let link = clone.join(path);
            let folder = link.parent().unwrap();
            fs::create_dir_all(folder).unwrap();
            let modified = folder.metadata().unwrap().modified().unwrap();
            symlink(root.join(path), &link).unwrap();
            File::open(folder).unwrap().set_modified(modified).unwrap();
        }
    };
    fs::create_dir(clone.join("target")).unwrap();
    share(Path::new("target/clients"));
    share(Path::new("target/python"));
    share(Path::new("plugins/src/.build/.rust-target"));
    for entry in fs::read_dir(root.join("sdk")).unwrap() {
        share(&Path::new("sdk").join(entry.unwrap().file_name()).join(".tools"));
    }
    symlink(places::build(), clone.join("target/debug")).unwrap();
}
