//! What the daemon keeps beside its ledger.
#![no_main]

governor_fuzz::target!(state);
