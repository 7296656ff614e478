//! A start at which the kept policy could not be put in force: what the last one said still holds of what
//! runs.

use governor_common::Signal;
use proptest::prelude::*;

use super::{
    super::*,
    crash::Copied,
    held::Mark,
    model::{CASES, Host, LEASE, SECOND},
    policies::{policy_of, signed_policy_edited},
    trust::unlock,
};

/// Running copies in both zones would be killed; only one of the zones needs attestation.
pub(super) fn policy() -> Arc<VerifiedPolicy> {
    static MADE: std::sync::OnceLock<Arc<VerifiedPolicy>> = std::sync::OnceLock::new();
    let made = MADE.get_or_init(|| {
        signed_policy_edited(1, |text| {
            text.replace("on_revoke = \"deny\"", "on_revoke = \"kill\"")
        })
    });
    Arc::clone(made)
}

impl Host {
    pub(super) fn offer_this(&mut self, policy: Arc<VerifiedPolicy>, uid: Option<u32>) {
        let users = BTreeMap::new();
        drop(self.feed(Input::PolicyOffered { policy, users, uid }));
    }

    /// Another daemon, which has what the disk says and cannot put the kept policy in force.
    pub(super) fn restart_without(&mut self, recovered: Recovered) {
        self.restart_with(recovered);
        self.outstanding = None;
        self.wanted = None;
        self.feed(Input::NoPolicyKept).unwrap();
        assert!(self.engine.policy().is_none());
    }

    pub(super) fn runs_in(&self, zone: &str) -> bool {
        let number = self.engine.ids().zone(zone);
        self.copies.iter().any(|copy| Some(copy.zone) == number)
    }

    fn tick_at(&mut self, now: u64) {
        self.now = now;
        self.feed(Input::Tick).unwrap();
    }
}

/// A trusted host where both zones have something running.
pub(super) fn running_under(policy: Arc<VerifiedPolicy>) -> Host {
    let mut host = Host::new();
    host.offer_this(policy, Some(0));
    host.attest(false);
    host.populate();
    assert!(host.runs_in("agents") && host.runs_in("tools"));
    host
}

pub(super) fn running() -> Host {
    running_under(policy())
}

#[test]
fn a_lease_that_ends_stops_what_runs_on_it_and_nothing_else() {
    let mut host = running();
    host.restart_with(host.found());
    host.full = true;
    host.offer_this(policy(), None);
    host.feed(Input::NoPolicyKept).unwrap();
    assert!(host.engine.policy().is_none(), "its record failed");
    host.tick_at(SECOND + LEASE - 1);
    assert!(host.runs_in("agents"), "the lease holds");
    host.tick_at(SECOND + LEASE);
    assert!(!host.runs_in("agents"));
    assert!(host.engine.trust().has(&Cause::QuoteLate));
    assert!(host.runs_in("tools"), "it needs no lease");
}

#[test]
fn what_runs_on_no_lease_at_all_is_stopped_at_once() {
    let mut host = running();
    host.kernel.lease = None;
    host.restart_without(host.found());
    host.feed(Input::Tick).unwrap();
    assert!(!host.runs_in("agents") && host.runs_in("tools"));
}

#[test]
fn a_host_of_which_nothing_is_known_to_need_a_lease_lost_none() {
    let mut host = Host::new();
    host.restart_without(host.found());
    host.feed(Input::Tick).unwrap();
    assert_eq!(host.engine.trust().name(), "unattested");
}

#[test]
fn a_lock_stops_what_needed_trust_once() {
    let mut host = running();
    let mut recovered = host.found();
    recovered
        .locked
        .push("tampered:map-touched: 1 times".into());
    host.restart_without(recovered);
    host.feed(Input::Tick).unwrap();
    assert!(!host.runs_in("agents") && host.runs_in("tools"));
    let performed = host.performed;
    host.feed(Input::Tick).unwrap();
    assert_eq!(host.performed, performed);
}

#[test]
fn a_lock_that_comes_then_does_too() {
    let mut host = running();
    host.restart_without(host.found());
    host.feed(Input::Signals(BTreeMap::from([(Signal::MapTouched, 1)])))
        .unwrap();
    assert!(!host.runs_in("agents") && host.runs_in("tools"));
}

