//! What is over when the wall clock says so, however late the clock was when the table was made.

use proptest::prelude::*;

use super::{
    crash::walk,
    crash_policies::menu,
    model::{Host, *},
    order::check_order,
    policies::signed_policy_edited,
    trust::unlock,
};
use crate::{engine::*, time::WallTime};

/// The moments of the policy, in seconds after the clock of the model began.
const POLICY_ENDS: i64 = 30_297_600;
const HELPER_ENDS: i64 = 3_600;
const PLANNER_ENDS: i64 = 7_200;
const PLANNER_BEGINS: i64 = 5_400;

/// Workloads that end before their policy, one of each class.
fn ending(serial: u64) -> Arc<VerifiedPolicy> {
    signed_policy_edited(serial, |text| {
        let ends = |at: i64| {
            let from = WallTime(WALL - 60);
            let until = WallTime(WALL + at);
            format!("valid = {{ from = {from}, until = {until} }}\n")
        };
        text.replace(
            "[workload.helper]\n",
            &format!("[workload.helper]\n{}", ends(HELPER_ENDS)),
        )
        .replace(
            "[workload.planner]\n",
            &format!("[workload.planner]\n{}", ends(PLANNER_ENDS)),
        )
    })
}

fn running(policy: Arc<VerifiedPolicy>) -> Host {
    let mut host = Host::new();
    offer(&mut host, policy);
    host.attest(false);
    host
}

fn offer(host: &mut Host, policy: Arc<VerifiedPolicy>) {
    let (users, uid) = (BTreeMap::new(), Some(0));
    host.feed(Input::PolicyOffered { policy, users, uid })
        .unwrap();
}

fn tables(host: &Host) -> usize {
    let kinds = host.disk.records().into_iter();
    kinds.filter(|kind| matches!(kind, Kind::Grant(_))).count()
}

#[test]
fn a_policy_that_is_over_by_a_clock_set_forward_is_over() {
    let mut host = running(super::policies::policy_of(1));
    assert!(host.allows(b"h") && host.allows(b"p"));
    host.set = POLICY_ENDS;
    host.feed(Input::Tick).unwrap();
    assert!(host.engine.trust().has(&Cause::PolicyExpired));
    assert!(!host.allows(b"h") && !host.allows(b"p"));
}

#[test]
fn a_workload_that_is_over_by_a_clock_set_forward_is_over_and_others_go_on() {
    let mut host = running(policy());
    assert!(host.allows(b"h") && host.allows(b"p"));
    host.set = HELPER_ENDS;
    host.feed(Input::Tick).unwrap();
    assert!(!host.allows(b"h") && host.allows(b"p"));
    host.set = PLANNER_ENDS;
    host.feed(Input::Tick).unwrap();
    assert!(!host.allows(b"p"));
    assert_eq!(host.engine.trust().name(), "trusted");
}

#[test]
fn what_will_be_over_sooner_is_so_without_a_daemon_and_also_when_the_clock_is_set_back() {
    let mut host = running(policy());
    host.set = HELPER_ENDS - 100;
    host.feed(Input::Tick).unwrap();
    let made = tables(&host);
    for (set, ticks) in [(HELPER_ENDS - 150, 2), (HELPER_ENDS - 100, 2)] {
        host.set = set;
        for _ in 0..ticks {
            host.now += SECOND;
            host.feed(Input::Tick).unwrap();
        }
    }
    assert_eq!(tables(&host), made, "nothing ends otherwise than it says");
    host.now += 94 * SECOND;
    assert!(host.allows(b"h"));
    host.now += 2 * SECOND;
    assert!(!host.allows(b"h"), "nobody needs to be there for it");
}

#[test]
fn what_was_reckoned_by_a_clock_that_was_wrong_is_made_anew_when_another_is_taken() {
    let ends = |host: &Host| {
        let rows = host.kernel.table.iter().flat_map(|table| &table.rows);
        rows.map(|row| row.not_after).max().unwrap()
    };
    let mut host = running(policy());
    let right = ends(&host);
    host.set = PLANNER_ENDS - 100;
    host.feed(Input::Tick).unwrap();
    assert!(ends(&host) < right);
    host.set = 0;
    host.feed(Input::Tick).unwrap();
    assert!(host.engine.trust().has(&Cause::ClockStepped));
    unlock(&mut host).unwrap();
    assert_eq!(ends(&host), right);
    host.attest(false);
    host.now += 200 * SECOND;
    assert!(host.allows(b"h"), "it is over by a clock that nobody has");
}

