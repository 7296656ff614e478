//! Signatures over policies and break-glass challenges.
#![no_main]

governor_fuzz::target!(armor);
