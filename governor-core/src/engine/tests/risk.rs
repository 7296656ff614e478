//! Risks: what counts, for whom, and what comes of it.

use std::sync::LazyLock;

use governor_common::{Event, Label, Operation, Plain as _, Reason, Verdict, names::WORKLOAD_NONE};
use proptest::prelude::*;

use super::model::{Host, *};
use crate::{engine::*, lineage::RiskMet, policy::OnRevoke};

const WITHIN: u64 = 60 * SECOND;
const TABLES: &str = r#"
[risk.probing]
count = 3
of = "denied-exec"
within = "60s"
action = "freeze"

[risk.storm]
count = 2
of = "spawn"
within = "10s"
action = "quarantine"

[risk.rummaging]
count = 4
of = "denied-open"
within = "10s"
action = "kill"

[risk.asking]
count = 2
of = "denied-peer"
within = "10s"
action = "kill"

[workload.idle]
zone = "tools"
on_revoke = "deny"

[events]
losses = 10
within = "60s"
"#;

fn host() -> Host {
    let mut host = Host::new();
    static POLICY: LazyLock<Arc<VerifiedPolicy>> =
        LazyLock::new(|| super::policies::signed_policy_with(1, TABLES));
    let policy = Arc::clone(&POLICY);
    host.feed(Input::PolicyOffered {
        policy,
        users: BTreeMap::new(),
        uid: Some(0),
    })
    .unwrap();
    host.attest(false);
    host
}

fn event(host: &Host, workload: &str, operation: Operation, verdict: Verdict, at: u64) -> Vec<u8> {
    let ids = host.engine.ids();
    let label = ids
        .workloads
        .get(workload)
        .map_or_else(Label::default, |number| Label {
            zone: ids.zones[workload.split('/').next().unwrap()],
            workload: *number,
            ..Label::default()
        });
    raw(label, operation, verdict, at)
}

pub(super) fn raw(label: Label, operation: Operation, verdict: Verdict, at: u64) -> Vec<u8> {
    let zeros = vec![0; size_of::<Event>()];
    let mut event = Event::read(&zeros).unwrap();
    event.verdict = verdict as u32;
    event.facts.operation = operation as u32;
    event.facts.label = label;
    event.facts.now = at;
    event.bytes().to_vec()
}

fn feed(host: &mut Host, denied: Vec<Vec<u8>>, allowed: Vec<Vec<u8>>, lost: u64) -> Vec<Effect> {
    let input = Input::Verdicts {
        denied,
        allowed,
        lost,
        missed: 0,
    };
    let effects = host.engine.handle(clock(host.now), input.clone()).effects;
    host.feed(input).unwrap();
    effects
}

fn stops(effects: &[Effect]) -> Vec<(Option<u32>, OnRevoke)> {
    let mut stops = Vec::new();
    for effect in effects {
        if let Effect::Stop {
            workload,
            action,
            barred,
            ..
        } = effect
        {
            assert!(*barred, "it would go on when the host is trusted once more");
            stops.push((*workload, *action));
        }
    }
    stops
}

fn met(effects: &[Effect]) -> Vec<RiskMet> {
    let mut all = Vec::new();
    for effect in effects {
        if let Effect::Append(kinds) = effect {
            for kind in kinds {
                if let Kind::RiskMet(met) = kind {
                    all.push(met.clone());
                }
            }
        }
    }
    all
}

