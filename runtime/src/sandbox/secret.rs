//! Secrets: shown as `***` wherever a person might read them.

use std::{borrow::Cow, fmt};

use aho_corasick::{AhoCorasick, MatchKind};

use super::LoadError;
use crate::{
    delivery::Value,
    outcome::{Failure, Outcome, Publication, Settlement},
};

/// A shorter secret would turn half the log into asterisks, or would have to be shown.
pub const SECRET_BYTES_MIN: usize = 4;
/// A larger one is no secret, but a file that was meant for something else.
pub const SECRET_BYTES_MAX: usize = 64 * 1024;
/// A line of a secret that has several is looked for by itself where it is at least this long: the log is read by lines.
const LINE_BYTES_MIN: usize = 8;
/// What stands in a secret's place.
const SHOWN: &str = "***";

/// A value that is handed to a handler, and shown to nobody.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(Box<str>);

impl Secret {
    /// Takes a value.
    ///
    /// Errors: it is too short or too long; the text goes after the secret's name.
    pub fn new(value: &str) -> Result<Self, String> {
        match value.len() {
            0 => Err("is empty".into()),
            1..SECRET_BYTES_MIN => {
                Err(format!("has fewer than {SECRET_BYTES_MIN} bytes, too few to be kept out of logs"))
            }
            SECRET_BYTES_MIN..=SECRET_BYTES_MAX => Ok(Self(value.into())),
            _ => Err(format!("has more than {SECRET_BYTES_MAX} bytes")),
        }
    }

    /// The value, for the handler alone.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(SHOWN)
    }
}

impl fmt::Display for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(SHOWN)
    }
}

/// Takes a worker's secrets out of texts.
///
/// It is a guard against accidents: a handler that means to give a secret away can write it backwards.
#[derive(Default)]
pub struct Redactor(Option<Search>);

struct Search {
    patterns: Vec<Box<str>>,
    found: AhoCorasick,
}

impl Redactor {
    /// For these secrets. Errors: there is no room for the search.
    pub fn new<'s>(secrets: impl IntoIterator<Item = &'s Secret>) -> Result<Self, LoadError> {
        let mut patterns: Vec<Box<str>> = Vec::new();
        for secret in secrets {
            let lines = secret.0.lines().filter(|line| line.len() >= LINE_BYTES_MIN);
            patterns.extend(lines.map(Box::from));
            patterns.push(secret.0.clone());
        }
        patterns.sort_unstable();
        patterns.dedup();
        if patterns.is_empty() {
            return Ok(Self(None));
        }
        let found = AhoCorasick::builder().match_kind(MatchKind::LeftmostLongest).build(patterns.iter().map(|p| &**p));
        let found = found.map_err(|error| LoadError::Grant(format!("the secrets are too large: {error}")))?;
        Ok(Self(Some(Search { patterns, found })))
    }

    /// The bytes, with `***` in the place of each secret.
    pub fn bytes<'b>(&self, bytes: &'b [u8]) -> Cow<'b, [u8]> {
        match &self.0 {
            Some(Search { patterns, found }) if found.is_match(bytes) => {
                let shown: Vec<&[u8]> = patterns.iter().map(|_| SHOWN.as_bytes()).collect();
                found.replace_all_bytes(bytes, &shown).into()
            }
            _ => bytes.into(),
        }
    }

    /// The text, with `***` in the place of each secret.
    pub fn text(&self, text: String) -> String {
        match &self.0 {
            Some(Search { patterns, found }) if found.is_match(&text) => {
                found.replace_all(&text, &vec![SHOWN; patterns.len()])
            }
            _ => text,
        }
    }

    /// The failure, with such a text.
    pub fn failure(&self, failure: Failure) -> Failure {
        Failure { error: self.text(failure.error), ..failure }
    }

    /// The outcome, with such texts, bodies, headers and properties.
    pub fn outcome(&self, outcome: Outcome) -> Outcome {
        let settlement = match outcome.settlement {
            Settlement::DeadLetter(reason) => Settlement::DeadLetter(self.text(reason)),
            settlement => settlement,
        };
        let value = |value: Value| match value {
            Value::Text(bytes) => Value::Text(self.bytes(&bytes).into_owned()),
            Value::Bytes(bytes) => Value::Bytes(self.bytes(&bytes).into_owned()),
            value => value,
        };
        let publication = |mut publication: Publication| {
            publication.exchange = self.text(publication.exchange);
            publication.routing_key = self.text(publication.routing_key);
            publication.body = self.bytes(&publication.body).into_owned();
            let p = &mut publication.properties;
            p.headers = std::mem::take(&mut p.headers).into_iter().map(|(name, field)| (name, value(field))).collect();
            let texts = [&mut p.content_type, &mut p.content_encoding, &mut p.correlation_id, &mut p.reply_to];
            for text in texts.into_iter().chain([&mut p.message_id, &mut p.kind, &mut p.user_id, &mut p.app_id]) {
                *text = text.take().map(|text| self.text(text));
            }
            publication
        };
        Outcome { settlement, publications: outcome.publications.into_iter().map(publication).collect() }
    }

    /// How many bytes at the end may be the beginning of a secret, whose rest is still to come; with the whole of one that
    /// reaches into them.
    pub(super) fn open_end(&self, bytes: &[u8]) -> usize {
        let Some(Search { patterns, found }) = &self.0 else { return 0 };
        let open = |pattern: &str| {
            let most = bytes.len().min(pattern.len().saturating_sub(1));
            (1..=most).rev().find(|&length| pattern.as_bytes().get(..length) == bytes.get(bytes.len() - length..))
        };
        let open = patterns.iter().filter_map(|pattern| open(pattern)).max().unwrap_or_default();
        let start = bytes.len() - open;
        let cut = found.find_iter(bytes).find(|whole| whole.start() < start && start < whole.end());
        cut.map_or(open, |whole| bytes.len() - whole.start())
    }
}

