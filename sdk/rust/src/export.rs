//! How a function becomes the export `wabbit:worker/handler`. Nothing here is for handlers to use by name.

use std::{any::Any, fmt};

use crate::{Error, Outcome};

// The types of this crate are those of the contract, field by field, so that nothing is converted at the edge.
#[cfg(target_arch = "wasm32")]
#[expect(missing_docs, reason = "generated")]
pub mod bindings {
    wit_bindgen::generate!({
        path: "../wit",
        world: "worker",
        with: { "wabbit:worker/types@0.1.0": crate },
        pub_export_macro: true,
    });
}

/// What `export_handler` needs in the crate of a handler.
pub mod private {
    pub use super::Answer;
    #[cfg(target_arch = "wasm32")]
    pub use super::bindings;
}

/// What a handler may return.
#[diagnostic::on_unimplemented(
    message = "a handler cannot return `{Self}`",
    note = "it returns `Outcome` or `Result<Outcome, E>`, where `E` is `wabbit_sdk::Error` or can be displayed"
)]
pub trait Answer {
    /// As the contract has it: an error is a failure's text.
    fn into_result(self) -> Result<Outcome, String>;
}

impl Answer for Outcome {
    fn into_result(self) -> Result<Outcome, String> {
        Ok(self)
    }
}

impl<E: fmt::Display + 'static> Answer for Result<Outcome, E> {
    fn into_result(self) -> Result<Outcome, String> {
        self.or_else(|error| match (&error as &dyn Any).downcast_ref::<Error>() {
            Some(error) if !error.retriable => Ok(Outcome::dead_letter(&error.reason)),
            // The alternate form of errors like anyhow's tells their sources too.
            _ => Err(format!("{error:#}")),
        })
    }
}

/// What `#[handler]` adds to a function.
#[cfg(target_arch = "wasm32")]
#[doc(hidden)]
#[macro_export]
macro_rules! export_handler {
    ($handle:ident) => {
        const _: () = {
            struct Handler;

            impl $crate::private::bindings::exports::wabbit::worker::handler::Guest for Handler {
                fn handle(
                    delivery: $crate::Delivery,
                ) -> ::core::result::Result<$crate::Outcome, ::std::string::String> {
                    $crate::private::Answer::into_result($handle(delivery))
                }
            }

    $crate::private::bindings::export!(Handler with_types_in $crate::private::bindings);
        };
    };
}

/// What `#[handler]` adds to a function: outside wasm, only that it is one.
#[cfg(not(target_arch = "wasm32"))]
#[doc(hidden)]
#[macro_export]
macro_rules! export_handler {
    ($handle:ident) => {
        const _: fn($crate::Delivery) -> ::core::result::Result<$crate::Outcome, ::std::string::String> =
            |delivery| $crate::private::Answer::into_result($handle(delivery));
    };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_become_text_or_dead_letters() {
        fn check(answer: impl Answer, expected: Result<Outcome, String>) {
            assert_eq!(answer.into_result(), expected);
        }
        check(Outcome::requeue(), Ok(Outcome::requeue()));
        check(Ok::<_, Error>(Outcome::ack()), Ok(Outcome::ack()));
        check(Err(Error::new("down")), Err("down".into()));
        check(Err(Error::dead_letter("odd")), Ok(Outcome::dead_letter("odd")));
        check(Err("any text"), Err("any text".into()));
    }
}
