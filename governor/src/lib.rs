//! Everything governor does: the daemon, its command line, and all input and output.
//!
//! Decisions are made in `governor-core` and `governor-common`; this crate carries them out. Only
//! `gate` names the BPF library, only `attester` names the TPM library, and effects are performed
//! in one place.

mod anchor;
mod arguments;
pub mod attester;
pub mod bundle;
pub mod canary;
pub mod cgroups;
pub mod cli;
pub mod config;
pub mod control;
pub mod daemon;
#[cfg(feature = "fault-points")]
mod fault;
#[cfg(feature = "fuzzing")]
pub mod fuzzing;
pub mod gate;
mod inventory;
pub mod ledger;
mod lock;
mod maps;
pub mod memory;
mod peers;
pub mod preload;
mod progress;
mod seeding;
pub mod stopping;
pub mod survival;
pub mod text;
