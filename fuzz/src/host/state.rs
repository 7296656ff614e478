//! What the daemon keeps: the anchor, the attestation key's file, register values beside evidence.

use governor_core::digest::Digest;

/// As each of them.
pub fn check(bytes: &[u8]) -> bool {
    let text = str::from_utf8(bytes).ok();
    let texts = [governor::fuzzing::anchor, governor::fuzzing::pcr_values];
    let read = texts.map(|read| text.is_some_and(read));
    governor::fuzzing::attestation_key(bytes) || read.contains(&true)
}

/// One of each, and an anchor that says what is wrong.
pub fn seeds() -> Vec<Vec<u8>> {
    let digest = Digest::of(b"record");
    let mut key = b"governor-ak-v1\0\x01".to_vec();
    for area in [&[1; 126][..], &[2; 90]] {
        crate::put_sized(&mut key, area);
    }
    let anchor = format!("size = 7\nhead = \"{digest}\"\n");
    let broken = "\n[broken]\nflaw = \"rolled-back\"\ndetail = \"it had \\\"5\\\"\\n\"\n";
    vec![
        key,
        format!("{anchor}{broken}").into_bytes(),
        anchor.into_bytes(),
        format!("[pcr]\n0 = \"{digest}\"\n23 = \"{digest}\"\n").into_bytes(),
    ]
}
