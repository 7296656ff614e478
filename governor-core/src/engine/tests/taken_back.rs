//! What is owed until it is done, an operator takes it back, or a step is taken back that said so.

use super::{
    super::*,
    crash_moves::{go, moves},
    crash_policies::EXTRA,
    model::{Host, SECOND},
    no_policy::{running, running_under},
    policies::signed_policy_edited,
};
use crate::{lineage::OwedStop, policy::OnRevoke};
use proptest::prelude::*;

/// Sequences of moves tried.
const SEQUENCES: u32 = 150;

fn owed(host: &Host) -> BTreeSet<OwedStop> {
    host.disk.recovered().owed.0
}

fn tick(host: &mut Host) {
    host.now += SECOND;
    host.feed(Input::Tick).unwrap();
}

fn hold(target: Target, grip: Grip) -> Input {
    Input::Hold {
        target,
        grip,
        reason: "drill".into(),
        uid: 0,
    }
}

fn resume(target: Target) -> Input {
    Input::Resume {
        target,
        reason: "drill".into(),
        uid: 0,
    }
}

fn workload(name: &str) -> Target {
    Target::Workload(name.into())
}

fn zone(name: &str) -> Target {
    Target::Zone(name.into())
}

/// Content that runs nowhere.
fn nothing() -> Target {
    Target::Digest(Digest::of(b"nothing"))
}

/// The zone `tools` has two workloads.
fn two_in_tools() -> Host {
    running_under(signed_policy_edited(1, |text| {
        text.replace("on_revoke = \"deny\"", "on_revoke = \"kill\"")
            .replace("[set]\n", &format!("{EXTRA}[set]\n"))
    }))
}

/// Ordered, and it reached nobody.
fn missed(mut host: Host, target: Target, grip: Grip) -> Host {
    host.lame = 1;
    host.feed(hold(target, grip)).unwrap();
    assert_eq!(owed(&host).len(), 1);
    host
}

#[test]
fn resuming_one_workload_takes_nothing_back_from_another() {
    for grip in [Grip::Pause, Grip::Kill] {
        let mut host = missed(two_in_tools(), workload("helper"), grip);
        host.feed(resume(workload("extra"))).unwrap();
        assert_eq!(owed(&host).len(), 1);
        tick(&mut host);
        let helper = host.engine.ids().workload("tools", "helper").unwrap();
        assert!(host.copies.iter().all(|copy| copy.workload != helper));
    }
}

#[test]
fn what_another_order_would_stop_again_is_not_let_go_on() {
    for (ordered, grip, resumed) in [
        (zone("tools"), Grip::Pause, workload("helper")),
        (zone("tools"), Grip::Pause, nothing()),
        (zone("tools"), Grip::Kill, nothing()),
        (workload("helper"), Grip::Pause, nothing()),
        // A kill is no hold.
        (zone("tools"), Grip::Kill, zone("tools")),
        (workload("helper"), Grip::Kill, workload("helper")),
    ] {
        let what = format!("{ordered:?} {grip:?} {resumed:?}");
        let mut host = missed(running(), ordered, grip);
        let refused = format!("{:?}", host.feed(resume(resumed)).unwrap_err());
        assert!(refused.contains("NOT reached"), "{what}: {refused}");
        assert_eq!((owed(&host).len(), host.thaws.len()), (1, 0), "{what}");
        tick(&mut host);
        tick(&mut host);
        assert!(!host.runs_in("tools"), "{what}");
    }
}

#[test]
fn what_a_risk_asked_for_and_did_not_reach_is_not_let_go_on() {
    let mut host = running();
    let zone_of = host.engine.ids().zone("tools").unwrap();
    let stop = Effect::Stop {
        zone: zone_of,
        workload: host.engine.ids().workload("tools", "helper"),
        action: OnRevoke::Freeze,
        barred: true,
    };
    let failed = vec![(stop, "it forks".into())];
    host.feed(Input::StopsFailed {
        failed,
        told: false,
    })
    .unwrap();
    for resumed in [workload("helper"), zone("tools")] {
        host.feed(resume(resumed)).unwrap_err();
    }
    assert!(host.thaws.is_empty());
    tick(&mut host);
    tick(&mut host);
    host.feed(resume(workload("helper"))).unwrap();
}

#[test]
fn a_wider_resume_takes_a_narrower_hold_back() {
    for (ordered, resumed) in [
        (workload("helper"), workload("helper")),
        (workload("helper"), zone("tools")),
        (zone("tools"), zone("tools")),
        (zone("tools"), Target::All),
        (
            Target::Digest(Digest::of(b"h")),
            Target::Digest(Digest::of(b"h")),
        ),
    ] {
        let what = format!("{ordered:?} {resumed:?}");
        let mut host = running();
        host.lame = 9;
        host.feed(hold(ordered, Grip::Quarantine)).unwrap();
        host.lame = 0;
        host.feed(resume(resumed)).unwrap();
        assert!(owed(&host).is_empty(), "{what}");
        host.restart_with(host.found());
        tick(&mut host);
        assert!(host.runs_in("tools"), "{what}");
    }
}

