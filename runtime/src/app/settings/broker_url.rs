//! The broker's address. It holds a password, and shows it to nobody who does not ask for it by name.

use std::fmt;

use url::{Host, Url};

use crate::manifest::report::Problem;

const GUEST: &str = "guest";
const EXAMPLE: &str = "write it as `amqp://USER:PASSWORD@HOST:5672/VHOST`, the vhost `/` as `%2f`";

/// A validated `amqp://` or `amqps://` address. `Debug` and `Display` show `***` for the password.
#[derive(Clone, PartialEq, Eq)]
pub struct BrokerUrl {
    tls: bool,
    host: String,
    port: u16,
    user: String,
    password: String,
    vhost: String,
}

/// The broker on this machine, as RabbitMQ is installed.
impl Default for BrokerUrl {
    fn default() -> Self {
        Self {
            tls: false,
            host: "127.0.0.1".to_owned(),
            port: 5672,
            user: GUEST.to_owned(),
            password: GUEST.to_owned(),
            vhost: "/".to_owned(),
        }
    }
}

impl BrokerUrl {
    /// Reads an address. User and password are `guest` where both are absent, the port is 5672 or, with TLS, 5671, and
    /// the vhost is `/`. Problems never repeat what was read.
    pub fn parse(text: &str) -> Result<Self, Problem> {
        let problem = |message: &str| Problem::new(message).hint(EXAMPLE);
        let tls = match text.split_once("://") {
            Some(("amqp", _)) => false,
            Some(("amqps", _)) => true,
            _ => return Err(problem("a broker's address begins with `amqp://` or `amqps://`")),
        };
        let url = Url::parse(text).map_err(|error| problem(&format!("not the address of a broker: {error}")))?;
        if url.query().is_some() || url.fragment().is_some() {
            let problem = Problem::new("a broker's address has no `?` and no `#`");
            return Err(problem.hint("timeouts are settings of their own; in a password write `%3f` and `%23`"));
        }
        let host = match url.host() {
            Some(Host::Domain(name)) => decoded(name)?,
            Some(Host::Ipv4(address)) => address.to_string(),
            Some(Host::Ipv6(address)) => format!("[{address}]"),
            None => String::new(),
        };
        if host.is_empty() {
            return Err(problem("the broker's address names no host"));
        }
        if host.contains(',') {
            return Err(problem("a host's name has no comma").hint("write out each of several addresses"));
        }
        let port = url.port().unwrap_or(if tls { 5671 } else { 5672 });
        if port == 0 {
            return Err(problem("port 0 is no broker's"));
        }
        let (user, password) = match (decoded(url.username())?, url.password()) {
            (user, None) if user.is_empty() => (GUEST.to_owned(), GUEST.to_owned()),
            (_, None) => return Err(problem("the broker's address has a user and no password")),
            (user, Some(_)) if user.is_empty() => {
                return Err(problem("the broker's address has a password and no user"));
            }
            (user, Some(password)) => (user, decoded(password)?),
        };
        let vhost = match url.path() {
            "" | "/" | "//" => "/".to_owned(),
            path => vhost(path)?,
        };
        Ok(Self { tls, host, port, user, password, vhost })
    }

    /// Whether the connection is encrypted.
    pub fn tls(&self) -> bool {
        self.tls
    }

    /// A name or an IP address, IPv6 in brackets.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// Never 0.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The user that publications may carry as their `user-id`.
    pub fn user(&self) -> &str {
        &self.user
    }

    /// Decoded, for the connection alone.
    pub fn password(&self) -> &str {
        &self.password
    }

    /// Decoded: `/` for the default one.
    pub fn vhost(&self) -> &str {
        &self.vhost
    }

    /// The whole address with its password, every part written out and encoded, for the connection alone.
    pub fn expose(&self) -> String {
        self.written(&encoded(&self.password))
    }

    fn written(&self, password: &str) -> String {
        let scheme = if self.tls { "amqps" } else { "amqp" };
        let (user, vhost) = (encoded(&self.user), encoded(&self.vhost));
        format!("{scheme}://{user}:{password}@{}:{}/{vhost}", self.host, self.port)
    }
}

impl fmt::Display for BrokerUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.written("***"))
    }
}

impl fmt::Debug for BrokerUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "BrokerUrl({self})")
    }
}

fn vhost(path: &str) -> Result<String, Problem> {
    let name = path.strip_prefix('/').unwrap_or(path);
    if name.contains('/') {
        let problem = Problem::new("a vhost's name has no `/` unless it is encoded");
        return Err(problem.hint("write `%2f` for `/`"));
    }
    decoded(name)
}

