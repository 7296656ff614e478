//! The attestation key's public area.
#![no_main]

governor_fuzz::target!(public);
