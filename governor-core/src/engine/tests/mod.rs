//! The engine's promises, one by one, and then all at once under random inputs and failures.

mod chart;
mod clocks;
mod crash;
mod crash_moves;
mod crash_policies;
mod cut_short;
mod disk;
mod ends;
mod glass;
mod glass_moves;
mod guard;
mod hands;
mod held;
mod hold;
mod host;
mod kept_lock;
mod lint;
mod model;
mod names;
mod no_policy;
mod order;
mod owed;
mod policies;
mod quotes;
mod reload;
mod risk;
mod taken_back;
mod trust;
mod unlabelled;

use proptest::prelude::*;
use std::collections::BTreeSet;

use self::model::{BOOT, CASES, Host, LEASE, SECOND, clock, pcrs};
use super::*;
use crate::{lineage::Since, policy::OnRevoke};

#[test]
fn a_new_host_grants_nothing_and_governs_everything_below_the_root() {
    let host = Host::new();
    let table = host.kernel.table.as_ref().unwrap();
    assert!(table.rows.is_empty());
    assert_eq!(
        table.zone_paths,
        vec![("/governed.slice".to_owned(), ZONE_UNKNOWN)]
    );
    assert!(host.kernel.attested > 0 && host.kernel.policy > 0);
    assert_eq!(host.engine.trust().name(), "unattested");
}

#[test]
fn a_start_names_the_last_record_before_it() {
    let started = |host: &Host| {
        let entries = host.disk.read().entries.into_iter();
        let starts = entries.filter_map(|entry| match &entry.kind {
            Some(Kind::Start(start)) => Some((entry.sequence, start.since.clone())),
            Some(_) | None => None,
        });
        starts.collect::<Vec<_>>()
    };
    let mut host = Host::new();
    assert_eq!(
        started(&host),
        [(0, None)],
        "there is none before the first"
    );
    host.load(1, Some(0)).unwrap();
    let last = Since::of(host.disk.read().entries.last().unwrap());
    assert_eq!((last.boot_ns, last.boot_id.as_slice()), (SECOND, &BOOT[..]));
    host.now += LEASE;
    host.restart_with(host.found());
    let since = Some(last.clone());
    assert_eq!(started(&host).last(), Some(&(last.sequence + 1, since)));
}

#[test]
fn policy_class_work_runs_without_a_quote_and_attested_work_does_not() {
    let mut host = Host::new();
    host.load(1, Some(0)).unwrap();
    assert!(host.allows(b"h"));
    assert!(!host.allows(b"p"));
    host.attest(false);
    assert_eq!(host.engine.trust().name(), "trusted");
    assert!(host.allows(b"p"));
    assert_eq!(
        host.kernel.lease.unwrap().0,
        SECOND + LEASE,
        "the deadline counts from the nonce"
    );
}

#[test]
fn a_register_that_differs_revokes_and_only_matching_evidence_restores() {
    let mut host = Host::new();
    host.load(1, Some(0)).unwrap();
    host.attest(false);
    let step = host
        .engine
        .handle(clock(host.now), Input::PcrsRead(pcrs(true)));
    let position = |which: fn(&Effect) -> bool| step.effects.iter().position(which).unwrap();
    let stop = position(|effect| matches!(effect, Effect::Stop { .. }));
    let record = position(|effect| matches!(effect, Effect::Append(_)));
    assert!(stop < record);
    assert!(
        matches!(
            step.effects[stop],
            Effect::Stop {
                action: OnRevoke::Kill,
                ..
            }
        ),
        "the zone says kill, the workload freeze: the stricter"
    );
    host.feed(Input::PcrsRead(pcrs(true))).unwrap();
    assert!(
        !host.allows(b"p") && host.allows(b"h"),
        "policy-class work goes on"
    );
    assert!(host.engine.trust().has(&Cause::PcrDiffers(7)));
    host.load(1, Some(0)).unwrap();
    assert!(
        !host.allows(b"p"),
        "a reload clears nothing that a quote must clear"
    );
    host.now += 11 * SECOND;
    host.feed(Input::Tick).unwrap();
    host.attest(true);
    assert!(!host.allows(b"p"));
    host.now += 11 * SECOND;
    host.feed(Input::Tick).unwrap();
    host.attest(false);
    assert!(
        host.allows(b"p"),
        "rows are written again with the new epoch"
    );
}