#[test]
fn the_third_denial_stops_that_workload_and_the_host_stays_trusted() {
    let mut host = host();
    let probe = |host: &Host| {
        let at = host.now;
        event(host, "tools/idle", Operation::Execute, Verdict::Deny, at)
    };
    for _ in 0..2 {
        let denied = vec![probe(&host)];
        assert!(stops(&feed(&mut host, denied, Vec::new(), 0)).is_empty());
    }
    let denied = vec![probe(&host)];
    let effects = feed(&mut host, denied, Vec::new(), 0);
    let idle = host.engine.ids().workload("tools", "idle");
    assert_eq!(stops(&effects), [(idle, OnRevoke::Freeze)]);
    let [recorded] = &met(&effects)[..] else {
        panic!("{effects:?}")
    };
    assert_eq!((recorded.risk.as_str(), recorded.count), ("probing", 3));
    let stop = effects
        .iter()
        .position(|e| matches!(e, Effect::Stop { .. }));
    let record = effects.iter().position(|e| matches!(e, Effect::Append(_)));
    assert!(stop < record, "the kernel before the record");
    assert_eq!(host.engine.trust().name(), "trusted");
    let denied = vec![probe(&host), probe(&host)];
    assert!(
        met(&feed(&mut host, denied, Vec::new(), 0)).is_empty(),
        "it begins anew"
    );
    assert!(host.kernel.tombstones.is_empty());
}

#[test]
fn the_strictest_of_zone_workload_and_risk_decides() {
    let mut host = host();
    let planner = event(&host, "agents/planner", Operation::Script, Verdict::Deny, 5);
    let effects = feed(&mut host, vec![planner; 3], Vec::new(), 0);
    let number = host.engine.ids().workload("agents", "planner");
    assert_eq!(stops(&effects), [(number, OnRevoke::Kill)], "its zone's");
    let spawned = event(&host, "tools/idle", Operation::Execute, Verdict::Allow, 5);
    let effects = feed(&mut host, Vec::new(), vec![spawned; 2], 0);
    let number = host.engine.ids().workload("tools", "idle");
    assert_eq!(stops(&effects), [(number, OnRevoke::Quarantine)]);
}

#[test]
fn opening_what_is_not_listed_counts_where_it_is_refused() {
    let mut host = host();
    let of = |host: &Host, verdict| event(host, "tools/idle", Operation::Open, verdict, 5);
    for verdict in [Verdict::WouldDeny, Verdict::Allow] {
        let opened = of(&host, verdict);
        assert!(met(&feed(&mut host, vec![opened; 9], Vec::new(), 0)).is_empty());
    }
    let refused = of(&host, Verdict::Deny);
    // What is listed is refused as well when trust or the lease is gone, and that is nobody's probing.
    for reason in [Reason::NoLease, Reason::EpochRaised, Reason::Revoked] {
        let mut event = Event::read(&refused).unwrap();
        event.reason = reason as u32;
        let lapsed = event.bytes().to_vec();
        assert!(met(&feed(&mut host, vec![lapsed; 9], Vec::new(), 0)).is_empty());
    }
    let effects = feed(&mut host, vec![refused; 4], Vec::new(), 0);
    let number = host.engine.ids().workload("tools", "idle");
    assert_eq!(stops(&effects), [(number, OnRevoke::Kill)]);
}

#[test]
fn asking_outside_counts_apart_from_connecting_and_where_it_is_refused_for_that() {
    let mut host = host();
    let asked = |host: &Host, reason: Reason, verdict| {
        let event = event(host, "tools/idle", Operation::Peer, verdict, 5);
        let mut event = Event::read(&event).unwrap();
        event.reason = reason as u32;
        event.bytes().to_vec()
    };
    for (reason, verdict) in [
        (Reason::NoLease, Verdict::Deny),
        (Reason::UnlistedPeer, Verdict::WouldDeny),
        (Reason::Authorized, Verdict::Allow),
    ] {
        let other = asked(&host, reason, verdict);
        assert!(met(&feed(&mut host, vec![other; 9], Vec::new(), 0)).is_empty());
    }
    let refused = asked(&host, Reason::UnlistedPeer, Verdict::Deny);
    let effects = feed(&mut host, vec![refused; 2], Vec::new(), 0);
    let number = host.engine.ids().workload("tools", "idle");
    assert_eq!(stops(&effects), [(number, OnRevoke::Kill)]);
}

