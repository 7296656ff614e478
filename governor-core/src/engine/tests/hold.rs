//! Holding by hand and going on: what each asks for, what refuses it, and that nothing goes on that
//! could not be started (the model checks that at every thaw).

use super::{
    super::*,
    model::{Host, LEASE, SECOND, clock, pcrs},
};
use crate::{lineage::Held, policy::OnRevoke};
use proptest::prelude::*;

const PLANNER: &str = "planner";
const HELPER: &str = "helper";

fn workload(name: &str) -> Target {
    Target::Workload(name.into())
}

fn hold(target: Target, grip: Grip) -> Input {
    let reason = "drill".into();
    Input::Hold {
        target,
        grip,
        reason,
        uid: 7,
    }
}

fn resume(target: Target) -> Input {
    let reason = "drill over".into();
    Input::Resume {
        target,
        reason,
        uid: 7,
    }
}

fn revoke(target: Target) -> Input {
    let reason = "drill".into();
    Input::Revoke {
        target,
        reason,
        uid: 7,
    }
}

fn trusted(serial: u64) -> Host {
    let mut host = Host::new();
    host.load(serial, Some(0)).unwrap();
    host.attest(false);
    host
}

fn denied(host: &mut Host, target: Target) -> String {
    match host.feed(resume(target)) {
        Err(Refused::Denied(why)) => why,
        other => panic!("expected a denial, not {other:?}"),
    }
}

#[test]
fn a_hold_reaches_what_runs_before_it_is_recorded_and_revokes_nothing() {
    for grip in [Grip::Pause, Grip::Quarantine, Grip::Kill] {
        let mut host = trusted(1);
        let step = host
            .engine
            .handle(clock(host.now), hold(workload(PLANNER), grip));
        let [
            Effect::Hold {
                zone: 1,
                running: Running::Workload(_),
                grip: done,
            },
            Effect::Append(kinds),
        ] = step.effects.as_slice()
        else {
            panic!("{:?}", step.effects);
        };
        assert_eq!(*done, grip);
        let recorded = Held {
            target: "workload planner".into(),
            grip: grip.name().into(),
            reason: "drill".into(),
            uid: Some(7),
        };
        assert_eq!(kinds.as_slice(), [Kind::Held(recorded)]);
        host.feed(hold(workload(PLANNER), grip)).unwrap();
        assert!(host.allows(b"p"), "new copies may be started");
    }
}

#[test]
fn a_hold_needs_no_trust_and_names_what_it_does_not_know() {
    let mut host = Host::new();
    assert!(matches!(
        host.feed(hold(Target::All, Grip::Pause)),
        Err(Refused::Invalid(_))
    ));
    host.load(1, Some(0)).unwrap();
    host.feed(hold(Target::All, Grip::Pause)).unwrap();
    for target in [workload("nobody"), Target::Zone("nowhere".into())] {
        let refused = host.feed(hold(target, Grip::Kill));
        assert!(matches!(refused, Err(Refused::Invalid(_))), "{refused:?}");
        assert!(matches!(host.disk.records().last(), Some(Kind::Refusal(_))));
    }
}

#[test]
fn what_was_held_goes_on_while_it_is_authorized_and_not_otherwise() {
    let mut host = trusted(1);
    host.feed(hold(workload(PLANNER), Grip::Pause)).unwrap();
    host.feed(resume(workload(PLANNER))).unwrap();
    let thaw = host.thaws.pop().unwrap();
    assert!(thaw.by_hand);
    let digest = *Digest::of(b"p").bytes();
    assert!(
        thaw.allowed
            .values()
            .all(|digests| digests.contains(&digest))
    );
    // Trust ends: the zone that requires it says so, the other goes on.
    host.feed(Input::PcrsRead(pcrs(true))).unwrap();
    let why = denied(&mut host, workload(PLANNER));
    assert!(
        why.contains("pcr-differs:7") && why.contains("reboot"),
        "{why}"
    );
    host.feed(resume(workload(HELPER))).unwrap();
    let said = host.feed(resume(Target::All)).unwrap();
    assert!(said.contains("not all of it: zone `agents`"), "{said}");
    assert!(host.thaws.iter().all(|thaw| thaw.zone == 2));
}

