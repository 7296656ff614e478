//! Policies: from signed bytes to the rows the kernel reads.
//!
//! Promises: [`open`] verifies the signature before anything is parsed, and there is no other way
//! to a [`VerifiedPolicy`]; the grammar is closed; a key left out is the strictest reading; neither
//! the order of tables nor of rules matters. [`parse`] alone is for lint: what it returns grants
//! nothing. Refuses to look at a clock: the caller says what time it is.

mod attestation;
mod bounds;
mod bundle;
mod check;
mod compile;
mod document;
mod egress;
mod error;
mod ids;
mod manifest;
mod model;
mod places;
mod report;
mod risks;
mod rules;
mod scalars;
mod sets;
mod signature;
mod sockets;
mod sums;
mod values;
mod whole;
mod workloads;
mod zones;

pub use bounds::CLOCK_STEP;
pub use bundle::{
    BundleError, MANIFEST, MAX_FILE, MAX_FILES, MAX_NAME, MAX_TOTAL, POLICY, RawBundle, SIGNATURE,
};
pub use check::parse;
pub use compile::{CompileError, Compiled, Epochs, compile};
pub use egress::{Protocol, Rule};
pub use error::{Diagnostic, Diagnostics, PolicyError, Severity};
pub use ids::{Ids, Taken};
pub use manifest::write as write_manifest;
pub use model::{
    Attestation, Governor, Losses, Memory, Mode, OnRevoke, Opens, Policy, Requires, Risk,
    RiskEvent, Starter, Survival, Unlabelled, Validity, Workload, Zone,
};
pub use signature::{
    ArmorError, Found, KeysError, MAX_SIGNATURES, NAMESPACE, SignatureError, TrustedKeys, accepted,
    blocks,
};

pub use sockets::SocketPath;
pub use zones::HOST;

use report::{Complaint, Report};

use crate::{digest::Digest, time::WallTime};

/// A policy whose signature, manifest, grammar and validity were all found good.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VerifiedPolicy {
    policy: Policy,
    digest: Digest,
    signers: Vec<String>,
}

/// Verifies and reads a bundle: signature, manifest, document, validity, in that order.
pub fn open(
    bundle: &RawBundle,
    keys: &TrustedKeys,
    now: WallTime,
) -> Result<VerifiedPolicy, PolicyError> {
    let signers = vouched(bundle, keys)?;
    manifest::check(bundle).map_err(PolicyError::Manifest)?;
    let policy = parse(bundle).map_err(PolicyError::Invalid)?;
    in_time(&policy, now)?;
    Ok(VerifiedPolicy {
        policy,
        digest: Digest::of(bundle.get(MANIFEST).unwrap_or_default()),
        signers,
    })
}

/// A bundle with what was read from it, for whoever reads in one place and decides in another: reading takes
/// long, and what is trusted may be another by the time it is done.
#[derive(Debug)]
pub struct ReadBundle {
    bundle: RawBundle,
    verified: VerifiedPolicy,
}

impl ReadBundle {
    /// As [`open`].
    pub fn new(bundle: RawBundle, keys: &TrustedKeys, now: WallTime) -> Result<Self, PolicyError> {
        let verified = open(&bundle, keys, now)?;
        Ok(Self { bundle, verified })
    }

    pub fn policy(&self) -> &Policy {
        &self.verified.policy
    }

    /// Verifies the signature and the validity again, which are all that hangs on keys and time.
    pub fn again(
        self,
        keys: &TrustedKeys,
        now: WallTime,
    ) -> Result<(RawBundle, VerifiedPolicy), PolicyError> {
        let signers = vouched(&self.bundle, keys)?;
        in_time(&self.verified.policy, now)?;
        let verified = VerifiedPolicy {
            signers,
            ..self.verified
        };
        Ok((self.bundle, verified))
    }
}

/// Who of these keys signed the manifest.
fn vouched(bundle: &RawBundle, keys: &TrustedKeys) -> Result<Vec<String>, PolicyError> {
    let manifest = bundle.get(MANIFEST).ok_or(SignatureError::NoManifest)?;
    let signatures = bundle.get(SIGNATURE).ok_or(SignatureError::Unsigned)?;
    Ok(keys.verify(manifest, signatures)?)
}

fn in_time(policy: &Policy, now: WallTime) -> Result<(), PolicyError> {
    let Validity { from, until } = policy.validity();
    if now < from {
        return Err(PolicyError::NotYetValid { from, now });
    }
    if now >= until {
        return Err(PolicyError::Expired { until, now });
    }
    Ok(())
}

impl VerifiedPolicy {
    pub fn policy(&self) -> &Policy {
        &self.policy
    }

    /// SHA-256 of the manifest, which is what was signed.
    pub fn digest(&self) -> Digest {
        self.digest
    }

    /// Fingerprints of the trusted keys that signed, in the order they are configured.
    pub fn signers(&self) -> &[String] {
        &self.signers
    }

    /// Whether this may replace the highest serial accepted so far. The same serial is accepted
    /// only with the same digest: the same policy, loaded again.
    pub fn check_serial(&self, highest: Option<(u64, Digest)>) -> Result<(), PolicyError> {
        let serial = self.policy.serial();
        match highest {
            None => Ok(()),
            Some((highest, _)) if serial > highest => Ok(()),
            Some((highest, _)) if serial < highest => {
                Err(PolicyError::SerialTooLow { serial, highest })
            }
            Some((_, accepted)) if accepted == self.digest => Ok(()),
            Some((_, accepted)) => Err(PolicyError::SerialReused { serial, accepted }),
        }
    }
}

/// `bytes` as text, or an error at the first byte that is not.
fn utf8<'a>(file: &'a str, bytes: &'a [u8], report: &mut Report<'a>) -> Option<&'a str> {
    match str::from_utf8(bytes) {
        Ok(text) => Some(text),
        Err(error) => {
            let good = bytes.get(..error.valid_up_to()).unwrap_or_default();
            report.enter(file, str::from_utf8(good).unwrap_or_default());
            report.error(
                error.valid_up_to(),
                Complaint::new("file is not UTF-8 from here on"),
            );
            report.leave();
            None
        }
    }
}
