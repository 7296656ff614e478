//! The public area of a TPM key (TPMT_PUBLIC) and its name.
//!
//! Promises: a [`Public`] was read to the last byte, and its name is computed here from those very
//! bytes, never taken from whoever sent them. Reads storage keys (an EK) as well as signing keys;
//! what an attestation key must be is decided in `key`.

use core::fmt;

use super::algorithm::Algorithm;
use super::bytes::{Malformed, Reader};
use crate::digest::Digest;

/// The name of a key whose name algorithm is SHA-256.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Name(Digest);

/// What a signature scheme in a public area fixes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Scheme {
    pub algorithm: Algorithm,
    pub hash: Option<Algorithm>,
}

/// The key itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Material {
    /// An exponent of zero stands for 65537.
    Rsa {
        bits: u16,
        exponent: u32,
        modulus: Vec<u8>,
    },
    /// A point on a `TPM_ECC_CURVE`.
    Ecc {
        curve: u16,
        x: [u8; 32],
        y: [u8; 32],
    },
}

/// A parsed public area.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Public {
    pub name_algorithm: Algorithm,
    /// `TPMA_OBJECT`.
    pub attributes: u32,
    /// `None`: the key leaves the scheme to whoever uses it.
    pub scheme: Option<Scheme>,
    pub material: Material,
    sha256: Digest,
}

/// `TPM_ECC_NIST_P256`.
pub const P256: u16 = 0x0003;

impl Public {
    /// Reads the whole of `bytes`.
    pub fn parse(bytes: &[u8]) -> Result<Self, Malformed> {
        let mut reader = Reader::new(bytes);
        let kind = Algorithm(reader.u16("key type")?);
        let name_algorithm = Algorithm(reader.u16("name algorithm")?);
        let attributes = reader.u32("attributes")?;
        reader.sized("policy digest", MAX_DIGEST)?;
        let (scheme, material) = match kind {
            Algorithm::RSA => read_rsa(&mut reader)?,
            Algorithm::ECC => read_ecc(&mut reader)?,
            Algorithm(other) => {
                return Err(Malformed::Unsupported {
                    field: "key type",
                    found: other.into(),
                });
            }
        };
        reader.finish()?;
        Ok(Self {
            name_algorithm,
            attributes,
            scheme,
            material,
            sha256: Digest::of(bytes),
        })
    }

    /// The name, where its algorithm is SHA-256.
    pub fn name(&self) -> Option<Name> {
        (self.name_algorithm == Algorithm::SHA256).then_some(Name(self.sha256))
    }
}

impl Name {
    /// `000b` and 64 digits, in lower case.
    pub fn from_hex(text: &str) -> Option<Self> {
        let name = Self(Digest::from_hex(text.strip_prefix("000b")?)?);
        (name.to_string() == text).then_some(name)
    }

    /// The number of the algorithm and the digest, as the TPM writes it.
    pub fn bytes(&self) -> [u8; 34] {
        let mut bytes = [0; 34];
        let (algorithm, digest) = bytes.split_at_mut(2);
        algorithm.copy_from_slice(&Algorithm::SHA256.0.to_be_bytes());
        digest.copy_from_slice(self.0.bytes());
        bytes
    }

    /// The qualified name of this key as a primary key of the endorsement hierarchy.
    pub fn qualified_as_endorsement_primary(&self) -> Self {
        Self(Digest::of_parts(&[
            &ENDORSEMENT.to_be_bytes(),
            &self.bytes(),
        ]))
    }

    /// The qualified name of this key as a child of the key that `parent` qualifies.
    pub fn qualified_under(&self, parent: &Self) -> Self {
        Self(Digest::of_parts(&[&parent.bytes(), &self.bytes()]))
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:04x}{}", Algorithm::SHA256.0, self.0)
    }
}

/// A number of 32 bytes. Some TPMs leave leading zeros away; nothing else is accepted.
pub(super) fn read_scalar(
    reader: &mut Reader<'_>,
    field: &'static str,
) -> Result<[u8; 32], Malformed> {
    let bytes = reader.sized(field, 32)?;
    if bytes.len() < 32 && bytes.first().is_none_or(|first| *first == 0) {
        return Err(Malformed::NotCanonical { field });
    }
    let mut scalar = [0; 32];
    let (_, tail) = scalar.split_at_mut(32 - bytes.len());
    tail.copy_from_slice(bytes);
    Ok(scalar)
}

fn read_rsa(reader: &mut Reader<'_>) -> Result<(Option<Scheme>, Material), Malformed> {
    skip_symmetric(reader)?;
    let scheme = read_scheme(reader)?;
    let bits = reader.u16("key size")?;
    let exponent = reader.u32("exponent")?;
    let modulus = reader.sized("modulus", MAX_MODULUS)?.to_vec();
    Ok((
        scheme,
        Material::Rsa {
            bits,
            exponent,
            modulus,
        },
    ))
}