#[test]
fn a_lower_serial_changes_nothing() {
    let mut host = Host::new();
    host.load(3, Some(0)).unwrap();
    let before = host.kernel.table.clone();
    assert!(host.load(2, Some(0)).is_err());
    assert_eq!(host.kernel.table, before);
    assert_eq!(host.engine.highest().unwrap().0, 3);
    assert!(matches!(
        host.disk.records().last(),
        Some(Kind::PolicyRefused(_))
    ));
    host.load(3, Some(0)).unwrap();
    host.load(4, Some(0)).unwrap();
}

#[test]
fn a_policy_whose_record_fails_is_not_in_force() {
    let mut host = Host::new();
    host.load(1, Some(0)).unwrap();
    host.fail = (host.performed..host.performed + 40).collect();
    let generation = host.kernel.table.as_ref().unwrap().generation;
    drop(host.load(2, Some(0)));
    assert_eq!(host.kernel.table.as_ref().unwrap().generation, generation);
    assert_eq!(host.engine.highest().unwrap().0, 1);
}

#[test]
fn the_lease_ends_by_itself_and_the_engine_says_so() {
    let mut host = Host::new();
    host.load(1, Some(0)).unwrap();
    host.attest(false);
    host.now = SECOND + LEASE;
    assert!(!host.allows(b"p"), "the kernel needs nobody for this");
    host.feed(Input::Tick).unwrap();
    assert!(host.engine.trust().has(&Cause::QuoteLate));
}

#[test]
fn everything_revoked_stays_so_until_a_policy_is_loaded_by_hand() {
    let mut host = Host::new();
    host.load(1, Some(0)).unwrap();
    host.attest(false);
    host.feed(Input::Revoke {
        target: Target::All,
        reason: "drill".into(),
        uid: 0,
    })
    .unwrap();
    assert!(!host.allows(b"p") && !host.allows(b"h"));
    host.now += 11 * SECOND;
    host.feed(Input::Tick).unwrap();
    host.attest(false);
    assert!(
        !host.allows(b"p") && !host.allows(b"h"),
        "a quote does not undo an operator"
    );
    host.load(1, None).unwrap();
    assert!(!host.allows(b"h"), "a restart does not undo an operator");
    host.load(2, Some(0)).unwrap();
    assert!(host.allows(b"h"));
}

#[test]
fn a_revoked_workload_stays_revoked_under_the_next_policy() {
    let mut host = Host::new();
    host.load(1, Some(0)).unwrap();
    let target = Target::Workload("helper".into());
    host.feed(Input::Revoke {
        target,
        reason: "drill".into(),
        uid: 0,
    })
    .unwrap();
    assert!(!host.allows(b"h"));
    host.load(2, Some(0)).unwrap();
    assert!(!host.allows(b"h"));
}

#[test]
fn observing_is_bounded_by_policy_and_by_time() {
    let mut host = Host::new();
    host.load(1, Some(0)).unwrap();
    let observe = |zone: &str, seconds| Input::Observe {
        zone: zone.into(),
        span: Span::seconds(seconds),
        uid: 0,
    };
    assert!(matches!(
        host.feed(observe("tools", 1)),
        Err(Refused::Denied(_))
    ));
    assert!(matches!(
        host.feed(observe("agents", 61)),
        Err(Refused::Denied(_))
    ));
    assert!(matches!(
        host.feed(observe("nowhere", 1)),
        Err(Refused::Invalid(_))
    ));
    host.feed(observe("agents", 60)).unwrap();
    let mode = |host: &Host| {
        let table = host.kernel.table.as_ref().unwrap();
        table
            .rows
            .iter()
            .find(|row| row.roles == 0 && row.key.zone == 1)
            .unwrap()
            .mode
    };
    assert_eq!(mode(&host), governor_common::row::MODE_OBSERVE);
    host.now += 60 * SECOND;
    host.feed(Input::Tick).unwrap();
    assert_eq!(mode(&host), governor_common::row::MODE_ENFORCE);
}

