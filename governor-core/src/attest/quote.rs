//! What the TPM signed: a TPMS_ATTEST of the quote kind, read from the exact bytes received.
//!
//! Promises: a value of [`Quote`] came from bytes that start with the TPM's own magic, are of the
//! quote type (a certified NV area or key is not a quote), and end where the structure ends.
//! Whether they are signed, fresh and say the right thing is decided in `appraise`.

use thiserror::Error;

use super::algorithm::Algorithm;
use super::bytes::{Malformed, Reader};
use super::selection::PcrSelection;

/// `TPM_GENERATED_VALUE`: a restricted key signs nothing from outside that starts with it.
pub const MAGIC: u32 = 0xff54_4347;
/// `TPM_ST_ATTEST_QUOTE`.
pub const TYPE_QUOTE: u16 = 0x8018;

/// The TPM's clock when it signed. Counters are as the TPM gives them: a key outside the
/// endorsement and platform hierarchies sees them shifted by an amount of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClockInfo {
    /// Milliseconds the TPM has been powered.
    pub clock: u64,
    /// Raised by each reset of the TPM.
    pub reset_count: u32,
    /// Raised by each suspend.
    pub restart_count: u32,
    /// False while the clock may repeat values it has already shown.
    pub safe: bool,
}

/// One bank of the signed selection, as it stands in the quote.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QuotedBank {
    pub hash: Algorithm,
    pub octets: Vec<u8>,
}

/// A parsed quote.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Quote {
    /// The qualified name of the key that signed.
    pub qualified_signer: Vec<u8>,
    /// The challenge.
    pub extra_data: Vec<u8>,
    pub clock: ClockInfo,
    /// The TPM's firmware version, shifted like the counters.
    pub firmware: u64,
    pub banks: Vec<QuotedBank>,
    pub pcr_digest: Vec<u8>,
}

/// Why bytes are not a quote.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum QuoteError {
    #[error("the quote is malformed: {0}")]
    Malformed(Malformed),
    #[error("the signed structure was not made by a TPM: it starts with {0:#010x}")]
    Magic(u32),
    #[error("the signed structure is not a quote: its type is {0:#06x}")]
    Type(u16),
}

impl Quote {
    /// Reads the whole of `bytes`.
    pub fn parse(bytes: &[u8]) -> Result<Self, QuoteError> {
        let mut reader = Reader::new(bytes);
        let magic = reader.u32("magic")?;
        if magic != MAGIC {
            return Err(QuoteError::Magic(magic));
        }
        let kind = reader.u16("type")?;
        if kind != TYPE_QUOTE {
            return Err(QuoteError::Type(kind));
        }
        let qualified_signer = reader.sized("qualified signer", MAX_NAME)?.to_vec();
        let extra_data = reader.sized("challenge", MAX_EXTRA_DATA)?.to_vec();
        let clock = read_clock(&mut reader)?;
        let firmware = reader.u64("firmware version")?;
        let banks = read_banks(&mut reader)?;
        let pcr_digest = reader.sized("PCR digest", MAX_DIGEST)?.to_vec();
        reader.finish()?;
        Ok(Self {
            qualified_signer,
            extra_data,
            clock,
            firmware,
            banks,
            pcr_digest,
        })
    }
}

impl From<Malformed> for QuoteError {
    fn from(error: Malformed) -> Self {
        Self::Malformed(error)
    }
}

impl QuotedBank {
    /// The PCRs whose bits are set; `None` where none is, or one beyond the last PCR.
    pub fn selection(&self) -> Option<PcrSelection> {
        let bits = self.octets.iter().zip(0_u8..).flat_map(|(octet, index)| {
            (0..8)
                .filter(move |bit| octet >> bit & 1 == 1)
                .map(move |bit| index * 8 + bit)
        });
        PcrSelection::new(bits).ok()
    }
}

fn read_clock(reader: &mut Reader<'_>) -> Result<ClockInfo, Malformed> {
    Ok(ClockInfo {
        clock: reader.u64("clock")?,
        reset_count: reader.u32("reset count")?,
        restart_count: reader.u32("restart count")?,
        safe: match reader.u8("clock safety")? {
            0 => false,
            1 => true,
            _ => {
                return Err(Malformed::NotCanonical {
                    field: "clock safety",
                });
            }
        },
    })
}

fn read_banks(reader: &mut Reader<'_>) -> Result<Vec<QuotedBank>, Malformed> {
    let count = reader.u32("count of PCR banks")?;
    if count > MAX_BANKS {
        return Err(Malformed::Unsupported {
            field: "count of PCR banks",
            found: count,
        });
    }
    (0..count)
        .map(|_| {
            let hash = Algorithm(reader.u16("PCR bank")?);
            let length = reader.u8("width of the PCR selection")?;
            if length > MAX_SELECT {
                let (length, limit) = (usize::from(length), usize::from(MAX_SELECT));
                return Err(Malformed::TooLong {
                    field: "PCR selection",
                    length,
                    limit,
                });
            }
            let octets = reader.take("PCR selection", usize::from(length))?.to_vec();
            Ok(QuotedBank { hash, octets })
        })
        .collect()
}

