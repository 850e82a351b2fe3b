//! The addresses of the nodes of one broker, in the order in which they are tried.

use super::BrokerUrl;
use crate::manifest::report::Problem;

/// More nodes than any cluster has.
const ADDRESSES_MAX: usize = 16;
const EXAMPLE: &str =
    "several addresses are the nodes of one cluster, written out each: `amqp://U:P@ONE/V,amqp://U:P@TWO/V`";

/// One address or more, which name the same user, password and vhost.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct BrokerUrls {
    first: BrokerUrl,
    others: Vec<BrokerUrl>,
}

impl BrokerUrls {
    /// Takes addresses in the order in which they are to be tried: 1 to 16.
    pub fn new(urls: impl IntoIterator<Item = BrokerUrl>) -> Result<Self, Problem> {
        let mut urls = urls.into_iter();
        let first = urls.next().ok_or_else(|| Problem::new("no address of a broker"))?;
        let others: Vec<_> = urls.collect();
        if others.len() >= ADDRESSES_MAX {
            return Err(Problem::new(format!("more than {ADDRESSES_MAX} addresses of a broker")));
        }
        for (number, other) in (2..).zip(&others) {
            let differs =
                |what: &str| Problem::new(format!("address {number} has another {what} than address 1")).hint(EXAMPLE);
            if other.user() != first.user() {
                return Err(differs("user"));
            }
            if other.password() != first.password() {
                return Err(differs("password"));
            }
            if other.vhost() != first.vhost() {
                return Err(differs("vhost"));
            }
        }
        Ok(Self { first, others })
    }

    /// Reads one address, or several with commas in between. Problems never repeat what was read.
    pub fn parse(text: &str) -> Result<Self, Problem> {
        Self::new(split(text).into_iter().map(BrokerUrl::parse).collect::<Result<Vec<_>, _>>()?)
    }

    /// All of them, in order.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = &BrokerUrl> + Clone {
        // `Chain` does not know its length.
        (0..self.len().get()).map(|index| self.at(index))
    }

    /// How many there are.
    pub fn len(&self) -> std::num::NonZeroUsize {
        std::num::NonZeroUsize::MIN.saturating_add(self.others.len())
    }

    /// The one at this place, counted from 0 and round and round.
    pub fn at(&self, index: usize) -> &BrokerUrl {
        match index % self.len() {
            0 => &self.first,
            place => self.others.get(place - 1).unwrap_or(&self.first),
        }
    }

    /// The user of all of them, whom publications may carry as their `user-id`.
    pub fn user(&self) -> &str {
        self.first.user()
    }
}

/// A password or a vhost may hold a comma, so one separates only where an address begins behind it.
fn split(text: &str) -> Vec<&str> {
    let begins = |rest: &str| rest.starts_with("amqp://") || rest.starts_with("amqps://");
    let mut parts = Vec::new();
    let mut start = 0;
    for (comma, _) in text.match_indices(',') {
        if text.get(comma + 1..).is_some_and(|rest| begins(rest.trim_start())) {
            parts.extend(text.get(start..comma));
            start = comma + 1;
        }
    }
    parts.extend(text.get(start..));
    parts.into_iter().map(str::trim).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_kept_in_order() {
        let check = |text: &str, expected: &[&str]| {
            let urls = BrokerUrls::parse(text).unwrap_or_else(|problem| panic!("{text}: {problem}"));
            let exposed: Vec<_> = urls.iter().map(BrokerUrl::expose).collect();
            assert_eq!(exposed, expected, "{text}");
            assert_eq!(urls.len().get(), expected.len());
        };
        check("amqp://u:p@one/v", &["amqp://u:p@one:5672/v"]);
        check("amqp://u:p@one/v,amqp://u:p@two:1/v", &["amqp://u:p@one:5672/v", "amqp://u:p@two:1/v"]);
        check(" amqps://u:p@b/v ,\n amqp://u:p@a/v ", &["amqps://u:p@b:5671/v", "amqp://u:p@a:5672/v"]);
        // Commas of a password and of a vhost.
        check("amqp://u:p,q@a/v,w,amqp://u:p,q@b/v,w", &["amqp://u:p%2cq@a:5672/v%2cw", "amqp://u:p%2cq@b:5672/v%2cw"]);
    }

    #[test]
    fn places_go_round() {
        let urls = BrokerUrls::parse("amqp://a,amqp://b,amqp://c").unwrap();
        let hosts: Vec<_> = (0..7).map(|index| urls.at(index).host()).collect();
        assert_eq!(hosts.concat(), "abcabca");
        assert_eq!(BrokerUrls::default().at(5), &BrokerUrl::default());
    }

    #[test]
    fn all_are_of_one_broker() {
        let check = |text: &str, message: &str| {
            let problem = BrokerUrls::parse(text).expect_err(text);
            assert_eq!(problem.message, message, "{text}");
            assert!(!format!("{problem} {problem:?}").contains("hunter"), "{problem:?}");
        };
        check("amqp://u:hunter2@a/v,amqp://x:hunter2@b/v", "address 2 has another user than address 1");
        check(
            "amqp://u:hunter2@a/v,amqp://u:hunter2@b/v,amqp://u:hunter3@c/v",
            "address 3 has another password than address 1",
        );
        check("amqp://u:hunter2@a/v,amqp://u:hunter2@b", "address 2 has another vhost than address 1");
        // Not the whole of it is one address, and a part that is none is not repeated either.
        check("amqp://u:hunter2@a/v,amqp://hunter2@b", "the broker's address has a user and no password");
        check("amqp://u:hunter2@a,b", "a host's name has no comma");
        check("amqp://u:hunter2@a,", "a host's name has no comma");
        check("", "a broker's address begins with `amqp://` or `amqps://`");
        assert_eq!(BrokerUrls::new([]).unwrap_err().message, "no address of a broker");
        let many = |count| BrokerUrls::new(vec![BrokerUrl::default(); count]);
        assert_eq!(many(ADDRESSES_MAX).unwrap().len().get(), ADDRESSES_MAX);
        assert_eq!(many(ADDRESSES_MAX + 1).unwrap_err().message, "more than 16 addresses of a broker");
    }
}
