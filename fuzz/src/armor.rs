//! Signature files: only what the trusted key made counts, in one spelling.

use std::{collections::BTreeMap, sync::LazyLock};

use governor_core::{
    engine::{BREAK_GLASS, GlassKeys},
    policy::{MANIFEST, NAMESPACE, PolicyError, RawBundle, SIGNATURE, blocks, open},
    time::WallTime,
};
use ssh_key::{LineEnding, SshSig};

use crate::{challenge, signing};

/// What is accepted is written again as it stands, and counts only if the genuine signature is in it.
pub fn check(bytes: &[u8]) -> bool {
    let found = blocks(bytes);
    if let Ok(found) = &found {
        let written: String = found
            .iter()
            .filter_map(|(_, signature)| signature.to_pem(LineEnding::LF).ok())
            .collect();
        // Nothing but white space at the ends of lines, and empty lines between, is free to choose.
        let text = String::from_utf8_lossy(bytes);
        let lines = text.lines().map(str::trim_end);
        let plain: String = lines
            .filter(|line| !line.is_empty())
            .map(|line| format!("{line}\n"))
            .collect();
        assert_eq!(written, plain);
        let again = blocks(written.as_bytes()).map(without_lines);
        assert_eq!(again, Ok(without_lines(found.clone())));
    }
    let genuine = |armor: &str| {
        let signature = SshSig::from_pem(armor).ok();
        let all = found.iter().flatten();
        all.filter(|(_, found)| Some(found) == signature.as_ref())
            .count()
    };
    let files = [
        (MANIFEST.to_owned(), MESSAGE.to_vec()),
        (SIGNATURE.to_owned(), bytes.to_vec()),
    ];
    if let Ok(bundle) = RawBundle::new(BTreeMap::from(files)) {
        // A manifest of nothing is refused further on: what matters is whether it gets there.
        let opened = open(&bundle, &signing::trusted(), WallTime(0));
        let counts = !matches!(
            opened,
            Err(PolicyError::Signature(_) | PolicyError::Bundle(_))
        );
        assert_eq!(counts, genuine(&POLICY) > 0, "{opened:?}");
    }
    if let (Ok(keys), Some(challenge)) = (GlassKeys::parse(&signing::line(2)), challenge::glass()) {
        let signed = keys.signer(&challenge, bytes).is_ok();
        let alone = found.as_ref().is_ok_and(|found| found.len() == 1);
        assert_eq!(signed, alone && genuine(&GLASS) == 1);
    }
    found.is_ok()
}

/// The signatures that count, alone and beside one that does not.
pub fn seeds() -> Vec<Vec<u8>> {
    let strange = signing::sign(3, NAMESPACE, MESSAGE);
    let two = format!("{strange}\n{}", *POLICY);
    let seeds = [POLICY.clone(), GLASS.clone(), two];
    seeds.map(String::into_bytes).to_vec()
}

fn without_lines(found: Vec<(usize, SshSig)>) -> Vec<SshSig> {
    found.into_iter().map(|(_, signature)| signature).collect()
}

const MESSAGE: &[u8] = b"";
static POLICY: LazyLock<String> = LazyLock::new(|| signing::sign(1, NAMESPACE, MESSAGE));
static GLASS: LazyLock<String> = LazyLock::new(|| {
    let message = challenge::glass().map(|challenge| challenge.write());
    signing::sign(2, BREAK_GLASS, message.unwrap_or_default().as_bytes())
});
