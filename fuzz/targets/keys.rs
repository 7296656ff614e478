//! Lists of trusted keys.
#![no_main]

governor_fuzz::target!(keys);
