//! What the kernel's rings and lists hold.
#![no_main]

governor_fuzz::target!(record);
