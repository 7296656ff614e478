//! The signature beside a quote: TPMT_SIGNATURE.
//!
//! Promises: read to the last byte, two schemes only, one encoding of each number. Which scheme
//! and hash count is the key's to say (`key`), never this structure's.

use super::algorithm::Algorithm;
use super::bytes::{Malformed, Reader};
use super::public::read_scalar;

/// A parsed signature.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Signature {
    pub hash: Algorithm,
    pub value: SignatureValue,
}

/// The numbers, by scheme.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SignatureValue {
    Rsassa(Vec<u8>),
    Ecdsa { r: [u8; 32], s: [u8; 32] },
}

impl Signature {
    /// Reads the whole of `bytes`.
    pub fn parse(bytes: &[u8]) -> Result<Self, Malformed> {
        let mut reader = Reader::new(bytes);
        let scheme = Algorithm(reader.u16("scheme")?);
        let hash = Algorithm(reader.u16("hash")?);
        let value = match scheme {
            Algorithm::RSASSA => {
                SignatureValue::Rsassa(reader.sized("RSA signature", MAX_RSA)?.to_vec())
            }
            Algorithm::ECDSA => SignatureValue::Ecdsa {
                r: read_scalar(&mut reader, "r")?,
                s: read_scalar(&mut reader, "s")?,
            },
            Algorithm(other) => {
                return Err(Malformed::Unsupported {
                    field: "scheme",
                    found: other.into(),
                });
            }
        };
        reader.finish()?;
        Ok(Self { hash, value })
    }

    /// The scheme it was read as.
    pub const fn scheme(&self) -> Algorithm {
        match self.value {
            SignatureValue::Rsassa(_) => Algorithm::RSASSA,
            SignatureValue::Ecdsa { .. } => Algorithm::ECDSA,
        }
    }
}

/// 4096 bits.
const MAX_RSA: usize = 512;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::fixture::Scene;
    use super::*;

    #[test]
    fn lengths_are_exact() {
        for scene in [Scene::ecc(), Scene::rsa()] {
            let genuine = scene.evidence.signature;
            assert!(Signature::parse(&genuine).is_ok());
            for length in 0..genuine.len() {
                Signature::parse(&genuine[..length]).unwrap_err();
            }
            assert_eq!(
                Signature::parse(&[&genuine[..], &[0]].concat()),
                Err(Malformed::Trailing { count: 1 })
            );
        }
    }

    #[test]
    fn other_schemes_are_refused() {
        for scheme in [0x0005_u16, 0x0010, 0x0016, 0x001a, 0x001b, 0x001c] {
            let bytes = [&scheme.to_be_bytes()[..], &[0, 0xb, 0, 1, 1, 0, 1, 1]].concat();
            assert_eq!(
                Signature::parse(&bytes),
                Err(Malformed::Unsupported {
                    field: "scheme",
                    found: scheme.into()
                })
            );
        }
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_never_panic(mut bytes: Vec<u8>, ecc: bool) {
            let _read = Signature::parse(&bytes);
            bytes.splice(0..0, [0, if ecc { 0x18 } else { 0x14 }, 0, 0xb]);
            let _read = Signature::parse(&bytes);
        }
    }
}
