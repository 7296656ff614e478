//! The kernel's types.
#![no_main]

governor_fuzz::target!(types);
