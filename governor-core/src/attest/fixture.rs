//! Genuine evidence for tests, made here: structures with a field for each thing a test may want
//! to forge, signed by fixed keys. Nothing is random, so a failure repeats.

use std::collections::BTreeMap;

use rsa::{BigUint, RsaPrivateKey, pkcs1v15, traits::PublicKeyParts};
use sha2::Sha256;
use signature::{SignatureEncoding as _, Signer as _};

use super::{Challenge, Evidence, Name, Nonce, PcrSelection, ReferenceValues, composite};
use crate::digest::Digest;

/// A TPMS_ATTEST to be.
#[derive(Clone)]
pub(crate) struct AttestDraft {
    pub(crate) magic: u32,
    pub(crate) kind: u16,
    pub(crate) signer: Vec<u8>,
    pub(crate) extra: Vec<u8>,
    pub(crate) clock: u64,
    pub(crate) reset_count: u32,
    pub(crate) restart_count: u32,
    pub(crate) safe: u8,
    pub(crate) banks: Vec<(u16, Vec<u8>)>,
    pub(crate) digest: Vec<u8>,
}

/// A TPMT_PUBLIC to be.
#[derive(Clone)]
pub(crate) struct PublicDraft {
    pub(crate) kind: u16,
    pub(crate) name_algorithm: u16,
    pub(crate) attributes: u32,
    pub(crate) policy: Vec<u8>,
    pub(crate) scheme: Vec<u8>,
    pub(crate) curve: u16,
    pub(crate) bits: u16,
    pub(crate) exponent: u32,
    pub(crate) unique: Vec<Vec<u8>>,
}

/// A key that signs for tests.
pub(crate) enum TestKey {
    Ecc(p256::ecdsa::SigningKey),
    Rsa(Box<RsaPrivateKey>),
}

/// Evidence and all that it is appraised against.
pub(crate) struct Scene {
    pub(crate) evidence: Evidence,
    pub(crate) challenge: Challenge,
    pub(crate) selection: PcrSelection,
    pub(crate) reference: ReferenceValues,
}

impl AttestDraft {
    pub(crate) fn genuine() -> Self {
        Self {
            magic: super::MAGIC,
            kind: super::TYPE_QUOTE,
            signer: [&[0, 0xb][..], &[0x7c; 32]].concat(),
            extra: challenge().extra_data().bytes().to_vec(),
            clock: 5_994,
            reset_count: 7,
            restart_count: 2,
            safe: 1,
            banks: vec![(0x000b, vec![0x81, 0, 0x80])],
            digest: composite(&selection(), &pcrs()).unwrap().bytes().to_vec(),
        }
    }

    pub(crate) fn bytes(&self) -> Vec<u8> {
        let mut bytes = self.magic.to_be_bytes().to_vec();
        bytes.extend(self.kind.to_be_bytes());
        put_sized(&mut bytes, &self.signer);
        put_sized(&mut bytes, &self.extra);
        bytes.extend(self.clock.to_be_bytes());
        bytes.extend(self.reset_count.to_be_bytes());
        bytes.extend(self.restart_count.to_be_bytes());
        bytes.push(self.safe);
        bytes.extend(0x2016_0511_0016_2800_u64.to_be_bytes());
        bytes.extend(u32::try_from(self.banks.len()).unwrap().to_be_bytes());
        for (hash, octets) in &self.banks {
            bytes.extend(hash.to_be_bytes());
            bytes.push(u8::try_from(octets.len()).unwrap());
            bytes.extend(octets);
        }
        put_sized(&mut bytes, &self.digest);
        bytes
    }
}

impl PublicDraft {
    pub(crate) fn ecc() -> Self {
        TestKey::ecc().public()
    }

    pub(crate) fn rsa() -> Self {
        TestKey::rsa().public()
    }

    pub(crate) fn bytes(&self) -> Vec<u8> {
        let mut bytes = self.kind.to_be_bytes().to_vec();
        bytes.extend(self.name_algorithm.to_be_bytes());
        bytes.extend(self.attributes.to_be_bytes());
        put_sized(&mut bytes, &self.policy);
        bytes.extend([0, 0x10]);
        bytes.extend(&self.scheme);
        if self.kind == 0x0023 {
            bytes.extend(self.curve.to_be_bytes());
            bytes.extend([0, 0x10]);
        } else {
            bytes.extend(self.bits.to_be_bytes());
            bytes.extend(self.exponent.to_be_bytes());
        }
        for number in &self.unique {
            put_sized(&mut bytes, number);
        }
        bytes
    }
}

impl TestKey {
    pub(crate) fn ecc() -> Self {
        Self::Ecc(p256::ecdsa::SigningKey::from_slice(&[7; 32]).unwrap())
    }

    pub(crate) fn rsa() -> Self {
        Self::from_primes(P2048, Q2048)
    }

    pub(crate) fn weak_rsa() -> Self {
        Self::from_primes(P1024, Q1024)
    }

    fn from_primes(p: &str, q: &str) -> Self {
        let number = |digits: &str| BigUint::parse_bytes(digits.as_bytes(), 16).unwrap();
        let key = RsaPrivateKey::from_p_q(number(p), number(q), number("10001")).unwrap();
        Self::Rsa(Box::new(key))
    }

