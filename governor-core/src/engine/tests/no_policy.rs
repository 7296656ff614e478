//! A start at which the kept policy could not be put in force: what the last one said still holds of what
//! runs.

use governor_common::Signal;
use proptest::prelude::*;

use super::{
    super::*,
    crash::Copied,
    model::{CASES, Host, LEASE, SECOND},
    policies::{policy_of, signed_policy_edited},
    trust::unlock,
};

/// Running copies in both zones would be killed; only one of the zones needs attestation.
fn policy() -> Arc<VerifiedPolicy> {
    static MADE: std::sync::OnceLock<Arc<VerifiedPolicy>> = std::sync::OnceLock::new();
    let made = MADE.get_or_init(|| {
        signed_policy_edited(1, |text| {
            text.replace("on_revoke = \"deny\"", "on_revoke = \"kill\"")
        })
    });
    Arc::clone(made)
}

impl Host {
    fn offer_this(&mut self, policy: Arc<VerifiedPolicy>, uid: Option<u32>) {
        let users = BTreeMap::new();
        drop(self.feed(Input::PolicyOffered { policy, users, uid }));
    }

    /// Another daemon, which has what the disk says and cannot put the kept policy in force.
    fn restart_without(&mut self, recovered: Recovered) {
        self.restart_with(recovered);
        self.outstanding = None;
        self.wanted = None;
        self.feed(Input::NoPolicyKept).unwrap();
        assert!(self.engine.policy().is_none());
    }

    fn runs_in(&self, zone: &str) -> bool {
        let number = self.engine.ids().zone(zone);
        self.copies.iter().any(|copy| Some(copy.zone) == number)
    }

    fn tick_at(&mut self, now: u64) {
        self.now = now;
        self.feed(Input::Tick).unwrap();
    }
}

/// A trusted host where both zones have something running.
fn running_under(policy: Arc<VerifiedPolicy>) -> Host {
    let mut host = Host::new();
    host.offer_this(policy, Some(0));
    host.attest(false);
    host.populate();
    assert!(host.runs_in("agents") && host.runs_in("tools"));
    host
}

fn running() -> Host {
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
fn what_an_earlier_version_wrote_stops_nothing_until_a_policy_says_what() {
    for uid in [None, Some(0)] {
        let mut host = running();
        let mut recovered = host.found();
        recovered.leased.clear();
        recovered.locked.push("tampered:map-touched".into());
        host.restart_without(recovered);
        host.tick_at(SECOND + LEASE);
        assert!(host.runs_in("agents") && host.runs_in("tools"));
        host.offer_this(policy(), uid);
        assert!(!host.runs_in("agents") && host.runs_in("tools"));
    }
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
