//! Code that can be mapped from a file: a component's, or that of a core module.

use std::path::Path;

use wasmtime::{Engine, Module, Result, component::Component};

/// What the cache has entries of.
pub(super) trait Compiled: Sized {
    /// The code in this file, mapped.
    ///
    /// # Safety
    /// The compiler must have made it, for it runs with all rights of the host, and nobody may change the file while it is
    /// mapped.
    #[expect(unsafe_code, reason = "deserializing trusts the bytes")]
    unsafe fn deserialize_file(engine: &Engine, path: &Path) -> Result<Self>;
}

macro_rules! compiled {
    ($type:ty) => {
        #[expect(unsafe_code, reason = "deserializing trusts the bytes")]
        impl Compiled for $type {
            unsafe fn deserialize_file(engine: &Engine, path: &Path) -> Result<Self> {
                // SAFETY: as the trait demands.
                unsafe { Self::deserialize_file(engine, path) }
            }
        }
    };
}

compiled!(Component);
compiled!(Module);
