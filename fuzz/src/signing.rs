//! Keys from fixed seeds, and signatures by them: what a signer has and a forger does not.

use governor_core::policy::TrustedKeys;
use ssh_key::{HashAlg, LineEnding, PrivateKey, private::Ed25519Keypair};

/// The key line of the key with this seed.
pub(crate) fn line(seed: u8) -> String {
    let line = key(seed).public_key().to_openssh();
    line.unwrap_or_default() + "\n"
}

/// An armored signature by the key with this seed.
pub(crate) fn sign(seed: u8, namespace: &str, bytes: &[u8]) -> String {
    let signed = key(seed).sign(namespace, HashAlg::Sha512, bytes);
    signed
        .and_then(|signed| signed.to_pem(LineEnding::LF))
        .unwrap_or_default()
}

/// The key with seed 1, trusted alone.
pub(crate) fn trusted() -> TrustedKeys {
    match TrustedKeys::parse(&line(1), 1) {
        Ok(keys) => keys,
        Err(error) => unreachable!("one key is listed: {error}"),
    }
}

fn key(seed: u8) -> PrivateKey {
    PrivateKey::from(Ed25519Keypair::from_seed(&[seed; 32]))
}
