//! What a genuine signature must be over: a quote, of these PCRs, with these values, for this
//! challenge.

use super::super::fixture::{AttestDraft, Scene, challenge, pcrs, selection};
use super::super::*;
use super::with_attest;
use crate::digest::Digest;

#[test]
fn only_what_a_tpm_made_as_a_quote_counts() {
    let draft = AttestDraft {
        magic: 0xff54_4346,
        ..AttestDraft::genuine()
    };
    assert_eq!(
        with_attest(&draft).objection(),
        Rejection::Quote(QuoteError::Magic(0xff54_4346))
    );
    let draft = AttestDraft {
        kind: 0x8014,
        ..AttestDraft::genuine()
    };
    assert_eq!(
        with_attest(&draft).objection(),
        Rejection::Quote(QuoteError::Type(0x8014))
    );
}

#[test]
fn the_signed_selection_is_the_one_asked_for() {
    let objection = |banks: Vec<(u16, Vec<u8>)>| {
        with_attest(&AttestDraft {
            banks,
            ..AttestDraft::genuine()
        })
        .objection()
    };
    let right = vec![0x81, 0, 0x80];
    assert_eq!(objection(vec![]), Rejection::SelectionBanks(0));
    let twice = vec![(0xb, right.clone()), (0xb, right.clone())];
    assert_eq!(objection(twice), Rejection::SelectionBanks(2));
    let also_empty = vec![(0xb, right.clone()), (0x4, vec![0; 3])];
    assert_eq!(objection(also_empty), Rejection::SelectionBanks(2));
    assert_eq!(
        objection(vec![(0x4, right)]),
        Rejection::SelectionBank(Algorithm::SHA1)
    );
    for octets in [
        vec![],
        vec![0; 3],
        vec![0x81, 0, 0],
        vec![0x83, 0, 0x80],
        vec![0x81, 0, 0x80, 1],
    ] {
        assert_eq!(objection(vec![(0xb, octets)]).code(), "selection-differs");
    }
}

#[test]
fn a_wider_mask_of_the_same_pcrs_is_the_same_selection() {
    let banks = vec![(0xb, vec![0x81, 0, 0x80, 0])];
    with_attest(&AttestDraft {
        banks,
        ..AttestDraft::genuine()
    })
    .appraise()
    .unwrap();
}

#[test]
fn exactly_the_quoted_values_are_sent() {
    let mut scene = Scene::ecc();
    scene.evidence.pcrs.remove(&7);
    assert_eq!(scene.objection(), Rejection::PcrMissing(7));

    let mut scene = Scene::ecc();
    scene.evidence.pcrs.insert(8, Digest::new([0; 32]));
    assert_eq!(scene.objection(), Rejection::PcrNotQuoted(8));
}

#[test]
fn the_values_are_the_quoted_ones() {
    // The attack: the machine is in another state, the values sent are the expected ones.
    let draft = AttestDraft {
        digest: vec![9; 32],
        ..AttestDraft::genuine()
    };
    assert_eq!(with_attest(&draft).objection(), Rejection::PcrDigestDiffers);
    let digest = AttestDraft::genuine().digest[..31].to_vec();
    let draft = AttestDraft {
        digest,
        ..AttestDraft::genuine()
    };
    assert_eq!(with_attest(&draft).objection(), Rejection::PcrDigestDiffers);
}

#[test]
fn values_cannot_swap_their_pcrs() {
    let mut scene = Scene::ecc();
    let (zero, seven) = (scene.evidence.pcrs[&0], scene.evidence.pcrs[&7]);
    scene.evidence.pcrs.extend([(0, seven), (7, zero)]);
    scene.reference = ReferenceValues::new(
        scene.reference.ak_names().iter().copied(),
        scene.evidence.pcrs.clone(),
    );
    assert_eq!(scene.objection(), Rejection::PcrDigestDiffers);
}

#[test]
fn the_challenge_is_answered() {
    let mut scene = Scene::ecc();
    scene.challenge.nonce = Nonce::new([8; 32]);
    assert_eq!(scene.objection(), Rejection::ChallengeDiffers);
    let right = challenge().extra_data();
    let hex = right.to_string().into_bytes();
    for extra in [
        vec![],
        right.bytes()[..31].to_vec(),
        [right.bytes(), &[0][..]].concat(),
        hex,
    ] {
        let draft = AttestDraft {
            extra,
            ..AttestDraft::genuine()
        };
        assert_eq!(with_attest(&draft).objection(), Rejection::ChallengeDiffers);
    }
}

#[test]
fn every_quoted_pcr_has_its_reference_value() {
    let mut scene = Scene::ecc();
    let names: Vec<Name> = scene.reference.ak_names().iter().copied().collect();
    let mut values = pcrs();
    values.remove(&23);
    scene.reference = ReferenceValues::new(names.clone(), values);
    assert_eq!(scene.objection(), Rejection::PcrWithoutReference(23));
    assert!(!scene.objection().is_contradiction());

    for pcr in selection().iter() {
        let mut values = pcrs();
        values.insert(pcr, Digest::new([0; 32]));
        scene.reference = ReferenceValues::new(names.clone(), values);
        let rejection = scene.objection();
        assert!(matches!(rejection, Rejection::PcrDiffers { pcr: found, .. } if found == pcr));
        assert!(rejection.is_contradiction());
    }
    scene.reference = ReferenceValues::new(names, []);
    let found = diagnose(
        &scene.evidence,
        &scene.challenge,
        &scene.selection,
        &scene.reference,
    );
    assert_eq!(
        found,
        selection()
            .iter()
            .map(Rejection::PcrWithoutReference)
            .collect::<Vec<_>>()
    );
}