#[test]
fn what_is_not_a_workloads_own_refused_doing_counts_for_nobody() {
    let mut host = host();
    let of =
        |host: &Host, workload, operation, verdict| event(host, workload, operation, verdict, 5);
    let nobody = raw(
        Label {
            zone: 1,
            workload: WORKLOAD_NONE,
            ..Label::default()
        },
        Operation::Execute,
        Verdict::Deny,
        5,
    );
    let others = [
        of(&host, "tools/idle", Operation::Map, Verdict::Deny),
        of(&host, "tools/idle", Operation::Execute, Verdict::WouldDeny),
        of(&host, "no/body", Operation::Execute, Verdict::Deny),
        nobody,
        vec![1, 2, 3],
    ];
    for other in others {
        let effects = feed(&mut host, vec![other; 9], Vec::new(), 0);
        assert!(met(&effects).is_empty(), "{effects:?}");
    }
}

#[test]
fn a_zone_that_is_observed_is_left_alone() {
    let mut host = host();
    host.feed(Input::Observe {
        zone: "agents".into(),
        span: Span::seconds(30),
        uid: 0,
    })
    .unwrap();
    let denied = event(
        &host,
        "agents/planner",
        Operation::Execute,
        Verdict::Deny,
        5,
    );
    assert!(met(&feed(&mut host, vec![denied; 9], Vec::new(), 0)).is_empty());
}

#[test]
fn a_stop_that_fails_is_tried_again_and_says_nothing_about_the_host() {
    let mut host = host();
    let denied = event(&host, "tools/idle", Operation::Execute, Verdict::Deny, 5);
    host.fail = BTreeSet::from([host.performed]);
    feed(&mut host, vec![denied; 3], Vec::new(), 0);
    assert_eq!(host.engine.trust().name(), "trusted");
    let step = host.engine.handle(clock(host.now), Input::Tick);
    assert_eq!(stops(&step.effects).len(), 1);
    host.fail = BTreeSet::from([host.performed]);
    host.feed(Input::Tick).unwrap();
    assert_eq!(
        host.engine.trust().name(),
        "trusted",
        "also the second time"
    );
    let lost = |kind: &&Kind| matches!(kind, Kind::Lost(_));
    assert_eq!(
        host.disk.records().iter().filter(lost).count(),
        1,
        "said once"
    );
    // Also when others asked for something since.
    host.lame = 2;
    host.attest_when_due();
    host.feed(Input::Tick).unwrap();
    assert_eq!(host.lame, 0);
    assert_eq!(host.engine.trust().name(), "trusted", "for what it did");
    // Another daemon owes it too, and is as quiet about it.
    host.lame = 1;
    host.restart_with(host.found());
    host.feed(Input::NoPolicyKept).unwrap();
    assert_eq!(host.lame, 0);
    assert!(!host.engine.trust().has(&Cause::StopFailed));
}

#[test]
fn losses_count_only_where_a_policy_bounds_them() {
    let mut without = Host::new();
    without.load(1, Some(0)).unwrap();
    without.attest(false);
    feed(&mut without, Vec::new(), Vec::new(), 1_000_000);
    assert_eq!(without.engine.trust().name(), "trusted");
    let mut host = host();
    feed(&mut host, Vec::new(), Vec::new(), 10);
    assert_eq!(host.engine.trust().name(), "trusted");
    host.now += WITHIN / 2;
    feed(&mut host, Vec::new(), Vec::new(), 1);
    assert!(host.engine.trust().has(&Cause::EventsLost), "more than ten");
    assert!(!host.allows(b"p"));
    host.attest_when_due();
    assert_eq!(host.engine.trust().name(), "trusted");
    feed(&mut host, Vec::new(), Vec::new(), 10);
    host.now += 2 * WITHIN;
    host.attest_when_due();
    feed(&mut host, Vec::new(), Vec::new(), 10);
    assert!(
        !host.engine.trust().has(&Cause::EventsLost),
        "they are long ago"
    );
}

