//! Arguments of the command line that are read before the daemon is asked.

/// Durations, users and digests.
pub fn check(bytes: &[u8]) -> bool {
    str::from_utf8(bytes).is_ok_and(governor::fuzzing::arguments)
}

/// Some of each.
pub fn seeds() -> Vec<Vec<u8>> {
    let digits = "ab".repeat(32);
    let texts = [
        "30m",
        "1h 30m",
        "90s",
        "1000",
        "agent",
        "user@domain",
        &digits,
    ];
    texts.map(|text| text.as_bytes().to_vec()).to_vec()
}
