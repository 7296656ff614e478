//! The attestation key: what it must be, and verification with it.
//!
//! Promises: an [`AttestationKey`] is a restricted signing key that was made inside a TPM and
//! cannot leave it, with scheme and hash fixed in its public area. Only such a key makes the
//! quote's magic mean anything: an unrestricted one signs whatever it is given.
//! Scheme and hash come from the key, so a signature cannot choose weaker ones.

use p256::EncodedPoint;
use rsa::{BigUint, RsaPublicKey, pkcs1v15};
use sha2::Sha256;
use signature::Verifier as _;

use super::algorithm::Algorithm;
use super::public::{Material, Name, Public};
use super::rejection::Rejection;
use super::signature::{Signature, SignatureValue};

/// A key whose signatures count.
#[derive(Clone, Debug)]
pub struct AttestationKey {
    name: Name,
    verifier: Verifier,
}

#[derive(Clone, Debug)]
enum Verifier {
    Rsa(pkcs1v15::VerifyingKey<Sha256>),
    Ecc(p256::ecdsa::VerifyingKey),
}

impl AttestationKey {
    /// The key, or the first objection to it.
    pub fn new(public: &Public) -> Result<Self, Rejection> {
        if let Some(objection) = Self::objections(public).into_iter().next() {
            return Err(objection);
        }
        let name = public
            .name()
            .ok_or(Rejection::AkNameAlgorithm(public.name_algorithm))?;
        Ok(Self {
            name,
            verifier: verifier(&public.material)?,
        })
    }

    /// Everything that speaks against `public` as an attestation key.
    pub fn objections(public: &Public) -> Vec<Rejection> {
        let mut found = Vec::new();
        if public.name_algorithm != Algorithm::SHA256 {
            found.push(Rejection::AkNameAlgorithm(public.name_algorithm));
        }
        found.extend(attribute_objections(public.attributes));
        found.extend(scheme_objection(public));
        if let Err(objection) = verifier(&public.material) {
            found.push(objection);
        }
        found
    }

    /// The name, computed from the public area.
    pub const fn name(&self) -> Name {
        self.name
    }

    /// Whether `signature` is this key's over exactly the bytes of `message`.
    pub fn verify(&self, message: &[u8], signature: &Signature) -> Result<(), Rejection> {
        if signature.hash != HASH {
            return Err(Rejection::SignatureHash {
                fixed: HASH,
                found: signature.hash,
            });
        }
        let valid = match (&self.verifier, &signature.value) {
            (Verifier::Rsa(key), SignatureValue::Rsassa(bytes)) => {
                pkcs1v15::Signature::try_from(&bytes[..])
                    .and_then(|signature| key.verify(message, &signature))
            }
            (Verifier::Ecc(key), SignatureValue::Ecdsa { r, s }) => {
                p256::ecdsa::Signature::from_scalars(*r, *s)
                    .and_then(|signature| key.verify(message, &signature))
            }
            (Verifier::Rsa(_), SignatureValue::Ecdsa { .. })
            | (Verifier::Ecc(_), SignatureValue::Rsassa(_)) => {
                let fixed = match self.verifier {
                    Verifier::Rsa(_) => Algorithm::RSASSA,
                    Verifier::Ecc(_) => Algorithm::ECDSA,
                };
                return Err(Rejection::SignatureScheme {
                    fixed,
                    found: signature.scheme(),
                });
            }
        };
        // The libraries' errors carry nothing, so that they are no oracle.
        if valid.is_ok() {
            Ok(())
        } else {
            Err(Rejection::SignatureInvalid)
        }
    }
}

fn attribute_objections(attributes: u32) -> impl Iterator<Item = Rejection> {
    let missing = REQUIRED
        .iter()
        .filter(move |(bit, _)| attributes & bit == 0)
        .map(|(_, name)| Rejection::AkAttributeMissing(name));
    let decrypts = (attributes & DECRYPT != 0).then_some(Rejection::AkDecrypts);
    let known = REQUIRED
        .iter()
        .fold(TOLERATED | DECRYPT, |bits, (bit, _)| bits | bit);
    let unknown = attributes & !known;
    let unknown = (unknown != 0).then_some(Rejection::AkAttributeUnknown(unknown));
    missing.chain(decrypts).chain(unknown)
}

fn scheme_objection(public: &Public) -> Option<Rejection> {
    let expected = match public.material {
        Material::Rsa { .. } => Algorithm::RSASSA,
        Material::Ecc { .. } => Algorithm::ECDSA,
    };
    let Some(scheme) = public.scheme else {
        return Some(Rejection::AkSchemeNotFixed);
    };
    if scheme.algorithm != expected {
        return Some(Rejection::AkScheme(scheme.algorithm));
    }
    let hash = scheme.hash.unwrap_or(Algorithm::NULL);
    (hash != HASH).then_some(Rejection::AkHash(hash))
}

fn verifier(material: &Material) -> Result<Verifier, Rejection> {
    match material {
        Material::Rsa {
            bits,
            exponent,
            modulus,
        } => {
            if !(2048..=4096).contains(bits) {
                return Err(Rejection::AkRsaBits(*bits));
            }
            if ![0, EXPONENT].contains(exponent) {
                return Err(Rejection::AkRsaExponent(*exponent));
            }
            let number = BigUint::from_bytes_be(modulus);
            if modulus.len() * 8 != usize::from(*bits) || number.bits() != usize::from(*bits) {
                return Err(Rejection::AkRsaModulus);
            }
            let Ok(key) = RsaPublicKey::new(number, EXPONENT.into()) else {
                return Err(Rejection::AkRsaModulus);
            };
            Ok(Verifier::Rsa(pkcs1v15::VerifyingKey::new(key)))
        }
        Material::Ecc { curve: _, x, y } => {
            let point = EncodedPoint::from_affine_coordinates(x.into(), y.into(), false);
            let Ok(key) = p256::ecdsa::VerifyingKey::from_encoded_point(&point) else {
                return Err(Rejection::AkPoint);
            };
            Ok(Verifier::Ecc(key))
        }
    }
}

/// The one hash for signatures.
const HASH: Algorithm = Algorithm::SHA256;
/// RSA's usual exponent.
const EXPONENT: u32 = 65_537;

/// What makes a key one that only ever signs what its own TPM made.
const REQUIRED: [(u32, &str); 5] = [
    (1 << 1, "fixedTPM"),
    (1 << 4, "fixedParent"),
    (1 << 5, "sensitiveDataOrigin"),
    (1 << 16, "restricted"),
    (1 << 18, "sign"),
];
const DECRYPT: u32 = 1 << 17;
/// How the key may be used, not what it signs: stClear, userWithAuth, adminWithPolicy, noDA.
const TOLERATED: u32 = 1 << 2 | 1 << 6 | 1 << 7 | 1 << 10;
