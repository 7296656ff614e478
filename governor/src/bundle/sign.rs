//! Signing a policy directory with an OpenSSH key, as `ssh-keygen -Y sign` does.
//!
//! Promises: `SHA256SUMS` lists the directory as it is, and `SHA256SUMS.sig` holds only signatures
//! over those bytes, one per key. A signature that no longer fits is dropped, never kept for luck.
//! Each file appears whole or not at all; between the two the directory is refused, not trusted.

use std::{
    fs::{self, File, Permissions},
    io::Write as _,
    os::unix::fs::PermissionsExt as _,
    path::Path,
};

use anyhow::{Context as _, Result, bail};
use governor_core::policy::{
    MANIFEST, NAMESPACE, RawBundle, SIGNATURE, accepted, blocks, write_manifest,
};
use ssh_key::{HashAlg, LineEnding, PrivateKey, PublicKey, SshSig};
use tempfile::NamedTempFile;

/// What signing did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Signed {
    /// The key's fingerprint.
    pub fingerprint: String,
    /// The directory had changed since `SHA256SUMS` was written.
    pub manifest_changed: bool,
    /// This key's signature was there already.
    pub already: bool,
    /// Signatures that no longer fitted.
    pub dropped: usize,
    /// Signatures that are there now.
    pub signatures: usize,
}

/// Writes the manifest of `dir` and adds a signature by the key in `key`.
pub fn sign(dir: &Path, key: &Path) -> Result<Signed> {
    let key = private(key, NAMESPACE)?;
    let bundle = super::read(dir)?;
    let manifest = write_manifest(&bundle);
    let manifest_changed = bundle.get(MANIFEST) != Some(manifest.as_bytes());
    let found = signatures(&bundle, manifest_changed)?;
    let before = found.len();
    let mut kept: Vec<SshSig> = Vec::new();
    for signature in found {
        let twice = kept
            .iter()
            .any(|other| other.public_key() == signature.public_key());
        if !twice && fits(&signature, manifest.as_bytes()) {
            kept.push(signature);
        }
    }
    let dropped = before - kept.len();
    let public = key.public_key();
    let already = kept
        .iter()
        .any(|signature| signature.public_key() == public.key_data());
    if !already {
        let signature = key.sign(NAMESPACE, HashAlg::Sha512, manifest.as_bytes());
        kept.push(signature.context("signing the manifest")?);
    }
    if manifest_changed {
        replace(dir, MANIFEST, manifest.as_bytes())?;
    }
    if manifest_changed || !already || dropped != 0 {
        let mut text = String::new();
        for signature in &kept {
            text.push_str(
                &signature
                    .to_pem(LineEnding::LF)
                    .context("writing a signature")?,
            );
        }
        replace(dir, SIGNATURE, text.as_bytes())?;
    }
    let fingerprint = public.fingerprint(HashAlg::Sha256).to_string();
    Ok(Signed {
        fingerprint,
        manifest_changed,
        already,
        dropped,
        signatures: kept.len(),
    })
}

/// The private key in `path`, one that may sign in this namespace without being asked for anything.
pub(crate) fn private(path: &Path, namespace: &str) -> Result<PrivateKey> {
    let doing = || format!("reading the private key `{}`", path.display());
    let key = PrivateKey::from_openssh(fs::read(path).with_context(doing)?).with_context(doing)?;
    if key.is_encrypted() {
        bail!(
            "private key `{}` has a passphrase; sign with `ssh-keygen -Y sign -n {namespace}`",
            path.display()
        );
    }
    if !accepted(&key.algorithm()) {
        let algorithm = key.algorithm();
        bail!(
            "private key `{}` is `{algorithm}`, use ed25519 or ecdsa-p256",
            path.display()
        );
    }
    Ok(key)
}

/// The signatures that are there. When the manifest changed none of them can fit, so a file that
/// cannot be read any more is no obstacle then.
fn signatures(bundle: &RawBundle, manifest_changed: bool) -> Result<Vec<SshSig>> {
    let Some(bytes) = bundle.get(SIGNATURE) else {
        return Ok(Vec::new());
    };
    match blocks(bytes) {
        Ok(found) => Ok(found.into_iter().map(|(_, signature)| signature).collect()),
        Err(_) if manifest_changed => Ok(Vec::new()),
        Err(error) => Err(error).with_context(|| format!("reading `{SIGNATURE}`, remove it")),
    }
}

fn fits(signature: &SshSig, manifest: &[u8]) -> bool {
    let by = PublicKey::from(signature.public_key().clone());
    by.verify(NAMESPACE, manifest, signature).is_ok()
}

