//! What a file is, told by its content and without compiling it.

use std::fmt;

use serde::Serialize;
use wasmparser::{ComponentExternalKind, Encoding, ExternalKind, Parser, Payload};

use super::Digest;
use crate::escape::escape;

/// The version of the contract that this host speaks.
pub const CONTRACT: &str = "wabbit:worker/handler@0.1.0";
const EXPECTED: &str =
    "expected a component or core module that exports `wabbit:worker/handler@0.1.0`, or a WASI command";
/// Any patch of 0.1: within it only comments change.
const HANDLER_0_1: &str = "wabbit:worker/handler@0.1.";
const HANDLER: &str = "wabbit:worker/handler";
const COMMAND: &str = "wasi:cli/run";
/// More names than these are not read: of all that are known, a large component has some hundreds.
const NAMES_MAX: usize = 10_000;
/// More bytes of a name are not kept: it is none that a host knows.
const NAME_BYTES_MAX: usize = 1_000;
/// More producers than these are not told.
const PRODUCERS_MAX: usize = 100;
/// The field of a producers section that names languages.
const LANGUAGE: &str = "language";
const PREVIEW_1: &str = "wasi_snapshot_preview1#";
/// Linked for every plugin, though empty: nearly every toolchain imports these whether it uses them or not.
const ALWAYS: &[&str] = &["wasi:cli/", "wasi:io/", "wasi:clocks/", "wasi:random/", "wasi:filesystem/", "wasi:sockets/"];
/// What the contract itself offers.
const CONTRACT_IMPORTS: &[&str] =
    &["wabbit:worker/context@0.1.", "wabbit:worker/text@0.1.", "wabbit:worker/types@0.1."];
/// What the interfaces that are granted refer to: core modules reach the rest of WASI by its preview 1.
const CORE_IMPORTS: &[&str] = &["wasi:io/"];
/// Interfaces that a manifest grants, the key that does, and what to write.
const GRANTABLE: &[(&str, &str, &str)] = &[
    ("wasi:http/", "http", "hint: add `http = [\"https://api.example.com\"]` to `[grant]`"),
    ("wasi:config/", "config", "hint: add `config = { NAME = \"VALUE\" }` to `[grant]`"),
    ("wasi:keyvalue/", "keyvalue", "hint: add `keyvalue = \"NAME\"` to `[grant]`"),
];

/// Of these packages there are drafts alone, which do not fit each other: the interfaces that this host has.
const DRAFTS: &[(&str, &[&str])] = &[
    ("wasi:config/", &["wasi:config/store@0.2.0-rc.1"]),
    ("wasi:keyvalue/", &["wasi:keyvalue/store@0.2.0-draft", "wasi:keyvalue/atomics@0.2.0-draft"]),
];

/// What was found in a file.
#[derive(Debug, Clone, Serialize)]
pub struct Inspection {
    /// What it is.
    #[serde(flatten)]
    pub kind: FileKind,
    /// `sha256:…` of the file.
    pub digest: String,
    /// Bytes of the file.
    pub size: usize,
    /// The names that it exports.
    pub exports: Vec<String>,
    /// The names that it imports.
    pub imports: Vec<String>,
    /// The keys of a manifest's `[grant]` that its imports ask for.
    pub needs: Vec<&'static str>,
    /// The imports that no host of this version has.
    pub unknown: Vec<String>,
    /// What made it, as far as it says: `language: …`, `processed-by: …`, `sdk: …`, each with a version.
    pub producers: Vec<String>,
}

/// The kinds of file that can turn up in the plugins folder.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum FileKind {
    /// A component that exports the handler of a version that this host speaks.
    Handler,
    /// A component with the handler of another version.
    OtherVersion {
        /// The export's name, with its version.
        export: String,
    },
    /// A component that is a WASI command.
    Command,
    /// A component with neither.
    Component,
    /// A core module that exports the contract's names.
    CoreHandler {
        /// The export's name, with its version.
        export: String,
    },
    /// A core module that is a WASI command.
    CoreCommand,
    /// A core module with neither.
    CoreModule,
    /// Not WebAssembly that can be read.
    NotWasm {
        /// What it seems to be.
        problem: String,
    },
}

impl FileKind {
    /// Whether a worker can run it.
    pub fn runs(&self) -> bool {
        matches!(self, Self::Handler | Self::CoreHandler { .. } | Self::Command | Self::CoreCommand)
    }
}

