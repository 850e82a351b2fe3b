//! From a name to its addresses, by the system.

use std::{
    io,
    net::{IpAddr, ToSocketAddrs as _},
    pin::Pin,
    sync::Arc,
};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Look-ups at once. The system's cannot be cut off: one that nobody waits for any more still counts.
pub const LOOKUPS_MAX: usize = 32;
/// Addresses of one name that are looked at.
const ADDRESSES_MAX: usize = 16;

/// What finds the addresses of a name. The place that comes with the name is free when the look-up has ended.
pub(super) type Resolve = Arc<dyn Fn(String, Option<OwnedSemaphorePermit>) -> Found + Send + Sync>;
/// What it finds, in the order in which they are to be tried.
pub(super) type Found = Pin<Box<dyn Future<Output = io::Result<Vec<IpAddr>>> + Send>>;

/// The system's own way: `/etc/hosts`, DNS, or whatever it is set up to ask.
pub(super) fn system() -> Resolve {
    let at_once = Arc::new(Semaphore::new(LOOKUPS_MAX));
    Arc::new(move |name, place| {
        let at_once = Arc::clone(&at_once);
        Box::pin(async move {
            let permit = at_once.acquire_owned().await.map_err(io::Error::other)?;
            let looking = tokio::task::spawn_blocking(move || {
                let _places = (permit, place);
                let found = (name.as_str(), 0).to_socket_addrs()?;
                Ok(found.map(|address| address.ip()).take(ADDRESSES_MAX).collect())
            });
            looking.await.map_err(io::Error::other)?
        })
    })
}
