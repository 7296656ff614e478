//! What a policy that is loaded takes from what stood before it: observing, leases, and the zones that
//! something revoked everywhere may come back in.

use super::{
    model::BOOT,
    policies::{signed_policy_edited, signed_policy_with},
    *,
};
use crate::{engine::operator::tombstone, lineage::Recovered, time::WallTime};

fn offer(host: &mut Host, serial: u64, edit: impl Fn(String) -> String) {
    host.feed(Input::PolicyOffered {
        policy: signed_policy_edited(serial, edit),
        users: BTreeMap::new(),
        uid: Some(0),
    })
    .unwrap();
}

fn observe_agents(host: &mut Host, seconds: u64) {
    host.feed(Input::Observe {
        zone: "agents".into(),
        span: Span::seconds(seconds),
        uid: 0,
    })
    .unwrap();
}

fn revoke(host: &mut Host, content: &[u8]) {
    host.feed(Input::Revoke {
        target: Target::Digest(Digest::of(content)),
        reason: "drill".into(),
        uid: 0,
    })
    .unwrap();
}

fn zone_row(host: &Host, zone: u32) -> governor_common::Row {
    let table = host.kernel.table.as_ref().unwrap();
    let row = table
        .rows
        .iter()
        .find(|row| row.roles == 0 && row.key.zone == zone);
    *row.unwrap()
}

fn stops(effects: &[Effect]) -> bool {
    let kills = |effect: &Effect| {
        matches!(
            effect,
            Effect::Stop {
                zone: 1,
                workload: None,
                action: OnRevoke::Kill,
                barred: false,
            }
        )
    };
    effects.iter().any(kills)
}

#[test]
fn observing_ends_with_the_policy_that_allowed_it_and_a_stop_reaches_the_zone_again() {
    let mut host = Host::new();
    host.load(1, Some(0)).unwrap();
    host.attest(false);
    observe_agents(&mut host, 60);
    offer(&mut host, 2, |text| {
        text.replace("observe_up_to = \"1m\"\n", "")
    });
    assert!(host.engine.observed().is_empty());
    assert_eq!(zone_row(&host, 1).observe_until, 0);
    let step = host
        .engine
        .handle(clock(host.now), Input::PcrsRead(pcrs(true)));
    assert!(stops(&step.effects), "{:?}", step.effects);
}

#[test]
fn observing_is_cut_to_what_the_new_policy_allows() {
    let mut host = Host::new();
    host.load(1, Some(0)).unwrap();
    observe_agents(&mut host, 60);
    let before = zone_row(&host, 1).observe_until;
    offer(&mut host, 2, |text| text.replace("\"1m\"", "\"10s\""));
    assert_eq!(zone_row(&host, 1).observe_until, host.now + 10 * SECOND);
    assert!(before > host.now + 10 * SECOND);
    let until = host.now + 10 * SECOND;
    let cut = |kind: &Kind| matches!(kind, Kind::ModeChange(change) if change.until == until);
    assert!(host.disk.records().iter().any(cut));
    offer(&mut host, 3, |text| text);
    assert_eq!(zone_row(&host, 1).observe_until, host.now + 10 * SECOND);
}

#[test]
fn what_observing_spared_is_stopped_once_it_is_over_and_trust_has_not_returned() {
    let mut host = Host::new();
    host.load(1, Some(0)).unwrap();
    host.attest(false);
    observe_agents(&mut host, 60);
    let lost = Input::PcrsRead(pcrs(true));
    let step = host.engine.handle(clock(host.now), lost.clone());
    assert!(!stops(&step.effects), "it is observed");
    host.feed(lost).unwrap();
    host.now += 60 * SECOND;
    let step = host.engine.handle(clock(host.now), Input::Tick);
    assert!(stops(&step.effects), "{:?}", step.effects);
}

#[test]
fn observing_that_ends_while_the_host_is_trusted_stops_nothing() {
    let mut host = Host::new();
    host.load(1, Some(0)).unwrap();
    host.attest(false);
    observe_agents(&mut host, 20);
    host.now += 20 * SECOND;
    let step = host.engine.handle(clock(host.now), Input::Tick);
    assert!(!stops(&step.effects), "{:?}", step.effects);
}

