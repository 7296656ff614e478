//! Why evidence is not accepted: one reason per check, each with a stable code.
//!
//! The text says which matter failed and what was found; the code is for records and machines and
//! does not change when the text does. Whether a rejection means "this host says something else"
//! rather than "this is no evidence" is [`Rejection::is_contradiction`].

use thiserror::Error;

use super::algorithm::Algorithm;
use super::bytes::Malformed;
use super::public::Name;
use super::quote::QuoteError;
use crate::digest::Digest;

/// A check that failed.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum Rejection {
    #[error("the {part} is too large to be evidence: {length} bytes, at most {limit}")]
    TooLarge {
        part: &'static str,
        length: usize,
        limit: usize,
    },

    #[error("the attestation key is malformed: {0}")]
    AkMalformed(Malformed),
    #[error("the attestation key is named by {0}, only SHA-256 is accepted")]
    AkNameAlgorithm(Algorithm),
    #[error("the attestation key lacks the attribute {0}")]
    AkAttributeMissing(&'static str),
    #[error("the attestation key may decrypt, so it is not only a signing key")]
    AkDecrypts,
    #[error("the attestation key has attributes that are not allowed: {0:#010x}")]
    AkAttributeUnknown(u32),
    #[error("the attestation key does not fix its signature scheme")]
    AkSchemeNotFixed,
    #[error("the attestation key's scheme {0} is not accepted for its type")]
    AkScheme(Algorithm),
    #[error("the attestation key's scheme signs {0} digests, only SHA-256 is accepted")]
    AkHash(Algorithm),
    #[error("the attestation key has {0} RSA bits, from 2048 to 4096 are accepted")]
    AkRsaBits(u16),
    #[error("the attestation key's RSA exponent is {0}, only 65537 is accepted")]
    AkRsaExponent(u32),
    #[error("the attestation key's modulus is not an RSA modulus of its stated size")]
    AkRsaModulus,
    #[error("the attestation key's coordinates are not a point on P-256")]
    AkPoint,
    #[error("no attestation key is listed in the reference values, so none is accepted")]
    NoAkListed,
    #[error("the attestation key `{0}` is not listed in the reference values")]
    AkNotListed(Name),

    #[error("the signature is malformed: {0}")]
    SignatureMalformed(Malformed),
    #[error("the signature's scheme is {found}, the attestation key fixes {fixed}")]
    SignatureScheme { fixed: Algorithm, found: Algorithm },
    #[error("the signature is over a {found} digest, the attestation key fixes {fixed}")]
    SignatureHash { fixed: Algorithm, found: Algorithm },
    #[error("the signature is not the attestation key's signature of this quote")]
    SignatureInvalid,

    #[error("{0}")]
    Quote(QuoteError),
    #[error("the quote covers {0} PCR banks, it must cover exactly one")]
    SelectionBanks(usize),
    #[error("the quote covers the {0} bank, only SHA-256 is accepted")]
    SelectionBank(Algorithm),
    #[error("the quote covers PCRs {quoted}, policy asks for {asked}")]
    SelectionDiffers { quoted: String, asked: String },
    #[error("the value of PCR {0} is quoted but was not sent")]
    PcrMissing(u8),
    #[error("a value of PCR {0} was sent but is not quoted")]
    PcrNotQuoted(u8),
    #[error("the PCR values that were sent are not the ones that were quoted")]
    PcrDigestDiffers,
    #[error("the quote answers another challenge")]
    ChallengeDiffers,

    #[error("policy quotes PCR {0}, but the reference values leave it out")]
    PcrWithoutReference(u8),
    #[error("PCR {pcr} is `{found}`, the reference value is `{reference}`")]
    PcrDiffers {
        pcr: u8,
        reference: Digest,
        found: Digest,
    },
}

impl Rejection {
    /// A stable name of the check.
    pub const fn code(&self) -> &'static str {
        match self {
            Self::TooLarge { .. } => "evidence-too-large",
            Self::AkMalformed(_) => "ak-malformed",
            Self::AkNameAlgorithm(_) => "ak-name-algorithm",
            Self::AkAttributeMissing(_) => "ak-attribute-missing",
            Self::AkDecrypts => "ak-decrypts",
            Self::AkAttributeUnknown(_) => "ak-attribute-unknown",
            Self::AkSchemeNotFixed => "ak-scheme-not-fixed",
            Self::AkScheme(_) => "ak-scheme",
            Self::AkHash(_) => "ak-hash",
            Self::AkRsaBits(_) => "ak-rsa-bits",
            Self::AkRsaExponent(_) => "ak-rsa-exponent",
            Self::AkRsaModulus => "ak-rsa-modulus",
            Self::AkPoint => "ak-point",
            Self::NoAkListed => "no-ak-listed",
            Self::AkNotListed(_) => "ak-not-listed",
            Self::SignatureMalformed(_) => "signature-malformed",
            Self::SignatureScheme { .. } => "signature-scheme-differs",
            Self::SignatureHash { .. } => "signature-hash-differs",
            Self::SignatureInvalid => "signature-invalid",
            Self::Quote(QuoteError::Malformed(_)) => "quote-malformed",
            Self::Quote(QuoteError::Magic(_)) => "quote-magic",
            Self::Quote(QuoteError::Type(_)) => "quote-type",
            Self::SelectionBanks(_) => "selection-banks",
            Self::SelectionBank(_) => "selection-bank",
            Self::SelectionDiffers { .. } => "selection-differs",
            Self::PcrMissing(_) => "pcr-missing",
            Self::PcrNotQuoted(_) => "pcr-not-quoted",
            Self::PcrDigestDiffers => "pcr-digest-differs",
            Self::ChallengeDiffers => "challenge-differs",
            Self::PcrWithoutReference(_) => "pcr-without-reference",
            Self::PcrDiffers { .. } => "pcr-differs",
        }
    }

    /// Whether a host's state contradicts the reference values, as against evidence that is
    /// broken, stale, of no known key, or asked about in vain. As the result of `appraise` it
    /// means that genuine and fresh evidence said so, because this check comes last.
    pub const fn is_contradiction(&self) -> bool {
        matches!(self, Self::PcrDiffers { .. })
    }
}
