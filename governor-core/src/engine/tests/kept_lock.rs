//! A lock that no record could be written of.

use governor_common::Signal;
use proptest::prelude::*;

use super::{
    super::*,
    model::{CASES, Host, Kernel, SECOND, clock},
    order::check_order,
    trust::{locks, trusted, unlock},
};
use crate::lineage::{Broken, Flaw, Head};

impl Host {
    /// What another daemon reads from the disk.
    pub(super) fn found(&self) -> Recovered {
        let gone = |broken: &Broken| broken.flaw == Flaw::Missing && !self.begun;
        let mut recovered = match self.broken.as_ref().is_some_and(gone) {
            true => Recovered::default(),
            false => self.disk.recovered(),
        };
        recovered.broken.clone_from(&self.broken);
        recovered.locked.extend(self.kept_lock.iter().cloned());
        recovered
    }

    /// What is on the disk is all that another daemon finds.
    fn reboot(&mut self) {
        self.kernel = Kernel::default();
        self.restart_with(self.found());
    }

    fn is_locked(&self) -> bool {
        matches!(self.engine.trust(), Trust::Locked(_))
    }

    fn alarm(&mut self, signal: Signal) {
        let seen = BTreeMap::from([(signal, 1)]);
        self.feed(Input::Signals(seen)).unwrap();
    }
}

#[test]
fn it_outlives_the_boot_with_its_causes() {
    for (input, cause) in locks() {
        let mut host = trusted();
        host.full = true;
        host.feed(input).unwrap();
        assert!(
            host.disk.recovered().locked.is_empty(),
            "nothing is written"
        );
        let details = host.engine.trust().causes();
        host.reboot();
        assert!(host.is_locked() && host.engine.trust().has(&cause));
        assert_eq!(
            host.engine.trust().causes().get(&cause),
            details.get(&cause)
        );
        host.reboot();
        assert!(host.is_locked(), "time and again");
    }
}

#[test]
fn what_it_takes_is_taken_before_it_is_kept() {
    let mut host = trusted();
    host.full = true;
    host.alarm(Signal::MapTouched);
    assert!(host.kernel.lease.is_none());
    let kinds = vec![records::trust_change("trusted", host.engine.trust())];
    let failed = Input::EffectFailed {
        effect: Box::new(Effect::Append(kinds)),
        error: "no room".into(),
    };
    host.engine.kept_lock.clear();
    let step = host.engine.handle(clock(host.now), failed);
    check_order(&step.effects);
    let kept = ["tampered:map-touched: 1 times".to_owned()];
    assert_eq!(step.effects, [Effect::KeepLock(kept.to_vec())]);
}

#[test]
fn a_lock_that_is_written_down_is_kept_nowhere_else() {
    let mut host = trusted();
    host.alarm(Signal::MapTouched);
    assert!(host.is_locked() && host.kept_lock.is_empty());
}

#[test]
fn a_lock_that_could_not_be_kept_is_tried_again_and_one_that_was_is_not() {
    let mut host = trusted();
    host.full = true;
    host.fail = (host.performed..host.performed + 40).collect();
    host.alarm(Signal::MapTouched);
    assert!(host.kept_lock.is_empty());
    let step = host.engine.handle(
        clock(host.now),
        Input::EffectFailed {
            effect: Box::new(Effect::KeepLock(Vec::new())),
            error: "no room".into(),
        },
    );
    host.engine = step.next;
    host.fail.clear();
    host.feed(Input::Tick).unwrap();
    assert_eq!(host.kept_lock, ["tampered:map-touched: 1 times"]);
    let step = host.engine.handle(clock(host.now), Input::Tick);
    let kept = |effect: &Effect| matches!(effect, Effect::KeepLock(_));
    assert!(!step.effects.iter().any(kept), "it is kept");
    host.feed(Input::Tick).unwrap();
    host.alarm(Signal::PinTouched);
    assert_eq!(host.kept_lock.len(), 2, "what comes later is kept too");
}

#[test]
fn it_ends_when_its_end_is_written_and_not_before() {
    let mut host = trusted();
    host.full = true;
    host.alarm(Signal::MapTouched);
    drop(unlock(&mut host));
    assert!(host.is_locked() && !host.kept_lock.is_empty());
    host.full = false;
    unlock(&mut host).unwrap();
    assert!(host.kept_lock.is_empty());
    host.reboot();
    assert!(!host.is_locked());
}

#[test]
fn one_whose_end_is_written_and_cannot_be_forgotten_stands_in_the_ledger_too() {
    let mut host = trusted();
    host.alarm(Signal::MapTouched);
    let (now, input) = (clock(host.now), host.unlocking(0));
    let step = host.engine.handle(now, input);
    check_order(&step.effects);
    let forgets = |effect: &Effect| matches!(effect, Effect::ForgetLock);
    let at = step.effects.iter().position(forgets).unwrap();
    host.fail = BTreeSet::from([host.performed + at]);
    drop(unlock(&mut host));
    assert!(host.is_locked());
    host.reboot();
    assert!(host.is_locked(), "whoever unlocked was told that it failed");
}

#[test]
fn what_the_next_start_finds_by_itself_is_not_kept() {
    let mut host = trusted();
    let unread = || Broken {
        flaw: Flaw::Unreadable,
        detail: "input/output error".into(),
        last: Head::EMPTY,
    };
    host.full = true;
    host.restart_with(Recovered {
        broken: Some(unread()),
        locked: vec!["lock-unreadable: input/output error".into()],
        ..Recovered::default()
    });
    host.feed(Input::LedgerBroken(unread())).unwrap();
    assert!(host.engine.trust().has(&Cause::LockUnreadable));
    assert!(host.is_locked() && host.kept_lock.is_empty());
    host.alarm(Signal::MapTouched);
    assert_eq!(host.kept_lock, ["tampered:map-touched: 1 times"]);
}

#[derive(Clone, Debug)]
enum Move {
    Alarm(Signal),
    Full(bool),
    Tick,
    Load(u64),
    Unlock,
    Reboot,
}

fn moves() -> impl Strategy<Value = Vec<Move>> {
    let signals = proptest::sample::select(Signal::ALL.to_vec());
    let step = prop_oneof![
        3 => signals.prop_map(Move::Alarm),
        3 => any::<bool>().prop_map(Move::Full),
        2 => Just(Move::Tick),
        1 => (1u64..5).prop_map(Move::Load),
        2 => Just(Move::Unlock),
        2 => Just(Move::Reboot),
    ];
    proptest::collection::vec(step, 1..30)
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(CASES) })]

    #[test]
    fn no_reboot_begins_or_ends_a_lock(moves in moves()) {
        let mut host = Host::new();
        for step in moves {
            host.now += SECOND;
            match step {
                Move::Alarm(signal) => host.alarm(signal),
                Move::Full(full) => host.full = full,
                Move::Tick => drop(host.feed(Input::Tick)),
                Move::Load(serial) => drop(host.load(serial, Some(0))),
                Move::Unlock => drop(unlock(&mut host)),
                Move::Reboot => {
                    let locked = host.is_locked();
                    host.reboot();
                    prop_assert_eq!(host.is_locked(), locked);
                }
            }
        }
    }
}