    pub(crate) fn public(&self) -> PublicDraft {
        let draft = PublicDraft {
            kind: 0x0023,
            name_algorithm: 0x000b,
            attributes: 0x0005_0072,
            policy: Vec::new(),
            scheme: vec![0, 0x18, 0, 0xb],
            curve: 0x0003,
            bits: 0,
            exponent: 0,
            unique: Vec::new(),
        };
        match self {
            Self::Ecc(key) => {
                let point = key.verifying_key().to_encoded_point(false);
                let unique = vec![point.x().unwrap().to_vec(), point.y().unwrap().to_vec()];
                PublicDraft { unique, ..draft }
            }
            Self::Rsa(key) => PublicDraft {
                kind: 0x0001,
                scheme: vec![0, 0x14, 0, 0xb],
                bits: u16::try_from(key.n().bits()).unwrap(),
                unique: vec![key.n().to_bytes_be()],
                ..draft
            },
        }
    }

    pub(crate) fn sign(&self, message: &[u8]) -> Vec<u8> {
        match self {
            Self::Ecc(key) => {
                let signature: p256::ecdsa::Signature = key.sign(message);
                let (r, s) = signature.split_bytes();
                let mut bytes = vec![0, 0x18, 0, 0xb];
                put_sized(&mut bytes, &r);
                put_sized(&mut bytes, &s);
                bytes
            }
            Self::Rsa(key) => {
                let key = pkcs1v15::SigningKey::<Sha256>::new((**key).clone());
                let mut bytes = vec![0, 0x14, 0, 0xb];
                put_sized(&mut bytes, &key.sign(message).to_bytes());
                bytes
            }
        }
    }
}

impl Scene {
    pub(crate) fn ecc() -> Self {
        Self::of(
            &AttestDraft::genuine(),
            &TestKey::ecc(),
            &PublicDraft::ecc(),
        )
    }

    pub(crate) fn rsa() -> Self {
        Self::of(
            &AttestDraft::genuine(),
            &TestKey::rsa(),
            &PublicDraft::rsa(),
        )
    }

    /// Everything right but what the drafts make wrong; the key is listed.
    pub(crate) fn of(attest: &AttestDraft, key: &TestKey, public: &PublicDraft) -> Self {
        let (quote, ak_public) = (attest.bytes(), public.bytes());
        let name = Name::from_hex(&format!("000b{}", Digest::of(&ak_public))).unwrap();
        Self {
            evidence: Evidence {
                signature: key.sign(&quote),
                quote,
                ak_public,
                pcrs: pcrs(),
                event_log: Vec::new(),
            },
            challenge: challenge(),
            selection: selection(),
            reference: ReferenceValues::new([name], pcrs()),
        }
    }
}

pub(crate) fn challenge() -> Challenge {
    Challenge {
        nonce: Nonce::new([1; 32]),
        host: Digest::new([2; 32]),
        policy: Digest::new([3; 32]),
        ledger_size: 4,
        ledger_head: Digest::new([5; 32]),
        trips: 6,
    }
}

pub(crate) fn selection() -> PcrSelection {
    PcrSelection::new([0, 7, 23]).unwrap()
}

pub(crate) fn pcrs() -> BTreeMap<u8, Digest> {
    selection()
        .iter()
        .map(|pcr| (pcr, Digest::of(&[pcr])))
        .collect()
}

fn put_sized(bytes: &mut Vec<u8>, part: &[u8]) {
    bytes.extend(u16::try_from(part.len()).unwrap().to_be_bytes());
    bytes.extend(part);
}

const P2048: &str = "f6800bac52115258c2ba0a5da2c417e730bc6904d7dba1a7dd3a1c1c7d7390969d17b420b77a112ec27d91060a3ae98eda8f44ead3b54a7212e61b9b95229b7f05f2cfc8b04d95f9516a0a1fe7ad630381378a426bf4dd13e0dbb0d592229104e6cdbc963dca0dd98027b8459e2780f7b1d7614125302aa1ff58875717438833";
const Q2048: &str = "bb01becf0d3cb2393eb2cc03d46d6ebd8ebdbd9d9a09eaa6cc09d8eb264113ce3acc609ac53f2dfc589daad6a20654073de5396a69c57eaee9ff4fa24b6f4cdf7cbdc27aa412b8c840052ea5653ca15d83ba3c7120b524d05949af389728b2ea43a82bf9a003efc5c46290df9a3f7e3a5aac9609dd27fccee4373caf027b1dad";
const P1024: &str = "e3be89ca452833213427492d8f2ea79e2154ce7b61e0b1f7a1b3885284708e8e8636dcd7f500d5088e968c4289b12f9408d90ee987e31f4ba7029a09257c6bbb";
const Q1024: &str = "cc4af681b07a762b7a881a00e2eb9cf8141101e30e95b9a815274881e3e6ce8ead27c2181a676c080fe3a988df8a158b4c6f5fc1abc2ef7ed4f237b2cc64af05";
