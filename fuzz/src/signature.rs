//! TPM signatures: two schemes, and of a number only its leading zeros may be left away.

use governor_core::attest::{Signature, SignatureValue};

use crate::{evidence, put_sized};

/// What is accepted reads back from its full encoding, and is that one or the one without leading zeros.
pub fn check(bytes: &[u8]) -> bool {
    let Ok(found) = Signature::parse(bytes) else {
        return false;
    };
    let full = encode(&found, |number| number);
    assert_eq!(Signature::parse(&full).as_ref(), Ok(&found));
    let forms = match found.value {
        SignatureValue::Rsassa(_) => vec![full],
        SignatureValue::Ecdsa { .. } => vec![
            encode(&found, short),
            encode_mixed(&found, short, |number| number),
            encode_mixed(&found, |number| number, short),
            full,
        ],
    };
    assert!(forms.iter().any(|form| form == bytes), "{found:?}");
    true
}

/// One of each scheme, and one with short numbers.
pub fn seeds() -> Vec<Vec<u8>> {
    let mut rsa = vec![0, 0x14, 0, 0xb];
    put_sized(&mut rsa, &[0x5a; 256]);
    let short = vec![0, 0x18, 0, 0xb, 0, 1, 1, 0, 2, 1, 0];
    vec![evidence::signature(), rsa, short]
}

type Form = fn(&[u8]) -> &[u8];

/// TPMT_SIGNATURE.
fn encode(signature: &Signature, form: Form) -> Vec<u8> {
    encode_mixed(signature, form, form)
}

fn encode_mixed(signature: &Signature, of_r: Form, of_s: Form) -> Vec<u8> {
    let mut bytes = signature.scheme().0.to_be_bytes().to_vec();
    bytes.extend(signature.hash.0.to_be_bytes());
    match &signature.value {
        SignatureValue::Rsassa(number) => put_sized(&mut bytes, number),
        SignatureValue::Ecdsa { r, s } => {
            put_sized(&mut bytes, of_r(r));
            put_sized(&mut bytes, of_s(s));
        }
    }
    bytes
}

fn short(number: &[u8]) -> &[u8] {
    let first = number.iter().position(|byte| *byte != 0);
    // Zero itself is written in full.
    first.and_then(|at| number.get(at..)).unwrap_or(number)
}
