//! What a file is, told by its content and without compiling it.

use serde::Serialize;
use wasmparser::{ComponentExternalKind, Encoding, ExternalKind, Parser, Payload};

use super::Digest;

/// The version of the contract that this host speaks.
pub const CONTRACT: &str = "wabbit:worker/handler@0.1.0";
const HANDLER: &str = "wabbit:worker/handler";
const COMMAND: &str = "wasi:cli/run";
/// Linked for every plugin, though empty: nearly every toolchain imports these whether it uses them or not.
const ALWAYS: &[&str] = &["wasi:cli/", "wasi:io/", "wasi:clocks/", "wasi:random/", "wasi:filesystem/", "wasi:sockets/"];
/// What the contract itself offers.
const CONTRACT_IMPORTS: &[&str] =
    &["wabbit:worker/context@0.1.", "wabbit:worker/text@0.1.", "wabbit:worker/types@0.1."];
/// Interfaces that a manifest grants, and the key that does.
const GRANTABLE: &[(&str, &str)] =
    &[("wasi:http/", "http"), ("wasi:config/", "config"), ("wasi:keyvalue/", "keyvalue")];

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
    /// Who made it, as far as it says: language and toolchain.
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
    /// What a person is told who dropped such a file: what it is, and what was expected.
    pub fn refusal(&self) -> String {
        let expected = format!("expected a component that exports `{CONTRACT}`");
        match self {
            Self::Handler => format!("exports `{CONTRACT}`"),
            Self::OtherVersion { export } => {
                format!("exports `{export}`, a version that this host does not know; {expected}")
            }
            Self::Command => format!("is a WASI command (component); commands are not supported yet; {expected}"),
            Self::CoreCommand => format!("is a WASI command (core module); commands are not supported yet; {expected}"),
            Self::CoreHandler { export } => {
                format!("is a core module that exports `{export}`; core modules are not supported yet; {expected}")
            }
            Self::Component => format!("is a component without a handler; {expected}"),
            Self::CoreModule => format!("is a core module without a handler; {expected}"),
            Self::NotWasm { problem } => format!("{problem}; {expected}"),
        }
    }
}

impl Inspection {
    /// Whether all imports are there in this host; else a text that names the first that is not.
    pub fn check_imports(&self) -> Result<(), String> {
        if let Some(import) = self.unknown.first() {
            return Err(format!("imports `{import}`, which this host does not know"));
        }
        let needing = |import: &&String| GRANTABLE.iter().any(|(prefix, _)| import.starts_with(prefix));
        match (self.imports.iter().find(needing), self.needs.first()) {
            (Some(import), Some(key)) => {
                Err(format!("imports `{import}`, which `[grant] {key}` would allow; not supported yet"))
            }
            _ => Ok(()),
        }
    }
}

/// Looks into a file's bytes.
pub fn inspect(bytes: &[u8]) -> Inspection {
    let mut found = Found::default();
    let kind = match not_wasm(bytes) {
        Some(problem) => FileKind::NotWasm { problem },
        None => match found.read(bytes) {
            Ok(encoding) => found.kind(encoding),
            Err(error) => FileKind::NotWasm { problem: format!("is wasm, but truncated or damaged: {error}") },
        },
    };
    let mut needs: Vec<_> = GRANTABLE
        .iter()
        .filter(|(prefix, _)| found.imports.iter().any(|import| import.starts_with(prefix)))
        .map(|(_, key)| *key)
        .collect();
    needs.dedup();
    let known = |import: &str| {
        let grantable = GRANTABLE.iter().map(|(prefix, _)| prefix);
        ALWAYS.iter().chain(CONTRACT_IMPORTS).chain(grantable).any(|prefix| import.starts_with(prefix))
    };
    let is_component = matches!(kind, FileKind::Handler | FileKind::Command | FileKind::Component);
    let unknown = found.imports.iter().filter(|import| is_component && !known(import)).cloned().collect();
    Inspection {
        kind,
        digest: Digest::of(bytes).to_string(),
        size: bytes.len(),
        exports: found.exports,
        imports: found.imports,
        needs,
        unknown,
        producers: found.producers,
    }
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

#[derive(Default)]
struct Found {
    exports: Vec<String>,
    imports: Vec<String>,
    producers: Vec<String>,
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
                Payload::CustomSection(section) if section.name() == "producers" => self.producers(&section),
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
                        self.exports.push(export.name.name.to_owned());
                    }
                }
            }
            Payload::ComponentImportSection(section) => {
                for import in section {
                    self.imports.push(import?.name.name.to_owned());
                }
            }
            Payload::ExportSection(section) => {
                for export in section {
                    let export = export?;
                    if export.kind == ExternalKind::Func {
                        self.exports.push(export.name.to_owned());
                    }
                }
            }
            Payload::ImportSection(section) => {
                for import in section.into_imports() {
                    let import = import?;
                    self.imports.push(format!("{}#{}", import.module, import.name));
                }
            }
            _ => {}
        }
        Ok(())
    }

    fn producers(&mut self, section: &wasmparser::CustomSectionReader<'_>) {
        // A section for people: one that cannot be read is no reason to refuse the file.
        let wasmparser::KnownCustom::Producers(fields) = section.as_known() else { return };
        for field in fields.into_iter().flatten() {
            for value in field.values.into_iter().flatten() {
                let text = format!("{} {}", value.name, value.version).trim_end().to_owned();
                if !self.producers.contains(&text) {
                    self.producers.push(text);
                }
            }
        }
    }

    fn kind(&self, encoding: Encoding) -> FileKind {
        let handler = |separator| {
            self.exports.iter().find(|name| {
                name.strip_prefix(HANDLER).is_some_and(|rest| rest.is_empty() || rest.starts_with(separator))
            })
        };
        let command = self.exports.iter().any(|name| name.starts_with(COMMAND));
        match encoding {
            Encoding::Component => match handler('@') {
                // Within 0.1 only comments change.
                Some(name) if name.starts_with("wabbit:worker/handler@0.1.") => FileKind::Handler,
                Some(name) => FileKind::OtherVersion { export: name.clone() },
                None if command => FileKind::Command,
                None => FileKind::Component,
            },
            Encoding::Module => match handler('@') {
                Some(name) => FileKind::CoreHandler { export: name.clone() },
                None if self.exports.iter().any(|name| name == "_start") => FileKind::CoreCommand,
                None => FileKind::CoreModule,
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(bytes: &[u8], expected: &str) {
        let refusal = inspect(bytes).kind.refusal();
        assert!(refusal.starts_with(expected), "{refusal}");
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
    }
}
