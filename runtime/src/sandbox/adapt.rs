//! A core module with the contract's exports becomes a component.
//!
//! So a language needs no wasm tools of its own: a compiler that exports functions by the canonical ABI's names does.
//! Where the module says nothing about its types (no `component-type` section), they are those of the contract, whose
//! version stands in the export's name.

use wasi_preview1_component_adapter_provider::{
    WASI_SNAPSHOT_PREVIEW1_ADAPTER_NAME, WASI_SNAPSHOT_PREVIEW1_REACTOR_ADAPTER,
};
use wasmparser::{Parser, Payload};
use wit_component::{ComponentEncoder, StringEncoding, embed_component_metadata};
use wit_parser::Resolve;

/// The contract as it was when this host was built.
const WIT: &str = include_str!("../../../sdk/wit/worker.wit");
/// All that a handler may import. Of these, the component gets those that the module does import.
const WORLD: &str = "worker";
const TYPES_SECTION_PREFIX: &str = "component-type";

/// The component that this core module makes.
///
/// Errors: its exports or imports are not of the contract's types.
pub(super) fn adapt(module: &[u8]) -> anyhow::Result<Vec<u8>> {
    let (typed, preview1) = look(module)?;
    let mut bytes = module.to_vec();
    if !typed {
        let mut resolve = Resolve::default();
        let package = resolve.push_str("worker.wit", WIT)?;
        let world = resolve.select_world(&[package], Some(WORLD))?;
        embed_component_metadata(&mut bytes, &resolve, world, StringEncoding::UTF8)?;
    }
    let mut encoder = ComponentEncoder::default().validate(true).module(&bytes)?;
    if preview1 {
        encoder = encoder.adapter(WASI_SNAPSHOT_PREVIEW1_ADAPTER_NAME, WASI_SNAPSHOT_PREVIEW1_REACTOR_ADAPTER)?;
    }
    encoder.encode()
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
