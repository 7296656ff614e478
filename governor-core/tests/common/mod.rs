//! The example policy as bytes, keys made from fixed seeds, and signatures by them.
#![expect(dead_code, reason = "each test binary uses a part of this")]

use std::collections::BTreeMap;

use governor_common::row::Row;
use governor_core::{
    policy::{
        Diagnostics, Epochs, Ids, MANIFEST, NAMESPACE, POLICY, Policy, RawBundle, SIGNATURE,
        TrustedKeys, compile, parse, write_manifest,
    },
    time::{BootTime, ClockReading, Span, WallTime},
};
use ssh_key::{HashAlg, LineEnding, PrivateKey, private::Ed25519Keypair};

/// Inside the example's validity, and its workload's: 2026-11-15.
pub(crate) const NOW: WallTime = WallTime(1_794_700_800);

pub(crate) type Files = BTreeMap<String, Vec<u8>>;

pub(crate) fn example() -> Files {
    let mut files = Files::new();
    let mut add = |name: &str, text: &str| files.insert(name.to_owned(), text.as_bytes().to_vec());
    add(
        POLICY,
        include_str!("../../../policies/agent-host/policy.toml"),
    );
    add(
        "reference.toml",
        include_str!("../../../policies/agent-host/reference.toml"),
    );
    add(
        "sets/governor.sha256",
        include_str!("../../../policies/agent-host/sets/governor.sha256"),
    );
    add(
        "sets/planner.sha256",
        include_str!("../../../policies/agent-host/sets/planner.sha256"),
    );
    add(
        "sets/os-libraries.sha256",
        include_str!("../../../policies/agent-host/sets/os-libraries.sha256"),
    );
    add(
        "sets/os-base.sha256",
        include_str!("../../../policies/agent-host/sets/os-base.sha256"),
    );
    files
}

pub(crate) fn example_text() -> String {
    String::from_utf8(example().remove(POLICY).expect("a policy")).expect("UTF-8")
}

pub(crate) fn bundle(files: Files) -> RawBundle {
    RawBundle::new(files).expect("within limits")
}

/// Parses the example with another `policy.toml`.
pub(crate) fn with_text(text: &str) -> Result<Policy, Diagnostics> {
    let mut files = example();
    files.insert(POLICY.to_owned(), text.as_bytes().to_vec());
    parse(&bundle(files))
}

/// Parses the example with `from` replaced by `to` in `policy.toml`.
pub(crate) fn edited(from: &str, to: &str) -> Result<Policy, Diagnostics> {
    let text = example_text();
    assert!(text.contains(from), "the example has no {from}");
    with_text(&text.replacen(from, to, 1))
}

/// What the kernel is given of it.
pub(crate) fn rows(policy: &Policy) -> Vec<Row> {
    let mut ids = Ids::default();
    ids.assign(policy);
    let users = BTreeMap::from([("agent".to_owned(), 990)]);
    let clock = ClockReading {
        wall: NOW,
        boot: BootTime(1_000_000_000_000),
        suspended: Span(0),
    };
    let epochs = Epochs {
        attested: 11,
        policy: 22,
    };
    let compiled = compile(policy, &ids, &users, clock, epochs, 3, &BTreeMap::new());
    compiled.expect("compiles").rows
}

pub(crate) fn key(seed: u8) -> PrivateKey {
    PrivateKey::from(Ed25519Keypair::from_seed(&[seed; 32]))
}

pub(crate) fn trusted(seeds: &[u8], threshold: u32) -> TrustedKeys {
    let lines: String = seeds
        .iter()
        .map(|seed| key(*seed).public_key().to_openssh().expect("encodes") + "\n")
        .collect();
    TrustedKeys::parse(&lines, threshold).expect("keys")
}

pub(crate) fn signature(key: &PrivateKey, namespace: &str, bytes: &[u8]) -> String {
    let signature = key.sign(namespace, HashAlg::Sha512, bytes).expect("signs");
    signature.to_pem(LineEnding::LF).expect("encodes")
}

/// Writes a manifest over `files` and signs it with each of `seeds`.
pub(crate) fn sign(mut files: Files, seeds: &[u8]) -> Files {
    files.remove(MANIFEST);
    files.remove(SIGNATURE);
    let manifest = write_manifest(&bundle(files.clone()));
    let signatures: String = seeds
        .iter()
        .map(|seed| signature(&key(*seed), NAMESPACE, manifest.as_bytes()))
        .collect();
    files.insert(MANIFEST.to_owned(), manifest.into_bytes());
    files.insert(SIGNATURE.to_owned(), signatures.into_bytes());
    files
}
