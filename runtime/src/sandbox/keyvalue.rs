//! `wasi:keyvalue/store` and `atomics`: the store that the manifest grants.

use wasmtime::component::{HasSelf, Linker, Resource, ResourceTable};

use super::host::Host;
use crate::keyvalue::{Error, Start, Store};

mod bindings {
    wasmtime::component::bindgen!({
        path: "../sdk/wit",
        inline: "
            package wabbit:grants-keyvalue;
            world keyvalue {
                import wasi:keyvalue/store@0.2.0-draft;
                import wasi:keyvalue/atomics@0.2.0-draft;
            }
        ",
        world: "wabbit:grants-keyvalue/keyvalue",
        imports: { default: async | trappable },
        with: { "wasi:keyvalue/store.bucket": super::Bucket },
    });
}

use bindings::wasi::keyvalue::{atomics, store as wire};

/// Stores that a call has open at once.
const OPEN_MAX: usize = 64;
/// By this name a handler opens whichever store its manifest grants.
const DEFAULT: &str = "default";

/// What a manifest's `[grant] keyvalue` opens.
#[derive(Debug, Clone)]
pub struct KeyValue {
    /// The name that the handler opens it by.
    pub name: String,
    /// Where its values are.
    pub store: Store,
}

/// A store that a handler has opened.
pub struct Bucket {
    store: Store,
    /// How many keys were listed, and the last of them: the next list goes on there without counting again.
    listed: Option<(u64, String)>,
}

/// The stores that a call has open; none is made before the first.
#[derive(Default)]
pub(super) struct Buckets(Option<Box<ResourceTable>>);

impl Buckets {
    fn table(&mut self) -> &mut ResourceTable {
        self.0.get_or_insert_with(|| {
            let mut table = ResourceTable::new();
            table.set_max_capacity(OPEN_MAX);
            Box::new(table)
        })
    }
}

pub(super) fn add_to_linker(linker: &mut Linker<Host>) -> wasmtime::Result<()> {
    bindings::Keyvalue::add_to_linker::<_, HasSelf<Host>>(linker, |host| host)
}

impl std::convert::From<Error> for wire::Error {
    fn from(error: Error) -> Self {
        Self::Other(error.to_string())
    }
}

type Answer<T> = wasmtime::Result<Result<T, wire::Error>>;

impl Host {
    fn store(&mut self, bucket: &Resource<Bucket>) -> wasmtime::Result<Store> {
        Ok(self.buckets.table().get(bucket)?.store.clone())
    }
}

impl wire::Host for Host {
    async fn open(&mut self, identifier: String) -> Answer<Resource<Bucket>> {
        let granted = self.scope.grants.keyvalue.as_ref();
        let Some(granted) = granted.filter(|granted| identifier == granted.name || identifier == DEFAULT) else {
            return Ok(Err(wire::Error::NoSuchStore));
        };
        if self.scope.determined.as_ref().is_some_and(|world| !world.has_stores(&granted.name)) {
            return Ok(Err(wire::Error::Other("what is in the store is not given".into())));
        }
        let bucket = Bucket { store: granted.store.clone(), listed: None };
        Ok(self
            .buckets
            .table()
            .push(bucket)
            .map_err(|_| wire::Error::Other(format!("more stores are open than the limit of {OPEN_MAX}"))))
    }
}

impl wire::HostBucket for Host {
    async fn get(&mut self, bucket: Resource<Bucket>, key: String) -> Answer<Option<Vec<u8>>> {
        Ok(self.store(&bucket)?.get(&key).await.map_err(Into::into))
    }

    async fn set(&mut self, bucket: Resource<Bucket>, key: String, value: Vec<u8>) -> Answer<()> {
        Ok(self.store(&bucket)?.set(&key, value).await.map_err(Into::into))
    }

    async fn delete(&mut self, bucket: Resource<Bucket>, key: String) -> Answer<()> {
        Ok(self.store(&bucket)?.delete(&key).await.map_err(Into::into))
    }

    async fn exists(&mut self, bucket: Resource<Bucket>, key: String) -> Answer<bool> {
        Ok(self.store(&bucket)?.get(&key).await.map(|value| value.is_some()).map_err(Into::into))
    }

    async fn list_keys(&mut self, bucket: Resource<Bucket>, cursor: Option<u64>) -> Answer<wire::KeyResponse> {
        let bucket = self.buckets.table().get_mut(&bucket)?;
        let skipped = cursor.unwrap_or(0);
        let from = match bucket.listed.take() {
            Some((listed, last)) if Some(listed) == cursor => Start::After(last),
            _ => Start::Skip(skipped),
        };
        let (keys, more) = match bucket.store.keys(from).await {
            Ok(listed) => listed,
            Err(error) => return Ok(Err(error.into())),
        };
        let cursor = more.then(|| skipped.saturating_add(keys.len() as u64));
        bucket.listed = cursor.zip(keys.last().cloned());
        Ok(Ok(wire::KeyResponse { keys, cursor }))
    }

    async fn drop(&mut self, bucket: Resource<Bucket>) -> wasmtime::Result<()> {
        self.buckets.table().delete(bucket)?;
        Ok(())
    }
}

impl atomics::Host for Host {
    async fn increment(&mut self, bucket: Resource<Bucket>, key: String, delta: u64) -> Answer<u64> {
        Ok(self.store(&bucket)?.increment(&key, delta).await.map_err(Into::into))
    }
}