/// The longest name: SHA-512 and the number of its algorithm.
const MAX_NAME: usize = 66;
/// `TPM2B_DATA`: a digest and its algorithm.
const MAX_EXTRA_DATA: usize = 66;
/// SHA-512.
const MAX_DIGEST: usize = 64;
/// `TPM2_NUM_PCR_BANKS`.
const MAX_BANKS: u32 = 16;
/// `TPM2_PCR_SELECT_MAX`.
const MAX_SELECT: u8 = 4;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::fixture::AttestDraft;
    use super::*;

    #[test]
    fn reads_every_field() {
        let quote = Quote::parse(&AttestDraft::genuine().bytes()).unwrap();
        assert_eq!(
            quote.clock,
            ClockInfo {
                clock: 5_994,
                reset_count: 7,
                restart_count: 2,
                safe: true
            }
        );
        assert_eq!(quote.firmware, 0x2016_0511_0016_2800);
        assert_eq!(quote.extra_data.len(), 32);
        let [bank] = &quote.banks[..] else {
            panic!("{:?}", quote.banks)
        };
        assert_eq!(bank.hash, Algorithm::SHA256);
        assert_eq!(bank.selection().unwrap().to_string(), "0,7,23");
    }

    #[test]
    fn magic_and_type_are_required() {
        let forged = AttestDraft {
            magic: 0xff54_4348,
            ..AttestDraft::genuine()
        };
        assert_eq!(
            Quote::parse(&forged.bytes()),
            Err(QuoteError::Magic(0xff54_4348))
        );
        for kind in [0x8014, 0x8015, 0x8016, 0x8017, 0x8019, 0x801a, 0x801c] {
            let forged = AttestDraft {
                kind,
                ..AttestDraft::genuine()
            };
            assert_eq!(Quote::parse(&forged.bytes()), Err(QuoteError::Type(kind)));
        }
    }

    #[test]
    fn lengths_are_bounded_and_exact() {
        let genuine = AttestDraft::genuine().bytes();
        for length in 0..genuine.len() {
            assert!(
                matches!(
                    Quote::parse(&genuine[..length]),
                    Err(QuoteError::Malformed(Malformed::Truncated { .. }))
                ),
                "{length}"
            );
        }
        let longer = [&genuine[..], &[0]].concat();
        assert_eq!(
            Quote::parse(&longer),
            Err(QuoteError::Malformed(Malformed::Trailing { count: 1 }))
        );
        let too_long = |draft: AttestDraft, expected: &'static str| {
            assert!(
                matches!(
                    Quote::parse(&draft.bytes()),
                    Err(QuoteError::Malformed(Malformed::TooLong { field, .. })) if field == expected
                ),
                "{expected}"
            );
        };
        let genuine = AttestDraft::genuine;
        too_long(
            AttestDraft {
                signer: vec![0; 67],
                ..genuine()
            },
            "qualified signer",
        );
        too_long(
            AttestDraft {
                extra: vec![0; 67],
                ..genuine()
            },
            "challenge",
        );
        too_long(
            AttestDraft {
                digest: vec![0; 65],
                ..genuine()
            },
            "PCR digest",
        );
        too_long(
            AttestDraft {
                banks: vec![(0xb, vec![1; 5])],
                ..genuine()
            },
            "PCR selection",
        );
    }

    #[test]
    fn odd_values_are_refused() {
        let draft = AttestDraft {
            safe: 2,
            ..AttestDraft::genuine()
        };
        assert_eq!(
            Quote::parse(&draft.bytes()),
            Err(QuoteError::Malformed(Malformed::NotCanonical {
                field: "clock safety"
            }))
        );
        let draft = AttestDraft {
            banks: vec![(0xb, vec![0; 3]); 17],
            ..AttestDraft::genuine()
        };
        assert_eq!(
            Quote::parse(&draft.bytes()),
            Err(QuoteError::Malformed(Malformed::Unsupported {
                field: "count of PCR banks",
                found: 17
            }))
        );
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_never_panic(bytes: Vec<u8>) {
            Quote::parse(&bytes).unwrap_err();
        }

        #[test]
        fn changed_bytes_never_panic(position in 6_usize..133, value: u8) {
            let mut bytes = AttestDraft::genuine().bytes();
            let length = bytes.len();
            bytes[position % length] = value;
            if let Ok(quote) = Quote::parse(&bytes) {
                prop_assert!(quote.banks.len() < 17);
            }
        }
    }
}