#[test]
fn a_digest_revoked_in_every_zone_is_revoked_in_a_zone_of_another_name() {
    let renamed = |text: String| {
        text.replace("zone.agents", "zone.others")
            .replace("\"agents\"", "\"others\"")
    };
    let mut host = Host::new();
    host.load(1, Some(0)).unwrap();
    revoke(&mut host, b"p");
    offer(&mut host, 2, renamed);
    host.attest(false);
    let zone = host.engine.ids().zone("others").unwrap();
    let key = TombstoneKey {
        zone,
        reserved: 0,
        digest: *Digest::of(b"p").bytes(),
    };
    assert!(host.kernel.tombstones.contains(&key));
    let table = host.kernel.table.as_ref().unwrap();
    let listed = |digest: [u8; 32]| table.rows.iter().any(|row| row.key.digest == digest);
    assert!(!listed(key.digest) && listed(*Digest::of(b"h").bytes()));
    let recorded = |kind: &Kind| {
        matches!(kind, Kind::Revocation(revocation)
            if revocation.tombstones.iter().any(|t| t.zone == zone))
    };
    assert!(
        host.disk.records().iter().any(recorded),
        "a restart finds it in the ledger"
    );
}

#[test]
fn what_is_revoked_in_every_zone_takes_room_only_where_it_could_run() {
    let renamed = |text: String| {
        text.replace("zone.tools", "zone.others")
            .replace("\"tools\"", "\"others\"")
    };
    let mut host = Host::new();
    host.load(1, Some(0)).unwrap();
    revoke(&mut host, b"p");
    revoke(&mut host, b"somewhere else");
    let before = host.kernel.tombstones.len();
    offer(&mut host, 2, renamed);
    assert_eq!(host.kernel.tombstones.len(), before, "neither lists it");
    offer(&mut host, 3, |text| {
        renamed(text).replace("on_revoke = \"deny\"", "observe_up_to = \"1m\"")
    });
    assert_eq!(
        host.kernel.tombstones.len(),
        before + 2,
        "observing lets it"
    );
}

#[test]
fn a_ledger_alone_is_enough_to_keep_it_revoked_everywhere() {
    let mut host = Host::new();
    host.load(1, Some(0)).unwrap();
    revoke(&mut host, b"p");
    let entries: Vec<crate::lineage::Entry> = host
        .disk
        .records()
        .iter()
        .map(|kind| crate::lineage::Entry {
            wall: WallTime(0).0,
            boot_id: BOOT.to_vec(),
            kind: Some(kind.clone()),
            ..crate::lineage::Entry::default()
        })
        .collect();
    let everywhere = TombstoneKey {
        zone: governor_common::names::ZONE_EVERY,
        reserved: 0,
        digest: *Digest::of(b"p").bytes(),
    };
    let recovered = Recovered::from_entries(&entries);
    assert!(recovered.tombstones.contains(&everywhere));
}

#[test]
fn a_digest_is_held_in_a_zone_that_no_policy_names_any_more() {
    let mut host = Host::new();
    host.load(1, Some(0)).unwrap();
    offer(&mut host, 2, |text| {
        text.replace("zone.tools", "zone.others")
            .replace("\"tools\"", "\"others\"")
    });
    let old = host.engine.ids().zone("tools").unwrap();
    let step = host.engine.handle(
        clock(host.now),
        Input::Revoke {
            target: Target::Digest(Digest::of(b"h")),
            reason: "drill".into(),
            uid: 0,
        },
    );
    let held = step.effects.iter().any(|effect| {
        matches!(effect, Effect::Hold { zone, running: Running::Digest(_), .. } if *zone == old)
    });
    assert!(held, "{:?}", step.effects);
}

#[test]
fn what_runs_and_is_listed_no_more_is_stopped_by_its_content() {
    let mut host = Host::new();
    host.load(1, Some(0)).unwrap();
    offer(&mut host, 2, |text| {
        text.replace("exec = [\"planner\"]", "exec = [\"helper\"]")
    });
    let digest = Digest::of(b"p");
    let step = host.engine.handle(
        clock(host.now),
        Input::Revoke {
            target: Target::Digest(digest),
            reason: "drill".into(),
            uid: 0,
        },
    );
    let held = Effect::Hold {
        zone: 1,
        running: Running::Digest(*digest.bytes()),
        grip: Grip::Kill,
    };
    assert!(step.effects.contains(&held), "{:?}", step.effects);
}

#[test]
fn a_shorter_lease_cuts_the_one_that_runs() {
    let shorter = |text: String| {
        text.replace("every = \"10s\"", "every = \"2s\"")
            .replace("lease = \"30s\"", "lease = \"5s\"")
    };
    let mut host = Host::new();
    host.load(1, Some(0)).unwrap();
    host.attest(false);
    let began = host.now;
    host.now += SECOND;
    offer(&mut host, 2, shorter);
    assert_eq!(host.kernel.lease.unwrap().0, began + 5 * SECOND);
    assert_eq!(host.engine.trust().name(), "trusted");
    assert!(host.allows(b"p"));
    host.now = began + 5 * SECOND;
    assert!(!host.allows(b"p"));
    host.feed(Input::Tick).unwrap();
    assert!(host.engine.trust().has(&Cause::QuoteLate));
}

