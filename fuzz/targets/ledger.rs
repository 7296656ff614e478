//! The ledger's file, and what a restart learns from it.
#![no_main]

governor_fuzz::target!(ledger);