#[test]
fn what_an_earlier_version_did_not_write_the_table_in_force_says() {
    let mut host = running();
    let mut recovered = host.found();
    recovered.leased.clear();
    recovered.locked.push("tampered:map-touched".into());
    host.restart_without(recovered);
    host.feed(Input::Tick).unwrap();
    assert!(!host.runs_in("agents") && host.runs_in("tools"));
}

/// A ledger that is gone locks, and takes the names with it.
#[test]
fn what_needed_a_lease_is_stopped_under_a_name_that_is_lost() {
    let mut host = running();
    let zone = host.engine.ids().zone("agents").unwrap();
    let others = |host: &Host| host.copies.iter().filter(|copy| copy.zone != zone).count();
    let before = others(&host);
    let mut recovered = Recovered::default();
    recovered.locked.push("ledger-missing".into());
    host.restart_without(recovered);
    assert!(host.copies.iter().all(|copy| copy.zone != zone));
    assert_eq!(others(&host), before, "what needs no lease was stopped");
}

/// Break-glass lets it go on until it ends, and no longer.
#[test]
fn what_needed_a_lease_under_a_name_that_is_lost_is_stopped_when_the_glass_is_whole() {
    let mut host = running();
    let zone = host.engine.ids().zone("agents").unwrap();
    let runs = |host: &Host| host.copies.iter().any(|copy| copy.zone == zone);
    host.kernel.glass = Some(host.now + 60 * SECOND);
    let mut recovered = Recovered::default();
    recovered.locked.push("ledger-missing".into());
    host.restart_without(recovered);
    host.tick_at(host.now + 59 * SECOND);
    assert!(runs(&host));
    host.tick_at(host.now + 61 * SECOND);
    assert!(!runs(&host));
}

#[test]
fn what_needed_a_lease_is_frozen_where_nobody_ever_said_what_becomes_of_it() {
    let mut host = running();
    let mut recovered = host.found();
    recovered.on_revoke.clear();
    host.kernel.lease = None;
    host.restart_without(recovered);
    host.feed(Input::Tick).unwrap();
    assert!(!host.runs_in("agents") && host.runs_in("tools"));
    assert!(host.frozen.values().all(|mark| *mark == Mark::Frozen) && !host.frozen.is_empty());
}

/// A table that grants nothing comes before anything is written of them.
#[test]
fn what_the_table_said_is_known_to_every_daemon_after_it() {
    for (lease, restarts) in [(false, 2), (true, 1), (true, 2), (true, 3)] {
        let mut host = running();
        let mut recovered = host.found();
        recovered.leased.clear();
        if !lease {
            host.kernel.lease = None;
        }
        for _ in 0..restarts {
            host.restart_without(recovered.clone());
        }
        host.now += LEASE;
        host.wait_in_vain();
        assert!(!host.runs_in("agents") && host.runs_in("tools"));
    }
}

#[test]
fn what_runs_under_a_lost_name_is_stopped_at_the_end_of_the_glass_by_whoever_is_there() {
    let mut host = running();
    let zone = host.engine.ids().zone("agents").unwrap();
    let runs = |host: &Host| host.copies.iter().any(|copy| copy.zone == zone);
    let end = host.now + 60 * SECOND;
    host.kernel.glass = Some(end);
    let mut recovered = Recovered::default();
    recovered.locked.push("ledger-missing".into());
    for _ in 0..2 {
        host.restart_without(recovered.clone());
        host.feed(Input::Tick).unwrap();
    }
    // Somebody unlocks, which begins a ledger without the names.
    let unlock = host.unlocking(0);
    host.feed(unlock).unwrap();
    host.disk = super::disk::Disk::default();
    for loads in [false, false, true] {
        host.restart_without(host.found());
        if loads {
            host.engine.ids.taken.zone(zone);
            host.load(1, Some(0)).unwrap();
            host.restart_with(host.found());
        }
        host.feed(Input::Tick).unwrap();
        let mut over = host.clone();
        assert!(runs(&over));
        over.tick_at(end);
        over.tick_at(end + SECOND);
        assert!(!runs(&over), "a policy came: {loads}");
    }
}

