//! What the compiler makes of a plugin: a component's code, or that of a core module.

use std::path::Path;

use wasmtime::{Engine, Module, Result, component::Component};

/// Code that can be kept in a file and mapped from it.
pub(super) trait Compiled: Sized {
    /// Compiles for this process alone.
    fn compile(engine: &Engine, bytes: &[u8]) -> Result<Self>;

    /// Compiles into bytes for a file.
    fn precompile(engine: &Engine, bytes: &[u8]) -> Result<Vec<u8>>;

    /// The code in these bytes, copied.
    ///
    /// # Safety
    /// They must have come from `precompile`, unchanged: they run with all rights of the host.
    #[expect(unsafe_code, reason = "deserializing trusts the bytes")]
    unsafe fn deserialize(engine: &Engine, bytes: &[u8]) -> Result<Self>;

    /// The code in this file, mapped.
    ///
    /// # Safety
    /// As for `deserialize`, and nobody may change the file while it is mapped.
    #[expect(unsafe_code, reason = "deserializing trusts the bytes")]
    unsafe fn deserialize_file(engine: &Engine, path: &Path) -> Result<Self>;
}

macro_rules! compiled {
    ($type:ty, $precompile:ident) => {
        #[expect(unsafe_code, reason = "deserializing trusts the bytes")]
        impl Compiled for $type {
            fn compile(engine: &Engine, bytes: &[u8]) -> Result<Self> {
                Self::from_binary(engine, bytes)
            }

            fn precompile(engine: &Engine, bytes: &[u8]) -> Result<Vec<u8>> {
                engine.$precompile(bytes)
            }

            unsafe fn deserialize(engine: &Engine, bytes: &[u8]) -> Result<Self> {
                // SAFETY: as the trait demands.
                unsafe { Self::deserialize(engine, bytes) }
            }

            unsafe fn deserialize_file(engine: &Engine, path: &Path) -> Result<Self> {
                // SAFETY: as the trait demands.
                unsafe { Self::deserialize_file(engine, path) }
            }
        }
    };
}

compiled!(Component, precompile_component);
compiled!(Module, precompile_module);