fn replace(dir: &Path, name: &str, bytes: &[u8]) -> Result<()> {
    let path = dir.join(name);
    let doing = || format!("writing `{}`", path.display());
    let mut file = NamedTempFile::new_in(dir).with_context(doing)?;
    file.write_all(bytes).with_context(doing)?;
    file.as_file()
        .set_permissions(Permissions::from_mode(0o644))
        .with_context(doing)?;
    file.as_file().sync_all().with_context(doing)?;
    file.persist(&path).with_context(doing)?;
    File::open(dir)
        .and_then(|dir| dir.sync_all())
        .with_context(doing)
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use governor_core::{
        policy::{TrustedKeys, open},
        time::WallTime,
    };
    use ssh_key::private::Ed25519Keypair;

    use super::*;

    const NOW: WallTime = WallTime(1_794_700_800);

    /// A copy of the example policy and the path of a key made from `seed`.
    fn example() -> tempfile::TempDir {
        let dir = tempfile::tempdir().expect("a directory");
        let from = Path::new(env!("CARGO_MANIFEST_DIR")).join("../policies/agent-host");
        for (name, bytes) in super::super::read(&from).expect("the example").files() {
            let path = dir.path().join("policy").join(name);
            fs::create_dir_all(path.parent().expect("a parent")).expect("made");
            fs::write(path, bytes).expect("written");
        }
        dir
    }

    fn key(dir: &Path, seed: u8) -> (std::path::PathBuf, String) {
        let key = PrivateKey::from(Ed25519Keypair::from_seed(&[seed; 32]));
        let path = dir.join(format!("key{seed}"));
        fs::write(&path, key.to_openssh(LineEnding::LF).expect("encodes")).expect("written");
        fs::set_permissions(&path, Permissions::from_mode(0o600)).expect("ours");
        (path, key.public_key().to_openssh().expect("encodes") + "\n")
    }

    fn opens(policy: &Path, keys: &str, threshold: u32) -> bool {
        let keys = TrustedKeys::parse(keys, threshold).expect("keys");
        open(&super::super::read(policy).expect("read"), &keys, NOW).is_ok()
    }

    #[test]
    fn signing_again_adds_what_is_missing_and_drops_what_is_stale() {
        let dir = example();
        let policy = dir.path().join("policy");
        let ((first, a), (second, b)) = (key(dir.path(), 1), key(dir.path(), 2));
        let both = format!("{a}{b}");

        let signed = sign(&policy, &first).expect("signs");
        assert!(signed.manifest_changed && !signed.already);
        assert!(opens(&policy, &a, 1) && !opens(&policy, &b, 1) && !opens(&policy, &both, 2));

        let signed = sign(&policy, &first).expect("signs");
        assert!(!signed.manifest_changed && signed.already && signed.signatures == 1);

        let signed = sign(&policy, &second).expect("signs");
        assert_eq!((signed.dropped, signed.signatures), (0, 2));
        assert!(opens(&policy, &both, 2));

        fs::write(policy.join("new"), "x").expect("written");
        assert!(!opens(&policy, &both, 1));
        let signed = sign(&policy, &second).expect("signs");
        assert_eq!((signed.dropped, signed.signatures), (2, 1));
        assert!(opens(&policy, &b, 1) && !opens(&policy, &a, 1));
    }

    #[test]
    fn ssh_keygen_can_be_one_of_the_signers() {
        let dir = example();
        let policy = dir.path().join("policy");
        let ((first, a), (second, b)) = (key(dir.path(), 1), key(dir.path(), 2));
        sign(&policy, &first).expect("signs");
        let kept = fs::read(policy.join(SIGNATURE)).expect("signed");
        fs::remove_file(policy.join(SIGNATURE)).expect("removed");
        let output = Command::new("ssh-keygen")
            .args(["-q", "-Y", "sign", "-n", NAMESPACE, "-f"])
            .arg(&second)
            .arg(policy.join(MANIFEST))
            .output()
            .expect("running ssh-keygen: install the package openssh-client");
        assert!(
            output.status.success(),
            "{}",
            String::from_utf8_lossy(&output.stderr)
        );
        let theirs = fs::read(policy.join(SIGNATURE)).expect("signed");
        fs::write(policy.join(SIGNATURE), [theirs, kept].concat()).expect("written");
        assert!(opens(&policy, &format!("{a}{b}"), 2));
        let signed = sign(&policy, &second).expect("signs");
        assert!(signed.already && signed.signatures == 2 && signed.dropped == 0);
    }

    #[test]
    fn keys_that_cannot_sign_are_refused() {
        let dir = example();
        let policy = dir.path().join("policy");
        let locked = dir.path().join("locked");
        for arguments in [["-t", "ed25519", "-N", "secret"], ["-t", "rsa", "-N", ""]] {
            let output = Command::new("ssh-keygen")
                .arg("-q")
                .args(arguments)
                .arg("-f")
                .arg(&locked)
                .output()
                .expect("running ssh-keygen: install the package openssh-client");
            assert!(
                output.status.success(),
                "{}",
                String::from_utf8_lossy(&output.stderr)
            );
            assert!(sign(&policy, &locked).is_err());
            fs::remove_file(&locked).expect("removed");
        }
        assert!(!policy.join(MANIFEST).exists());
    }
}
