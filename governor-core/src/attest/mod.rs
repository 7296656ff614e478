//! Attestation: from a host's evidence to a result that can be relied on, or a reason why not.
//!
//! Promises: pure functions of raw bytes and arguments. Our own strict parsers, no TPM library;
//! verification over the bytes as received; no default that accepts. Every parser
//! ([`Quote::parse`], [`Signature::parse`], [`Public::parse`], [`ReferenceValues::parse`]) and
//! [`diagnose`] takes arbitrary input without panicking, so each is an entry point for a fuzzer.

mod algorithm;
mod appraise;
mod bytes;
mod challenge;
mod evidence;
#[cfg(test)]
pub(crate) mod fixture;
mod key;
mod public;
mod quote;
mod reference;
mod rejection;
mod selection;
mod signature;
#[cfg(test)]
mod tests;

pub use algorithm::Algorithm;
pub use appraise::{AttestationResult, appraise, diagnose, diagnose_answer};
pub use bytes::Malformed;
pub use challenge::{Challenge, ChallengeError, Nonce};
pub use evidence::{Evidence, MAX_EVENT_LOG, composite};
pub use key::AttestationKey;
pub use public::{Material, Name, P256, Public, Scheme};
pub use quote::{ClockInfo, MAGIC, Quote, QuoteError, QuotedBank, TYPE_QUOTE};
pub use reference::{ReferenceError, ReferenceProblem, ReferenceValues};
pub use rejection::Rejection;
pub use selection::{PCR_COUNT, PcrSelection, SelectionError};
pub use signature::{Signature, SignatureValue};