/// Undoes `%xx`.
fn decoded(text: &str) -> Result<String, Problem> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        if byte != b'%' {
            bytes.push(byte);
            continue;
        }
        let digits = (rest.next().and_then(hex_digit), rest.next().and_then(hex_digit));
        let (Some(high), Some(low)) = digits else {
            let problem = Problem::new("`%` in a broker's address begins an encoded byte");
            return Err(problem.hint("write `%25` for `%`"));
        };
        bytes.push(high << 4 | low);
    }
    let text = String::from_utf8(bytes).ok().filter(|text| !text.contains(char::is_control));
    text.ok_or_else(|| Problem::new("the broker's address has bytes that are not text"))
}

fn hex_digit(byte: u8) -> Option<u8> {
    char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok())
}

/// Writes everything but letters, digits and a few harmless signs as `%xx`.
fn encoded(text: &str) -> String {
    let encode = |byte: u8| match byte {
        b'-' | b'_' | b'.' | b'~' => char::from(byte).to_string(),
        byte if byte.is_ascii_alphanumeric() => char::from(byte).to_string(),
        byte => format!("%{byte:02x}"),
    };
    text.bytes().map(encode).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, shown: &str, exposed: &str) {
        let url = BrokerUrl::parse(text).unwrap_or_else(|problem| panic!("{text}: {problem}"));
        assert_eq!(url.to_string(), shown, "{text}");
        assert_eq!(url.expose(), exposed, "{text}");
        assert_eq!(BrokerUrl::parse(&url.expose()).as_ref(), Ok(&url), "{text}");
    }

    #[test]
    fn addresses() {
        let guest = ["amqp://guest:***@host:5672/%2f", "amqp://guest:guest@host:5672/%2f"];
        for text in ["amqp://host", "amqp://host/", "amqp://host//", "amqp://host:5672/%2F", "amqp://guest:guest@host"]
        {
            check(text, guest[0], guest[1]);
        }
        check("amqps://u:p@host/shop", "amqps://u:***@host:5671/shop", "amqps://u:p@host:5671/shop");
        check("amqp://u%40x:p%2f%40@h:1/a%2fb", "amqp://u%40x:***@h:1/a%2fb", "amqp://u%40x:p%2f%40@h:1/a%2fb");
        check("amqp://u:p@[::1]:5673/v", "amqp://u:***@[::1]:5673/v", "amqp://u:p@[::1]:5673/v");
    }

    #[test]
    fn parts() {
        let url = BrokerUrl::parse("amqps://me:s%20e@rabbit.example.com/caf%C3%A9").unwrap();
        assert_eq!((url.host(), url.port(), url.tls()), ("rabbit.example.com", 5671, true));
        assert_eq!((url.user(), url.password(), url.vhost()), ("me", "s e", "café"));
        assert_eq!(BrokerUrl::default(), BrokerUrl::parse("amqp://guest:guest@127.0.0.1:5672/%2f").unwrap());
    }

    #[test]
    fn a_bad_address_is_never_repeated() {
        let bad = [
            "",
            "hunter2",
            "http://u:hunter2@h",
            "amqp:u:hunter2@h",
            "amqp://",
            "amqp://u:hunter2@",
            "amqp://u:hunter2",
            "amqp://u:hunter2@h:port",
            "amqp://u:hunter2@h:0",
            "amqp://u:hunter2@h:99999",
            "amqp://hunter2@h",
            "amqp://hunter2:@h",
            "amqp://:hunter2@h",
            "amqp://u:hunter2%zz@h",
            "amqp://u:hunter2%ff@h",
            "amqp://u:hunter2?x@h",
            "amqp://u:hunter2@h/v?heartbeat=5",
            "amqp://u:hunter2#x@h",
            "amqp://u:hunter2/x@h",
            "amqp://u:hunter2@h/a/b",
            "amqp://u:hunter2@h/%0a",
        ];
        for text in bad {
            let problem = BrokerUrl::parse(text).expect_err(text);
            assert!(!problem.to_string().contains("hunter2"), "{text}: {problem}");
        }
    }

    #[test]
    fn the_password_is_not_shown() {
        let url = BrokerUrl::parse("amqp://u:hunter2@h").unwrap();
        assert_eq!(format!("{url} {url:?} {url:#?}").matches("hunter2").count(), 0);
    }
}
