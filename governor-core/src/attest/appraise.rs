//! Appraisal: the only way from evidence to an [`AttestationResult`].
//!
//! Promises: every check must pass; the first that does not is the rejection, and nothing is
//! accepted by default. Signatures are verified over the bytes as received. [`diagnose`] runs the
//! same checks without stopping, for people. Not judged here: whether the nonce is fresh, unused
//! and ours, and how the TPM's clock moved since the last quote; the engine knows those.

use super::algorithm::Algorithm;
use super::challenge::Challenge;
use super::evidence::{Evidence, composite};
use super::key::AttestationKey;
use super::public::{Name, Public};
use super::quote::{ClockInfo, Quote};
use super::reference::ReferenceValues;
use super::rejection::Rejection;
use super::selection::PcrSelection;
use super::signature::Signature;
use crate::digest::Digest;

/// That evidence was accepted, and what it said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AttestationResult {
    evidence: Digest,
    pcrs: Digest,
    clock: ClockInfo,
    firmware: u64,
    ak_name: Name,
}

impl AttestationResult {
    /// [`Evidence::digest`] of what was accepted.
    pub const fn evidence_digest(&self) -> Digest {
        self.evidence
    }

    /// The digest of the quoted PCRs.
    pub const fn pcr_digest(&self) -> Digest {
        self.pcrs
    }

    /// The TPM's clock at the quote, as signed; an unsafe one is not rejected here.
    pub const fn clock_info(&self) -> ClockInfo {
        self.clock
    }

    /// The TPM's firmware version, as signed.
    pub const fn firmware(&self) -> u64 {
        self.firmware
    }

    /// The key that signed.
    pub const fn ak_name(&self) -> Name {
        self.ak_name
    }
}

/// Accepts `evidence` as the answer to `challenge`, or says which check it failed first.
pub fn appraise(
    evidence: &Evidence,
    challenge: &Challenge,
    selection: &PcrSelection,
    reference: &ReferenceValues,
) -> Result<AttestationResult, Rejection> {
    none(evidence.oversized())?;
    let public = Public::parse(&evidence.ak_public).map_err(Rejection::AkMalformed)?;
    let key = AttestationKey::new(&public)?;
    none(listing(key.name(), reference))?;
    let signature = Signature::parse(&evidence.signature).map_err(Rejection::SignatureMalformed)?;
    key.verify(&evidence.quote, &signature)?;
    let quote = Quote::parse(&evidence.quote).map_err(Rejection::Quote)?;
    none(selecting(&quote, selection))?;
    none(values(evidence, selection))?;
    let pcrs = quoted_digest(&quote, evidence, selection)?;
    none(answering(&quote, &challenge.extra_data()))?;
    none(comparing(evidence, selection, reference))?;
    Ok(AttestationResult {
        evidence: evidence.digest(),
        pcrs,
        clock: quote.clock,
        firmware: quote.firmware,
        ak_name: key.name(),
    })
}

/// Every check that `evidence` fails, in the order of [`appraise`]; none exactly where that
/// accepts.
pub fn diagnose(
    evidence: &Evidence,
    challenge: &Challenge,
    selection: &PcrSelection,
    reference: &ReferenceValues,
) -> Vec<Rejection> {
    diagnose_answer(evidence, &challenge.extra_data(), selection, reference)
}