/// What a person is told who dropped such a file: what it is and, where it does not run, what was expected.
impl fmt::Display for FileKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Handler => write!(f, "is a component that exports `{CONTRACT}`"),
            Self::CoreHandler { export } => write!(f, "is a core module that exports `{export}`"),
            Self::Command => f.write_str("is a WASI command (component)"),
            Self::CoreCommand => f.write_str("is a WASI command (core module)"),
            Self::OtherVersion { export } => {
                write!(f, "exports `{export}`, a version that this host does not know; {EXPECTED}")
            }
            Self::Component => write!(f, "is a component without a handler; {EXPECTED}"),
            Self::CoreModule => write!(f, "is a core module without a handler; {EXPECTED}"),
            Self::NotWasm { problem } => write!(f, "{problem}; {EXPECTED}"),
        }
    }
}

impl Inspection {
    /// Whether this host knows all imports; else a text that names the first that it does not.
    pub fn check_known(&self) -> Result<(), String> {
        let Some(import) = self.unknown.first() else { return Ok(()) };
        Err(match DRAFTS.iter().find(|(prefix, _)| import.starts_with(prefix)) {
            Some((_, has)) => format!("imports `{import}`; hint: of these drafts this host has `{}`", has.join("`, `")),
            None => format!("imports `{import}`, which this host does not know"),
        })
    }

    /// Whether these keys of `[grant]` are all that the imports ask for; else a text with the line to add.
    pub fn check_granted(&self, granted: &[&str]) -> Result<(), String> {
        let Some((prefix, key, line)) =
            GRANTABLE.iter().find(|(_, key, _)| self.needs.contains(key) && !granted.contains(key))
        else {
            return Ok(());
        };
        let import = self.imports.iter().find(|import| import.starts_with(prefix)).map_or(*prefix, String::as_str);
        Err(format!("imports `{import}`, which `[grant] {key}` would allow; {line}"))
    }
}

/// Looks into a file's bytes.
pub fn inspect(bytes: &[u8]) -> Inspection {
    let mut found = Found::default();
    let kind = match not_wasm(bytes) {
        Some(problem) => FileKind::NotWasm { problem },
        None => match found.read(bytes) {
            Ok(_) if found.crowded => {
                FileKind::NotWasm { problem: format!("has more than {NAMES_MAX} exports and imports") }
            }
            Ok(encoding) => found.kind(encoding),
            Err(error) => {
                // Some of its texts have several lines.
                let error = error.to_string().split_whitespace().collect::<Vec<_>>().join(" ");
                FileKind::NotWasm { problem: format!("is wasm, but truncated or damaged: {}", shown(&error)) }
            }
        },
    };
    let mut needs: Vec<_> = GRANTABLE
        .iter()
        .filter(|(prefix, ..)| found.imports.iter().any(|import| import.starts_with(prefix)))
        .map(|(_, key, _)| *key)
        .collect();
    needs.dedup();
    let grantable = GRANTABLE.iter().map(|(prefix, ..)| *prefix);
    let known: Vec<&str> = match kind {
        FileKind::CoreHandler { .. } => {
            CONTRACT_IMPORTS.iter().chain(CORE_IMPORTS).copied().chain([PREVIEW_1]).chain(grantable).collect()
        }
        FileKind::CoreCommand => vec![PREVIEW_1],
        FileKind::Handler | FileKind::Command | FileKind::Component => {
            ALWAYS.iter().chain(CONTRACT_IMPORTS).copied().chain(grantable).collect()
        }
        // Refused for what they are, whatever they import.
        FileKind::OtherVersion { .. } | FileKind::CoreModule | FileKind::NotWasm { .. } => vec![""],
    };
    let unknown = found.imports.iter().filter(|import| !is_known(import, &known));
    let unknown = unknown.cloned().collect();
    Inspection {
        kind,
        digest: Digest::of(bytes).to_string(),
        size: bytes.len(),
        exports: found.exports,
        imports: found.imports,
        needs,
        unknown,
        producers: made_by(found.languages, found.producers),
    }
}

/// Whether an import begins with one of these and, where there are drafts, is of the right one.
fn is_known(import: &str, known: &[&str]) -> bool {
    let draft = DRAFTS.iter().find(|(prefix, _)| import.starts_with(prefix)).map(|(_, has)| *has);
    // A core module names an interface with a function of it.
    let interface = import.split_once('#').map_or(import, |(interface, _)| interface);
    known.iter().any(|prefix| import.starts_with(prefix)) && draft.is_none_or(|has| has.contains(&interface))
}

