//! The control protocol: the only way from the command line or a console to the daemon.
//!
//! Promises: the kernel says who calls, and that is checked before a byte is read; handlers turn
//! messages into [`Command`] values and nothing else, so whatever the daemon acts on has a type.
//! Refuses: callers that are not root, callers inside a governed zone, messages above
//! [`MAX_MESSAGE`], and connections that do not ask for anything.

pub mod client;
pub mod command;
mod connection;
pub mod failure;
#[cfg(feature = "fuzzing")]
pub(crate) mod fuzzing;
mod holding;
pub mod json;
mod parse;
pub mod peer;
pub mod server;
mod service;
mod stream;

use governor_core::policy::MAX_TOTAL;

pub use command::{Answer, Command, Question, Refusal, Target};
pub use failure::Failure;
pub use peer::Caller;

/// Messages, client and server generated from `proto/governor/v1/control.proto`.
pub mod proto {
    #![expect(
        clippy::allow_attributes,
        clippy::allow_attributes_without_reason,
        clippy::large_enum_variant,
        reason = "generated"
    )]
    tonic::include_proto!("governor.v1");
}

/// Largest message either side accepts. A policy bundle travels as one message.
pub const MAX_MESSAGE: usize = MAX_TOTAL + (4 << 20);
