//! The daemon's configuration.
#![no_main]

governor_fuzz::target!(config);