/// What is said of a file that does not begin as wasm does.
fn not_wasm(bytes: &[u8]) -> Option<String> {
    if bytes.is_empty() {
        return Some("is empty".into());
    }
    if bytes.starts_with(b"\0asm") {
        return None;
    }
    let kinds: [(&[u8], &str); 5] = [
        (b"\x7fELF", "a native program or library (ELF)"),
        (b"PK", "a zip archive"),
        (b"\x1f\x8b", "compressed with gzip"),
        (b"\x28\xb5\x2f\xfd", "compressed with zstd"),
        (b"(", "WebAssembly text"),
    ];
    let seems = kinds.iter().find(|(magic, _)| bytes.starts_with(magic)).map(|(_, what)| *what);
    Some(seems.map_or_else(|| "is not wasm".to_owned(), |what| format!("is not wasm: it seems to be {what}")))
}

/// A name of the file's, for people: in bounds, and so that no terminal acts upon it. Those that a host knows stay as
/// they are.
fn shown(name: &str) -> String {
    let bytes = name.as_bytes();
    match bytes.get(..NAME_BYTES_MAX) {
        Some(start) if bytes.len() > NAME_BYTES_MAX => escape(start) + "…",
        _ => escape(bytes),
    }
}

fn made_by(languages: Vec<String>, mut others: Vec<String>) -> Vec<String> {
    if !languages.is_empty() {
        others.retain(|text| !text.starts_with(LANGUAGE));
    }
    [languages, others].concat()
}

#[derive(Default)]
struct Found {
    exports: Vec<String>,
    imports: Vec<String>,
    producers: Vec<String>,
    /// There are more names than are kept.
    crowded: bool,
    /// What the file as a whole says that it was written in. Its parts may be of others: an engine's, say.
    languages: Vec<String>,
}

impl Found {
    /// Walks the outermost component or module.
    fn read(&mut self, bytes: &[u8]) -> wasmparser::Result<Encoding> {
        let mut encoding = Encoding::Module;
        let mut depth = 0_u32;
        for payload in Parser::new(0).parse_all(bytes) {
            match payload? {
                Payload::Version { encoding: outermost, .. } if depth == 0 => encoding = outermost,
                Payload::ModuleSection { .. } | Payload::ComponentSection { .. } => depth += 1,
                Payload::End(_) => depth = depth.saturating_sub(1),
                // Toolchains name themselves in the modules within a component, too.
                Payload::CustomSection(section) if section.name() == "producers" => {
                    self.producers(&section, depth);
                }
                payload if depth == 0 => self.names(payload)?,
                _ => {}
            }
        }
        Ok(encoding)
    }

    fn names(&mut self, payload: Payload<'_>) -> wasmparser::Result<()> {
        match payload {
            Payload::ComponentExportSection(section) => {
                for export in section {
                    let export = export?;
                    if export.kind != ComponentExternalKind::Type {
                        self.export(export.name.name);
                    }
                }
            }
            Payload::ComponentImportSection(section) => {
                for import in section {
                    self.import(import?.name.name);
                }
            }
            Payload::ExportSection(section) => {
                for export in section {
                    let export = export?;
                    if export.kind == ExternalKind::Func {
                        self.export(export.name);
                    }
                }
            }
            Payload::ImportSection(section) => {
                for import in section.into_imports() {
                    let import = import?;
                    self.import(&format!("{}#{}", import.module, import.name));
                }
            }
            _ => {}
        }
        Ok(())
    }

    fn export(&mut self, name: &str) {
        if self.has_room() {
            self.exports.push(shown(name));
        }
    }

    fn import(&mut self, name: &str) {
        if self.has_room() {
            self.imports.push(shown(name));
        }
    }

    /// Whether one name more is kept.
    fn has_room(&mut self) -> bool {
        self.crowded |= self.exports.len() + self.imports.len() >= NAMES_MAX;
        !self.crowded
    }

    fn producers(&mut self, section: &wasmparser::CustomSectionReader<'_>, depth: u32) {
        // A section for people: one that cannot be read is no reason to refuse the file.
        let wasmparser::KnownCustom::Producers(fields) = section.as_known() else { return };
        for field in fields.into_iter().flatten() {
            for value in field.values.into_iter().flatten() {
                let text = shown(format!("{}: {} {}", field.name, value.name, value.version).trim_end());
                if self.languages.len() + self.producers.len() >= PRODUCERS_MAX {
                    return;
                }
                if depth == 0 && field.name == LANGUAGE {
                    self.languages.push(text);
                } else if !self.producers.contains(&text) {
                    self.producers.push(text);
                }
            }
        }
    }

