//! A core module with the contract's exports becomes a component.
//!
//! So a language needs no wasm tools of its own: a compiler that exports functions by the canonical ABI's names does.
//! Where the module says nothing about its types (no `component-type` section), they are those of the contract, whose
//! version stands in the export's name.

use wasi_preview1_component_adapter_provider::{
    WASI_SNAPSHOT_PREVIEW1_ADAPTER_NAME, WASI_SNAPSHOT_PREVIEW1_COMMAND_ADAPTER, WASI_SNAPSHOT_PREVIEW1_REACTOR_ADAPTER,
};
use wasmparser::{Parser, Payload};
use wit_component::{ComponentEncoder, StringEncoding, embed_component_metadata};
use wit_parser::Resolve;

/// The contract as it was when this host was built, and what a manifest can grant; a package stands below those that it
/// refers to.
const PACKAGES: &[(&str, &str)] = &[
    ("worker.wit", include_str!("../../../sdk/wit/worker.wit")),
    ("config.wit", include_str!("../../../sdk/wit/deps/config.wit")),
    ("keyvalue.wit", include_str!("../../../sdk/wit/deps/keyvalue.wit")),
    ("io.wit", include_str!("../../../sdk/wit/deps/io.wit")),
    ("clocks.wit", include_str!("../../../sdk/wit/deps/clocks.wit")),
    ("http.wit", include_str!("../../../sdk/wit/deps/http.wit")),
    ("adapted.wit", ADAPTED),
];
/// All that a handler may import. Of these, the component gets those that the module does import.
const ADAPTED: &str = "
    package wabbit:adapted;
    world adapted {
        include wabbit:worker/worker@0.1.0;
        import wasi:config/store@0.2.0-rc.1;
        import wasi:keyvalue/store@0.2.0-draft;
        import wasi:keyvalue/atomics@0.2.0-draft;
        import wasi:http/outgoing-handler@0.2.0;
    }
";
const WORLD: &str = "wabbit:adapted/adapted";
const TYPES_SECTION_PREFIX: &str = "component-type";

/// The component that this core module makes.
///
/// Errors: its exports or imports are not of the contract's types.
pub fn adapt(module: &[u8]) -> anyhow::Result<Vec<u8>> {
    let (typed, preview1) = look(module)?;
    let mut bytes = module.to_vec();
    if !typed {
        let mut resolve = Resolve::default();
        let packages = PACKAGES.iter().map(|(name, text)| resolve.push_str(name, text));
        let packages = packages.collect::<anyhow::Result<Vec<_>>>()?;
        let world = resolve.select_world(&packages, Some(WORLD))?;
        embed_component_metadata(&mut bytes, &resolve, world, StringEncoding::UTF8)?;
    }
    let mut encoder = ComponentEncoder::default().validate(true).module(&bytes)?;
    if preview1 {
        encoder = encoder.adapter(WASI_SNAPSHOT_PREVIEW1_ADAPTER_NAME, WASI_SNAPSHOT_PREVIEW1_REACTOR_ADAPTER)?;
    }
    encoder.encode()
}

/// The component that this command makes.
///
/// Errors: it imports more than WASI 0.1.
pub fn adapt_command(module: &[u8]) -> anyhow::Result<Vec<u8>> {
    let encoder = ComponentEncoder::default().validate(true).module(module)?;
    encoder.adapter(WASI_SNAPSHOT_PREVIEW1_ADAPTER_NAME, WASI_SNAPSHOT_PREVIEW1_COMMAND_ADAPTER)?.encode()
}

/// Whether the module says what types it has, and whether it asks for WASI 0.1.
fn look(module: &[u8]) -> wasmparser::Result<(bool, bool)> {
    let (mut typed, mut preview1) = (false, false);
    for payload in Parser::new(0).parse_all(module) {
        match payload? {
            Payload::CustomSection(section) => typed |= section.name().starts_with(TYPES_SECTION_PREFIX),
            Payload::ImportSection(section) => {
                for import in section.into_imports() {
                    preview1 |= import?.module == WASI_SNAPSHOT_PREVIEW1_ADAPTER_NAME;
                }
            }
            _ => {}
        }
    }
    Ok((typed, preview1))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sandbox::inspect::inspect;

    /// A number as the format has it.
    fn leb(mut number: usize) -> Vec<u8> {
        let mut bytes = Vec::new();
        while number > 0x7f {
            bytes.push((number & 0x7f) as u8 | 0x80);
            number >>= 7;
        }
        bytes.push(number as u8);
        bytes
    }

    fn text(text: &str) -> Vec<u8> {
        [leb(text.len()), text.into()].concat()
    }

    fn section(id: u8, entries: &[Vec<u8>]) -> Vec<u8> {
        let content = [leb(entries.len()), entries.concat()].concat();
        [vec![id], leb(content.len()), content].concat()
    }

    /// A handler that imports this function of four numbers, as a compiler would make it: without a word on its types.
    fn module(interface: &str, function: &str) -> Vec<u8> {
        const I32: u8 = 0x7f;
        let types = [
            vec![0x60, 4, I32, I32, I32, I32, 0],
            vec![0x60, 1, I32, 1, I32],
            vec![0x60, 4, I32, I32, I32, I32, 1, I32],
        ];
        let export = |name: &str, what: [u8; 2]| [text(name), what.into()].concat();
        let exports = [
            export("wabbit:worker/handler@0.1.0#handle", [0, 1]),
            export("cabi_realloc", [0, 2]),
            export("memory", [2, 0]),
        ];
        // Both functions return 0.
        let body = vec![4, 0, 0x41, 0, 0x0b];
        let sections = [
            section(1, &types),
            section(2, &[[text(interface), text(function), vec![0, 0]].concat()]),
            section(3, &[vec![1], vec![2]]),
            section(5, &[vec![0, 1]]),
            section(7, &exports),
            section(10, &[body.clone(), body]),
        ];
        [b"\0asm\x01\0\0\0".to_vec(), sections.concat()].concat()
    }

    #[test]
    fn a_core_module_imports_what_can_be_granted() {
        for interface in ["wasi:http/outgoing-handler@0.2.0", "wasi:http/outgoing-handler@0.2.12"] {
            let module = module(interface, "handle");
            let found = inspect(&module);
            assert_eq!((found.needs, found.unknown), (vec!["http"], Vec::new()), "{:?}", found.imports);
            let found = inspect(&adapt(&module).unwrap());
            assert_eq!((found.needs, found.unknown), (vec!["http"], Vec::new()), "{:?}", found.imports);
        }
        let streams = module("wasi:io/streams@0.2.3", "[method]input-stream.blocking-read");
        assert_eq!(inspect(&streams).unknown, Vec::<String>::new());
        assert!(adapt(&module("wasi:http/outgoing-handler@0.3.0", "handle")).is_err());
    }
}
