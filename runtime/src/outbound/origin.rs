//! Origins: where an HTTP request goes, in the one form that everything compares, resolves and connects to.
//!
//! What a handler writes is read once, as a browser would read it, and never looked at again: there is no second parser
//! that might take another part of it for the host.

use std::{fmt, net::IpAddr};

use url::{Host, Url};

/// The longest authority that is read: a name has 253 bytes at most, a port five digits.
const AUTHORITY_BYTES_MAX: usize = 280;
/// Signs that end an authority, separate a user from it or quote something: none of them belongs to a host and port.
const NEVER_IN_AUTHORITY: &[char] = &['/', '\\', '?', '#', '@', '%', '*'];

/// Scheme, host and port. Names are in lower case and IDNA's ASCII form, addresses are addresses.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Origin {
    /// Whether it is reached by TLS.
    pub scheme: Scheme,
    /// A name or an address.
    pub host: Host<String>,
    /// Never 0.
    pub port: u16,
}

/// How an origin is spoken to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Scheme {
    /// In the clear.
    Http,
    /// By TLS.
    Https,
}

impl Scheme {
    /// Of a URL; none for any other than the two.
    pub fn parse(text: &str) -> Option<Self> {
        match text {
            "http" => Some(Self::Http),
            "https" => Some(Self::Https),
            _ => None,
        }
    }

    /// As a URL has it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Https => "https",
        }
    }

    /// The port where none is written.
    pub fn default_port(self) -> u16 {
        match self {
            Self::Http => 80,
            Self::Https => 443,
        }
    }
}

impl Origin {
    /// Reads the host and port that a request names. Odd notations of an address (`0x7f.1`, `2130706433`) become that
    /// address; none for what is no host and port and nothing else.
    pub fn parse(scheme: Scheme, authority: &str) -> Option<Self> {
        let odd = |c: char| c.is_control() || c.is_whitespace() || NEVER_IN_AUTHORITY.contains(&c);
        if authority.is_empty() || authority.len() > AUTHORITY_BYTES_MAX || authority.contains(odd) {
            return None;
        }
        let url = Url::parse(&format!("{}://{authority}/", scheme.as_str())).ok()?;
        // With the signs above kept out nothing but host and port can be left; whether it is so costs nothing to see.
        if url.path() != "/" || !url.username().is_empty() || url.password().is_some() {
            return None;
        }
        let host = url.host()?.to_owned();
        let port = url.port_or_known_default().filter(|port| *port != 0)?;
        // With a dot at its end a name is another text for the same host, which no list has.
        let plain = !matches!(&host, Host::Domain(name) if name.ends_with('.') || name.split('.').any(str::is_empty));
        plain.then_some(Self { scheme, host, port })
    }

    /// The address, where the host is one.
    pub fn address(&self) -> Option<IpAddr> {
        match self.host {
            Host::Domain(_) => None,
            Host::Ipv4(address) => Some(address.into()),
            Host::Ipv6(address) => Some(address.into()),
        }
    }

    /// Host and port as the `Host` header has them: the port only where it is not the scheme's own.
    pub fn authority(&self) -> String {
        if self.port == self.scheme.default_port() {
            self.host.to_string()
        } else {
            format!("{}:{}", self.host, self.port)
        }
    }
}

/// As it is written in a manifest.
impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}", self.scheme.as_str(), self.authority())
    }
}