#[test]
fn everything_revoked_is_remembered_by_the_kernel_too() {
    let mut host = Host::new();
    host.load(1, Some(0)).unwrap();
    host.feed(Input::Revoke {
        target: Target::All,
        reason: "drill".into(),
        uid: 0,
    })
    .unwrap();
    assert!(host.kernel.revoked_all);
    // The record was lost with the disk it was on: another daemon knows only what the kernel holds.
    host.restart();
    host.load(1, None).unwrap();
    assert!(!host.allows(b"h"));
    host.load(1, Some(0)).unwrap();
    assert!(host.allows(b"h") && !host.kernel.revoked_all);
}

#[test]
fn a_lease_of_an_earlier_daemon_does_not_carry_another_policy() {
    let mut host = Host::new();
    host.load(1, Some(0)).unwrap();
    host.attest(false);
    host.restart();
    host.load(1, None).unwrap();
    assert!(host.allows(b"p"), "the policy it was granted under");
    host.load(2, Some(0)).unwrap();
    assert!(!host.allows(b"p"), "a policy nothing was shown to yet");
}

#[test]
fn a_revocation_whose_record_failed_is_recorded_later_in_full() {
    let mut host = Host::new();
    host.load(1, Some(0)).unwrap();
    // Tombstone, rows, stop, record: the last of them.
    host.fail = BTreeSet::from([host.performed + 3]);
    let target = Target::Workload("helper".into());
    host.feed(Input::Revoke {
        target,
        reason: "drill".into(),
        uid: 0,
    })
    .unwrap();
    assert!(!host.allows(b"h"));
    let recorded = |host: &Host| {
        host.disk
            .records()
            .iter()
            .any(|kind| matches!(kind, Kind::Revocation(r) if r.cause == "drill"))
    };
    assert!(!recorded(&host));
    assert!(host.engine.trust().has(&Cause::LedgerUnwritable));
    host.feed(Input::Tick).unwrap();
    assert!(recorded(&host), "a restart would have forgotten it");
    assert!(!host.engine.trust().has(&Cause::LedgerUnwritable));
}

/// Verdicts of which none is missing.
fn told(denied: Vec<Vec<u8>>, allowed: Vec<Vec<u8>>) -> Input {
    Input::Verdicts {
        denied,
        allowed,
        lost: 0,
        missed: 0,
    }
}

#[test]
fn lost_records_are_counted_until_one_is_written() {
    let mut host = Host::new();
    host.load(1, Some(0)).unwrap();
    host.fail = (host.performed..host.performed + 4).collect();
    host.feed(told(vec![vec![1], vec![2]], Vec::new())).unwrap();
    for _ in 0..4 {
        host.feed(Input::Tick).unwrap();
    }
    let is_gap = |kind: &Kind| matches!(kind, Kind::Gap(_));
    let Some(Kind::Gap(gap)) = host.disk.records().into_iter().rfind(is_gap) else {
        panic!("no gap was recorded");
    };
    assert_eq!(gap.count, 2);
}

#[test]
fn evidence_from_before_a_signal_does_not_clear_it() {
    let mut host = Host::new();
    host.load(1, Some(0)).unwrap();
    host.attest(false);
    host.now += 11 * SECOND;
    host.feed(Input::Tick).unwrap();
    assert!(host.begin_quote());
    host.feed(Input::PcrsRead(pcrs(true))).unwrap();
    host.answer_quote(false);
    assert!(host.engine.trust().has(&Cause::PcrDiffers(7)));
}

#[test]
fn a_lease_that_outlives_its_daemon_ends_in_a_stop() {
    let mut host = Host::new();
    host.load(1, Some(0)).unwrap();
    host.attest(false);
    host.restart();
    host.load(1, None).unwrap();
    host.now = SECOND + LEASE;
    let step = host.engine.handle(clock(host.now), Input::Tick);
    assert!(
        step.effects
            .iter()
            .any(|effect| matches!(effect, Effect::Stop { .. }))
    );
}

#[test]
fn what_is_refused_and_what_is_allowed_is_written_down_too() {
    let mut host = Host::new();
    host.load(1, Some(0)).unwrap();
    let refused = host.feed(Input::Observe {
        zone: "nowhere".into(),
        span: Span::seconds(1),
        uid: 7,
    });
    assert!(refused.is_err());
    assert!(matches!(host.disk.records().last(), Some(Kind::Refusal(r)) if r.uid == Some(7)));
    host.feed(told(Vec::new(), vec![vec![1, 2, 3]])).unwrap();
    assert!(
        matches!(host.disk.records().last(), Some(Kind::Verdict(verdict)) if verdict.event == [1, 2, 3])
    );
}

