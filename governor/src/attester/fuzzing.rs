//! What must hold of the attestation key's file and of PCR values that lie beside evidence.

use super::{ak::Blobs, files};

/// A key file has one encoding.
pub fn attestation_key(bytes: &[u8]) -> bool {
    let Ok(blobs) = Blobs::parse(bytes) else {
        return false;
    };
    assert_eq!(blobs.bytes().ok().as_deref(), Some(bytes));
    true
}

/// Values are the same when they are written again.
pub fn pcr_values(text: &str) -> bool {
    let Ok(values) = files::read_pcrs(text) else {
        return false;
    };
    let again = files::read_pcrs(&files::write_pcrs(&values));
    assert_eq!(again.ok(), Some(values));
    true
}