    fn kind(&self, encoding: Encoding) -> FileKind {
        let starts = |prefix: &'static str| move |name: &&String| name.starts_with(prefix);
        // A version that is known goes before one that is not, and a handler before a command.
        let known = self.exports.iter().find(starts(HANDLER_0_1));
        let other = self.exports.iter().find(|name| {
            name.strip_prefix(HANDLER).is_some_and(|rest| rest.is_empty() || rest.starts_with(['@', '#']))
        });
        match encoding {
            Encoding::Component if known.is_some() => FileKind::Handler,
            Encoding::Module => match (known, other) {
                (Some(export), _) => FileKind::CoreHandler { export: export.clone() },
                (None, Some(export)) => FileKind::OtherVersion { export: export.clone() },
                (None, None) if self.exports.iter().any(|name| name == "_start") => FileKind::CoreCommand,
                (None, None) => FileKind::CoreModule,
            },
            Encoding::Component => match other {
                Some(export) => FileKind::OtherVersion { export: export.clone() },
                None if self.exports.iter().any(|name| name.starts_with(COMMAND)) => FileKind::Command,
                None => FileKind::Component,
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(bytes: &[u8], expected: &str) {
        let refusal = inspect(bytes).kind.to_string();
        assert!(refusal.starts_with(expected), "{refusal}");
    }

    #[test]
    fn another_draft_is_named_with_the_one_to_use() {
        let check = |import: &str, expected: Option<&str>| {
            let mut found = inspect(b"\0asm\x0d\0\x01\0");
            found.unknown = Some(import.to_owned()).into_iter().filter(|import| !is_known(import, &[import])).collect();
            assert_eq!(found.check_known().err().as_deref(), expected, "{import}");
        };
        check("wasi:config/store@0.2.0-rc.1", None);
        check("wasi:config/store@0.2.0-rc.1#get", None);
        check(
            "wasi:config/runtime@0.2.0-draft",
            Some(
                "imports `wasi:config/runtime@0.2.0-draft`; hint: of these drafts this host has \
                 `wasi:config/store@0.2.0-rc.1`",
            ),
        );
        check(
            "wasi:keyvalue/batch@0.2.0-draft#get-many",
            Some(
                "imports `wasi:keyvalue/batch@0.2.0-draft#get-many`; hint: of these drafts this host has \
                 `wasi:keyvalue/store@0.2.0-draft`, `wasi:keyvalue/atomics@0.2.0-draft`",
            ),
        );
    }

    #[test]
    fn files_that_are_no_handlers_are_named() {
        check(b"", "is empty; expected a component");
        check(b"hello", "is not wasm; expected");
        check(b"\x7fELF....", "is not wasm: it seems to be a native program");
        check(b"(module)", "is not wasm: it seems to be WebAssembly text");
        check(b"\0asm", "is wasm, but truncated or damaged");
        check(b"\0asm\x01\0\0\0", "is a core module without a handler");
        check(b"\0asm\x0d\0\x01\0", "is a component without a handler");
        check(b"\0asm\x01\0\0\0\x07\x0f\x01", "is wasm, but truncated or damaged");
        // What a terminal would act upon, and a name without end.
        let export = |name: &[u8]| {
            let length = [name.len() as u8 | 0x80, (name.len() >> 7) as u8];
            let entry = [&[1][..], &length, name, &[0, 0]].concat();
            let section = [7, entry.len() as u8 | 0x80, (entry.len() >> 7) as u8];
            [&b"\0asm\x01\0\0\0"[..], &section, &entry].concat()
        };
        check(
            &export(b"wabbit:worker/handler@9\x1b[2J\xc2\x9b"),
            r"exports `wabbit:worker/handler@9\u{1b}[2J\u{9b}`, a",
        );
        let long = ["wabbit:worker/handler@".as_bytes(), &[b'9'; 10_000]].concat();
        check(&export(&long), &format!("exports `wabbit:worker/handler@{}…`, a version", "9".repeat(978)));
        // Exports without a name of a function that is not there: three bytes each.
        let exports = [&[0xa1, 0x8d, 0x06][..], &[0, 0, 0].repeat(100_001)].concat();
        let section = [&[7, 0xe6, 0xa7, 0x12][..], &exports].concat();
        check(&[&b"\0asm\x01\0\0\0"[..], &section].concat(), "has more than 10000 exports and imports");
    }
}
