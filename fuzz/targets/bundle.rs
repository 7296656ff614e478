//! The manifest of a policy.
#![no_main]

governor_fuzz::target!(bundle);
