//! Texts of a host, read line by line.
#![no_main]

governor_fuzz::target!(files);
