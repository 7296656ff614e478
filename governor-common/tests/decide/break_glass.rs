//! Break-glass lifts denials until its end, and nothing else: no tombstone, no canary, no guard.

use governor_common::{
    Facts, Operation, Reason, Row, Verdict, decide,
    names::{ZONE_CANARY, ZONE_UNKNOWN},
    state::{LEDGER_PLACES, WORDS, Word},
};
use proptest::prelude::*;

use crate::{fixture::*, property::arbitrary};

/// Every question a program asks about work.
const QUESTIONS: &[fn(&Facts) -> decide::Decision] = &[
    decide::decide_exec,
    decide::decide_map,
    decide::decide_open,
    decide::decide_socket,
    decide::decide_connect,
    decide::decide_send,
];

fn broken(mut facts: Facts) -> Facts {
    facts.state.break_glass_until = facts.now + 1;
    facts
}

#[test]
fn the_words_do_not_lie_on_each_other() {
    let words = [
        Word::LeaseDeadline,
        Word::LeaseTrips,
        Word::LeaseEpoch,
        Word::EpochAttested,
        Word::EpochPolicy,
        Word::RevokedAll,
        Word::BreakGlassUntil,
    ];
    let heads = LEDGER_PLACES.iter().flat_map(|first| *first..*first + 5);
    let mut all: Vec<u32> = words.iter().map(|word| *word as u32).chain(heads).collect();
    assert!(all.iter().all(|index| *index < WORDS));
    let count = all.len();
    all.sort_unstable();
    all.dedup();
    assert_eq!(all.len(), count);
}

#[test]
fn without_any_policy_an_unknown_program_runs_until_the_end_and_not_after() {
    let unknown = Facts {
        operation: Operation::Execute as u32,
        measured: good_exec().measured,
        digest: [9; 32],
        now: NOW,
        zone: ZONE_UNKNOWN,
        ..Facts::default()
    };
    let denied = (Verdict::Deny, Reason::UnknownZone);
    assert_eq!(decide::decide_exec(&unknown), denied);
    let mut facts = broken(unknown);
    let lifted = (Verdict::WouldDeny, Reason::UnknownZone);
    assert_eq!(decide::decide_exec(&facts), lifted);
    facts.now = facts.state.break_glass_until;
    assert_eq!(decide::decide_exec(&facts), denied, "the end is the end");
}

#[test]
fn revoked_content_stays_revoked_where_no_policy_names_the_zone_too() {
    for (tombstone, starter_tombstone) in [(1, 0), (0, 1)] {
        let facts = broken(Facts {
            tombstone,
            starter_tombstone,
            zone_mode: 0,
            row: Row::default(),
            ..good_exec()
        });
        let revoked = (Verdict::Deny, Reason::Revoked);
        assert_eq!(decide::decide_exec(&facts), revoked);
        let mapping = Facts {
            label: good_connect().label,
            operation: Operation::Map as u32,
            ..facts
        };
        assert_eq!(decide::decide_map(&mapping), revoked);
    }
    let facts = broken(Facts {
        tombstone: 1,
        zone_mode: 0,
        ..good_connect()
    });
    let revoked = (Verdict::Deny, Reason::Revoked);
    assert_eq!(decide::decide_connect(&facts), revoked);
    assert_eq!(decide::decide_send(&facts), revoked);
    assert_eq!(decide::decide_fork(&facts), revoked);
}

#[test]
fn the_canary_is_refused_always_and_the_gate_is_not_for_strangers() {
    let canary = broken(Facts {
        zone: ZONE_CANARY,
        zone_mode: 0,
        ..good_exec()
    });
    assert_eq!(decide::decide_exec(&canary).0, Verdict::Deny);
    let stranger = broken(Facts::default());
    let guarded = (Verdict::Deny, Reason::Guarded);
    assert_eq!(decide::decide_guard(&stranger), guarded);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(20_000))]

    /// What was allowed is allowed for the same reason; what was denied is denied for the same
    /// reason, or recorded as such; and once it is over nothing differs at all.
    #[test]
    fn it_lifts_denials_and_changes_nothing_else(
        f in arbitrary(),
        left in 0u64..3,
        anywhere in 0usize..4,
    ) {
        let zone = [f.zone, ZONE_UNKNOWN, ZONE_CANARY, f.zone][anywhere];
        let plain = Facts { zone, ..f };
        let mut facts = plain;
        facts.state.break_glass_until = plain.now - 1 + left;
        let running = facts.state.break_glass_until > facts.now;
        for decide in QUESTIONS {
            let (before, reason) = decide(&plain);
            let (after, same) = decide(&facts);
            prop_assert_eq!(reason, same);
            let spared = matches!(reason, Reason::Revoked | Reason::Guarded)
                || zone == ZONE_CANARY;
            let expected = match before {
                Verdict::Deny if running && !spared => Verdict::WouldDeny,
                Verdict::Deny | Verdict::Allow | Verdict::WouldDeny => before,
            };
            prop_assert_eq!(after, expected);
        }
    }
}
