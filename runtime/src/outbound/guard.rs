//! Whether a request may be sent, decided without looking anything up: first by its origin, then by the addresses that
//! were found for it.

use std::net::{IpAddr, SocketAddr};

use super::{Origin, Scheme, Special, plain};
use crate::manifest::HttpGrant;

/// An origin that is on the list, with the entries that put it there.
#[derive(Debug, Clone)]
pub struct Target {
    /// Where the request goes.
    pub origin: Origin,
    entries: Vec<HttpGrant>,
}

/// Why a request is not sent, whatever the addresses.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Denied {
    /// What it names is no scheme, host and port.
    NoOrigin,
    /// No entry of the list is for it.
    NotGranted(Origin),
}

/// All addresses of an origin are of networks that its entries do not name; this is the first of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Prohibited {
    /// The address.
    pub address: IpAddr,
    /// What it is.
    pub special: Special,
}

impl Target {
    /// Finds the origin of a request on the list.
    pub fn judge(grants: &[HttpGrant], scheme: &str, authority: &str) -> Result<Self, Denied> {
        let scheme = Scheme::parse(scheme).ok_or(Denied::NoOrigin)?;
        let origin = Origin::parse(scheme, authority).ok_or(Denied::NoOrigin)?;
        let entries: Vec<_> = grants.iter().filter(|grant| grant.covers(&origin)).cloned().collect();
        if entries.is_empty() { Err(Denied::NotGranted(origin)) } else { Ok(Self { origin, entries }) }
    }

    /// Those of the addresses that a connection may be made to, in their order.
    ///
    /// Errors: there are some, and none of them is allowed.
    pub fn admit(&self, addresses: &[IpAddr]) -> Result<Vec<SocketAddr>, Prohibited> {
        let mut prohibited = None;
        let mut admitted = Vec::new();
        for address in addresses.iter().copied().map(plain) {
            // Some entry allows it, or all say the same of it.
            match self.entries.iter().map(|entry| entry.admits(address)).reduce(Result::or) {
                Some(Ok(())) => admitted.push(SocketAddr::new(address, self.origin.port)),
                Some(Err(special)) => {
                    prohibited.get_or_insert(Prohibited { address, special });
                }
                None => {}
            }
        }
        match prohibited {
            Some(prohibited) if admitted.is_empty() => Err(prohibited),
            _ => Ok(admitted),
        }
    }
}

#[cfg(test)]
mod tests;
