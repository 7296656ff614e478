//! Programs and scripts, looked at for what they need.
#![no_main]

governor_fuzz::target!(program);
