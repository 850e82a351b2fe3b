//! Why the broker refuses what a client asked for: a reply code and a text, as RabbitMQ gives them.

use std::fmt::{self, Display};

use amq_protocol::types::ShortString;

/// The most bytes that a short string may have.
const SHORT_BYTES_MAX: usize = 255;

/// A reply code. Those that [`Code::is_hard`] close the connection, the others the channel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[expect(missing_docs, reason = "the names are those of the protocol")]
pub enum Code {
    ConnectionForced = 320,
    AccessRefused = 403,
    NotFound = 404,
    ResourceLocked = 405,
    PreconditionFailed = 406,
    FrameError = 501,
    SyntaxError = 502,
    CommandInvalid = 503,
    ChannelError = 504,
    UnexpectedFrame = 505,
    ResourceError = 506,
    NotAllowed = 530,
    NotImplemented = 540,
    InternalError = 541,
}

impl Code {
    /// The number of the protocol.
    #[must_use]
    pub fn number(self) -> u16 {
        self as u16
    }

    /// Whether it ends the connection.
    #[must_use]
    pub fn is_hard(self) -> bool {
        !matches!(self, Code::AccessRefused | Code::NotFound | Code::ResourceLocked | Code::PreconditionFailed)
    }

    fn name(self) -> &'static str {
        match self {
            Code::ConnectionForced => "CONNECTION_FORCED",
            Code::AccessRefused => "ACCESS_REFUSED",
            Code::NotFound => "NOT_FOUND",
            Code::ResourceLocked => "RESOURCE_LOCKED",
            Code::PreconditionFailed => "PRECONDITION_FAILED",
            Code::FrameError => "FRAME_ERROR",
            Code::SyntaxError => "SYNTAX_ERROR",
            Code::CommandInvalid => "COMMAND_INVALID",
            Code::ChannelError => "CHANNEL_ERROR",
            Code::UnexpectedFrame => "UNEXPECTED_FRAME",
            Code::ResourceError => "RESOURCE_ERROR",
            Code::NotAllowed => "NOT_ALLOWED",
            Code::NotImplemented => "NOT_IMPLEMENTED",
            Code::InternalError => "INTERNAL_ERROR",
        }
    }
}

/// A refusal, shown as the reply text that the client gets.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub struct Failure {
    /// The reply code.
    pub code: Code,
    /// What is wrong, without the code's name.
    pub text: String,
    /// Class and method of what could not be read; zeroes where it is not known, or the caller knows.
    pub method: (u16, u16),
}

impl Failure {
    /// A refusal with this text.
    pub fn new(code: Code, text: impl Into<String>) -> Failure {
        Failure { code, text: text.into(), method: (0, 0) }
    }

    /// A 406 with this text.
    pub fn precondition(text: impl Into<String>) -> Failure {
        Failure::new(Code::PreconditionFailed, text)
    }

    /// A 404 for `no KIND 'NAME' in vhost 'VHOST'`.
    #[must_use]
    pub fn missing(kind: &str, name: &str, vhost: &str) -> Failure {
        Failure::new(Code::NotFound, format!("no {kind} '{name}' in vhost '{vhost}'"))
    }

    /// The reply text, cut where it would be too long.
    #[must_use]
    pub fn reply_text(&self) -> ShortString {
        short(self.to_string())
    }
}

impl Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} - {}", self.code.name(), self.text)
    }
}

/// A short string, cut to what one may have.
pub(crate) fn short(text: impl Into<String>) -> ShortString {
    let mut text = text.into();
    if text.len() > SHORT_BYTES_MAX {
        let end = (0..=SHORT_BYTES_MAX).rev().find(|end| text.is_char_boundary(*end)).unwrap_or(0);
        text.truncate(end);
    }
    ShortString::try_new(text).unwrap_or_default()
}
