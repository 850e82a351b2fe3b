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
    }
";
const WORLD: &str = "wabbit:adapted/adapted";
const TYPES_SECTION_PREFIX: &str = "component-type";

/// The component that this core module makes.
///
/// Errors: its exports or imports are not of the contract's types.
pub(super) fn adapt(module: &[u8]) -> anyhow::Result<Vec<u8>> {
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
pub(super) fn adapt_command(module: &[u8]) -> anyhow::Result<Vec<u8>> {
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
