//! `wasi:config/store`: what the manifest tells a handler.

use std::collections::BTreeMap;

use wasmtime::component::{HasSelf, Linker};

use super::{host::Host, secret::Secret};

mod bindings {
    wasmtime::component::bindgen!({
        path: "../sdk/wit",
        inline: "package wabbit:grants; world config { import wasi:config/store@0.2.0-rc.1; }",
        world: "wabbit:grants/config",
    });
}

use bindings::wasi::config::store;

/// The values of a manifest's `[grant] config` and `[grant] secrets`. No name is in both.
#[derive(Debug, Default)]
pub struct Config {
    /// Listed, and read by name.
    pub values: BTreeMap<String, String>,
    /// Read by name alone.
    pub secrets: BTreeMap<String, Secret>,
}

impl Config {
    fn get(&self, name: &str) -> Option<&str> {
        self.values.get(name).map(String::as_str).or_else(|| self.secrets.get(name).map(Secret::expose))
    }
}

pub(super) fn add_to_linker(linker: &mut Linker<Host>) -> wasmtime::Result<()> {
    bindings::Config::add_to_linker::<_, HasSelf<Host>>(linker, |host| host)
}

impl store::Host for Host {
    fn get(&mut self, key: String) -> Result<Option<String>, store::Error> {
        Ok(self.scope.grants.config.get(&key).map(str::to_owned))
    }

    fn get_all(&mut self) -> Result<Vec<(String, String)>, store::Error> {
        let values = &self.scope.grants.config.values;
        Ok(values.iter().map(|(name, value)| (name.clone(), value.clone())).collect())
    }
}
