//! The signature beside a quote.
#![no_main]

governor_fuzz::target!(signature);
