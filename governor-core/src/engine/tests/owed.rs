//! Revocations and stops that fail: they are done in the end, by whichever daemon.

use prost::Message as _;

use super::{
    super::*,
    crash_policies::EXTRA,
    model::{Host, SECOND},
    no_policy::{policy, running, running_under},
    policies::signed_policy_edited,
};
use crate::{
    lineage::{Flaw, Lost, MAX_RECORD, OwedStop, Reached},
    policy::OnRevoke,
};

fn revoke(target: Target) -> Input {
    Input::Revoke {
        target,
        reason: "drill".into(),
        uid: 0,
    }
}

fn helper() -> Target {
    Target::Workload("helper".into())
}

fn pause() -> Input {
    Input::Hold {
        target: helper(),
        grip: Grip::Pause,
        reason: "drill".into(),
        uid: 0,
    }
}

fn resume() -> Input {
    Input::Resume {
        target: helper(),
        reason: "drill".into(),
        uid: 0,
    }
}

/// The helper was revoked, and was not reached.
fn missed() -> Host {
    let mut host = running();
    host.lame = 1;
    host.feed(revoke(helper())).unwrap();
    assert!(host.runs_in("tools") && host.engine.trust().has(&Cause::StopFailed));
    host
}

fn lost(host: &Host) -> Vec<Lost> {
    let kinds = host.disk.records().into_iter();
    let lost = kinds.filter_map(|kind| {
        let Kind::Lost(lost) = kind else { return None };
        Some(lost).filter(|lost| !lost.owed.is_empty())
    });
    lost.collect()
}

fn reached(host: &Host) -> Vec<Reached> {
    let kinds = host.disk.records().into_iter();
    let reached = kinds.filter_map(|kind| {
        let Kind::Reached(reached) = kind else {
            return None;
        };
        Some(reached)
    });
    reached.collect()
}

fn owed(host: &Host) -> BTreeSet<OwedStop> {
    host.disk.recovered().owed.0
}

fn tick(host: &mut Host) {
    host.now += SECOND;
    host.feed(Input::Tick).unwrap();
}

#[test]
fn a_revocation_that_fails_takes_everything_and_is_tried_again() {
    let mut host = Host::new();
    host.load(1, Some(0)).unwrap();
    host.fail = BTreeSet::from([host.performed]);
    let target = Target::Workload("helper".into());
    host.feed(Input::Revoke {
        target,
        reason: "drill".into(),
        uid: 0,
    })
    .unwrap();
    assert!(!host.allows(b"h"), "the class was revoked instead");
    assert!(host.kernel.tombstones.is_empty());
    host.feed(Input::Tick).unwrap();
    assert_eq!(host.kernel.tombstones.len(), 1);
}

#[test]
fn what_was_not_reached_is_stopped_by_the_daemon_after_it_with_a_policy_or_without() {
    for with in [true, false] {
        let mut host = missed();
        assert_eq!(host.disk.recovered().tombstones, host.kernel.tombstones);
        assert_eq!(owed(&host).len(), 1);
        if with {
            host.restart_with(host.found());
            host.offer_this(policy(), None);
        } else {
            host.restart_without(host.found());
        }
        assert!(!host.runs_in("tools") && host.runs_in("agents"));
        assert!(!host.engine.trust().has(&Cause::StopFailed), "it did not");
        tick(&mut host);
        assert_eq!((owed(&host).len(), reached(&host).len()), (0, 1));
        let performed = host.performed;
        tick(&mut host);
        assert_eq!(host.performed, performed, "it is over");
    }
}

#[test]
fn the_daemon_after_it_says_so_if_it_reaches_nobody_either() {
    let mut host = missed();
    let recovered = host.found();
    host.lame = 1;
    host.restart_without(recovered);
    assert!(host.runs_in("tools") && host.engine.trust().has(&Cause::StopFailed));
    assert_eq!(lost(&host).len(), 1, "it is known");
    tick(&mut host);
    assert!(!host.runs_in("tools") && host.engine.trust().has(&Cause::StopFailed));
    tick(&mut host);
    assert!(!host.engine.trust().has(&Cause::StopFailed));
}

