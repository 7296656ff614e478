//! What host and guest of the tests say to each other.
#![no_main]

governor_fuzz::target!(wire);
