//! Lists of trusted keys: never empty, never one key twice, never a threshold that cannot be met.

use governor_core::{
    engine::GlassKeys,
    policy::{KeysError, TrustedKeys},
};

use crate::signing;

/// What is accepted says the same at every threshold that its keys can meet, and is refused at others.
pub fn check(bytes: &[u8]) -> bool {
    let Ok(text) = str::from_utf8(bytes) else {
        return false;
    };
    let keys = match TrustedKeys::parse(text, 1) {
        Ok(keys) => keys,
        Err(error) => {
            assert!(!matches!(error, KeysError::Pinned { .. }));
            assert_eq!(GlassKeys::parse(text), Err(error));
            return false;
        }
    };
    let prints: Vec<String> = keys.fingerprints().collect();
    let count = prints.len();
    assert!(count > 0 && keys.threshold() == 1);
    assert_eq!(keys.digests().len(), count, "a key counts once");
    for threshold in [0, count as u32 + 1, u32::MAX] {
        let refused = TrustedKeys::parse(text, threshold);
        assert!(matches!(refused, Err(KeysError::Threshold { .. })));
    }
    let all = TrustedKeys::parse(text, count as u32);
    assert_eq!(all.map(|all| all.threshold()), Ok(count));
    // A list that is doubled names a key twice.
    let twice = TrustedKeys::parse(&format!("{text}\n{text}"), 1);
    assert!(matches!(twice, Err(KeysError::Twice { .. })));
    let known = keys.digests();
    assert_eq!(keys.clone().only(&known, 1), Ok(keys));
    true
}

/// One key, and two with all that may stand around them.
pub fn seeds() -> Vec<Vec<u8>> {
    let one = signing::line(1);
    let two = format!(
        "# signers\n\n{}   {}",
        one,
        signing::line(2).replace('\n', " alice@host \n")
    );
    vec![one.into_bytes(), two.into_bytes()]
}
