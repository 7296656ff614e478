//! Parsers of this crate that nothing outside can call, each with what must hold of it: for the fuzz
//! targets, and in no package.

pub use crate::{
    attester::fuzzing::{attestation_key, pcr_values},
    cli::fuzzing::arguments,
    control::fuzzing::requests,
    daemon::fuzzing::event,
    gate::fuzzing::{carriers, mounts, types},
    stopping::fuzzing::sockets,
    survival::fuzzing::{files, program},
};

use crate::anchor::Anchored;

/// An anchor says the same when it is written again.
pub fn anchor(text: &str) -> bool {
    let Ok(anchored) = Anchored::parse(text) else {
        return false;
    };
    let again = anchored.write().and_then(|text| Anchored::parse(&text));
    assert_eq!(again.ok(), Some(anchored));
    true
}