/// Says how many there are.
impl fmt::Debug for Redactor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Redactor({})", self.0.as_ref().map_or(0, |search| search.patterns.len()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn redactor(secrets: &[&str]) -> Redactor {
        let secrets: Vec<_> = secrets.iter().map(|text| Secret::new(text).unwrap()).collect();
        Redactor::new(&secrets).unwrap()
    }

    #[test]
    fn a_secret_is_shown_nowhere() {
        let secret = Secret::new("hunter2!").unwrap();
        assert_eq!(format!("{secret} {secret:?} {:?}", Some(&secret)), "*** *** Some(***)");
        assert_eq!(format!("{:?}", redactor(&["hunter2!"])), "Redactor(1)");
    }

    #[test]
    fn too_short_and_too_long_ones_are_refused() {
        let refusal = |text: &str| Secret::new(text).unwrap_err();
        assert_eq!(refusal(""), "is empty");
        assert_eq!(refusal("abc"), "has fewer than 4 bytes, too few to be kept out of logs");
        assert_eq!(refusal(&"x".repeat(SECRET_BYTES_MAX + 1)), "has more than 65536 bytes");
        assert!(Secret::new("abcd").is_ok() && Secret::new(&"x".repeat(SECRET_BYTES_MAX)).is_ok());
    }

    #[test]
    fn secrets_are_taken_out_of_texts() {
        let check = |secrets: &[&str], text: &str, expected: &str| {
            assert_eq!(redactor(secrets).text(text.to_owned()), expected);
            assert_eq!(redactor(secrets).bytes(text.as_bytes()), expected.as_bytes());
        };
        check(&[], "hunter2", "hunter2");
        check(&["hunter2"], "the key is hunter2, hunter", "the key is ***, hunter");
        check(&["hunter2"], "hunter2hunter2", "******");
        // The longest that fits, so that nothing of it is left.
        check(&["hunt", "hunter2"], "hunter2 hunts", "*** ***s");
        // Line by line, and as a whole.
        let key = "-----BEGIN KEY-----\nMIIEvQIBADANBg\nend\n-----END KEY-----";
        check(&[key], "MIIEvQIBADANBg", "***");
        check(&[key], &format!("<{key}>"), "<***>");
    }

    #[test]
    fn a_beginning_at_the_end_is_noticed() {
        let redactor = redactor(&["hunter2", "terse-key"]);
        let check = |text: &str, expected: usize| assert_eq!(redactor.open_end(text.as_bytes()), expected, "{text}");
        check("", 0);
        check("nothing", 0);
        check("h", 1);
        check("xx hunter", 6);
        check("hunter2", 0);
        check("hunters", 4);
        check("hunter2x", 0);
        check("matter", 3);
        check("terse", 5);
        // One whose end is like its beginning.
        check("terse-key terse-keyt", 1);
        let redactor = self::redactor(&["abcab"]);
        assert_eq!(redactor.open_end(b"xabcab"), 5);
        assert_eq!(redactor.open_end(b"xabca"), 4);
    }
}