#[test]
fn the_record_is_of_the_batch_that_says_what_was_revoked() {
    let mut host = running();
    host.lame = 1;
    // Tombstone, rows, stop; the batch; its head in the anchor.
    host.dies = Some(5);
    drop(host.feed(revoke(helper())));
    assert_eq!(host.disk.recovered().tombstones, host.kernel.tombstones);
    assert_eq!(owed(&host).len(), 1);
    host.dies = None;
    host.restart_without(host.found());
    assert!(!host.runs_in("tools"));
}

#[test]
fn a_stop_that_fails_for_long_is_written_down_once_and_trust_does_not_flap() {
    let mut host = missed();
    let since = host.engine.trust().since();
    let records = host.disk.records().len();
    host.lame = 20;
    for _ in 0..20 {
        tick(&mut host);
        assert!(host.engine.trust().has(&Cause::StopFailed));
    }
    assert_eq!(host.engine.trust().since(), since);
    assert_eq!(host.disk.records().len(), records);
    tick(&mut host);
    assert!(!host.runs_in("tools"));
    assert!(
        host.engine.trust().has(&Cause::StopFailed),
        "nobody knows yet that nothing comes back"
    );
    assert_eq!(owed(&host).len(), 1);
    tick(&mut host);
    assert!(!host.engine.trust().has(&Cause::StopFailed) && owed(&host).is_empty());
    assert_eq!(host.disk.records().len(), records + 1);
}

#[test]
fn what_failed_in_a_former_boot_or_under_another_gate_is_not_owed() {
    let host = missed();
    let mut rebooted = host.clone();
    let mut recovered = rebooted.found();
    recovered.owed.1 = vec![8; 16];
    rebooted.restart_without(recovered);
    assert!(rebooted.runs_in("tools"));
    // A gate that is made anew says so in its first record.
    let start = Kind::Start(crate::lineage::Start {
        gate: "fresh".into(),
        ..crate::lineage::Start::default()
    });
    let mut anew = host;
    anew.write(&[start]);
    assert!(owed(&anew).is_empty());
}

#[test]
fn a_ledger_that_follows_a_broken_one_says_what_is_owed() {
    let mut host = missed();
    host.lame = 9;
    let broken = Broken {
        flaw: Flaw::Missing,
        detail: "gone".into(),
        last: host.disk.head(),
    };
    host.feed(Input::LedgerBroken(broken)).unwrap();
    let before = owed(&host);
    assert!(before.len() > 1, "what ran on trust was not reached either");
    let input = host.unlocking(0);
    host.feed(input).unwrap();
    assert!(matches!(host.disk.records().first(), Some(Kind::Begun(_))));
    assert_eq!(owed(&host), before);
}

#[test]
fn what_an_operator_takes_back_is_not_owed_after_a_restart_either() {
    let mut host = running();
    host.lame = 1;
    host.feed(pause()).unwrap();
    assert_eq!(owed(&host).len(), 1);
    host.feed(resume()).unwrap();
    assert_eq!(owed(&host).len(), 0);
    host.restart_without(host.found());
    tick(&mut host);
    assert!(host.runs_in("tools"));
    // What a revocation asked for is not an operator's to take back.
    let mut host = missed();
    drop(host.feed(resume()));
    assert_eq!(owed(&host).len(), 1);
}

#[test]
fn revoked_content_that_was_not_reached_is_owed_whoever_lets_others_go_on() {
    // The zone `tools` lists another content too.
    let mut host = running_under(signed_policy_edited(1, |text| {
        text.replace("on_revoke = \"deny\"", "on_revoke = \"kill\"")
            .replace("[set]\n", &format!("{EXTRA}[set]\n"))
    }));
    let digest = Digest::of(b"h");
    host.lame = 8;
    host.feed(revoke(Target::Digest(digest))).unwrap();
    let before = owed(&host);
    let of_content = |stop: &&OwedStop| stop.copies == OwedStop::DIGEST;
    assert!(before.iter().any(|stop| of_content(&stop)));
    // Other content of the same zone goes on.
    host.feed(Input::Resume {
        target: Target::Workload("extra".into()),
        reason: "drill".into(),
        uid: 0,
    })
    .unwrap();
    let after = owed(&host);
    assert!(
        before
            .iter()
            .filter(of_content)
            .all(|stop| after.contains(stop))
    );
    host.lame = 0;
    host.restart_with(host.found());
    tick(&mut host);
    assert!(
        host.copies
            .iter()
            .all(|copy| copy.digest != *digest.bytes())
    );
}