#[test]
fn a_leased_zone_of_which_nobody_said_anything_and_that_a_policy_drops_is_stopped() {
    let mut host = running();
    let agents = host.engine.ids().zone("agents").unwrap();
    let mut recovered = host.found();
    recovered.on_revoke.clear();
    host.restart_without(recovered);
    let other = signed_policy_edited(2, |text| {
        text.replace("zone.agents", "zone.others")
            .replace("\"agents\"", "\"others\"")
    });
    host.offer_this(other, Some(0));
    host.wait_in_vain();
    assert!(host.copies.iter().all(|copy| copy.zone != agents));
}

/// Everything was revoked, and the ledger goes under a table that grants nothing.
#[test]
fn what_needed_a_lease_is_known_where_everything_is_revoked() {
    let mut host = running_under(policy_of(1));
    let agents = host.engine.ids().zone("agents").unwrap();
    let target = Target::All;
    let (reason, uid) = ("drill".to_owned(), 0);
    host.feed(Input::Revoke {
        target,
        reason,
        uid,
    })
    .unwrap();
    host.restart_with(host.found());
    host.offer_this(policy_of(1), None);
    let rows = host.kernel.table.iter().flat_map(|table| &table.rows);
    assert!(leased(rows).contains(&agents));
}

#[test]
fn a_zone_that_is_observed_for_a_minute_needs_a_lease_after_it() {
    let mut host = running();
    let agents = host.engine.ids().zone("agents").unwrap();
    host.feed(Input::Observe {
        zone: "agents".into(),
        span: Span::seconds(60),
        uid: 0,
    })
    .unwrap();
    // Also where the policy ends before that.
    let mut ends = host.clone();
    let rows = ends
        .kernel
        .table
        .iter_mut()
        .flat_map(|table| &mut table.rows);
    rows.for_each(|row| row.not_after = row.not_after.min(30 * SECOND));
    for mut host in [host, ends] {
        let mut recovered = Recovered::default();
        recovered.locked.push("ledger-missing".into());
        host.restart_without(recovered);
        assert!(host.copies.iter().all(|copy| copy.zone != agents));
    }
}

#[test]
fn of_the_host_itself_nothing_is_said_to_need_a_lease() {
    let host = running();
    let row = host.kernel.table.iter().flat_map(|table| &table.rows);
    let row = row.copied().find(|row| leased([row]).len() == 1).unwrap();
    let mut of_host = row;
    of_host.key.zone = governor_common::names::ZONE_HOST;
    assert!(leased([&of_host]).is_empty());
}

#[test]
fn what_was_observed_is_left_alone_until_a_policy_enforces_it() {
    let mut host = running_under(signed_policy_edited(1, |text| {
        text.replace("[zone.agents]\n", "[zone.agents]\nmode = \"observe\"\n")
    }));
    host.kernel.lease = None;
    host.restart_without(host.found());
    host.feed(Input::Signals(BTreeMap::from([(Signal::MapTouched, 1)])))
        .unwrap();
    assert!(host.runs_in("agents"), "it was never held back");
    host.offer_this(policy_of(2), Some(0));
    assert!(!host.runs_in("agents"));
}

#[test]
fn everything_revoked_stops_everything() {
    let revoke = || Input::Revoke {
        target: Target::All,
        reason: "drill".into(),
        uid: 0,
    };
    let mut host = running();
    host.restart_without(host.found());
    host.feed(revoke()).unwrap();
    assert!(host.copies.is_empty());
    // The same, by a daemon that was killed after its first effect.
    let mut host = running();
    host.kernel.revoked_all = true;
    host.restart_without(host.found());
    assert!(host.copies.is_empty());
}

#[test]
fn what_was_revoked_and_not_stopped_is_stopped() {
    let mut host = running();
    let digest = *Digest::of(b"h").bytes();
    let zone = host.engine.ids().zone("tools").unwrap();
    host.kernel.tombstones.insert(TombstoneKey {
        zone,
        reserved: 0,
        digest,
    });
    host.restart_without(host.found());
    assert!(!host.runs_in("tools") && host.runs_in("agents"));
}

fn revoke(content: &[u8]) -> Input {
    Input::Revoke {
        target: Target::Digest(Digest::of(content)),
        reason: "drill".into(),
        uid: 0,
    }
}

