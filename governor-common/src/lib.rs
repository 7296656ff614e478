//! What the kernel programs and user space agree on, and nothing else.
//!
//! Promises: every type here has one layout on both sides (checked by tests), every shared number
//! that means something is non-zero, and [`decide`] is the only place a verdict is made. The kernel
//! programs call it with what they saw; the daemon, `explain` and the tests call the same function.
//!
//! Refuses: no dependencies, no allocation, no pointers, no strings that decide anything.
#![cfg_attr(not(any(test, feature = "user")), no_std)]

pub mod carrier;
pub mod decide;
pub mod event;
pub mod facts;
pub mod guard;
pub mod names;
pub mod net;
mod open;
mod peer;
pub mod reason;
pub mod row;
pub mod signal;
pub mod state;
mod words;

#[cfg(feature = "user")]
mod bytes;
#[cfg(feature = "user")]
pub use bytes::Plain;

pub use carrier::{Carrier, Line};
pub use decide::{
    decide_connect, decide_exec, decide_guard, decide_map, decide_open, decide_peer, decide_send,
    decide_socket,
};
pub use event::Event;
pub use facts::{Facts, Label, Measured, Operation};
pub use reason::{Reason, Verdict};
pub use row::{Row, RowKey};
pub use signal::{Actor, Signal};
pub use state::StateWords;