#[test]
fn a_lease_that_is_over_lets_nothing_go_on_before_anybody_noticed() {
    let mut host = trusted(1);
    host.now = SECOND + LEASE;
    assert!(denied(&mut host, workload(PLANNER)).contains("lease is over"));
}

#[test]
fn what_was_revoked_does_not_go_on() {
    let mut host = trusted(1);
    host.feed(revoke(workload(HELPER))).unwrap();
    for target in [
        workload(HELPER),
        Target::Zone("tools".into()),
        Target::Digest(Digest::of(b"h")),
    ] {
        assert!(denied(&mut host, target).contains("revoked"));
    }
    host.load(2, Some(0)).unwrap();
    assert!(denied(&mut host, workload(HELPER)).contains("revoked"));
    host.feed(revoke(Target::All)).unwrap();
    assert!(denied(&mut host, Target::All).contains("operator revoked everything"));
    assert!(host.thaws.is_empty());
}

#[test]
fn a_revoked_content_is_reached_where_no_workload_lists_it_any_more() {
    let host = trusted(1);
    let step = host
        .engine
        .handle(clock(host.now), revoke(Target::Digest(Digest::of(b"old"))));
    let running = Running::Digest(*Digest::of(b"old").bytes());
    assert!(step.effects.contains(&Effect::Hold {
        zone: 1,
        running,
        grip: Grip::Kill
    }));
}

#[test]
fn a_hold_that_failed_is_tried_again_until_somebody_resumes() {
    let mut host = trusted(1);
    host.fail = [host.performed].into();
    host.feed(hold(workload(HELPER), Grip::Pause)).unwrap();
    assert!(host.engine.trust().has(&Cause::StopFailed));
    assert!(host.allows(b"h"), "nothing was revoked for it");
    let tried = |host: &Host| {
        let step = host.engine.handle(clock(host.now), Input::Tick);
        let is_hold = |effect: &Effect| matches!(effect, Effect::Hold { .. });
        step.effects.iter().any(is_hold)
    };
    assert!(tried(&host));
    host.feed(resume(workload(HELPER))).unwrap();
    assert!(!tried(&host), "it would be taken back");
}

#[test]
fn trust_that_returns_thaws_once_and_only_where_policy_says_so() {
    for (serial, expected) in [(1, 0), (2, 1)] {
        let mut host = trusted(serial);
        host.feed(Input::Tick).unwrap();
        host.thaws.clear();
        host.feed(Input::PcrsRead(pcrs(true))).unwrap();
        host.feed(Input::Tick).unwrap();
        assert!(host.thaws.is_empty());
        host.now += 11 * SECOND;
        host.feed(Input::Tick).unwrap();
        host.attest(false);
        for _ in 0..3 {
            host.now += 1;
            host.feed(Input::Tick).unwrap();
        }
        assert_eq!(host.thaws.len(), expected, "serial {serial}");
        assert!(
            host.thaws
                .iter()
                .all(|thaw| thaw.zone == 1 && !thaw.by_hand)
        );
    }
}

#[test]
fn a_thaw_that_failed_is_written_down_and_not_tried_for_ever() {
    let mut host = trusted(2);
    let before = host.disk.records().len();
    // The record, then the thaw.
    host.fail = [host.performed + 1].into();
    for _ in 0..5 {
        host.feed(Input::Tick).unwrap();
    }
    assert!(host.thaws.is_empty());
    let lost = |kind: &&Kind| matches!(kind, Kind::Lost(lost) if lost.effect == "thaw");
    assert_eq!(host.disk.records()[before..].iter().filter(lost).count(), 1);
    assert_eq!(host.engine.trust().name(), "trusted");
}