/// What gaps of this name count together.
fn missing(host: &Host, what: &str) -> u64 {
    let records = host.disk.records();
    let counts = records.iter().filter_map(|kind| {
        let Kind::Gap(gap) = kind else { return None };
        (gap.what == what).then_some(gap.count)
    });
    counts.sum()
}

#[test]
fn a_number_that_could_not_be_written_is_written_whole() {
    let mut host = Host::new();
    host.load(1, Some(0)).unwrap();
    host.fail = (host.performed..host.performed + 3).collect();
    feed(&mut host, vec![vec![1]; 1_000], Vec::new(), 30);
    assert_eq!(host.engine.left_out(), None, "records are owed");
    feed(&mut host, Vec::new(), Vec::new(), 4);
    host.feed(Input::Tick).unwrap();
    assert_eq!(host.engine.left_out(), None, "they still are");
    host.feed(Input::Tick).unwrap();
    assert_eq!(missing(&host, LOST_DENIALS), 34);
    assert_eq!(host.engine.left_out(), Some(1_000 - 256));
    host.now += 10 * SECOND;
    host.fail = BTreeSet::from([host.performed]);
    host.feed(Input::Tick).unwrap();
    host.now += 10 * SECOND;
    host.feed(Input::Tick).unwrap();
    host.feed(Input::Tick).unwrap();
    assert_eq!(host.engine.left_out(), Some(0));
    assert_eq!(missing(&host, LEFT_OUT), 1_000 - 256);
    assert_eq!(missing(&host, LOST_DENIALS), 34, "and once");
}

#[test]
fn what_an_earlier_daemon_counted_is_written_down() {
    let mut host = Host::new();
    host.load(1, Some(0)).unwrap();
    host.feed(Input::LeftOut(12)).unwrap();
    assert_eq!(host.engine.left_out(), Some(12));
    // And what had no room in its ring, or was taken by a daemon that ended: nobody can tell more of it.
    host.feed(Input::Verdicts {
        denied: Vec::new(),
        allowed: Vec::new(),
        lost: 0,
        missed: 30,
    })
    .unwrap();
    assert_eq!(host.engine.left_out(), Some(42));
    host.feed(Input::Tick).unwrap();
    assert_eq!(missing(&host, LEFT_OUT), 42);
    assert_eq!(missing(&host, LOST_DENIALS), 0);
    assert_eq!(host.engine.left_out(), Some(0));
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(200) })]

    /// Whatever is told in whatever batches, and however little of it is recorded: the same stops, as
    /// often as somebody counting every event by hand finds, and no more than that.
    #[test]
    fn counting_sees_every_event_and_only_those(
        steps in proptest::collection::vec((0u64..40, any::<bool>()), 1..120),
        batch in 1usize..20,
    ) {
        let mut host = host();
        let trust = host.engine.trust().clone();
        let mut at = 0;
        let mut events = Vec::new();
        let (mut window, mut expected): (Vec<u64>, usize) = (Vec::new(), 0);
        let part = WITHIN.div_ceil(256);
        for (passed, ours) in &steps {
            // In whole parts of the window, so that by hand and by parts is the same.
            at += passed * part * 4;
            let workload = if *ours { "tools/idle" } else { "agents/planner" };
            let operation = if *ours { Operation::Execute } else { Operation::Map };
            events.push(event(&host, workload, operation, Verdict::Deny, at));
            if *ours {
                window.push(at);
                window.retain(|then| at - then <= 256 * part);
                if window.len() == 3 {
                    window.clear();
                    expected += 1;
                }
            }
        }
        // Nothing is left of what may be recorded one by one.
        feed(&mut host, vec![vec![0; 4]; 1_000], Vec::new(), 0);
        let mut found = 0;
        for events in events.chunks(batch) {
            found += met(&feed(&mut host, events.to_vec(), Vec::new(), 0)).len();
        }
        prop_assert_eq!(found, expected);
        prop_assert_eq!(host.engine.trust(), &trust);
    }
}
