//! Appraisal: nobody but the key's TPM makes evidence that is accepted.
//!
//! The genuine evidence is signed here by a fixed key; fuzzing gets it as its seed and never the key.

use std::{collections::BTreeMap, sync::LazyLock};

use governor_core::{
    attest::{
        Algorithm, AttestationKey, Challenge, ClockInfo, Evidence, Name, Nonce, PcrSelection,
        Public, Quote, QuotedBank, ReferenceValues, appraise, composite, diagnose,
    },
    digest::Digest,
};
use signature::Signer as _;

use crate::{joined, parts, put_sized, quote::encode};

/// What is accepted is what was signed, and the list of objections is empty exactly then.
pub fn check(bytes: &[u8]) -> bool {
    let parts = parts(bytes);
    let part = |index: usize| parts.get(index).copied().unwrap_or_default().to_vec();
    let mut pcrs = GENUINE.pcrs.clone();
    // Number and value of each register that is sent with another value, or without need.
    for change in part(3).chunks_exact(2) {
        if let [pcr, value] = change {
            pcrs.insert(*pcr, Digest::of(&[*value]));
        }
    }
    let evidence = Evidence {
        quote: part(0),
        signature: part(1),
        ak_public: part(2),
        pcrs,
        event_log: part(4),
    };
    let reference = reference();
    let found = diagnose(&evidence, &challenge(), &selection(), &reference);
    match appraise(&evidence, &challenge(), &selection(), &reference) {
        Ok(result) => {
            assert!(found.is_empty(), "{found:?}");
            assert_eq!(evidence.quote, GENUINE.quote, "a quote was forged");
            assert_eq!(evidence.ak_public, GENUINE.ak_public);
            assert_eq!(evidence.pcrs, GENUINE.pcrs);
            assert_eq!(result.evidence_digest(), evidence.digest());
            true
        }
        Err(rejection) => {
            assert!(found.contains(&rejection), "{rejection} not in {found:?}");
            false
        }
    }
}

/// The genuine evidence, without and with an event log.
pub fn seeds() -> Vec<Vec<u8>> {
    let genuine = [
        GENUINE.quote.as_slice(),
        &GENUINE.signature,
        &GENUINE.ak_public,
        &[],
    ];
    let log: &[u8] = b"Spec ID Event03";
    vec![joined(&genuine), joined(&[&genuine[..], &[log]].concat())]
}

/// A quote that answers the challenge.
pub(crate) fn quote() -> Vec<u8> {
    GENUINE.quote.clone()
}

/// The signature over it.
pub(crate) fn signature() -> Vec<u8> {
    GENUINE.signature.clone()
}

/// The public area of the key that made it.
pub(crate) fn public() -> Vec<u8> {
    GENUINE.ak_public.clone()
}

pub(crate) fn challenge() -> Challenge {
    Challenge {
        nonce: Nonce::new([1; 32]),
        host: Digest::new([2; 32]),
        policy: Digest::new([3; 32]),
        ledger_size: 4,
        ledger_head: Digest::new([5; 32]),
        trips: 6,
    }
}

pub(crate) fn reference() -> ReferenceValues {
    let public = Public::parse(&GENUINE.ak_public).ok();
    let key = public.and_then(|public| AttestationKey::new(&public).ok());
    let names: Vec<Name> = key.map(|key| key.name()).into_iter().collect();
    ReferenceValues::new(names, GENUINE.pcrs.clone())
}

fn selection() -> PcrSelection {
    match PcrSelection::new([0, 7, 23]) {
        Ok(selection) => selection,
        Err(error) => unreachable!("three registers are selected: {error}"),
    }
}

static GENUINE: LazyLock<Evidence> = LazyLock::new(|| {
    let key = match p256::ecdsa::SigningKey::from_slice(&[7; 32]) {
        Ok(key) => key,
        Err(error) => unreachable!("the key is a number below the order: {error}"),
    };
    let pcrs: BTreeMap<u8, Digest> = selection()
        .iter()
        .map(|pcr| (pcr, Digest::of(&[pcr])))
        .collect();
    let digest = composite(&selection(), &pcrs).map(|digest| digest.bytes().to_vec());
    let quote = encode(&Quote {
        qualified_signer: [&[0, 0xb][..], &[0x7c; 32]].concat(),
        extra_data: challenge().extra_data().bytes().to_vec(),
        clock: ClockInfo {
            clock: 5_994,
            reset_count: 7,
            restart_count: 2,
            safe: true,
        },
        firmware: 0x2016_0511_0016_2800,
        banks: vec![QuotedBank {
            hash: Algorithm::SHA256,
            octets: selection().octets().to_vec(),
        }],
        pcr_digest: digest.unwrap_or_default(),
    });
    let signed: p256::ecdsa::Signature = key.sign(&quote);
    let (r, s) = signed.split_bytes();
    let mut signature = vec![0, 0x18, 0, 0xb];
    put_sized(&mut signature, &r);
    put_sized(&mut signature, &s);
    let point = key.verifying_key().to_encoded_point(false);
    let mut ak_public = vec![
        0, 0x23, 0, 0xb, 0, 5, 0, 0x72, 0, 0, 0, 0x10, 0, 0x18, 0, 0xb,
    ];
    ak_public.extend([0, 3, 0, 0x10]);
    for number in [point.x(), point.y()] {
        put_sized(&mut ak_public, number.map_or(&[][..], |number| number));
    }
    Evidence {
        quote,
        signature,
        ak_public,
        pcrs,
        event_log: Vec::new(),
    }
});