#[test]
fn a_quote_older_than_the_new_lease_holds_nothing_up_and_leaves_time_for_another() {
    let shorter = |text: String| {
        text.replace("every = \"10s\"", "every = \"2s\"")
            .replace("lease = \"30s\"", "lease = \"5s\"")
    };
    let mut host = Host::new();
    host.load(1, Some(0)).unwrap();
    host.attest(false);
    host.now += 8 * SECOND;
    offer(&mut host, 2, shorter);
    assert_eq!(host.kernel.lease, None);
    assert_eq!(host.engine.trust().name(), "degraded");
    host.now += SECOND;
    let step = host.engine.handle(clock(host.now), Input::Tick);
    assert!(!stops(&step.effects), "it has as long as a lease");
    host.attest(false);
    assert!(host.allows(b"p"));
}

#[test]
fn a_longer_lease_waits_for_the_next_quote() {
    let mut host = Host::new();
    host.load(1, Some(0)).unwrap();
    host.attest(false);
    let before = host.kernel.lease;
    offer(&mut host, 2, |text| text.replace("\"30s\"", "\"60s\""));
    assert_eq!(host.kernel.lease, before);
}

#[test]
fn a_lease_that_ends_while_a_quote_is_under_way_asks_for_another_at_once() {
    let mut host = Host::new();
    host.load(1, Some(0)).unwrap();
    host.attest(false);
    host.restart();
    host.now = SECOND + LEASE - SECOND;
    host.load(1, None).unwrap();
    assert!(host.begin_quote());
    host.now += SECOND;
    host.feed(Input::Tick).unwrap();
    assert!(host.engine.trust().has(&Cause::QuoteLate));
    host.answer_quote(false);
    assert_eq!(
        host.engine.trust().name(),
        "degraded",
        "it speaks of before"
    );
    host.attest(false);
    assert_eq!(host.engine.trust().name(), "trusted");
}

#[test]
fn a_lease_that_ended_while_nobody_was_there_ends_in_a_stop() {
    let mut host = Host::new();
    host.load(1, Some(0)).unwrap();
    host.attest(false);
    host.now += LEASE + SECOND;
    host.restart();
    host.load(1, None).unwrap();
    let step = host.engine.handle(clock(host.now), Input::Tick);
    assert!(stops(&step.effects), "{:?}", step.effects);
}

#[test]
fn breaking_the_glass_buries_what_was_revoked_in_zones_named_since() {
    let mut host = Host::new();
    host.load(1, Some(0)).unwrap();
    let digest = Digest::of(b"stranger");
    host.feed(Input::Revoke {
        target: Target::Digest(digest),
        reason: "drill".into(),
        uid: 0,
    })
    .unwrap();
    let later = |serial: u64, zone: &str| Input::PolicyOffered {
        policy: signed_policy_with(
            serial,
            &format!("[zone.{zone}]\ncgroup = \"governed.slice/governed-{zone}.slice\"\n"),
        ),
        users: BTreeMap::new(),
        uid: Some(0),
    };
    host.feed(later(2, "later")).unwrap();
    let buried = |host: &Host, zone: &str| {
        let number = host.engine.ids().zone(zone).unwrap();
        host.kernel.tombstones.contains(&tombstone(number, digest))
    };
    assert!(!buried(&host, "later"), "it is denied for not being listed");
    let credential = host.credential(60).unwrap();
    host.feed(credential).unwrap();
    assert!(buried(&host, "later"));
    host.feed(later(3, "latest")).unwrap();
    assert!(buried(&host, "latest"), "named while the glass is broken");
}

/// The stops of a zone, or of one workload, in a step.
fn stops_of(effects: &[Effect], number: u32, of: Option<u32>) -> Vec<OnRevoke> {
    let found = effects.iter().filter_map(|effect| {
        let Effect::Stop {
            zone,
            workload,
            action,
            ..
        } = effect
        else {
            return None;
        };
        (*zone == number && *workload == of).then_some(*action)
    });
    found.collect()
}