#[test]
fn nothing_begins_sooner_for_a_clock_set_forward() {
    let mut host = running(signed_policy_edited(1, |text| {
        let from = WallTime(WALL + PLANNER_BEGINS);
        let until = WallTime(WALL + PLANNER_ENDS);
        let valid = format!("[workload.planner]\nvalid = {{ from = {from}, until = {until} }}\n");
        text.replace("[workload.planner]\n", &valid)
    }));
    assert!(!host.allows(b"p"));
    for set in [10, 100, PLANNER_BEGINS + 10] {
        host.set = set;
        host.feed(Input::Tick).unwrap();
        assert!(!host.allows(b"p"), "{set}");
    }
    offer(&mut host, ending(2));
    assert!(host.allows(b"p"), "a table made anew goes by the clock");
}

#[test]
fn what_is_observed_by_policy_is_so_until_the_policy_is_over() {
    let mut host = running(signed_policy_edited(1, |text| {
        text.replace("[zone.tools]\n", "[zone.tools]\nmode = \"observe\"\n")
    }));
    let until = |host: &Host| {
        let rows = host.kernel.table.iter().flat_map(|table| &table.rows);
        rows.map(|row| row.observe_until).max().unwrap()
    };
    assert!(until(&host) > host.now);
    host.set = POLICY_ENDS;
    host.full = true;
    for _ in 0..3 {
        host.feed(Input::Tick).unwrap();
    }
    let table = host.kernel.table.clone().unwrap();
    assert!(table.rows.is_empty(), "{:?}", table.rows);
    host.full = false;
    host.feed(Input::Tick).unwrap();
    host.feed(Input::Tick).unwrap();
    assert!(until(&host) <= host.now);
}

#[test]
fn it_is_over_also_when_nothing_can_be_written_down() {
    let mut host = running(policy());
    host.full = true;
    host.set = 100;
    for _ in 0..3 {
        host.now += SECOND;
        host.feed(Input::Tick).unwrap();
    }
    assert!(host.allows(b"h") && host.allows(b"p"));
    let performed = host.performed;
    host.set = HELPER_ENDS;
    host.feed(Input::Tick).unwrap();
    assert!(!host.allows(b"h") && host.allows(b"p"));
    assert!(host.performed < performed + 8);
    host.set = PLANNER_ENDS;
    let step = host.engine.handle(host.clock(), Input::Tick);
    check_order(&step.effects);
    let removes = |effect: &Effect| matches!(effect, Effect::RemoveRows(_));
    assert!(step.effects.iter().any(removes));
    host.feed(Input::Tick).unwrap();
    assert!(!host.allows(b"h") && !host.allows(b"p"));
    let step = host.engine.handle(host.clock(), Input::Tick);
    assert!(!step.effects.iter().any(removes), "again and again");
    host.full = false;
    let made = tables(&host);
    for _ in 0..3 {
        host.feed(Input::Tick).unwrap();
    }
    assert_eq!(tables(&host), made + 1, "once");
    assert!(!host.allows(b"h") && !host.allows(b"p"));
}

#[test]
fn it_is_over_also_when_its_rows_cannot_be_removed() {
    let mut host = running(policy());
    host.set = HELPER_ENDS;
    host.full = true;
    let effects = host.engine.handle(host.clock(), Input::Tick).effects;
    let removes = |effect: &Effect| matches!(effect, Effect::RemoveRows(_));
    let position = effects.iter().position(removes).unwrap();
    host.fail = [host.performed + position].into();
    host.feed(Input::Tick).unwrap();
    assert!(!host.allows(b"h") && !host.allows(b"p"));
}

#[test]
fn what_is_held_goes_on_by_the_clock_that_counts() {
    let mut host = running(policy());
    host.set = HELPER_ENDS - 1;
    host.feed(Input::Tick).unwrap();
    host.now += 2 * SECOND;
    host.set -= 30;
    host.feed(Input::Tick).unwrap();
    let resumed = host.feed(Input::Resume {
        target: Target::Workload("helper".into()),
        reason: "drill".into(),
        uid: 0,
    });
    assert!(matches!(resumed, Err(Refused::Denied(_))), "{resumed:?}");
}

