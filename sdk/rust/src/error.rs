//! Why a handler does not answer.

use std::{any::Any, error::Error as StdError, fmt};

/// Why a delivery could not be handled. `?` makes one of any error, with the texts of its sources.
///
/// It is a failure: nothing is published, and the manifest's failure policy decides about retries. Only
/// [`Error::dead_letter`], and a [`BodyError`], send the delivery to the dead-letter queue at once.
#[derive(Clone, PartialEq, Eq)]
pub struct Error {
    pub(crate) reason: String,
    pub(crate) retriable: bool,
}

impl Error {
    /// A failure for that reason.
    pub fn new(reason: impl fmt::Display) -> Self {
        Self { reason: reason.to_string(), retriable: true }
    }

    /// An error that another try would not mend: the delivery goes to the dead-letter queue, with this reason.
    pub fn dead_letter(reason: impl fmt::Display) -> Self {
        Self { reason: reason.to_string(), retriable: false }
    }
}

/// The body is not what the handler reads. It will be no better the next time, so that it becomes an
/// [`Error::dead_letter`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BodyError(pub(crate) String);

// `Error` is not a `std::error::Error` itself: else this would overlap with `From<T> for T`.
impl<E: StdError + 'static> From<E> for Error {
    fn from(error: E) -> Self {
        let mut reason = error.to_string();
        let mut source = error.source();
        while let Some(error) = source {
            reason = format!("{reason}: {error}");
            source = error.source();
        }
        Self { reason, retriable: !(&error as &dyn Any).is::<BodyError>() }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.reason)
    }
}

/// What a failed test prints.
impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let variant = if self.retriable { "new" } else { "dead_letter" };
        write!(f, "Error::{variant}({:?})", self.reason)
    }
}

impl fmt::Display for BodyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl StdError for BodyError {}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug)]
    struct Failed(&'static str, Option<Box<Failed>>);

    impl fmt::Display for Failed {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str(self.0)
        }
    }

    impl StdError for Failed {
        fn source(&self) -> Option<&(dyn StdError + 'static)> {
            self.1.as_deref().map(|failed| failed as _)
        }
    }

    #[test]
    fn sources_are_told() {
        let cause = Failed("no route", None);
        let error = Failed("cannot send", Some(Box::new(Failed("cannot connect", Some(Box::new(cause))))));
        assert_eq!(Error::from(error), Error::new("cannot send: cannot connect: no route"));
    }

    #[test]
    fn a_body_that_cannot_be_read_is_not_retried() {
        assert_eq!(Error::from(BodyError("odd".into())), Error::dead_letter("odd"));
    }
}