/// [`diagnose`] for evidence over any 32 bytes, such as somebody else's nonce. It finds nothing
/// where all is well, but makes no [`AttestationResult`]: only an answer to a challenge does.
pub fn diagnose_answer(
    evidence: &Evidence,
    extra_data: &Digest,
    selection: &PcrSelection,
    reference: &ReferenceValues,
) -> Vec<Rejection> {
    let mut found: Vec<Rejection> = evidence.oversized().collect();
    let mut key = None;
    match Public::parse(&evidence.ak_public) {
        Err(error) => found.push(Rejection::AkMalformed(error)),
        Ok(public) => {
            found.extend(AttestationKey::objections(&public));
            found.extend(public.name().and_then(|name| listing(name, reference)));
            key = AttestationKey::new(&public).ok();
        }
    }
    match Signature::parse(&evidence.signature) {
        Err(error) => found.push(Rejection::SignatureMalformed(error)),
        Ok(signature) => {
            found.extend(key.and_then(|key| key.verify(&evidence.quote, &signature).err()));
        }
    }
    let quote = Quote::parse(&evidence.quote).map_err(Rejection::Quote);
    if let Ok(quote) = &quote {
        found.extend(selecting(quote, selection));
    }
    let values: Vec<Rejection> = values(evidence, selection).collect();
    let complete = values.is_empty();
    match quote {
        Err(rejection) => {
            found.push(rejection);
            found.extend(values);
        }
        Ok(quote) => {
            found.extend(values);
            if complete {
                found.extend(quoted_digest(&quote, evidence, selection).err());
            }
            found.extend(answering(&quote, extra_data));
        }
    }
    found.extend(comparing(evidence, selection, reference));
    found
}

/// Whether the key is one that counts.
fn listing(name: Name, reference: &ReferenceValues) -> Option<Rejection> {
    if reference.ak_names().is_empty() {
        return Some(Rejection::NoAkListed);
    }
    (!reference.ak_names().contains(&name)).then_some(Rejection::AkNotListed(name))
}

/// Whether the signed selection is the one that was asked for: one bank, SHA-256, the same bits.
fn selecting(quote: &Quote, selection: &PcrSelection) -> Option<Rejection> {
    let [bank] = &quote.banks[..] else {
        return Some(Rejection::SelectionBanks(quote.banks.len()));
    };
    if bank.hash != Algorithm::SHA256 {
        return Some(Rejection::SelectionBank(bank.hash));
    }
    let quoted = bank.selection();
    (quoted.as_ref() != Some(selection)).then(|| Rejection::SelectionDiffers {
        quoted: quoted.map_or_else(
            || format!("of mask `{}`", hex::encode(&bank.octets)),
            |quoted| quoted.to_string(),
        ),
        asked: selection.to_string(),
    })
}

/// Whether exactly the selected values were sent.
fn values(evidence: &Evidence, selection: &PcrSelection) -> impl Iterator<Item = Rejection> {
    let missing = selection
        .iter()
        .filter(|pcr| !evidence.pcrs.contains_key(pcr))
        .map(Rejection::PcrMissing);
    let stray = evidence
        .pcrs
        .keys()
        .filter(|pcr| !selection.contains(**pcr))
        .map(|pcr| Rejection::PcrNotQuoted(*pcr));
    missing.chain(stray)
}

/// The digest of the values that were sent, if it is the one that was signed.
fn quoted_digest(
    quote: &Quote,
    evidence: &Evidence,
    selection: &PcrSelection,
) -> Result<Digest, Rejection> {
    composite(selection, &evidence.pcrs)
        .filter(|digest| quote.pcr_digest == digest.bytes())
        .ok_or(Rejection::PcrDigestDiffers)
}

/// Whether the quote is over these 32 bytes and no other encoding of them.
fn answering(quote: &Quote, extra_data: &Digest) -> Option<Rejection> {
    (quote.extra_data != extra_data.bytes()).then_some(Rejection::ChallengeDiffers)
}

/// Whether every selected PCR has a reference value and equals it. A PCR that was not sent is
/// reported by [`values`].
fn comparing(
    evidence: &Evidence,
    selection: &PcrSelection,
    reference: &ReferenceValues,
) -> impl Iterator<Item = Rejection> {
    selection
        .iter()
        .filter_map(|pcr| match (reference.pcr(pcr), evidence.pcrs.get(&pcr)) {
            (None, _) => Some(Rejection::PcrWithoutReference(pcr)),
            (Some(reference), Some(found)) if reference != found => Some(Rejection::PcrDiffers {
                pcr,
                reference: *reference,
                found: *found,
            }),
            (Some(_), Some(_) | None) => None,
        })
}

fn none(rejections: impl IntoIterator<Item = Rejection>) -> Result<(), Rejection> {
    rejections.into_iter().next().map_or(Ok(()), Err)
}
