//! Where a handler may send HTTP requests: origins, and networks that are not of the public internet.

use std::{fmt, net::IpAddr};

use ipnet::IpNet;
use url::Host;

use super::quoted;
use crate::{
    manifest::report::Problem,
    outbound::{Origin, Scheme, Special, plain, special},
};

/// Networks that are larger than this are most of what there is, and surely not meant.
const V4_PREFIX_MIN: u8 = 8;
const V6_PREFIX_MIN: u8 = 7;
const SUBDOMAINS: &str = "*.";
const EXAMPLE: &str = "write it as `\"https://api.example.com\"`, or `\"https://*.example.com\"` for its subdomains";

/// One entry of `[grant] http`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HttpGrant {
    /// With the domain as its host where it stands for the subdomains.
    origin: Origin,
    /// Whether it stands for the subdomains, at any depth, and not for the domain itself.
    subdomains: bool,
    /// What the origin's addresses may be of, beside the public internet.
    networks: Vec<IpNet>,
}

impl HttpGrant {
    /// Reads an origin in its one form, so that what is written is what is compared.
    pub fn parse(text: &str) -> Result<Self, Problem> {
        let not_one = |text: &str| Problem::new(format!("{} is not an origin", quoted(text))).hint(EXAMPLE);
        let Some((scheme, rest)) = text.split_once("://") else { return Err(not_one(text)) };
        if rest.contains('@') {
            // It is not repeated, for it may hold a password.
            return Err(Problem::new("an origin has no user and no password")
                .hint("have the handler send them, in the header `authorization`"));
        }
        let Some(scheme) = Scheme::parse(&scheme.to_ascii_lowercase()) else {
            let problem = Problem::new(format!("{} cannot be spoken to over HTTP", quoted(text)));
            return Err(problem.hint("an origin begins with `https://` or `http://`"));
        };
        let (subdomains, rest) = match rest.strip_prefix(SUBDOMAINS) {
            Some(domain) => (true, domain),
            None => (false, rest),
        };
        if rest.contains('*') {
            return Err(Problem::new(format!("`*` cannot stand there in {}", quoted(text)))
                .hint("it stands for the subdomains of one domain: `\"https://*.example.com\"`"));
        }
        let (authority, more) = rest.split_at(rest.find(['/', '?', '#', '\\']).unwrap_or(rest.len()));
        let Some(origin) = Origin::parse(scheme, authority.trim_end_matches('.')) else { return Err(not_one(text)) };
        if !matches!(more, "" | "/") {
            let problem = Problem::new(format!("an origin ends with its host and port, and {} goes on", quoted(text)));
            return Err(problem.hint(format!("write `\"{origin}\"`, which allows every path")));
        }
        let grant = Self { networks: Vec::new(), subdomains, origin };
        if grant.to_string() != text {
            let problem = Problem::new(format!("{} is written otherwise", quoted(text)));
            return Err(problem.hint(format!("write `\"{grant}\"`")));
        }
        grant.check_host()?;
        Ok(grant)
    }

    fn check_host(&self) -> Result<(), Problem> {
        match &self.origin.host {
            Host::Domain(domain) if self.subdomains && !domain.contains('.') => {
                Err(Problem::new(format!("`*.{domain}` is most of the internet"))
                    .hint("name a domain: `\"https://*.example.com\"`"))
            }
            Host::Domain(_) => Ok(()),
            _ if self.subdomains => Err(Problem::new("an address has no subdomains").hint("leave out `*.`")),
            _ => match self.origin.address().and_then(special).filter(|special| !special.is_grantable()) {
                None => Ok(()),
                Some(special) => Err(Problem::new(format!("`{}` is {special}: no server has it", self.origin.host))
                    .hint("this machine is `127.0.0.1` or `[::1]`")),
            },
        }
    }

    /// The same, where its addresses may be of these networks, too.
    pub fn with_networks(self, networks: Vec<IpNet>) -> Self {
        Self { networks, ..self }
    }

    /// Whether it is for this origin.
    pub fn covers(&self, origin: &Origin) -> bool {
        if (self.origin.scheme, self.origin.port) != (origin.scheme, origin.port) {
            return false;
        }
        match (&self.origin.host, &origin.host) {
            (Host::Domain(domain), Host::Domain(name)) if self.subdomains => {
                name.strip_suffix(domain.as_str()).is_some_and(|before| before.len() > 1 && before.ends_with('.'))
            }
            (granted, host) => granted == host,
        }
    }

    /// Whether a request to it may go to this address: to any of the public internet, to those of the networks, and to
    /// what the entry itself names. What is wrong is what the address is.
    pub fn admits(&self, address: IpAddr) -> Result<(), Special> {
        let Some(special) = special(address) else { return Ok(()) };
        let address = plain(address);
        let named = match &self.origin.host {
            Host::Domain(name) => name == "localhost" && special == Special::Loopback,
            _ => self.origin.address().map(plain) == Some(address),
        };
        let granted = named || self.networks.iter().any(|network| network.contains(&address));
        if granted && special.is_grantable() { Ok(()) } else { Err(special) }
    }
}

/// As it is written in a manifest, without its networks.
impl fmt::Display for HttpGrant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let any = if self.subdomains { SUBDOMAINS } else { "" };
        write!(f, "{}://{any}{}", self.origin.scheme.as_str(), self.origin.authority())
    }
}

/// Reads a network such as `10.0.0.0/8`.
pub fn network(text: &str) -> Result<IpNet, Problem> {
    let Ok(network) = text.parse::<IpNet>() else {
        let problem = Problem::new(format!("{} is not a network", quoted(text)));
        let hint = match text.parse::<IpAddr>() {
            Ok(address) => format!("write `\"{}\"` for that address alone", IpNet::from(address)),
            Err(_) => "write an address and the bits that count: `\"10.0.0.0/8\"`, `\"fd00::/8\"`".to_owned(),
        };
        return Err(problem.hint(hint));
    };
    let least = if network.addr().is_ipv4() { V4_PREFIX_MIN } else { V6_PREFIX_MIN };
    let whole = network.trunc();
    if network.prefix_len() < least {
        let problem = Problem::new(format!("{} is most of what there is", quoted(text)));
        return Err(problem.hint(format!("name the networks that are meant, each of `/{least}` or smaller")));
    }
    if network != whole {
        let problem = Problem::new(format!("{} has bits of an address", quoted(text)));
        return Err(problem.hint(format!(
            "write `\"{whole}\"`, or `\"{}/{}\"`",
            network.addr(),
            network.max_prefix_len()
        )));
    }
    Ok(whole)
}
