//! Quotes that others recorded, when the environment variable GOVERNOR_VECTORS names a folder with
//! them: `quote-rsassa` from keylime's test data and `windows-gcp` from go-attestation's.
//!
//! They check our parsers and arithmetic against TPMs and tools that are not ours. Where the
//! variable is unset each test says that it was skipped.

use std::collections::BTreeMap;
use std::path::PathBuf;

use governor_core::attest::{
    Algorithm, AttestationKey, Challenge, Evidence, Name, Nonce, PcrSelection, Public, Quote,
    ReferenceValues, Rejection, Signature, appraise, composite, diagnose,
};
use governor_core::digest::Digest;

#[test]
fn rsassa_quote_verifies() {
    let Some(folder) = vectors("quote-rsassa") else {
        return;
    };
    let read = |name: &str| std::fs::read(folder.join(name)).unwrap();
    let ak_public = unsized_public(&read("ak.pub"));
    let public = Public::parse(&ak_public).unwrap();
    assert_eq!(public.attributes, 0x0005_0072);
    let key = AttestationKey::new(&public).unwrap();
    assert_eq!(key.name().bytes(), read("ak.name")[..]);

    let bytes = read("quote.out");
    let signature = Signature::parse(&read("quotesig.out")).unwrap();
    key.verify(&bytes, &signature).unwrap();
    let quote = Quote::parse(&bytes).unwrap();
    assert_eq!(quote.extra_data, read("rand.out"));
    assert!(quote.clock.safe);

    let ek = Public::parse(&unsized_public(&read("ek.pub")))
        .unwrap()
        .name()
        .unwrap();
    let qualified = key
        .name()
        .qualified_under(&ek.qualified_as_endorsement_primary());
    assert_eq!(quote.qualified_signer, qualified.bytes());

    let selection = PcrSelection::new([15, 16, 22]).unwrap();
    assert_eq!(quote.banks[0].selection(), Some(selection.clone()));
    let pcrs = dumped_pcrs(&read("quotepcr.out"), &selection);
    assert_eq!(
        composite(&selection, &pcrs).unwrap().bytes()[..],
        quote.pcr_digest
    );

    let mut forged = bytes.clone();
    forged[50] ^= 1;
    assert_eq!(
        key.verify(&forged, &signature),
        Err(Rejection::SignatureInvalid)
    );
}

#[test]
fn rsassa_quote_does_not_answer_our_challenge() {
    let Some(folder) = vectors("quote-rsassa") else {
        return;
    };
    let read = |name: &str| std::fs::read(folder.join(name)).unwrap();
    let selection = PcrSelection::new([15, 16, 22]).unwrap();
    let evidence = Evidence {
        quote: read("quote.out"),
        signature: read("quotesig.out"),
        ak_public: unsized_public(&read("ak.pub")),
        pcrs: dumped_pcrs(&read("quotepcr.out"), &selection),
        event_log: Vec::new(),
    };
    let name = Name::from_hex(&hex::encode(read("ak.name"))).unwrap();
    let reference = ReferenceValues::new([name], evidence.pcrs.clone());
    let found = diagnose(&evidence, &challenge(), &selection, &reference);
    assert_eq!(found, [Rejection::ChallengeDiffers]);

    let asked = PcrSelection::new([15, 16]).unwrap();
    let rejection = appraise(&evidence, &challenge(), &asked, &reference).unwrap_err();
    assert_eq!(rejection.code(), "selection-differs");

    let mut with_size = evidence.clone();
    with_size.ak_public = read("ak.pub");
    let rejection = appraise(&with_size, &challenge(), &selection, &reference).unwrap_err();
    assert_eq!(rejection.code(), "ak-malformed");
}

