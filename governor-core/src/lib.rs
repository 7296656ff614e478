//! Everything governor decides, and nothing it does.
//!
//! Promises: no clock, no I/O, no randomness; the same input gives the same output on any machine.
//! Time, nonces and bytes are arguments. `attest`, `policy` and `lineage` do not know each other;
//! `engine` knows all three.
#![forbid(unsafe_code)]

pub mod attest;
pub mod digest;
pub mod engine;
pub mod lineage;
pub mod policy;
pub mod time;