#[test]
fn a_daemon_killed_while_it_ends_something_leaves_no_more_than_there_was() {
    for (set, full) in [(100, false), (POLICY_ENDS, false), (POLICY_ENDS, true)] {
        let mut host = running(menu(1));
        host.set = set;
        host.full = full;
        walk(&host, &Input::Tick).unwrap();
    }
}

#[test]
fn what_is_owed_to_the_ledger_is_owed_once_while_observing_waits_for_its_record() {
    let mut host = running(policy());
    let (zone, span) = ("agents".into(), Span::seconds(5));
    host.feed(Input::Observe { zone, span, uid: 0 }).unwrap();
    host.full = true;
    let (target, reason) = (Target::Workload("helper".into()), "drill".into());
    host.feed(Input::Revoke {
        target,
        reason,
        uid: 0,
    })
    .unwrap();
    host.now += 6 * SECOND;
    for _ in 0..10 {
        host.feed(Input::Tick).unwrap();
    }
    assert_eq!(host.engine.owed_records.len(), 1);
}

#[derive(Clone, Debug)]
enum Move {
    Wait(u64),
    Set(i64),
    Disk(bool),
    Tick,
    Load,
    Quote,
    Observe(u64),
}

fn moves() -> impl Strategy<Value = Vec<Move>> {
    let step = prop_oneof![
        3 => (1u64..600).prop_map(Move::Wait),
        4 => (-50i64..3_000).prop_map(Move::Set),
        1 => (POLICY_ENDS - 3_000..POLICY_ENDS).prop_map(Move::Set),
        2 => any::<bool>().prop_map(Move::Disk),
        6 => Just(Move::Tick),
        1 => Just(Move::Load),
        2 => Just(Move::Quote),
        1 => (0u64..60).prop_map(Move::Observe),
    ];
    proptest::collection::vec(step, 1..25)
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(CASES / 4) })]

    /// However the clock is set and whatever fails: after two ticks nothing goes on past its end by the
    /// latest clock that was seen, and what only the clock did never makes more of anything.
    #[test]
    fn nothing_outlives_its_end_by_the_latest_clock(
        moves in moves(),
        fail in proptest::collection::btree_set(0usize..160, 0..6),
    ) {
        let mut host = running(policy());
        host.fail = fail;
        let mut latest = 0;
        for step in moves {
            let before = [b"h", b"p"].map(|content| host.allows(content));
            let clock_alone = matches!(step, Move::Set(_) | Move::Tick | Move::Disk(_));
            match step {
                Move::Wait(seconds) => host.now += seconds * SECOND,
                Move::Set(by) => host.set += by,
                Move::Disk(full) => host.full = full,
                Move::Tick => {}
                Move::Load => {
                    let (policy, users, uid) = (policy(), BTreeMap::new(), Some(0));
                    drop(host.feed(Input::PolicyOffered { policy, users, uid }));
                }
                Move::Quote => {
                    if host.begin_quote() {
                        host.answer_quote(false);
                    }
                }
                Move::Observe(seconds) => {
                    let (zone, span) = ("agents".into(), Span::seconds(seconds));
                    drop(host.feed(Input::Observe { zone, span, uid: 0 }));
                }
            }
            // The second is when failures of the first are owed.
            for _ in 0..2 {
                drop(host.feed(Input::Tick));
            }
            latest = latest.max(host.clock().wall.0 - WALL - i64::try_from(host.now / SECOND).unwrap());
            let shown = latest + i64::try_from(host.now / SECOND).unwrap();
            // Up to two seconds are not told from the clock's own.
            prop_assert!(!host.allows(b"h") || shown < HELPER_ENDS + 2, "policy class at {shown}");
            prop_assert!(!host.allows(b"p") || shown < PLANNER_ENDS + 2, "attested at {shown}");
            let after = [b"h", b"p"].map(|content| host.allows(content));
            if clock_alone {
                prop_assert!(after[0] <= before[0] && after[1] <= before[1], "{before:?} {after:?}");
            }
            prop_assert!(host.engine.owed_records.len() < 100, "owed again and again");
        }
    }
}

fn policy() -> Arc<VerifiedPolicy> {
    static MADE: std::sync::OnceLock<Arc<VerifiedPolicy>> = std::sync::OnceLock::new();
    Arc::clone(MADE.get_or_init(|| ending(1)))
}
