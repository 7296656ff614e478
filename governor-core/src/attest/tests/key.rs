//! Which keys count, and which signatures are theirs.

use super::super::fixture::{AttestDraft, PublicDraft, Scene, TestKey, pcrs};
use super::super::*;
use super::{with_ecc, with_rsa};

#[test]
fn the_signature_must_be_of_these_bytes_by_this_key() {
    for mut scene in [Scene::ecc(), Scene::rsa()] {
        // A field that nothing else looks at.
        scene.evidence.quote[10] ^= 1;
        assert_eq!(scene.objection(), Rejection::SignatureInvalid);
    }
    let mut scene = Scene::ecc();
    scene.evidence.signature[10] ^= 1;
    assert_eq!(scene.objection(), Rejection::SignatureInvalid);

    let mut scene = Scene::rsa();
    scene.evidence.signature[100] ^= 1;
    assert_eq!(scene.objection(), Rejection::SignatureInvalid);
    let mut short = Scene::rsa();
    short.evidence.signature = [&[0, 0x14, 0, 0xb, 0, 1][..], &[1]].concat();
    assert_eq!(short.objection(), Rejection::SignatureInvalid);

    let mut zero = Scene::ecc();
    zero.evidence.signature =
        [&[0, 0x18, 0, 0xb, 0, 32][..], &[0; 32], &[0, 32], &[0; 32]].concat();
    assert_eq!(zero.objection(), Rejection::SignatureInvalid);
}

#[test]
fn the_key_fixes_scheme_and_hash() {
    for (mut scene, hash) in [(Scene::ecc(), 0x04), (Scene::rsa(), 0x0c)] {
        scene.evidence.signature[3] = hash;
        assert_eq!(
            scene.objection(),
            Rejection::SignatureHash {
                fixed: Algorithm::SHA256,
                found: Algorithm(u16::from(hash))
            }
        );
    }
    let mut scene = Scene::ecc();
    scene.evidence.signature = Scene::rsa().evidence.signature;
    assert_eq!(
        scene.objection(),
        Rejection::SignatureScheme {
            fixed: Algorithm::ECDSA,
            found: Algorithm::RSASSA
        }
    );
    let mut scene = Scene::rsa();
    scene.evidence.signature = Scene::ecc().evidence.signature;
    assert_eq!(
        scene.objection(),
        Rejection::SignatureScheme {
            fixed: Algorithm::RSASSA,
            found: Algorithm::ECDSA
        }
    );
}

#[test]
fn the_key_is_a_restricted_signing_key_of_a_tpm() {
    let objection = |attributes| {
        with_ecc(&PublicDraft {
            attributes,
            ..PublicDraft::ecc()
        })
        .objection()
    };
    for (bit, name) in [
        (1 << 1, "fixedTPM"),
        (1 << 4, "fixedParent"),
        (1 << 5, "sensitiveDataOrigin"),
        (1 << 16, "restricted"),
        (1 << 18, "sign"),
    ] {
        assert_eq!(
            objection(0x0005_0072 & !bit),
            Rejection::AkAttributeMissing(name)
        );
    }
    assert_eq!(objection(0x0007_0072), Rejection::AkDecrypts);
    assert_eq!(objection(0x0005_0073), Rejection::AkAttributeUnknown(1));
    assert_eq!(
        objection(0x000d_0072),
        Rejection::AkAttributeUnknown(1 << 19)
    );
    for attributes in [0x0005_0472, 0x0005_0032, 0x0005_00f6] {
        with_ecc(&PublicDraft {
            attributes,
            ..PublicDraft::ecc()
        })
        .appraise()
        .unwrap();
    }
}

#[test]
fn the_key_is_strong_and_fixes_its_scheme() {
    let ecc = |draft: PublicDraft| with_ecc(&draft).objection();
    let rsa = |draft: PublicDraft| with_rsa(&draft).objection();
    let null = || vec![0, 0x10];
    assert_eq!(
        ecc(PublicDraft {
            scheme: null(),
            ..PublicDraft::ecc()
        }),
        Rejection::AkSchemeNotFixed
    );
    assert_eq!(
        rsa(PublicDraft {
            scheme: null(),
            ..PublicDraft::rsa()
        }),
        Rejection::AkSchemeNotFixed
    );
    let scheme = vec![0, 0x16, 0, 0xb];
    assert_eq!(
        rsa(PublicDraft {
            scheme,
            ..PublicDraft::rsa()
        }),
        Rejection::AkScheme(Algorithm::RSAPSS)
    );
    let scheme = vec![0, 0x14, 0, 0x4];
    assert_eq!(
        rsa(PublicDraft {
            scheme,
            ..PublicDraft::rsa()
        }),
        Rejection::AkHash(Algorithm::SHA1)
    );
    let scheme = vec![0, 0x18, 0, 0x4];
    assert_eq!(
        ecc(PublicDraft {
            scheme,
            ..PublicDraft::ecc()
        }),
        Rejection::AkHash(Algorithm::SHA1)
    );
    assert_eq!(
        rsa(PublicDraft {
            exponent: 3,
            ..PublicDraft::rsa()
        }),
        Rejection::AkRsaExponent(3)
    );
    with_rsa(&PublicDraft {
        exponent: 65_537,
        ..PublicDraft::rsa()
    })
    .appraise()
    .unwrap();

    let weak = TestKey::weak_rsa();
    let scene = Scene::of(&AttestDraft::genuine(), &weak, &weak.public());
    assert_eq!(scene.objection(), Rejection::AkRsaBits(1024));
    let scene = Scene::of(
        &AttestDraft::genuine(),
        &weak,
        &PublicDraft {
            bits: 2048,
            ..weak.public()
        },
    );
    assert_eq!(scene.objection(), Rejection::AkRsaModulus);
    let mut public = PublicDraft::rsa();
    public.unique[0][0] &= 0x7f;
    assert_eq!(rsa(public), Rejection::AkRsaModulus);
    let mut public = PublicDraft::rsa();
    public.unique[0].insert(0, 0);
    assert_eq!(rsa(public), Rejection::AkRsaModulus);
    let mut public = PublicDraft::rsa();
    public.unique[0][255] &= 0xfe;
    assert_eq!(rsa(public), Rejection::AkRsaModulus);

    let mut public = PublicDraft::ecc();
    public.unique[1][31] ^= 1;
    assert_eq!(ecc(public), Rejection::AkPoint);
    let name_algorithm = 0x0004;
    assert_eq!(
        ecc(PublicDraft {
            name_algorithm,
            ..PublicDraft::ecc()
        }),
        Rejection::AkNameAlgorithm(Algorithm::SHA1)
    );
}

#[test]
fn only_listed_keys_count() {
    let mut scene = Scene::ecc();
    let name = *scene.reference.ak_names().first().unwrap();
    scene.reference = ReferenceValues::new([], pcrs());
    assert_eq!(scene.objection(), Rejection::NoAkListed);
    let other = *Scene::rsa().reference.ak_names().first().unwrap();
    scene.reference = ReferenceValues::new([other], pcrs());
    assert_eq!(scene.objection(), Rejection::AkNotListed(name));
    scene.reference = ReferenceValues::new([other, name], pcrs());
    scene.appraise().unwrap();
}
