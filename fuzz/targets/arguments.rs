//! Arguments of the command line.
#![no_main]

governor_fuzz::target!(arguments);