#[test]
fn what_was_revoked_with_everything_is_barred_when_an_operator_starts_anew() {
    let mut host = trusted(2);
    host.feed(revoke(Target::All)).unwrap();
    let offer = |uid| Input::PolicyOffered {
        policy: super::policies::policy_of(2),
        users: BTreeMap::new(),
        uid,
    };
    let bars = |host: &Host, uid| {
        let step = host.engine.handle(clock(host.now), offer(uid));
        let barred = |effect: &Effect| matches!(effect, Effect::Bar { .. });
        step.effects.into_iter().filter(barred).count()
    };
    assert_eq!(bars(&host, None), 0, "a restart starts nothing anew");
    assert_eq!(bars(&host, Some(0)), 2);
    host.load(2, Some(0)).unwrap();
    assert_eq!(bars(&host, Some(0)), 0);
}

#[test]
fn every_action_of_a_policy_has_its_grip() {
    assert_eq!(Grip::of(OnRevoke::Deny), None);
    assert_eq!(Grip::of(OnRevoke::Freeze), Some(Grip::Pause));
    assert_eq!(Grip::of(OnRevoke::Quarantine), Some(Grip::Quarantine));
    assert_eq!(Grip::of(OnRevoke::Kill), Some(Grip::Kill));
}

#[derive(Clone, Debug)]
enum Move {
    Wait(u64),
    Tick,
    Load(u64, bool),
    Quote(bool),
    Pcrs,
    Revoke(Target),
    Hold(Target, Grip),
    Resume(Target),
}

fn moves() -> impl Strategy<Value = Vec<Move>> {
    let target = || {
        prop_oneof![
            Just(workload(PLANNER)),
            Just(workload(HELPER)),
            Just(Target::Zone("agents".into())),
            Just(Target::Digest(Digest::of(b"p"))),
            Just(Target::All),
        ]
    };
    let step = prop_oneof![
        2 => (1u64..20).prop_map(Move::Wait),
        4 => Just(Move::Tick),
        2 => (1u64..5, any::<bool>()).prop_map(|(serial, by_hand)| Move::Load(serial, by_hand)),
        5 => proptest::bool::weighted(0.1).prop_map(Move::Quote),
        1 => Just(Move::Pcrs),
        1 => target().prop_map(Move::Revoke),
        1 => target().prop_map(|target| Move::Hold(target, Grip::Pause)),
        4 => target().prop_map(Move::Resume),
    ];
    proptest::collection::vec(step, 1..40)
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(300) })]

    /// The model asserts, at each thaw, that the kernel would let all of it be started.
    #[test]
    fn nothing_goes_on_that_is_untrusted_or_revoked(
        moves in moves(),
        fail in proptest::collection::btree_set(0usize..160, 0..6),
    ) {
        let mut host = Host::new();
        host.fail = fail;
        for step in moves {
            let thaws = host.thaws.len();
            match step {
                Move::Wait(seconds) => host.now += seconds * SECOND,
                Move::Tick => drop(host.feed(Input::Tick)),
                Move::Load(serial, by_hand) => drop(host.load(serial, by_hand.then_some(0))),
                Move::Quote(changed) => {
                    host.begin_quote();
                    host.answer_quote(changed);
                }
                Move::Pcrs => drop(host.feed(Input::PcrsRead(pcrs(true)))),
                Move::Revoke(target) => drop(host.feed(revoke(target))),
                Move::Hold(target, grip) => drop(host.feed(hold(target, grip))),
                Move::Resume(target) => drop(host.feed(resume(target))),
            }
            for thaw in host.thaws.get(thaws..).unwrap_or_default() {
                if thaw.zone == 1 {
                    prop_assert_eq!(host.engine.trust().name(), "trusted");
                }
                prop_assert!(!host.engine.trust().has(&Cause::OperatorRevoked));
                for digest in thaw.allowed.values().flatten() {
                    let key = TombstoneKey { zone: thaw.zone, reserved: 0, digest: *digest };
                    prop_assert!(!host.engine.tombstones.contains(&key));
                }
            }
        }
    }
}
