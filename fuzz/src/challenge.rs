//! Challenges, and the small texts beside them: each is read as it is written.

use governor_core::{
    attest::{Challenge, Name, PcrSelection},
    digest::Digest,
    engine::{GlassChallenge, LONGEST, Request},
};

use crate::evidence;

/// What is accepted is the same when it is written again; what is signed has one spelling.
pub fn check(bytes: &[u8]) -> bool {
    let Ok(text) = str::from_utf8(bytes) else {
        return false;
    };
    let quoted = Challenge::parse(text);
    if let Ok(challenge) = &quoted {
        assert_eq!(Challenge::parse(&challenge.write()).as_ref(), Ok(challenge));
    }
    let glass = GlassChallenge::parse(text);
    if let Ok(challenge) = &glass {
        assert_eq!(challenge.write(), text);
        let span = challenge.request.span();
        assert!(span <= LONGEST && span.as_seconds() > 0);
        assert!(!challenge.request.reason().contains(char::is_control));
    }
    let selection = PcrSelection::parse(text);
    if let Ok(selection) = &selection {
        assert_eq!(
            PcrSelection::parse(&selection.to_string()).as_ref(),
            Ok(selection)
        );
        assert!(selection.octets() != [0; 3]);
    }
    let name = Name::from_hex(text);
    assert!(name.is_none_or(|name| name.to_string() == text));
    quoted.is_ok() || glass.is_ok() || selection.is_ok() || name.is_some()
}

/// One of each.
pub fn seeds() -> Vec<Vec<u8>> {
    let glass = glass().map(|challenge| challenge.write());
    let mut seeds = vec![
        evidence::challenge().write(),
        "0,7,23".to_owned(),
        format!("000b{}", Digest::of(b"a key")),
    ];
    seeds.extend(glass);
    seeds.into_iter().map(String::into_bytes).collect()
}

/// A challenge to break the glass.
pub(crate) fn glass() -> Option<GlassChallenge> {
    let request = Request::new("the TPM died", 1800).ok()?;
    Some(GlassChallenge {
        host: Digest::new([2; 32]),
        boot: [3; 16],
        nonce: [4; 32],
        request,
    })
}
