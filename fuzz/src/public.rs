//! Public areas: the name is that of the bytes, and only what has no objection is a key.

use governor_core::{
    attest::{AttestationKey, Material, Name, Public},
    digest::Digest,
};

use crate::{evidence, put_sized};

/// What is accepted ends where it ends, is named by its own bytes, and counts as an attestation key
/// exactly if nothing speaks against it.
pub fn check(bytes: &[u8]) -> bool {
    let Ok(public) = Public::parse(bytes) else {
        return false;
    };
    let longer = [bytes, &[0]].concat();
    assert!(Public::parse(&longer).is_err(), "something may follow");
    let shorter = bytes.split_last().map_or(bytes, |(_, rest)| rest);
    assert!(Public::parse(shorter).is_err(), "its end may be missing");
    match &public.material {
        Material::Rsa { modulus, .. } => assert!(modulus.len() <= 512),
        Material::Ecc { curve, .. } => assert_eq!(*curve, 3),
    }
    let name = Name::from_hex(&format!("000b{}", Digest::of(bytes)));
    assert!(public.name().is_none_or(|found| Some(found) == name));
    let objections = AttestationKey::objections(&public);
    match AttestationKey::new(&public) {
        Ok(key) => {
            assert!(objections.is_empty(), "{objections:?}");
            assert_eq!(Some(key.name()), name);
        }
        Err(objection) => assert_eq!(objections.first(), Some(&objection)),
    }
    true
}

/// An ECC and an RSA signing key, and an endorsement key.
pub fn seeds() -> Vec<Vec<u8>> {
    let rsa = |attributes: u32, symmetric: &[u8], scheme: &[u8]| {
        let mut bytes = vec![0, 0x01, 0, 0xb];
        bytes.extend(attributes.to_be_bytes());
        put_sized(&mut bytes, &[7; 32]);
        bytes.extend(symmetric);
        bytes.extend(scheme);
        bytes.extend(2048_u16.to_be_bytes());
        bytes.extend([0; 4]);
        put_sized(&mut bytes, &[0xff; 256]);
        bytes
    };
    vec![
        evidence::public(),
        rsa(0x0005_0072, &[0, 0x10], &[0, 0x14, 0, 0xb]),
        rsa(0x0003_00b2, &[0, 6, 0, 128, 0, 0x43], &[0, 0x10]),
    ]
}
