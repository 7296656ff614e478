//! Evidence as it was received, bounded but not believed.
//!
//! Nothing here is trusted: the bytes are kept exactly as they came, so that what is verified,
//! recorded and shown later is what was signed.

use std::collections::BTreeMap;

use super::rejection::Rejection;
use super::selection::PcrSelection;
use crate::digest::Digest;

/// What a host sends about itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Evidence {
    /// TPMS_ATTEST, the bytes that were signed.
    pub quote: Vec<u8>,
    /// TPMT_SIGNATURE.
    pub signature: Vec<u8>,
    /// TPMT_PUBLIC of the attestation key.
    pub ak_public: Vec<u8>,
    /// The values behind the quote's digest.
    pub pcrs: BTreeMap<u8, Digest>,
    /// The firmware's event log; empty where there is none.
    pub event_log: Vec<u8>,
}

impl Evidence {
    /// A digest of all of it: SHA-256 of a domain and each part behind its 64-bit length; the PCRs
    /// as one part, number and value each.
    pub fn digest(&self) -> Digest {
        let pcrs: Vec<u8> = self
            .pcrs
            .iter()
            .flat_map(|(pcr, value)| core::iter::once(*pcr).chain(*value.bytes()))
            .collect();
        let mut bytes = DOMAIN.to_vec();
        for part in [
            &self.quote,
            &self.signature,
            &self.ak_public,
            &pcrs,
            &self.event_log,
        ] {
            // A length always fits: usize has at most 64 bits.
            bytes.extend(u64::try_from(part.len()).unwrap_or(u64::MAX).to_be_bytes());
            bytes.extend(part);
        }
        Digest::of(&bytes)
    }

    /// Parts that are larger than any genuine one.
    pub(super) fn oversized(&self) -> impl Iterator<Item = Rejection> {
        [
            ("quote", self.quote.len(), MAX_STRUCTURE),
            ("signature", self.signature.len(), MAX_STRUCTURE),
            ("attestation key", self.ak_public.len(), MAX_STRUCTURE),
            ("event log", self.event_log.len(), MAX_EVENT_LOG),
        ]
        .into_iter()
        .filter(|(_, length, limit)| length > limit)
        .map(|(part, length, limit)| Rejection::TooLarge {
            part,
            length,
            limit,
        })
    }
}

/// The digest a quote carries for `values`: over the selected ones, in ascending order. `None`
/// where one is missing.
pub fn composite(selection: &PcrSelection, values: &BTreeMap<u8, Digest>) -> Option<Digest> {
    let parts: Option<Vec<&[u8]>> = selection
        .iter()
        .map(|pcr| values.get(&pcr).map(|value| &value.bytes()[..]))
        .collect();
    Some(Digest::of_parts(&parts?))
}

const DOMAIN: &[u8] = b"governor-evidence-v1\0";
/// No TPM structure here comes near.
const MAX_STRUCTURE: usize = 4096;
/// Sixteen times the log area that firmware commonly reserves.
pub const MAX_EVENT_LOG: usize = 1 << 20;