#[test]
fn windows_quote_is_rejected() {
    let Some(folder) = vectors("windows-gcp") else {
        return;
    };
    let text = std::fs::read_to_string(folder.join("evidence.json")).unwrap();
    let field = |object: &str, name: &str| base64(json_string(&text, object, name));
    let ak_public = field("AK", "Public");
    let public = Public::parse(&ak_public).unwrap();
    assert_eq!(public.attributes, 0x0005_0472);
    let quote = field("Quote", "Quote");
    let parsed = Quote::parse(&quote).unwrap();
    assert_eq!(parsed.banks[0].hash, Algorithm::SHA1);
    assert_eq!(parsed.clock.reset_count, 1_045_281_252);

    let selection = PcrSelection::new(0..24).unwrap();
    let pcrs: BTreeMap<u8, Digest> = selection.iter().map(|pcr| (pcr, Digest::of(&[]))).collect();
    let reference = ReferenceValues::new([public.name().unwrap()], pcrs.clone());
    let event_log = field("Log", "Raw");
    let evidence = Evidence {
        quote,
        signature: field("Quote", "Signature"),
        ak_public,
        pcrs,
        event_log,
    };
    let found = diagnose(&evidence, &challenge(), &selection, &reference);
    let codes: Vec<_> = found.iter().map(Rejection::code).collect();
    let expected = [
        "ak-hash",
        "selection-bank",
        "pcr-digest-differs",
        "challenge-differs",
    ];
    assert_eq!(codes, expected);
    let rejection = appraise(&evidence, &challenge(), &selection, &reference).unwrap_err();
    assert_eq!(rejection, Rejection::AkHash(Algorithm::SHA1));
}

fn vectors(name: &str) -> Option<PathBuf> {
    let Some(folder) = std::env::var_os("GOVERNOR_VECTORS") else {
        eprintln!("skipped: GOVERNOR_VECTORS does not name a folder of recorded quotes");
        return None;
    };
    Some(PathBuf::from(folder).join(name))
}

fn challenge() -> Challenge {
    let digest = Digest::of(b"test");
    Challenge {
        nonce: Nonce::new([1; 32]),
        host: digest,
        policy: digest,
        ledger_size: 0,
        ledger_head: digest,
        trips: 0,
    }
}

/// A TPM2B_PUBLIC without its size.
fn unsized_public(bytes: &[u8]) -> Vec<u8> {
    let (size, public) = bytes.split_at(2);
    assert_eq!(
        usize::from(u16::from_be_bytes([size[0], size[1]])),
        public.len()
    );
    public.to_vec()
}

/// The values in tpm2-tools' own dump: a TPML_PCR_SELECTION of 132 bytes, a count, then lists of
/// eight digests, each with a 16-bit size and room for 64 bytes; little-endian.
fn dumped_pcrs(dump: &[u8], selection: &PcrSelection) -> BTreeMap<u8, Digest> {
    let digests = dump[132 + 4 + 4..].chunks(66);
    let value = |entry: &[u8]| Digest::new(entry[2..34].try_into().expect("32 bytes"));
    selection.iter().zip(digests.map(value)).collect()
}

/// The string `name` in the object `object`: enough JSON for this one file.
fn json_string<'a>(text: &'a str, object: &str, name: &str) -> &'a str {
    let after = |text: &'a str, key: &str| {
        text.split_once(&format!("\"{key}\":"))
            .expect("the key is in the file")
            .1
    };
    after(after(text, object), name)
        .split('"')
        .nth(1)
        .expect("a string")
}

fn base64(text: &str) -> Vec<u8> {
    const ALPHABET: &str = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let digits = text
        .trim_end_matches('=')
        .chars()
        .map(|digit| ALPHABET.find(digit).expect("a base64 digit"));
    let mut bytes = Vec::new();
    let (mut bits, mut held) = (0_usize, 0_u32);
    for digit in digits {
        (bits, held) = ((bits << 6 | digit) & 0xffff, held + 6);
        if held >= 8 {
            held -= 8;
            bytes.push((bits >> held & 0xff).try_into().expect("eight bits"));
        }
    }
    bytes
}
