//! Reference values.
#![no_main]

governor_fuzz::target!(reference);