#[test]
fn what_was_not_written_is_not_taken_back() {
    let mut host = missed(running(), zone("agents"), Grip::Pause);
    let before = owed(&host);
    // Nothing is let go on, so that the record is all there is.
    host.lame = 9;
    let alarm = BTreeMap::from([(governor_common::Signal::MapTouched, 1)]);
    host.feed(Input::Signals(alarm)).unwrap();
    host.full = true;
    host.feed(resume(zone("agents"))).unwrap();
    assert!(host.engine.unreached().is_superset(&before));
    host.full = false;
    tick(&mut host);
    assert!(owed(&host).is_superset(&before));
}

/// The tick settles one stop, and lets go on what it may: that fails.
#[test]
fn what_a_step_settled_that_was_taken_back_is_recorded_if_it_fails_again() {
    // Of this serial a zone goes on when trust returns.
    let mut host = running_under(signed_policy_edited(2, |text| {
        text.replace("on_revoke = \"deny\"", "on_revoke = \"kill\"")
    }));
    let zone = host.engine.ids().zone("tools").unwrap();
    let stop = Effect::Stop {
        zone,
        workload: host.engine.ids().workload("tools", "helper"),
        action: OnRevoke::Kill,
        barred: true,
    };
    let failed = || Input::StopsFailed {
        failed: vec![(stop.clone(), "it forks".into())],
        told: false,
    };
    host.feed(failed()).unwrap();
    tick(&mut host);
    assert_eq!(owed(&host).len(), 1);
    // As if trust had just returned.
    host.engine.thawed = None;
    let step = host.engine.handle(host.clock(), Input::Tick);
    let mut effects = step.effects.iter();
    let thaw = effects.position(|effect| matches!(effect, Effect::Thaw(_)));
    host.fail = [host.performed + thaw.unwrap()].into();
    host.feed(Input::Tick).unwrap();
    assert_eq!(owed(&host).len(), 0);
    host.feed(failed()).unwrap();
    assert_eq!(owed(&host).len(), 1);
}

#[test]
fn revoked_content_is_owed_also_where_the_record_of_it_comes_late() {
    let mut host = two_in_tools();
    let revoke = || Input::Revoke {
        target: Target::Digest(Digest::of(b"h")),
        reason: "drill".into(),
        uid: 0,
    };
    host.lame = 8;
    let step = host.engine.handle(host.clock(), revoke());
    let mut effects = step.effects.iter();
    let record = effects.position(|effect| matches!(effect, Effect::Append(_)));
    host.fail = [host.performed + record.unwrap()].into();
    host.feed(revoke()).unwrap();
    let of_content = |host: &Host| -> BTreeSet<OwedStop> {
        let owed = owed(host).into_iter();
        owed.filter(|stop| stop.copies == OwedStop::DIGEST)
            .collect()
    };
    let before = of_content(&host);
    assert!(!before.is_empty());
    host.feed(resume(workload("extra"))).unwrap();
    host.lame = 100;
    tick(&mut host);
    assert_eq!(of_content(&host), before);
}

#[test]
fn a_stop_that_failed_for_a_moment_costs_no_lease() {
    let policy = signed_policy_edited(1, |text| {
        text.replace("on_revoke = \"deny\"", "on_revoke = \"kill\"")
            .replace("every = \"10s\"", "every = \"20s\"")
    });
    let mut host = running_under(policy);
    host.now = 20 * SECOND;
    host.feed(Input::Tick).unwrap();
    host.lame = 1;
    host.now = 21 * SECOND;
    host.feed(hold(workload("helper"), Grip::Pause)).unwrap();
    host.feed(Input::Tick).unwrap();
    host.attest(false);
    assert_eq!(host.engine.trust().name(), "degraded");
    for now in 22..40 {
        host.now = now * SECOND;
        host.feed(Input::Tick).unwrap();
        if host.begin_quote() {
            host.answer_quote(false);
        }
    }
    assert_eq!(host.engine.trust().name(), "trusted");
    assert!(host.runs_in("agents"), "it was stopped with the lease");
}

/// What the ledger says is owed, the engine owes, or has a record of it to write; and the other way.
fn agrees(host: &Host) -> Result<(), String> {
    if host.broken.is_some() || host.down {
        return Ok(());
    }
    let (said, [known, perhaps]) = (owed(host), host.engine.stops.recorded());
    let (mut lost, mut over) = (BTreeSet::new(), BTreeSet::new());
    for kind in &host.engine.owed_records {
        if let Kind::Lost(record) = kind {
            lost.extend(record.owed.iter().cloned());
        } else if let Kind::Reached(record) = kind {
            over.extend(record.stops.iter().cloned());
        }
    }
    let forgotten: Vec<_> = known.difference(&said).collect();
    if let Some(stop) = forgotten.into_iter().find(|stop| !lost.contains(*stop)) {
        return Err(format!("the ledger does not say that it is owed: {stop:?}"));
    }
    let dropped: Vec<_> = said.difference(&perhaps).collect();
    match dropped.into_iter().find(|stop| !over.contains(*stop)) {
        Some(stop) => Err(format!("only the ledger says that it is owed: {stop:?}")),
        None => Ok(()),
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(SEQUENCES) })]

    #[test]
    fn the_ledger_says_what_is_owed(moves in moves()) {
        let host = go(&moves, |host, _| agrees(host)).map_err(TestCaseError::fail)?;
        agrees(&host).map_err(TestCaseError::fail)?;
    }
}
