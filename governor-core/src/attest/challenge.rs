//! What a quote must answer: one value that binds the nonce to everything the answer is for.
//!
//! The TPM signs `extraData`, so one signature says: this boot state, at this TPM clock, in reply
//! to this nonce, on this host, under this policy, with the ledger this long and ending in this
//! head, and with the gate's alarm counter at this value. Making nonces, and using each once
//! before it expires, is for whoever keeps them.

use core::fmt;

use serde::Deserialize;
use thiserror::Error;

use crate::digest::Digest;

/// 32 random bytes, used once.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Nonce([u8; 32]);

/// What was asked of the host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Challenge {
    pub nonce: Nonce,
    /// Who was asked.
    pub host: Digest,
    /// The policy in force.
    pub policy: Digest,
    /// Records in the ledger.
    pub ledger_size: u64,
    /// The ledger's tree head at that size.
    pub ledger_head: Digest,
    /// The gate's alarm counter, read before the nonce was issued.
    pub trips: u64,
}

impl Nonce {
    /// From the caller's source of randomness.
    pub const fn new(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// The bytes.
    pub const fn bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl fmt::Debug for Nonce {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Nonce({})", hex::encode(self.0))
    }
}

impl Challenge {
    /// The value to quote: SHA-256 of
    /// `"governor-quote-v1\0" ‖ nonce ‖ host ‖ policy ‖ be64 size ‖ head ‖ be64 trips`.
    /// Every part has a fixed length, so no two challenges share their bytes.
    pub fn extra_data(&self) -> Digest {
        Digest::of_parts(&[
            DOMAIN,
            self.nonce.bytes(),
            self.host.bytes(),
            self.policy.bytes(),
            &self.ledger_size.to_be_bytes(),
            self.ledger_head.bytes(),
            &self.trips.to_be_bytes(),
        ])
    }
}

/// Why a text is not a challenge.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum ChallengeError {
    #[error("reading a challenge: {0}")]
    Syntax(String),
    #[error("reading a challenge: `{0}` is not 64 hexadecimal digits")]
    NotADigest(String),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    nonce: String,
    host: String,
    policy: String,
    ledger_size: u64,
    ledger_head: String,
    trips: u64,
}

impl Challenge {
    /// The challenge as TOML, to lie beside the evidence that answers it. What it says is believed
    /// only as far as the quote's signature covers it.
    pub fn write(&self) -> String {
        format!(
            "nonce = \"{}\"\nhost = \"{}\"\npolicy = \"{}\"\nledger_size = {}\n\
             ledger_head = \"{}\"\ntrips = {}\n",
            hex::encode(self.nonce.bytes()),
            self.host,
            self.policy,
            self.ledger_size,
            self.ledger_head,
            self.trips
        )
    }

    /// Reads what [`Self::write`] wrote, and nothing else.
    pub fn parse(text: &str) -> Result<Self, ChallengeError> {
        let written: Written = toml::from_str(text)
            .map_err(|error| ChallengeError::Syntax(error.message().to_owned()))?;
        let digest = |text: String| Digest::from_hex(&text).ok_or(ChallengeError::NotADigest(text));
        Ok(Self {
            nonce: Nonce::new(*digest(written.nonce)?.bytes()),
            host: digest(written.host)?,
            policy: digest(written.policy)?,
            ledger_size: written.ledger_size,
            ledger_head: digest(written.ledger_head)?,
            trips: written.trips,
        })
    }
}

const DOMAIN: &[u8] = b"governor-quote-v1\0";

#[cfg(test)]
mod tests {
    use super::super::fixture::challenge;
    use super::*;

    #[test]
    fn the_encoding_is_fixed() {
        let challenge = challenge();
        let mut bytes = b"governor-quote-v1\0".to_vec();
        bytes.extend([1; 32]);
        bytes.extend([2; 32]);
        bytes.extend([3; 32]);
        bytes.extend([0, 0, 0, 0, 0, 0, 0, 4]);
        bytes.extend([5; 32]);
        bytes.extend([0, 0, 0, 0, 0, 0, 0, 6]);
        assert_eq!(challenge.extra_data(), Digest::of(&bytes));
    }

    #[test]
    fn what_is_written_is_read_and_nothing_else() {
        let text = challenge().write();
        assert_eq!(Challenge::parse(&text), Ok(challenge()));
        assert!(Challenge::parse(&format!("{text}more = 1\n")).is_err());
        assert!(Challenge::parse(&text.replace("trips", "trip")).is_err());
        assert!(Challenge::parse(&text.replacen("01", "0", 1)).is_err());
    }

    #[test]
    fn every_part_counts() {
        let base = challenge();
        let other = Digest::new([9; 32]);
        let changed = [
            Challenge {
                nonce: Nonce::new([9; 32]),
                ..base.clone()
            },
            Challenge {
                host: other,
                ..base.clone()
            },
            Challenge {
                policy: other,
                ..base.clone()
            },
            Challenge {
                ledger_size: 9,
                ..base.clone()
            },
            Challenge {
                ledger_head: other,
                ..base.clone()
            },
            Challenge {
                trips: 9,
                ..base.clone()
            },
        ];
        for challenge in changed {
            assert_ne!(challenge.extra_data(), base.extra_data(), "{challenge:?}");
        }
    }
}
