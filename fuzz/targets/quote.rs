//! What the TPM signed.
#![no_main]

governor_fuzz::target!(quote);