fn read_ecc(reader: &mut Reader<'_>) -> Result<(Option<Scheme>, Material), Malformed> {
    skip_symmetric(reader)?;
    let scheme = read_scheme(reader)?;
    let curve = reader.u16("curve")?;
    if Algorithm(reader.u16("key derivation scheme")?) != Algorithm::NULL {
        reader.u16("key derivation hash")?;
    }
    if curve != P256 {
        return Err(Malformed::Unsupported {
            field: "curve",
            found: curve.into(),
        });
    }
    let x = read_scalar(reader, "x coordinate")?;
    let y = read_scalar(reader, "y coordinate")?;
    Ok((scheme, Material::Ecc { curve, x, y }))
}

/// A storage key's cipher. That a signing key has none follows from what it is not: a decryption
/// key.
fn skip_symmetric(reader: &mut Reader<'_>) -> Result<(), Malformed> {
    if Algorithm(reader.u16("symmetric algorithm")?) != Algorithm::NULL {
        reader.u16("symmetric key size")?;
        reader.u16("symmetric mode")?;
    }
    Ok(())
}

fn read_scheme(reader: &mut Reader<'_>) -> Result<Option<Scheme>, Malformed> {
    let algorithm = Algorithm(reader.u16("scheme")?);
    let hash = match algorithm {
        Algorithm::NULL => return Ok(None),
        Algorithm::RSAES => None,
        Algorithm::RSASSA | Algorithm::RSAPSS | Algorithm::ECDSA => {
            Some(Algorithm(reader.u16("scheme hash")?))
        }
        Algorithm(other) => {
            return Err(Malformed::Unsupported {
                field: "scheme",
                found: other.into(),
            });
        }
    };
    Ok(Some(Scheme { algorithm, hash }))
}

/// `TPM_RH_ENDORSEMENT`.
const ENDORSEMENT: u32 = 0x4000_000b;
/// SHA-512.
const MAX_DIGEST: usize = 64;
/// 4096 bits.
const MAX_MODULUS: usize = 512;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::fixture::PublicDraft;
    use super::*;

    #[test]
    fn a_name_covers_every_byte() {
        let draft = PublicDraft::ecc();
        let public = Public::parse(&draft.bytes()).unwrap();
        let name = public.name().unwrap();
        assert_eq!(Name::from_hex(&name.to_string()), Some(name));
        assert_eq!(hex::encode(name.bytes()), name.to_string());
        let other = PublicDraft {
            policy: vec![1; 32],
            ..draft
        };
        assert_ne!(Public::parse(&other.bytes()).unwrap().name(), Some(name));
        let sha384 = PublicDraft {
            name_algorithm: 0x000c,
            ..PublicDraft::ecc()
        };
        assert_eq!(Public::parse(&sha384.bytes()).unwrap().name(), None);
    }

    #[test]
    fn names_have_one_text_form() {
        let text = format!("000b{}", "ab".repeat(32));
        assert_eq!(Name::from_hex(&text).unwrap().to_string(), text);
        let upper = format!("000b{}", "AB".repeat(32));
        for wrong in [
            &text[..66],
            &upper,
            &text.to_uppercase(),
            &text[4..],
            &format!("{text}0"),
        ] {
            assert_eq!(Name::from_hex(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn lengths_are_exact() {
        for draft in [PublicDraft::ecc(), PublicDraft::rsa()] {
            let genuine = draft.bytes();
            for length in 0..genuine.len() {
                Public::parse(&genuine[..length]).unwrap_err();
            }
            assert_eq!(
                Public::parse(&[&genuine[..], &[0]].concat()),
                Err(Malformed::Trailing { count: 1 })
            );
        }
    }

    #[test]
    fn coordinates_have_one_encoding() {
        let read = |bytes: &[u8]| {
            let sized = [&u16::try_from(bytes.len()).unwrap().to_be_bytes(), bytes].concat();
            read_scalar(&mut Reader::new(&sized), "r")
        };
        assert_eq!(read(&[1; 32]), Ok([1; 32]));
        assert_eq!(read(&[2]).map(|scalar| scalar[31]), Ok(2));
        assert!(read(&[0; 32]).is_ok());
        assert_eq!(read(&[0, 1]), Err(Malformed::NotCanonical { field: "r" }));
        assert_eq!(read(&[]), Err(Malformed::NotCanonical { field: "r" }));
        assert!(matches!(read(&[1; 33]), Err(Malformed::TooLong { .. })));
    }

    #[test]
    fn unknown_kinds_are_refused() {
        let refused = |draft: PublicDraft, expected: &'static str| {
            assert!(
                matches!(
                    Public::parse(&draft.bytes()),
                    Err(Malformed::Unsupported { field, .. }) if field == expected
                ),
                "{expected}"
            );
        };
        refused(
            PublicDraft {
                kind: 0x0008,
                ..PublicDraft::ecc()
            },
            "key type",
        );
        refused(
            PublicDraft {
                scheme: vec![0, 0x1a, 0, 0xb, 0, 1],
                ..PublicDraft::ecc()
            },
            "scheme",
        );
        refused(
            PublicDraft {
                curve: 0x0004,
                ..PublicDraft::ecc()
            },
            "curve",
        );
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_never_panic(mut bytes: Vec<u8>, ecc: bool) {
            let _read = Public::parse(&bytes);
            bytes.splice(0..0, [0, if ecc { 0x23 } else { 1 }, 0, 0xb, 0, 5, 0, 0x72, 0, 0]);
            let _read = Public::parse(&bytes);
        }
    }
}
