//! A file in the plugins folder: what it is taken for, and what a core module is made into before it is compiled.

use wabbit::sandbox::inspect::{FileKind, Inspection, inspect};
use wabbit::sandbox::{Digest, adapt, adapt_command};
use wasmparser::{Validator, WasmFeatures};

use crate::is_harmless;

/// The most names and producers that are kept.
const NAMES_MAX: usize = 10_000;
/// The longest text with a name in it, in bytes: escapes are longer than what they stand for.
const TEXT_BYTES_MAX: usize = 12_000;
/// By how much a component is larger than its module at most, in bytes: what stands in for WASI 0.1, and the contract.
const ADAPTED_BYTES_MAX: usize = 1 << 20;

/// Any bytes as a plugin; text of WebAssembly as what it stands for, too.
pub fn plugin(data: &[u8]) {
    check(data);
    let bytes = assembled(data);
    if bytes != data {
        check(&bytes);
    }
}

/// The module or component that a text stands for; what is no such text, as it is.
pub fn assembled(data: &[u8]) -> Vec<u8> {
    let text = std::str::from_utf8(data).ok().filter(|text| text.trim_ascii_start().starts_with(['(', ';']));
    text.and_then(|text| wat::parse_str(text).ok()).unwrap_or_else(|| data.to_vec())
}

fn check(bytes: &[u8]) {
    let found = inspect(bytes);
    check_inspection(bytes, &found);
    if found.check_known().is_err() {
        return;
    }
    match found.kind {
        FileKind::CoreHandler { .. } => check_adapted(bytes, &found, adapt(bytes), &FileKind::Handler),
        FileKind::CoreCommand => check_adapted(bytes, &found, adapt_command(bytes), &FileKind::Command),
        _ => {}
    }
}

fn check_inspection(bytes: &[u8], found: &Inspection) {
    assert_eq!(found.size, bytes.len());
    assert_eq!(Digest::parse(&found.digest), Some(Digest::of(bytes)));
    assert!(found.exports.len() + found.imports.len() <= NAMES_MAX);
    assert!(!found.kind.runs() || !found.exports.is_empty(), "{found:?}");

    // What is unknown is refused, what is known needs the grants that are named, and no other.
    assert!(found.unknown.iter().all(|import| found.imports.contains(import)), "{found:?}");
    let refused = found.check_known().err();
    assert_eq!(refused.is_none(), found.unknown.is_empty(), "{found:?}");
    assert_eq!(found.check_granted(&found.needs), Ok(()), "{found:?}");
    let mut said = vec![found.kind.to_string()];
    said.extend(refused);
    for need in &found.needs {
        let others: Vec<_> = found.needs.iter().copied().filter(|other| other != need).collect();
        let lacking = found.check_granted(&others).expect_err("a grant that is needed and was not given");
        assert!(lacking.contains(&format!("`[grant] {need}`")), "{lacking}");
        said.push(lacking);
    }

    // The names are the file's, the terminal is ours.
    for text in said.iter().chain(&found.exports).chain(&found.imports).chain(&found.producers) {
        assert!(is_harmless(text) && !text.contains('\n'), "{text:?}");
        assert!(text.len() <= TEXT_BYTES_MAX, "{} bytes", text.len());
    }
    serde_json::to_string(found).unwrap();
}

/// What comes of a core module is valid, of its kind, and asks for nothing that its file did not.
fn check_adapted(bytes: &[u8], module: &Inspection, adapted: anyhow::Result<Vec<u8>>, kind: &FileKind) {
    let component = match adapted {
        Ok(component) => component,
        Err(error) => return assert!(!error.to_string().is_empty()),
    };
    assert!(component.len() <= bytes.len() + ADAPTED_BYTES_MAX, "{} of {} bytes", component.len(), bytes.len());
    let valid = Validator::new_with_features(WasmFeatures::all()).validate_all(&component).map(|_| ());
    assert!(valid.is_ok(), "{valid:?}");
    let found = inspect(&component);
    assert_eq!(&found.kind, kind, "{found:?}");
    assert_eq!(found.unknown, Vec::<String>::new(), "{found:?}");
    assert!(found.needs.iter().all(|need| module.needs.contains(need)), "{found:?} of {module:?}");
}