#[test]
fn what_is_taken_back_and_does_not_go_on_is_owed_as_before() {
    let mut host = running();
    host.lame = 1;
    host.feed(pause()).unwrap();
    let before = owed(&host);
    // Its record, then what lets it go.
    host.fail = [host.performed + 1].into();
    drop(host.feed(resume()));
    assert_eq!((host.thaws.len(), owed(&host)), (0, before));
    tick(&mut host);
    assert!(!host.runs_in("tools"));
}

#[test]
fn what_could_not_be_written_is_written_in_the_order_in_which_it_was() {
    let mut host = running();
    (host.full, host.lame) = (true, 1);
    host.feed(revoke(helper())).unwrap();
    assert!(lost(&host).is_empty());
    for _ in 0..3 {
        tick(&mut host);
    }
    assert!(!host.runs_in("tools"));
    host.full = false;
    for _ in 0..3 {
        tick(&mut host);
    }
    assert_eq!(
        (lost(&host).len(), reached(&host).len()),
        (0, 0),
        "it is over, and nobody was told of it"
    );
    // It is reached while nothing can be written, and then it is not.
    let mut host = missed();
    tick(&mut host);
    host.full = true;
    tick(&mut host);
    host.copies = running().copies;
    (host.full, host.lame) = (false, 2);
    host.feed(revoke(helper())).unwrap();
    assert_eq!(owed(&host).len(), 1);
    tick(&mut host);
    assert_eq!(owed(&host).len(), 1, "the record of the first comes first");
    // The same where no other record tells of it: the ledger says already that it is owed.
    let mut host = missed();
    tick(&mut host);
    host.full = true;
    tick(&mut host);
    let failed = vec![(retried(&missed()).remove(0), "it forks".into())];
    let told = false;
    host.feed(Input::StopsFailed { failed, told }).unwrap();
    (host.full, host.lame) = (false, 1);
    tick(&mut host);
    assert_eq!((lost(&host).len(), reached(&host).len()), (1, 0));
    assert_eq!(owed(&host).len(), 1);
}

/// What the next tick tries again.
fn retried(host: &Host) -> Vec<Effect> {
    let step = host.engine.handle(host.clock(), Input::Tick);
    step.effects.into_iter().filter(Effect::stops).collect()
}

#[test]
fn no_evidence_speaks_for_what_could_not_be_stopped() {
    let mut host = missed();
    let since = host.engine.trust().since();
    host.lame = 5;
    for _ in 0..5 {
        host.now += 3 * SECOND;
        tick(&mut host);
        if host.begin_quote() {
            host.answer_quote(false);
        }
    }
    assert_eq!(host.engine.trust().name(), "degraded");
    assert_eq!(host.engine.trust().since(), since, "it flapped");
    for _ in 0..2 {
        tick(&mut host);
    }
    host.attest_when_due();
    assert_eq!(host.engine.trust().name(), "trusted");
}

#[test]
fn an_operator_takes_back_what_was_not_reached_also_without_trust() {
    let mut host = running();
    let agents = || Target::Zone("agents".into());
    let (grip, reason, uid) = (Grip::Pause, "drill".to_owned(), 0);
    host.lame = 1;
    host.feed(Input::Hold {
        target: agents(),
        grip,
        reason: reason.clone(),
        uid,
    })
    .unwrap();
    let by_hand = |stop: &OwedStop| stop.release == OwedStop::BY_HAND;
    assert!(owed(&host).iter().all(by_hand) && !owed(&host).is_empty());
    // So that nothing but this stands between the host and trust.
    let resume = Input::Resume {
        target: agents(),
        reason,
        uid,
    };
    host.kernel.lease = None;
    let alarm = BTreeMap::from([(governor_common::Signal::MapTouched, 1)]);
    host.lame = 9;
    host.feed(Input::Signals(alarm)).unwrap();
    let said = host.feed(resume).unwrap();
    assert!(said.contains("stays held"), "{said}");
    assert!(!owed(&host).iter().any(by_hand) && !owed(&host).is_empty());
    assert!(host.thaws.is_empty());
}

