//! The attestation key's life: made once under the TPM's endorsement key, kept as a file that only
//! this TPM can load, loaded at each start.
//!
//! Promises: the file appears whole and durable or not at all, and is never written again. Where
//! it exists and does not load, that is an error: reference values name the key, so a new one in
//! its place would only hide that something happened to the TPM or to the file.

use std::fs::{self, DirBuilder, File};
use std::io::{ErrorKind, Write as _};
use std::os::unix::fs::DirBuilderExt as _;
use std::path::Path;

use anyhow::{Context as _, Result, bail, ensure};
use governor_core::attest::{AttestationKey, Public as ParsedPublic};
use tss_esapi::Context;
use tss_esapi::abstraction::{AsymmetricAlgorithmSelection, ak, ek};
use tss_esapi::handles::KeyHandle;
use tss_esapi::interface_types::algorithm::{HashingAlgorithm, SignatureSchemeAlgorithm};
use tss_esapi::interface_types::ecc::EccCurve;
use tss_esapi::interface_types::key_bits::RsaKeyBits;
use tss_esapi::interface_types::resource_handles::Hierarchy;
use tss_esapi::interface_types::session_handles::AuthSession;
use tss_esapi::structures::{Private, Public};
use tss_esapi::traits::{Marshall as _, UnMarshall as _};

/// The key in the TPM, and as our verifier sees it.
pub(super) struct Loaded {
    pub(super) handle: KeyHandle,
    /// TPMT_PUBLIC.
    pub(super) public: Vec<u8>,
    pub(super) key: AttestationKey,
}

/// What the file holds.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Blobs {
    parent: Parent,
    /// TPM2B_PRIVATE without its size: encrypted by the TPM.
    private: Vec<u8>,
    /// TPMT_PUBLIC.
    public: Vec<u8>,
}

/// Which endorsement key the attestation key is under.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Parent {
    Ecc = 1,
    Rsa = 2,
}

/// Loads the key kept in `dir`; makes and keeps one only if the file does not exist.
pub(super) fn load_or_create(context: &mut Context, dir: &Path) -> Result<Loaded> {
    let path = dir.join(FILE);
    let blobs = match fs::read(&path) {
        Ok(bytes) => Blobs::parse(&bytes)
            .with_context(|| format!("reading the attestation key `{}`", path.display()))?,
        Err(error) if error.kind() == ErrorKind::NotFound => {
            let blobs = create(context).context("making an attestation key")?;
            keep(dir, &blobs)
                .with_context(|| format!("keeping the attestation key `{}`", path.display()))?
        }
        Err(error) => {
            return Err(error)
                .with_context(|| format!("reading the attestation key `{}`", path.display()));
        }
    };
    load(context, blobs).with_context(|| {
        format!(
            "loading the attestation key `{}` (if this TPM was cleared or replaced, move the file \
             away and make new reference values)",
            path.display()
        )
    })
}

fn load(context: &mut Context, blobs: Blobs) -> Result<Loaded> {
    let parsed = ParsedPublic::parse(&blobs.public).context("reading its public area")?;
    let key = AttestationKey::new(&parsed).context("checking its public area")?;
    let private = Private::try_from(blobs.private).context("reading its private area")?;
    let public = Public::unmarshall(&blobs.public).context("reading its public area")?;
    let parent = endorsement_key(context, blobs.parent)?;
    let loaded = ak::load_ak(context, parent, None, private, public);
    context
        .flush_context(parent.into())
        .context("flushing the endorsement key")?;
    let handle = loaded.context("loading it under the endorsement key")?;
    let name = context
        .tr_get_name(handle.into())
        .context("reading its name")?;
    ensure!(
        name.value() == key.name().bytes(),
        "the TPM gives it another name than we do"
    );
    Ok(Loaded {
        handle,
        public: blobs.public,
        key,
    })
}

/// ECC where the TPM can, else RSA; for the endorsement key and for the attestation key.
fn create(context: &mut Context) -> Result<Blobs> {
    let mut refusals = Vec::new();
    for parent in [Parent::Ecc, Parent::Rsa] {
        let endorsement = match endorsement_key(context, parent) {
            Ok(endorsement) => endorsement,
            Err(error) => {
                refusals.push(format!("{error:#}"));
                continue;
            }
        };
        let created = [Parent::Ecc, Parent::Rsa].into_iter().find_map(|kind| {
            let scheme = match kind {
                Parent::Ecc => SignatureSchemeAlgorithm::EcDsa,
                Parent::Rsa => SignatureSchemeAlgorithm::RsaSsa,
            };
            let algorithm = kind.algorithm();
            let sha256 = HashingAlgorithm::Sha256;
            ak::create_ak_2(context, endorsement, sha256, algorithm, scheme, None, None)
                .map_err(|error| refusals.push(error.to_string()))
                .ok()
        });
        context
            .flush_context(endorsement.into())
            .context("flushing the endorsement key")?;
        if let Some(created) = created {
            let public = created
                .out_public
                .marshall()
                .context("writing its public area")?;
            let private = created.out_private.value().to_vec();
            return Ok(Blobs {
                parent,
                private,
                public,
            });
        }
    }
    bail!(
        "the TPM makes neither an ECC P-256 nor an RSA 2048 key: {}",
        refusals.join("; ")
    );
}

