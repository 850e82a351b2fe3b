//! Which addresses are of the public internet, and what the others are.
//!
//! The tables follow the registries of special-purpose addresses (RFC 6890 and its updates). For IPv6 everything is
//! refused that is not global unicast space, so that what is assigned one day is refused until somebody looks at it.

use std::{
    fmt,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

/// What an address is that is not of the public internet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Special {
    /// `0.0.0.0/8`, `::`: no address of anybody, and for Linux this machine.
    Unspecified,
    /// This machine.
    Loopback,
    /// A network of its owner's own (RFC 1918, unique local).
    Private,
    /// This network segment, where clouds keep what tells their secrets.
    LinkLocal,
    /// What a cloud tells its machines, at an address of its own.
    Metadata,
    /// Between a carrier and its customers.
    CarrierNat,
    /// For examples in texts.
    Documentation,
    /// For measuring devices.
    Benchmark,
    /// To many at once.
    Multicast,
    /// To everybody on the segment.
    Broadcast,
    /// Leads to another address by a way that cannot be looked into.
    Tunnel,
    /// Kept for later, or for protocols.
    Reserved,
}

impl Special {
    /// Whether a manifest can allow it at all: no server is at the others.
    pub fn is_grantable(self) -> bool {
        !matches!(self, Self::Unspecified | Self::Multicast | Self::Broadcast)
    }
}

impl fmt::Display for Special {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Unspecified => "unspecified",
            Self::Loopback => "loopback",
            Self::Private => "private",
            Self::LinkLocal => "link-local",
            Self::Metadata => "cloud metadata",
            Self::CarrierNat => "carrier-grade NAT",
            Self::Documentation => "documentation",
            Self::Benchmark => "benchmarking",
            Self::Multicast => "multicast",
            Self::Broadcast => "broadcast",
            Self::Tunnel => "tunnel",
            Self::Reserved => "reserved",
        })
    }
}

/// The first row that fits decides.
const V4: &[([u8; 4], u32, Special)] = &[
    ([0, 0, 0, 0], 8, Special::Unspecified),
    ([10, 0, 0, 0], 8, Special::Private),
    ([100, 64, 0, 0], 10, Special::CarrierNat),
    ([127, 0, 0, 0], 8, Special::Loopback),
    // Azure's, in the middle of public space.
    ([168, 63, 129, 16], 32, Special::Metadata),
    ([169, 254, 169, 254], 32, Special::Metadata),
    ([169, 254, 0, 0], 16, Special::LinkLocal),
    ([172, 16, 0, 0], 12, Special::Private),
    ([192, 0, 0, 0], 24, Special::Reserved),
    ([192, 0, 2, 0], 24, Special::Documentation),
    ([192, 88, 99, 0], 24, Special::Tunnel),
    ([192, 168, 0, 0], 16, Special::Private),
    ([198, 18, 0, 0], 15, Special::Benchmark),
    ([198, 51, 100, 0], 24, Special::Documentation),
    ([203, 0, 113, 0], 24, Special::Documentation),
    ([224, 0, 0, 0], 4, Special::Multicast),
    ([255, 255, 255, 255], 32, Special::Broadcast),
    ([240, 0, 0, 0], 4, Special::Reserved),
];

const V6: &[([u16; 8], u32, Special)] = &[
    ([0, 0, 0, 0, 0, 0, 0, 0], 128, Special::Unspecified),
    ([0, 0, 0, 0, 0, 0, 0, 1], 128, Special::Loopback),
    // Amazon's, among the unique local ones.
    ([0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254], 128, Special::Metadata),
    ([0xfc00, 0, 0, 0, 0, 0, 0, 0], 7, Special::Private),
    ([0xfe80, 0, 0, 0, 0, 0, 0, 0], 10, Special::LinkLocal),
    ([0xfec0, 0, 0, 0, 0, 0, 0, 0], 10, Special::Private),
    ([0xff00, 0, 0, 0, 0, 0, 0, 0], 8, Special::Multicast),
    // A translator's own prefix, whose other side is somebody's own network (RFC 8215).
    ([0x64, 0xff9b, 1, 0, 0, 0, 0, 0], 48, Special::Tunnel),
    // Teredo and 6to4.
    ([0x2001, 0, 0, 0, 0, 0, 0, 0], 32, Special::Tunnel),
    ([0x2002, 0, 0, 0, 0, 0, 0, 0], 16, Special::Tunnel),
    ([0x2001, 2, 0, 0, 0, 0, 0, 0], 48, Special::Benchmark),
    ([0x2001, 0, 0, 0, 0, 0, 0, 0], 23, Special::Reserved),
    ([0x2001, 0xdb8, 0, 0, 0, 0, 0, 0], 32, Special::Documentation),
    ([0x3fff, 0, 0, 0, 0, 0, 0, 0], 20, Special::Documentation),
];
/// Global unicast, beside which nothing is allowed.
const V6_GLOBAL: ([u16; 8], u32) = ([0x2000, 0, 0, 0, 0, 0, 0, 0], 3);
/// What stands for an IPv4 address in its last 32 bits: to a socket (`::ffff:0:0/96`), and to a translator (NAT64).
const V6_MAPPED: ([u16; 8], u32) = ([0, 0, 0, 0, 0, 0xffff, 0, 0], 96);
const V6_NAT64: ([u16; 8], u32) = ([0x64, 0xff9b, 0, 0, 0, 0, 0, 0], 96);
/// The middle of an ISATAP interface identifier, whose IPv4 address follows it, whatever the network before it.
const ISATAP: [[u16; 2]; 2] = [[0, 0x5efe], [0x200, 0x5efe]];

/// What an address is that is not of the public internet; nothing for one that is.
pub fn special(address: IpAddr) -> Option<Special> {
    match plain(address) {
        IpAddr::V4(address) => special_v4(address),
        IpAddr::V6(address) => special_v6(address),
    }
}

/// The address as a socket takes it: one of IPv4 that is written as one of IPv6 is one of IPv4.
pub fn plain(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V6(v6) if within_v6(v6, V6_MAPPED) => last_v4(v6).into(),
        address => address,
    }
}

fn special_v4(address: Ipv4Addr) -> Option<Special> {
    let bits = address.to_bits();
    let fits = |(network, prefix, _): &&([u8; 4], u32, Special)| {
        let differs = bits ^ Ipv4Addr::from_octets(*network).to_bits();
        differs.leading_zeros() >= *prefix
    };
    V4.iter().find(fits).map(|(.., special)| *special)
}

fn special_v6(address: Ipv6Addr) -> Option<Special> {
    if within_v6(address, V6_NAT64) {
        return special_v4(last_v4(address));
    }
    let known = V6.iter().find(|(network, prefix, _)| within_v6(address, (*network, *prefix)));
    let [_, _, _, _, first, second, ..] = address.segments();
    match known {
        Some((.., special)) => Some(*special),
        None if !within_v6(address, V6_GLOBAL) => Some(Special::Reserved),
        None if ISATAP.contains(&[first, second]) => Some(Special::Tunnel),
        None => None,
    }
}

fn within_v6(address: Ipv6Addr, (network, prefix): ([u16; 8], u32)) -> bool {
    let differs = address.to_bits() ^ Ipv6Addr::from_segments(network).to_bits();
    differs.leading_zeros() >= prefix
}

fn last_v4(address: Ipv6Addr) -> Ipv4Addr {
    Ipv4Addr::from_bits(address.to_bits() as u32)
}
