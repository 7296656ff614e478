//! Break-glass under random inputs and failures.

use governor_common::{Signal, names::ZONE_UNKNOWN};
use proptest::prelude::*;

use super::{
    crash::nobody,
    glass::glass_try,
    model::{Host, *},
    trust::unlock,
};
use crate::engine::*;

/// Sequences of moves tried; each makes some signatures.
const SEQUENCES: u32 = 150;

#[derive(Clone, Debug)]
enum Move {
    Wait(u64),
    Tick,
    Load(u64),
    Quote(bool),
    Break(u64, u8),
    Mend,
    Alarm,
    Unlock,
    RevokeAll,
    Restart,
}

fn moves() -> impl Strategy<Value = Vec<Move>> {
    let step = prop_oneof![
        3 => (1u64..20).prop_map(Move::Wait),
        4 => Just(Move::Tick),
        2 => (1u64..5).prop_map(Move::Load),
        3 => proptest::bool::weighted(0.2).prop_map(Move::Quote),
        4 => (1u64..60, prop_oneof![3 => Just(GLASS_KEY), 1 => Just(7)])
            .prop_map(|(seconds, by)| Move::Break(seconds, by)),
        1 => Just(Move::Mend),
        1 => Just(Move::Alarm),
        1 => Just(Move::Unlock),
        1 => Just(Move::RevokeAll),
        1 => Just(Move::Restart),
    ];
    proptest::collection::vec(step, 1..40)
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(SEQUENCES) })]

    /// Whatever is done and whatever fails: denials are lifted only by a credential, and not for a
    /// moment longer than it said; in the end nothing of it is left.
    #[test]
    fn denials_are_never_lifted_longer_than_a_credential_said(
        moves in moves(),
        fail in proptest::collection::btree_set(0usize..160, 0..6),
    ) {
        let mut host = Host::new();
        host.fail = fail;
        let mut granted = 0;
        for step in moves {
            match step {
                Move::Wait(seconds) => host.now += seconds * SECOND,
                Move::Tick => host.tick(),
                Move::Load(serial) => drop(host.load(serial, Some(0))),
                Move::Quote(changed) => {
                    host.begin_quote();
                    host.answer_quote(changed);
                }
                Move::Break(seconds, by) => {
                    if let Ok(challenge) = host.ask(seconds) {
                        let free = host.engine.broken_glass().is_none();
                        let done = host.feed(glass_try(by, BREAK_GLASS, &challenge, seconds));
                        prop_assert_eq!(done.is_ok(), by == GLASS_KEY);
                        prop_assert!(free, "a challenge while it runs");
                        if done.is_ok() {
                            granted = host.now + seconds * SECOND;
                        }
                    }
                }
                Move::Mend => drop(host.mend()),
                Move::Alarm => {
                    let seen = BTreeMap::from([(Signal::PinTouched, 1)]);
                    drop(host.feed(Input::Signals(seen)));
                }
                Move::Unlock => drop(unlock(&mut host)),
                Move::RevokeAll => drop(host.feed(Input::Revoke {
                    target: Target::All,
                    reason: "drill".into(),
                    uid: 0,
                })),
                Move::Restart => host.restart(),
            }
            if host.glass_is_broken() {
                prop_assert!(host.now < granted, "longer than anybody signed");
                host.copies.insert(nobody(ZONE_UNKNOWN));
            }
        }
        host.fail.clear();
        host.now = host.now.max(granted);
        for _ in 0..6 {
            host.now += SECOND;
            host.tick();
        }
        prop_assert_eq!(host.kernel.glass, None);
        prop_assert!(host.copies.is_empty(), "it runs on: {:?}", host.copies);
        prop_assert!(!host.engine.trust().has(&Cause::GlassBroken));
    }
}
