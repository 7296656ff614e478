//! Requests to the daemon.
#![no_main]

governor_fuzz::target!(requests);
