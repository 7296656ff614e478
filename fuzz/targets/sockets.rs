//! The kernel's answers about sockets.
#![no_main]

governor_fuzz::target!(sockets);
