//! Challenges, and the small texts of attestation.
#![no_main]

governor_fuzz::target!(challenge);