fn offered(host: &Host, policy: Arc<VerifiedPolicy>, uid: Option<u32>) -> Vec<Effect> {
    let users = BTreeMap::new();
    let input = Input::PolicyOffered { policy, users, uid };
    let step = host.engine.handle(clock(host.now), input);
    step.answer.unwrap();
    step.effects
}

fn without_tools(text: String) -> String {
    text.replace("zone.tools", "zone.others")
        .replace("\"tools\"", "\"others\"")
}

#[test]
fn a_zone_that_goes_takes_its_workloads_with_it_as_the_stricter_of_both_said() {
    let mut host = Host::new();
    host.load(1, Some(0)).unwrap();
    let effects = offered(&host, signed_policy_edited(2, without_tools), Some(0));
    let ids = host.engine.ids();
    let (zone, helper) = (ids.zone("tools").unwrap(), ids.workload("tools", "helper"));
    // The zone says deny, the workload kill.
    assert_eq!(stops_of(&effects, zone, None), []);
    assert_eq!(stops_of(&effects, zone, helper), [OnRevoke::Kill]);
    let at = |wanted: fn(&Effect) -> bool| effects.iter().position(wanted).unwrap();
    let recorded = at(|effect| matches!(effect, Effect::Append(_)));
    let swapped = at(|effect| matches!(effect, Effect::InstallTable(_)));
    assert!(recorded < swapped && swapped < at(Effect::stops));
}

#[test]
fn a_workload_that_goes_is_stopped_in_a_zone_that_stays_unless_that_is_observed() {
    let renamed = |text: String| text.replace("workload.planner", "workload.designer");
    let mut host = Host::new();
    host.load(1, Some(0)).unwrap();
    let planner = host.engine.ids().workload("agents", "planner");
    let effects = offered(&host, signed_policy_edited(2, renamed), Some(0));
    assert_eq!(stops_of(&effects, 1, planner), [OnRevoke::Kill]);
    observe_agents(&mut host, 20);
    let effects = offered(&host, signed_policy_edited(2, renamed), Some(0));
    assert_eq!(stops_of(&effects, 1, planner), []);
    offer(&mut host, 2, renamed);
    host.now += 20 * SECOND;
    let step = host.engine.handle(clock(host.now), Input::Tick);
    assert_eq!(stops_of(&step.effects, 1, planner), [OnRevoke::Kill]);
}

#[test]
fn what_went_while_the_glass_is_broken_is_stopped_at_its_end() {
    let mut host = Host::new();
    host.load(1, Some(0)).unwrap();
    let (zone, helper) = (2, host.engine.ids().workload("tools", "helper"));
    let broken = host.credential(10).unwrap();
    host.feed(broken).unwrap();
    let effects = offered(&host, signed_policy_edited(2, without_tools), Some(0));
    assert_eq!(stops_of(&effects, zone, helper), []);
    offer(&mut host, 2, without_tools);
    host.now += 10 * SECOND;
    let step = host.engine.handle(clock(host.now), Input::Tick);
    assert_eq!(stops_of(&step.effects, zone, helper), [OnRevoke::Kill]);
}

#[test]
fn a_daemon_that_starts_stops_what_went_before_it_and_not_what_came_back() {
    let again = |host: &Host| {
        let own = host.engine.host().clone();
        let kernel = KernelView {
            gate: "adopted".into(),
            epochs: host.engine.epochs,
            generation: 1,
            tombstones: BTreeSet::new(),
            lease: None,
            revoked_all: false,
            boot_id: BOOT,
            armed: false,
            break_glass: None,
            survivors: BTreeSet::new(),
            leased: BTreeSet::new(),
        };
        let recovered = host.disk.recovered();
        let step = Engine::start(clock(host.now), own, recovered, &kernel);
        let mut other = host.clone();
        other.engine = step.next;
        other
    };
    let mut host = Host::new();
    host.load(1, Some(0)).unwrap();
    offer(&mut host, 2, without_tools);
    let (zone, helper) = (2, host.engine.ids().workload("tools", "helper"));
    let kept = signed_policy_edited(2, without_tools);
    let effects = offered(&again(&host), kept, None);
    assert_eq!(stops_of(&effects, zone, helper), [OnRevoke::Kill]);
    // Nothing could be resumed, and an operator loads what has never been in force.
    let next = signed_policy_edited(3, without_tools);
    let effects = offered(&again(&host), next, Some(0));
    assert_eq!(stops_of(&effects, zone, helper), [OnRevoke::Kill]);
    offer(&mut host, 3, |text| text);
    let effects = offered(&again(&host), signed_policy_edited(3, |text| text), None);
    assert_eq!(stops_of(&effects, zone, helper), []);
}
