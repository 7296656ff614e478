//! All evidence, appraised.
#![no_main]

governor_fuzz::target!(evidence);