/// The holds of a step, by zone and grip.
fn holds(host: &Host, input: Input) -> Vec<(u32, Grip)> {
    let effects = host.engine.handle(host.clock(), input).effects;
    let holds = effects.iter().filter_map(|effect| {
        let Effect::Hold { zone, grip, .. } = effect else {
            return None;
        };
        Some((*zone, *grip))
    });
    holds.collect()
}

#[test]
fn a_digest_that_is_revoked_is_stopped_as_the_last_policy_said() {
    let mut host = running();
    host.restart_without(host.found());
    host.feed(revoke(b"h")).unwrap();
    assert!(!host.runs_in("tools") && host.runs_in("agents"));
    // It said that running copies go on.
    let mut host = running_under(policy_of(1));
    host.restart_without(host.found());
    let agents = host.engine.ids().zone("agents").unwrap();
    assert_eq!(holds(&host, revoke(b"h")), [(agents, Grip::Kill)]);
    host.feed(revoke(b"h")).unwrap();
    assert!(host.runs_in("tools"));
}

#[test]
fn a_digest_that_is_revoked_is_paused_where_nobody_ever_said_what_becomes_of_it() {
    let mut host = running();
    let mut recovered = host.found();
    recovered.on_revoke.clear();
    let zones: Vec<u32> = recovered.zones.values().copied().collect();
    host.restart_without(recovered.clone());
    let paused: Vec<_> = zones.iter().map(|zone| (*zone, Grip::Pause)).collect();
    assert_eq!(holds(&host, revoke(b"h")), paused);
    // The same, by a daemon that was killed after its tombstones.
    let buried = zones
        .iter()
        .map(|zone| super::super::operator::tombstone(*zone, Digest::of(b"h")));
    host.kernel.tombstones.extend(buried);
    host.restart_without(recovered);
    assert!(!host.runs_in("tools") && host.runs_in("agents"));
}

#[derive(Clone, Debug)]
enum Move {
    Wait(u64),
    Tick,
    Load,
    Attest,
    Full(bool),
    Alarm,
    Unlock,
    Restart { resumes: bool },
}

fn moves() -> impl Strategy<Value = Vec<Move>> {
    let step = prop_oneof![
        2 => (1u64..40).prop_map(Move::Wait),
        3 => Just(Move::Tick),
        2 => Just(Move::Load),
        4 => Just(Move::Attest),
        2 => any::<bool>().prop_map(Move::Full),
        1 => Just(Move::Alarm),
        1 => Just(Move::Unlock),
        3 => any::<bool>().prop_map(|resumes| Move::Restart { resumes }),
    ];
    proptest::collection::vec(step, 1..30)
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(CASES) })]

    #[test]
    fn whatever_happens_nothing_runs_on_trust_that_nobody_renews(moves in moves()) {
        let mut host = Host::new();
        let mut others: BTreeSet<Copied> = BTreeSet::new();
        for step in moves {
            match step {
                Move::Wait(seconds) => host.now += seconds * SECOND,
                Move::Tick => drop(host.feed(Input::Tick)),
                Move::Load => host.offer_this(policy(), Some(0)),
                Move::Attest => {
                    if host.begin_quote() {
                        host.answer_quote(false);
                    }
                }
                Move::Full(full) => host.full = full,
                Move::Alarm => {
                    let seen = BTreeMap::from([(Signal::MapTouched, 1)]);
                    drop(host.feed(Input::Signals(seen)));
                }
                Move::Unlock => drop(unlock(&mut host)),
                Move::Restart { resumes } => {
                    host.restart_with(host.found());
                    host.outstanding = None;
                    host.wanted = None;
                    if resumes && host.engine.highest().is_some() {
                        host.offer_this(policy(), None);
                    }
                    if host.engine.policy().is_none() {
                        host.feed(Input::NoPolicyKept).unwrap();
                    }
                }
            }
            host.populate();
            let tools = host.engine.ids().zone("tools");
            others.extend(host.copies.iter().filter(|copy| Some(copy.zone) == tools));
            let mut left = host.clone();
            left.wait_in_vain();
            prop_assert!(!left.runs_in("agents"), "goes on, and nobody quotes");
            prop_assert!(others.is_subset(&left.copies), "what needs no lease was stopped");
        }
    }
}
