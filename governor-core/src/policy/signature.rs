//! Who signed the manifest: SSHSIG, as `ssh-keygen -Y sign -n governor-policy@v1` makes it.
//!
//! Promises: a bundle counts as signed only when at least the threshold of *distinct* trusted keys
//! each made a signature over exactly the received manifest, in our namespace. Refuses to exist
//! without keys: [`TrustedKeys`] cannot be empty, nor have a threshold nobody or everybody meets.
//! A signature by a key that is not trusted, or in another namespace, counts for nothing.

use core::fmt;
use std::collections::BTreeSet;

use ssh_key::{Algorithm, EcdsaCurve, HashAlg, LineEnding, PublicKey, SshSig};

use super::{
    bundle::{MANIFEST, SIGNATURE},
    report::quoted,
};
use crate::digest::Digest;

/// The namespace of policy signatures.
pub const NAMESPACE: &str = "governor-policy@v1";

/// Bytes of a signature file.
pub const MAX_SIGNATURES: usize = 64 << 10;

/// The keys whose signatures count, and how many of them are needed. Never empty.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TrustedKeys {
    keys: Vec<PublicKey>,
    threshold: usize,
}

/// Why a list of keys cannot be trusted with anything.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeysError {
    #[error("no trusted keys are listed; without one no policy can be accepted")]
    Empty,
    #[error("threshold is {threshold}, but it must be between 1 and the number of keys, {keys}")]
    Threshold { threshold: u32, keys: usize },
    #[error(
        "{keys} of the trusted keys were trusted when the gate was armed, and {threshold} are needed; \
         keys that came later count after a reboot"
    )]
    Pinned { threshold: usize, keys: usize },
    #[error("reading the trusted key in line {line}: {why}")]
    Key { line: usize, why: ssh_key::Error },
    #[error("trusted key in line {line} has algorithm `{algorithm}`, use ed25519 or ecdsa-p256")]
    Algorithm { line: usize, algorithm: String },
    #[error("trusted key in line {line} is listed twice")]
    Twice { line: usize },
}

/// Why a manifest does not count as signed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SignatureError {
    #[error("file `{MANIFEST}` is missing, so nothing is signed")]
    NoManifest,
    #[error("file `{SIGNATURE}` is missing, so the policy is not signed")]
    Unsigned,
    #[error("reading file `{SIGNATURE}`: {0}")]
    Armor(#[from] ArmorError),
    #[error("{valid} of {needed} needed signatures by trusted keys{found}")]
    Threshold {
        valid: usize,
        needed: usize,
        found: Found,
    },
}

/// Why bytes are no armored signatures.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ArmorError {
    #[error("it is not a list of armored SSH signatures: line {line}: {why}")]
    Format { line: usize, why: &'static str },
    #[error("the signature that begins in line {line} cannot be read: {why}")]
    Block { line: usize, why: ssh_key::Error },
    #[error("it is larger than {MAX_SIGNATURES} bytes")]
    TooLarge,
}

/// What became of the signatures that did not count.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Found(pub Vec<String>);

impl fmt::Display for Found {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|one| write!(f, "; {one}"))
    }
}

impl TrustedKeys {
    /// Reads OpenSSH public key lines; blank lines and lines with `#` are skipped.
    pub fn parse(text: &str, threshold: u32) -> Result<Self, KeysError> {
        let mut keys: Vec<PublicKey> = Vec::new();
        for (index, line) in text.lines().enumerate() {
            let (line, number) = (line.trim(), index + 1);
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let key = PublicKey::from_openssh(line)
                .map_err(|why| KeysError::Key { line: number, why })?;
            if !accepted(&key.algorithm()) {
                let algorithm = key.algorithm().to_string();
                return Err(KeysError::Algorithm {
                    line: number,
                    algorithm,
                });
            }
            if keys.iter().any(|known| known.key_data() == key.key_data()) {
                return Err(KeysError::Twice { line: number });
            }
            keys.push(key);
        }
        if keys.is_empty() {
            return Err(KeysError::Empty);
        }
        match usize::try_from(threshold) {
            Ok(needed) if needed >= 1 && needed <= keys.len() => Ok(Self {
                keys,
                threshold: needed,
            }),
            _ => Err(KeysError::Threshold {
                threshold,
                keys: keys.len(),
            }),
        }
    }

    /// How many distinct keys must have signed.
    pub fn threshold(&self) -> usize {
        self.threshold
    }

    /// A digest of each key, for whoever keeps which keys there were.
    pub fn digests(&self) -> BTreeSet<Digest> {
        let blob = |key: &PublicKey| key.to_bytes().map(|bytes| Digest::of(&bytes)).ok();
        self.keys.iter().filter_map(blob).collect()
    }

    /// Only those of the keys that are among `known`, and no lower threshold than `least`: a list may
    /// become stricter, and nothing else.
    pub fn only(self, known: &BTreeSet<Digest>, least: usize) -> Result<Self, KeysError> {
        let threshold = self.threshold.max(least);
        let mut keys = self.keys;
        keys.retain(|key| {
            let digest = key.to_bytes().map(|bytes| Digest::of(&bytes));
            digest.is_ok_and(|digest| known.contains(&digest))
        });
        if keys.is_empty() || threshold > keys.len() {
            return Err(KeysError::Pinned {
                threshold,
                keys: keys.len(),
            });
        }
        Ok(Self { keys, threshold })
    }

