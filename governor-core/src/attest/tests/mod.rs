//! A genuine quote is accepted; each test below breaks one thing, and exactly one check must
//! object. Take the check away and the evidence is accepted: the test fails.

mod key;
mod quote;

use proptest::prelude::*;

use super::fixture::{AttestDraft, PublicDraft, Scene, TestKey};
use super::*;
use crate::digest::Digest;

impl Scene {
    fn appraise(&self) -> Result<AttestationResult, Rejection> {
        appraise(
            &self.evidence,
            &self.challenge,
            &self.selection,
            &self.reference,
        )
    }

    /// The one objection, on which the decision and the diagnosis agree.
    fn objection(&self) -> Rejection {
        let found = diagnose(
            &self.evidence,
            &self.challenge,
            &self.selection,
            &self.reference,
        );
        let first = self.appraise().expect_err("the evidence was accepted");
        assert_eq!(found, std::slice::from_ref(&first));
        first
    }
}

fn with_attest(draft: &AttestDraft) -> Scene {
    Scene::of(draft, &TestKey::ecc(), &PublicDraft::ecc())
}

fn with_ecc(public: &PublicDraft) -> Scene {
    Scene::of(&AttestDraft::genuine(), &TestKey::ecc(), public)
}

fn with_rsa(public: &PublicDraft) -> Scene {
    Scene::of(&AttestDraft::genuine(), &TestKey::rsa(), public)
}

#[test]
fn genuine_evidence_is_accepted() {
    for scene in [Scene::ecc(), Scene::rsa()] {
        let result = scene.appraise().unwrap();
        let Scene {
            evidence,
            challenge,
            selection,
            reference,
        } = scene;
        assert_eq!(diagnose(&evidence, &challenge, &selection, &reference), []);
        assert_eq!(result.evidence_digest(), evidence.digest());
        assert_eq!(
            Some(result.pcr_digest()),
            composite(&selection, &evidence.pcrs)
        );
        assert_eq!(result.firmware(), 0x2016_0511_0016_2800);
        assert_eq!(Some(&result.ak_name()), reference.ak_names().first());
        assert_eq!(
            result.clock_info(),
            ClockInfo {
                clock: 5_994,
                reset_count: 7,
                restart_count: 2,
                safe: true
            }
        );
    }
}

#[test]
fn an_unsafe_clock_is_reported_not_judged() {
    let scene = with_attest(&AttestDraft {
        safe: 0,
        ..AttestDraft::genuine()
    });
    assert!(!scene.appraise().unwrap().clock_info().safe);
}

#[test]
fn size_is_bounded() {
    let mut scene = Scene::ecc();
    scene.evidence.event_log = vec![0; MAX_EVENT_LOG];
    scene.appraise().unwrap();
    scene.evidence.event_log.push(0);
    assert_eq!(scene.objection().code(), "evidence-too-large");
    for part in 0..3 {
        let Evidence {
            quote,
            signature,
            ak_public,
            ..
        } = &mut Scene::ecc().evidence;
        [quote, signature, ak_public][part].resize(4097, 0);
    }
    for grow in [
        (|evidence| &mut evidence.quote) as fn(&mut Evidence) -> &mut Vec<u8>,
        |evidence| &mut evidence.signature,
        |evidence| &mut evidence.ak_public,
    ] {
        let mut scene = Scene::ecc();
        grow(&mut scene.evidence).resize(4097, 0);
        assert_eq!(scene.appraise().unwrap_err().code(), "evidence-too-large");
    }
}

#[test]
fn trailing_bytes_are_refused_everywhere() {
    let mut scene = Scene::ecc();
    scene.evidence.signature.push(0);
    assert_eq!(scene.objection().code(), "signature-malformed");

    let mut public = PublicDraft::ecc();
    public.unique.push(Vec::new());
    assert_eq!(with_ecc(&public).objection().code(), "ak-malformed");

    let mut scene = Scene::ecc();
    scene.evidence.quote.push(0);
    scene.evidence.signature = TestKey::ecc().sign(&scene.evidence.quote);
    assert_eq!(scene.objection().code(), "quote-malformed");
}

#[test]
fn a_diagnosis_names_everything() {
    let mut public = PublicDraft::ecc();
    public.attributes = 0x0006_0000;
    let mut scene = with_ecc(&public);
    scene.challenge.trips = 0;
    scene.evidence.pcrs.insert(7, Digest::new([0; 32]));
    let found = diagnose(
        &scene.evidence,
        &scene.challenge,
        &scene.selection,
        &scene.reference,
    );
    let codes: Vec<_> = found.iter().map(Rejection::code).collect();
    assert_eq!(
        codes,
        [
            "ak-attribute-missing",
            "ak-attribute-missing",
            "ak-attribute-missing",
            "ak-attribute-missing",
            "ak-decrypts",
            "pcr-digest-differs",
            "challenge-differs",
            "pcr-differs",
        ]
    );
    assert_eq!(scene.appraise().unwrap_err(), found[0]);
}

#[test]
fn evidence_digests_cover_every_part() {
    let evidence = Scene::ecc().evidence;
    let digest = evidence.digest();
    let mut changed: Vec<Evidence> = vec![evidence.clone(); 6];
    changed[0].quote.push(0);
    changed[1].signature.push(0);
    changed[2].ak_public.push(0);
    changed[3].pcrs.remove(&0);
    changed[4].event_log.push(0);
    let moved = changed[5].quote.pop().unwrap();
    changed[5].signature.insert(0, moved);
    for other in changed {
        assert_ne!(other.digest(), digest);
    }
}

proptest! {
    #[test]
    fn one_changed_bit_is_never_accepted(part in 0_usize..3, position: prop::sample::Index, bit in 0_u8..8) {
        let mut scene = Scene::ecc();
        let Evidence { quote, signature, ak_public, .. } = &mut scene.evidence;
        let bytes = [quote, signature, ak_public].into_iter().nth(part).unwrap();
        let position = position.index(bytes.len());
        bytes[position] ^= 1_u8 << bit;
        let first = scene.appraise().unwrap_err();
        let all = diagnose(&scene.evidence, &scene.challenge, &scene.selection, &scene.reference);
        prop_assert_eq!(all.first(), Some(&first));
        prop_assert!(first.to_string().starts_with(char::is_lowercase));
    }

    #[test]
    fn arbitrary_evidence_is_never_accepted(
        quote: Vec<u8>, signature: Vec<u8>, ak_public: Vec<u8>, event_log: Vec<u8>,
        pcrs: std::collections::BTreeMap<u8, [u8; 32]>,
    ) {
        let mut scene = Scene::ecc();
        let pcrs = pcrs.into_iter().map(|(pcr, value)| (pcr, Digest::new(value))).collect();
        scene.evidence = Evidence { quote, signature, ak_public, pcrs, event_log };
        let all = diagnose(&scene.evidence, &scene.challenge, &scene.selection, &scene.reference);
        let first = scene.appraise().unwrap_err();
        prop_assert_eq!(all.first(), Some(&first));
        prop_assert!(!all.is_empty());
    }
}