#[test]
fn what_a_risk_asked_for_is_tried_after_the_rest() {
    let stop = |zone, barred| Effect::Stop {
        zone,
        workload: None,
        action: OnRevoke::Kill,
        barred,
    };
    let mut host = running();
    let stops = [stop(1, true), stop(2, false), stop(3, true), stop(4, false)];
    host.feed(Input::StopsFailed {
        failed: stops.map(|stop| (stop, "it forks".into())).to_vec(),
        told: false,
    })
    .unwrap();
    let again = retried(&host);
    assert_eq!(again.len(), 4);
    assert!(again.is_sorted_by_key(Effect::is_of_risk), "{again:?}");
}

#[test]
fn what_failed_twice_in_a_step_is_owed_once() {
    let host = running();
    let stop = retried(&missed()).remove(0);
    let failed = [(stop.clone(), "it forks".into()), (stop, "again".into())];
    let said = |told| -> usize {
        let kinds = host.engine.also_lost(&failed, told);
        let said = kinds.iter().map(|kind| {
            let Kind::Lost(lost) = kind else {
                panic!("{kind:?}")
            };
            lost.owed.len()
        });
        said.sum()
    };
    assert_eq!((said(0), said(1), said(2)), (1, 0, 0));
}

#[test]
fn a_gate_that_is_made_anew_in_the_same_boot_says_that_nothing_is_owed_any_more() {
    let host = missed();
    let before = owed(&host);
    let given_up = |gate: &str, boot: [u8; 16]| {
        let kernel = KernelView {
            gate: gate.into(),
            boot_id: boot,
            ..host.kernel_view()
        };
        let step = Engine::start(
            host.clock(),
            host.engine.host().clone(),
            host.found(),
            &kernel,
        );
        let kinds = step.effects.into_iter().filter_map(|effect| {
            let Effect::Append(kinds) = effect else {
                return None;
            };
            Some(kinds)
        });
        let reached = kinds.flatten().filter_map(|kind| {
            let Kind::Reached(reached) = kind else {
                return None;
            };
            Some(reached.stops)
        });
        reached.flatten().collect::<BTreeSet<_>>()
    };
    assert_eq!(given_up("fresh", super::model::BOOT), before);
    assert!(given_up("adopted", super::model::BOOT).is_empty());
    assert!(given_up("fresh", [9; 16]).is_empty());
}

#[test]
fn thousands_that_fail_at_once_are_a_few_records() {
    let mut host = running();
    let stop = |workload| Effect::Stop {
        zone: 1,
        workload: Some(workload),
        action: OnRevoke::Kill,
        barred: false,
    };
    let failed: Vec<_> = (0..4_096)
        .map(|workload| (stop(workload), "it forks ".repeat(9_000)))
        .collect();
    let step = host.engine.handle(
        host.clock(),
        Input::StopsFailed {
            failed: failed.clone(),
            told: false,
        },
    );
    let [Effect::Append(kinds)] = step.effects.as_slice() else {
        panic!("{}", step.effects.len());
    };
    assert_eq!(kinds.len(), 8);
    for kind in kinds {
        let Kind::Lost(lost) = kind else {
            panic!("{kind:?}");
        };
        assert!(lost.encoded_len() < MAX_RECORD / 2);
    }
    let told = host.engine.also_lost(&failed, 0);
    assert_eq!(told, *kinds, "also beside what they were for");
    host.feed(Input::StopsFailed {
        failed,
        told: false,
    })
    .unwrap();
    for _ in 0..2 {
        tick(&mut host);
    }
    assert_eq!((reached(&host).len(), owed(&host).len()), (8, 0));
}