#[test]
fn a_storm_of_denials_does_not_fill_the_ledger() {
    let mut host = Host::new();
    host.load(1, Some(0)).unwrap();
    let before = host.disk.records().len();
    for _ in 0..50 {
        host.feed(told(vec![vec![0; 8]; 100], Vec::new())).unwrap();
    }
    let kept = host.disk.records().len() - before;
    assert!((1..=256).contains(&kept), "{kept} records");
    host.now += 10 * SECOND;
    host.feed(Input::Tick).unwrap();
    assert!(
        host.disk
            .records()
            .iter()
            .any(|kind| { matches!(kind, Kind::Gap(gap) if gap.count as usize == 5000 - kept) })
    );
}

#[derive(Clone, Debug)]
enum Move {
    Wait(u64),
    Tick,
    Load(u64, bool),
    Begin,
    Answer(bool),
    Fail,
    Pcrs(bool),
    RevokeAll,
    RevokeHelper,
}

fn moves() -> impl Strategy<Value = Vec<Move>> {
    let step = prop_oneof![
        3 => (1u64..20).prop_map(Move::Wait),
        4 => Just(Move::Tick),
        2 => (1u64..5, any::<bool>()).prop_map(|(serial, by_hand)| Move::Load(serial, by_hand)),
        4 => Just(Move::Begin),
        4 => proptest::bool::weighted(0.2).prop_map(Move::Answer),
        1 => Just(Move::Fail),
        2 => proptest::bool::weighted(0.3).prop_map(Move::Pcrs),
        1 => Just(Move::RevokeAll),
        1 => Just(Move::RevokeHelper),
    ];
    proptest::collection::vec(step, 1..40)
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(CASES) })]

    #[test]
    fn the_kernel_never_allows_more_than_the_evidence(
        moves in moves(),
        fail in proptest::collection::btree_set(0usize..160, 0..6),
    ) {
        let mut host = Host::new();
        host.fail = fail;
        let mut helper_revoked = false;
        for step in moves {
            match step {
                Move::Wait(seconds) => host.now += seconds * SECOND,
                Move::Tick => drop(host.feed(Input::Tick)),
                Move::Load(serial, by_hand) => drop(host.load(serial, by_hand.then_some(0))),
                Move::Begin => {
                    host.begin_quote();
                }
                Move::Answer(changed) => host.answer_quote(changed),
                Move::Fail => {
                    host.outstanding = None;
                    drop(host.feed(Input::QuoteFailed {
                        nonce: None,
                        why: "made to fail".into() }));
                }
                Move::Pcrs(changed) => {
                    if changed && host.engine.watched().is_some() {
                        host.convinced = 0;
                    }
                    drop(host.feed(Input::PcrsRead(pcrs(changed))));
                    // Two of the model's effects in a row may fail; the tick is when they are owed.
                    drop(host.feed(Input::Tick));
                }
                Move::RevokeAll => {
                    host.convinced = 0;
                    let input =
                        Input::Revoke { target: Target::All, reason: "drill".into(), uid: 0 };
                    drop(host.feed(input));
                    drop(host.feed(Input::Tick));
                }
                Move::RevokeHelper => {
                    let target = Target::Workload("helper".into());
                    let input = Input::Revoke { target, reason: "drill".into(), uid: 0 };
                    helper_revoked |= host.feed(input).is_ok();
                    drop(host.feed(Input::Tick));
                }
            }
            if host.allows(b"p") {
                prop_assert!(host.now < host.convinced, "attested work without evidence");
                let against = host.engine.trust().causes().into_keys().find(|cause| {
                    matches!(
                        cause,
                        Cause::EvidenceRejected(_)
                            | Cause::PcrDiffers(_)
                            | Cause::QuoteLate
                            | Cause::OperatorRevoked
                    )
                });
                prop_assert_eq!(against, None, "attested work runs against what the engine knows");
            }
            prop_assert!(!(helper_revoked && host.allows(b"h")), "a revoked workload runs");
        }
    }
}