/// The endorsement key of the TCG's default template. The TPM derives it anew each time.
fn endorsement_key(context: &mut Context, parent: Parent) -> Result<KeyHandle> {
    let template = ek::create_ek_public_from_default_template_2(parent.algorithm(), None)
        .context("writing the endorsement key's template")?;
    let created = context
        .execute_with_session(Some(AuthSession::Password), |context| {
            context.create_primary(Hierarchy::Endorsement, template, None, None, None, None)
        })
        .context("deriving the endorsement key")?;
    Ok(created.key_handle)
}

/// Writes the file; where another process was first, its key is the one.
fn keep(dir: &Path, blobs: &Blobs) -> Result<Blobs> {
    DirBuilder::new().recursive(true).mode(0o700).create(dir)?;
    // Readable by its owner alone from the start.
    let mut file = tempfile::Builder::new()
        .prefix(".attestation-key-")
        .tempfile_in(dir)?;
    file.write_all(&blobs.bytes()?)?;
    file.as_file().sync_all()?;
    match file.persist_noclobber(dir.join(FILE)) {
        Ok(_) => {}
        Err(error) if error.error.kind() == ErrorKind::AlreadyExists => {}
        Err(error) => return Err(error.error.into()),
    }
    File::open(dir)?.sync_all()?;
    Blobs::parse(&fs::read(dir.join(FILE))?)
}

impl Parent {
    const fn algorithm(self) -> AsymmetricAlgorithmSelection {
        match self {
            Self::Ecc => AsymmetricAlgorithmSelection::Ecc(EccCurve::NistP256),
            Self::Rsa => AsymmetricAlgorithmSelection::Rsa(RsaKeyBits::Rsa2048),
        }
    }
}

impl Blobs {
    /// A header, the kind of parent, and both areas behind their 16-bit lengths.
    pub(super) fn bytes(&self) -> Result<Vec<u8>> {
        let mut bytes = HEADER.to_vec();
        bytes.push(self.parent as u8);
        for area in [&self.private, &self.public] {
            bytes.extend(u16::try_from(area.len())?.to_be_bytes());
            bytes.extend(area);
        }
        Ok(bytes)
    }

    pub(super) fn parse(bytes: &[u8]) -> Result<Self> {
        let rest = bytes
            .strip_prefix(HEADER)
            .context("it is not an attestation key")?;
        let (parent, rest) = rest.split_first().context("it ends early")?;
        let parent = match parent {
            1 => Parent::Ecc,
            2 => Parent::Rsa,
            other => bail!("its parent is of the unknown kind {other}"),
        };
        let (private, rest) = take_area(rest)?;
        let (public, rest) = take_area(rest)?;
        ensure!(rest.is_empty(), "something follows its end");
        Ok(Self {
            parent,
            private: private.to_vec(),
            public: public.to_vec(),
        })
    }
}

fn take_area(bytes: &[u8]) -> Result<(&[u8], &[u8])> {
    let (length, rest) = bytes.split_first_chunk().context("it ends early")?;
    rest.split_at_checked(u16::from_be_bytes(*length).into())
        .context("it ends early")
}

const FILE: &str = "attestation-key";
const HEADER: &[u8] = b"governor-ak-v1\0";

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    fn blobs() -> Blobs {
        Blobs {
            parent: Parent::Ecc,
            private: vec![1; 126],
            public: vec![2; 90],
        }
    }

    #[test]
    fn a_file_is_exact() {
        let bytes = blobs().bytes().unwrap();
        assert_eq!(Blobs::parse(&bytes).unwrap(), blobs());
        for length in 0..bytes.len() {
            Blobs::parse(&bytes[..length]).unwrap_err();
        }
        Blobs::parse(&[&bytes[..], &[0]].concat()).unwrap_err();
    }

    #[test]
    fn the_first_key_stays() {
        let dir = tempfile::tempdir().unwrap();
        let dir = dir.path().join("state");
        assert_eq!(keep(&dir, &blobs()).unwrap(), blobs());
        let other = Blobs {
            parent: Parent::Rsa,
            ..blobs()
        };
        assert_eq!(keep(&dir, &other).unwrap(), blobs());
        let mode = fs::metadata(dir.join(FILE)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        assert_eq!(fs::read_dir(&dir).unwrap().count(), 1);
    }
}
