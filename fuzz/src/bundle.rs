//! The manifest of a policy: signed by whoever may, it still lists exactly the files that are there.

use std::collections::{BTreeMap, BTreeSet};

use governor_core::policy::{
    MANIFEST, NAMESPACE, PolicyError, RawBundle, SIGNATURE, open, write_manifest,
};

use crate::{joined, parts, policy, signing};

/// What gets past the manifest lists every file once, with its digest, and nothing else.
pub fn check(bytes: &[u8]) -> bool {
    let parts = parts(bytes);
    let Some((manifest, named)) = parts.split_first() else {
        return false;
    };
    let mut files = policy::example();
    for pair in named.chunks_exact(2) {
        if let [name, content] = pair {
            let name = String::from_utf8_lossy(name).into_owned();
            files.insert(name, content.to_vec());
        }
    }
    let signed = signing::sign(1, NAMESPACE, manifest);
    files.insert(MANIFEST.to_owned(), manifest.to_vec());
    files.insert(SIGNATURE.to_owned(), signed.into_bytes());
    let Ok(bundle) = RawBundle::new(files) else {
        return false;
    };
    match open(&bundle, &signing::trusted(), policy::NOW) {
        Err(PolicyError::Manifest(found)) => {
            assert!(found.errors() > 0);
            policy::check_places(&found, &bundle);
            false
        }
        Err(error @ (PolicyError::Signature(_) | PolicyError::Bundle(_))) => {
            unreachable!("it is signed by a trusted key: {error}")
        }
        Err(
            PolicyError::Invalid(_)
            | PolicyError::NotYetValid { .. }
            | PolicyError::Expired { .. }
            | PolicyError::SerialTooLow { .. }
            | PolicyError::SerialReused { .. },
        )
        | Ok(_) => {
            assert_eq!(lines(manifest), lines(write_manifest(&bundle).as_bytes()));
            true
        }
    }
}

/// The example, and the example with one more file and the other spelling of a line.
pub fn seeds() -> Vec<Vec<u8>> {
    let manifest = |files: BTreeMap<String, Vec<u8>>| {
        let bundle = RawBundle::new(files).ok();
        bundle.as_ref().map(write_manifest).unwrap_or_default()
    };
    let plain = manifest(policy::example());
    let mut more = policy::example();
    more.insert("notes/a b".to_owned(), b"for people".to_vec());
    let starred = manifest(more).replacen("  ", " *", 1);
    vec![
        joined(&[plain.as_bytes()]),
        joined(&[starred.as_bytes(), b"notes/a b", b"for people"]),
    ]
}

/// Digest and name of each line, however it is spelled.
fn lines(manifest: &[u8]) -> BTreeSet<(String, String)> {
    let text = String::from_utf8_lossy(manifest).into_owned();
    text.lines()
        .filter_map(|line| {
            let (digest, name) = line.split_at_checked(66)?;
            Some((digest.get(..64)?.to_ascii_lowercase(), name.to_owned()))
        })
        .collect()
}
