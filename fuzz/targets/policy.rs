//! A policy with its sets and reference values.
#![no_main]

governor_fuzz::target!(policy);
