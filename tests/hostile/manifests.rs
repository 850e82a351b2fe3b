//! Manifests that are bombs, no files, or reach out of the plugins folder.

use super::corpus::Verdict::{self, PassedOver, Refused};
use super::corpus::{Attack, Case, Entry, case};

/// Row, what it does, the file, the verdict.
fn manifests() -> Vec<(&'static str, &'static str, Entry, Verdict)> {
    let text = |text: String| Entry::Bytes(text.into_bytes());
    let plugin = |name: &str| text(format!("plugin = \"{name}\"\n[[queue]]\nname = \"never\"\n"));
    let path = Refused("is a path, not a file's name");
    vec![
        ("path-to-plugin", "names a plugin outside of the folder", plugin("../hostile.wasm"), path),
        ("path-to-plugin", "", plugin("/etc/passwd"), path),
        ("path-to-plugin", "", plugin("/dev/zero"), path),
        ("path-to-plugin", "", plugin("a/../../b.wasm"), path),
        ("path-to-plugin", "", plugin("..\\\\b.wasm"), path),
        ("path-to-plugin", "", plugin("..wasm"), Refused("is not the name of a plugin")),
        ("path-to-plugin", "", plugin("a\\u0000.wasm"), Refused("is not the name of a plugin")),
        ("path-to-plugin", "", plugin(".wasm"), Refused("is not the name of a plugin")),
        (
            "huge-manifest",
            "is larger than a manifest may be",
            text("# comment\n".repeat(200_000)),
            Refused("larger than"),
        ),
        ("huge-manifest", "", Entry::Hole(100 << 30), Refused("larger than")),
        (
            "deep-manifest",
            "is nested hundreds of thousands deep",
            text(["a = ", &"[".repeat(500_000)].concat()),
            Refused(""),
        ),
        ("deep-manifest", "", text(["a = ", &"[".repeat(400_000), &"]".repeat(400_000)].concat()), Refused("")),
        ("deep-manifest", "", text(["a = ", &"{a=".repeat(150_000), "1", &"}".repeat(150_000)].concat()), Refused("")),
        ("deep-manifest", "", text([&"a.".repeat(400_000), "b = 1"].concat()), Refused("")),
        ("deep-manifest", "", text(["[", &"a.".repeat(400_000), "b]"].concat()), Refused("")),
        (
            "many-keys",
            "has as many keys as fit",
            text((0..100_000).map(|n| format!("k{n}=1\n")).collect()),
            Refused(""),
        ),
        ("many-keys", "", text((0..60_000).map(|n| format!("[t{n}]\nk=1\n")).collect()), Refused("")),
        ("many-keys", "", text((0..50_000).map(|n| format!("[[queue]]\nn={n}\n")).collect()), Refused("")),
        ("many-keys", "", text("k = 1\n".repeat(100_000)), Refused("")),
        (
            "long-values",
            "has values and lines as long as they can be",
            text(format!("plugin = \"{}\"\n", "p".repeat(1_000_000))),
            Refused(""),
        ),
        ("long-values", "", text(format!("{} = 1\n", "k".repeat(1_000_000))), Refused("")),
        ("long-values", "", text(format!("a = {}\n", "9".repeat(1_000_000))), Refused("")),
        ("not-a-manifest", "is not text, or no file", Entry::Bytes(vec![0; 10_000]), Refused("")),
        ("not-a-manifest", "", Entry::Bytes(b"plugin = \"\xff\xfe.wasm\"".to_vec()), Refused("not UTF-8")),
        ("not-a-manifest", "", text("plugin = \"a.wasm\u{1b}[2J\u{202e}\"".into()), Refused("")),
        ("not-a-manifest", "", Entry::Link("/dev/zero".into()), Refused("a link that leads out of its folder")),
        ("not-a-manifest", "", Entry::Pipe, Refused("not a regular file")),
        ("not-a-manifest", "", Entry::Link("nowhere.toml".into()), Refused("does not exist")),
        ("not-a-manifest", "", Entry::Folder, PassedOver),
    ]
}

pub fn cases() -> Vec<Case> {
    let manifests = manifests().into_iter();
    manifests.map(|(name, what, entry, verdict)| case(name, what, Attack::Manifest(entry), verdict)).collect()
}