    /// `SHA256:…` of each key, in order of the list.
    pub fn fingerprints(&self) -> impl Iterator<Item = String> {
        self.keys.iter().map(fingerprint)
    }

    /// The fingerprints of the keys that signed `manifest`, if they are enough.
    pub(super) fn verify(
        &self,
        manifest: &[u8],
        signatures: &[u8],
    ) -> Result<Vec<String>, SignatureError> {
        let mut signers = BTreeSet::new();
        let mut found = Found::default();
        for (line, signature) in blocks(signatures)? {
            match self.signer(NAMESPACE, manifest, &signature) {
                Ok(index) => {
                    signers.insert(index);
                }
                Err(why) => found.0.push(format!("the one in line {line} {why}")),
            }
        }
        if signers.len() < self.threshold {
            let (valid, needed) = (signers.len(), self.threshold);
            return Err(SignatureError::Threshold {
                valid,
                needed,
                found,
            });
        }
        Ok(signers
            .iter()
            .filter_map(|index| self.keys.get(*index))
            .map(fingerprint)
            .collect())
    }

    /// The fingerprint of the key that made the one signature in `armor` over `message`, in a
    /// namespace that is not that of policies.
    pub(crate) fn signed_by(
        &self,
        namespace: &str,
        message: &[u8],
        armor: &[u8],
    ) -> Result<String, String> {
        let found = blocks(armor).map_err(|error| format!("cannot be read: {error}"))?;
        let [(_, signature)] = found.as_slice() else {
            return Err(format!("is {} signatures, not one", found.len()));
        };
        let index = self.signer(namespace, message, signature)?;
        let key = self.keys.get(index).ok_or_else(String::new)?;
        Ok(fingerprint(key))
    }

    /// Which trusted key made this signature over `message`.
    fn signer(&self, namespace: &str, message: &[u8], signature: &SshSig) -> Result<usize, String> {
        if signature.version() != SshSig::VERSION || !signature.reserved().is_empty() {
            return Err("is of a version we do not know".to_owned());
        }
        if signature.namespace() != namespace {
            let found = quoted(signature.namespace());
            return Err(format!("is for {found}, not for `{namespace}`"));
        }
        let by = |key: &&PublicKey| key.key_data() == signature.public_key();
        let Some(key) = self.keys.iter().find(by) else {
            let fingerprint = signature.public_key().fingerprint(HashAlg::Sha256);
            return Err(format!("is by {fingerprint}, which is not trusted"));
        };
        match key.verify(namespace, message, signature) {
            Ok(()) => self
                .keys
                .iter()
                .position(|known| known == key)
                .ok_or_else(String::new),
            Err(_) => Err(format!("by {} is over other bytes", fingerprint(key))),
        }
    }
}

/// Every armored signature in a file, with the line it begins in.
pub fn blocks(bytes: &[u8]) -> Result<Vec<(usize, SshSig)>, ArmorError> {
    if bytes.len() > MAX_SIGNATURES {
        return Err(ArmorError::TooLarge);
    }
    let format = |line, why| ArmorError::Format { line, why };
    let text = str::from_utf8(bytes).map_err(|error| {
        let line = bytes
            .iter()
            .take(error.valid_up_to())
            .filter(|byte| **byte == b'\n')
            .count();
        format(line + 1, "not UTF-8")
    })?;
    let mut found = Vec::new();
    let mut open: Option<(usize, String)> = None;
    for (index, line) in text.lines().enumerate() {
        let (line, number) = (line.trim_end(), index + 1);
        match &mut open {
            None if line.is_empty() => {}
            None if line == BEGIN => open = Some((number, format!("{BEGIN}\n"))),
            None => return Err(format(number, "expected `-----BEGIN SSH SIGNATURE-----`")),
            Some((start, armor)) => {
                armor.push_str(line);
                armor.push('\n');
                if line == END {
                    let line = *start;
                    let signature = SshSig::from_pem(armor.as_bytes())
                        .map_err(|why| ArmorError::Block { line, why })?;
                    // One signature has one spelling: lengths and padding are not free to choose.
                    if signature.to_pem(LineEnding::LF).ok().as_ref() != Some(armor) {
                        return Err(format(line, "signature is not encoded as ssh-keygen does"));
                    }
                    found.push((line, signature));
                    open = None;
                }
            }
        }
    }
    match open {
        Some((line, _)) => Err(format(line, "signature is cut off")),
        None if found.is_empty() => Err(format(1, "file is empty")),
        None => Ok(found),
    }
}

/// Whether keys of this kind may be trusted.
pub fn accepted(algorithm: &Algorithm) -> bool {
    matches!(
        algorithm,
        Algorithm::Ed25519
            | Algorithm::Ecdsa {
                curve: EcdsaCurve::NistP256
            }
    )
}

fn fingerprint(key: &PublicKey) -> String {
    key.fingerprint(HashAlg::Sha256).to_string()
}

const BEGIN: &str = "-----BEGIN SSH SIGNATURE-----";
const END: &str = "-----END SSH SIGNATURE-----";
