//! Losing trust: by a signal, the ledger, the clocks; and what gets it back.

use governor_common::Signal;
use proptest::prelude::*;

use super::{
    crash::Copied,
    model::{Host, *},
    order::check_order,
};
use crate::{
    engine::*,
    lineage::{Broken, Flaw, Head, Recovered},
    time::WallTime,
};

pub(super) fn trusted() -> Host {
    let mut host = Host::new();
    host.load(1, Some(0)).unwrap();
    host.attest(false);
    assert!(host.allows(b"p"));
    host
}

pub(super) fn unlock(host: &mut Host) -> Result<String, Refused> {
    let input = host.unlocking(0);
    host.feed(input)
}

fn signals(host: &mut Host, signal: Signal, count: u64) {
    *host.kernel.signals.entry(signal).or_default() += count;
    poll(host);
}

/// What the daemon does at each tick.
fn poll(host: &mut Host) {
    let seen = host.kernel.signals.clone();
    host.feed(Input::Signals(seen)).unwrap();
}

fn left(host: &Host) -> u64 {
    host.kernel.signals.values().sum()
}

/// A quote is due, answered, and good.
fn requote(host: &mut Host) {
    host.now += 11 * SECOND;
    host.feed(Input::Tick).unwrap();
    host.attest(false);
}

fn broken() -> Broken {
    Broken {
        flaw: Flaw::Missing,
        detail: "it was removed".into(),
        last: Head::EMPTY.push(b"last"),
    }
}

/// Everything that an input can be told to lock with.
pub(super) fn locks() -> Vec<(Input, Cause)> {
    let alarm = Signal::ALL.iter().find(|signal| signal.is_alarm()).unwrap();
    vec![
        (
            Input::Signals(BTreeMap::from([(*alarm, 2)])),
            Cause::Tampered(*alarm),
        ),
        (Input::LedgerBroken(broken()), Cause::LedgerMissing),
    ]
}

#[test]
fn what_locks_takes_everything_attested_and_only_an_operator_ends_it() {
    for (input, cause) in locks() {
        let mut host = trusted();
        let step = host.engine.handle(clock(host.now), input.clone());
        let at = |wanted: fn(&Effect) -> bool| step.effects.iter().position(wanted).unwrap();
        let record = at(|effect| matches!(effect, Effect::Append(_)));
        assert!(at(|effect| matches!(effect, Effect::DropLease)) < record);
        assert!(at(|effect| matches!(effect, Effect::RaiseEpoch { .. })) < record);
        assert!(at(|effect| matches!(effect, Effect::Stop { .. })) < record);
        host.feed(input).unwrap();
        assert!(!host.allows(b"p") && host.allows(b"h"));
        assert_eq!(host.engine.trust().name(), "locked");
        requote(&mut host);
        drop(host.load(2, Some(0)));
        host.now += 10_000 * SECOND;
        host.feed(Input::Tick).unwrap();
        assert!(!host.allows(b"p"));
        assert!(host.engine.trust().has(&cause), "{cause:?}");
        unlock(&mut host).unwrap();
        assert!(!host.allows(b"p"), "an operator's word is no quote");
        assert!(host.engine.trust().has(&Cause::NotAttested));
        host.attest(false);
        assert!(host.allows(b"p"));
        assert!(unlock(&mut host).is_err(), "nothing is locked any more");
    }
}

#[test]
fn an_unlock_clears_what_is_the_operators_and_nothing_else() {
    let mut host = trusted();
    host.feed(Input::PcrsRead(pcrs(true))).unwrap();
    signals(&mut host, Signal::PinTouched, 1);
    unlock(&mut host).unwrap();
    assert!(host.engine.trust().has(&Cause::PcrDiffers(7)));
    assert_eq!(host.engine.trust().name(), "degraded");
    let Some(Kind::Unlocked(record)) = host
        .disk
        .records()
        .into_iter()
        .rfind(|kind| matches!(kind, Kind::Unlocked(_)))
    else {
        panic!("it was not recorded");
    };
    assert_eq!(record.cleared, ["tampered:pin-touched"]);
    assert_eq!((record.reason.as_str(), record.uid), ("looked", Some(0)));
}

#[test]
fn a_lock_whose_end_cannot_be_written_still_stands() {
    let mut host = trusted();
    signals(&mut host, Signal::PinTouched, 1);
    host.fail = (host.performed..host.performed + 3).collect();
    drop(unlock(&mut host));
    assert_eq!(host.engine.trust().name(), "locked");
    for _ in 0..3 {
        host.feed(Input::Tick).unwrap();
    }
    assert_eq!(host.engine.trust().name(), "locked");
    let ended = |kind: &Kind| matches!(kind, Kind::Unlocked(_));
    assert!(
        !host.disk.records().iter().any(ended),
        "it was written later"
    );
    unlock(&mut host).unwrap();
    assert_eq!(host.engine.trust().name(), "degraded");
}

#[test]
fn a_refused_attempt_is_written_down_and_is_not_the_hosts() {
    let mut host = trusted();
    signals(&mut host, Signal::ModuleRefused, 5);
    assert!(host.allows(b"p"));
    assert_eq!(host.engine.trust().name(), "trusted");
    assert!(
        matches!(host.disk.records().last(), Some(Kind::Signalled(s)) if s.count == 5 && !s.alarm)
    );
    assert_eq!(left(&host), 0);
}

#[test]
fn a_signal_whose_record_failed_comes_again() {
    let mut host = trusted();
    // Lease, epoch, stops, then the records of the change and of the signal.
    host.fail = (host.performed..host.performed + 40).collect();
    signals(&mut host, Signal::MapTouched, 3);
    assert_eq!(host.engine.trust().name(), "locked");
    assert_eq!(left(&host), 3, "acknowledged without a record");
    host.fail.clear();
    host.feed(Input::Tick).unwrap();
    poll(&mut host);
    assert_eq!(left(&host), 0);
    assert!(matches!(host.disk.records().last(), Some(Kind::Signalled(s)) if s.count == 3));
}

#[test]
fn a_storm_of_signals_is_counted_in_few_records() {
    let mut host = trusted();
    let before = host.disk.records().len();
    for _ in 0..5_000 {
        signals(&mut host, Signal::DaemonTouched, 2);
    }
    assert!(host.disk.records().len() - before <= 256);
    assert!(
        left(&host) > 0,
        "what no record is kept of is still counted"
    );
    host.now += 10 * SECOND;
    poll(&mut host);
    let counted: u64 = host.disk.records().iter().map(count_of).sum();
    assert_eq!((counted, left(&host)), (10_000, 0));
}

fn count_of(kind: &Kind) -> u64 {
    if let Kind::Signalled(signalled) = kind {
        signalled.count
    } else {
        0
    }
}

/// Another daemon, which knows what the ledger says and no more of the kernel than that it is there.
pub(super) fn restarted(host: &Host, recovered: Recovered) -> Step {
    let kernel = KernelView {
        gate: "adopted".into(),
        epochs: Epochs {
            attested: host.kernel.attested,
            policy: host.kernel.policy,
        },
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
    Engine::start(
        clock(host.now),
        host.engine.host().clone(),
        recovered,
        &kernel,
    )
}

pub(super) fn recovered(host: &Host) -> Recovered {
    host.disk.recovered()
}

#[test]
fn a_lock_outlives_the_daemon_with_its_causes_and_their_details() {
    let mut host = trusted();
    signals(&mut host, Signal::FtraceTouched, 7);
    host.feed(Input::PcrsRead(pcrs(true))).unwrap();
    let step = restarted(&host, recovered(&host));
    assert_eq!(step.next.trust().name(), "locked");
    let causes = step.next.trust().causes();
    assert_eq!(
        causes.get(&Cause::Tampered(Signal::FtraceTouched)),
        Some(&"7 times".to_owned())
    );
    assert!(
        step.effects
            .iter()
            .any(|effect| matches!(effect, Effect::DropLease))
    );
    unlock(&mut host).unwrap();
    let step = restarted(&host, recovered(&host));
    assert_eq!(step.next.trust().name(), "unattested");
}

#[test]
fn what_happened_while_no_daemon_was_there_stops_what_runs() {
    let mut host = trusted();
    host.populate();
    host.restart();
    signals(&mut host, Signal::LinkTouched, 1);
    assert!(!host.allows(b"p"), "before anything is granted");
    let attested = |host: &Host| host.copies.iter().any(|copy| copy.zone == 1);
    assert!(!attested(&host), "no ledger says how, so it is frozen");
    host.load(1, None).unwrap();
    let step = host.engine.handle(clock(host.now), Input::Tick);
    let stopped = |effect: &Effect| matches!(effect, Effect::Stop { .. });
    assert!(!step.effects.iter().any(stopped), "once");
}

#[test]
fn a_new_ledger_names_the_old_and_knows_what_it_knew() {
    let mut host = trusted();
    let target = Target::Workload("helper".into());
    let (reason, uid) = ("drill".into(), 0);
    host.feed(Input::Revoke {
        target,
        reason,
        uid,
    })
    .unwrap();
    let known = recovered(&host);
    // It takes no more records.
    host.fail = (host.performed..host.performed + 40).collect();
    host.feed(Input::LedgerBroken(broken())).unwrap();
    host.fail.clear();
    unlock(&mut host).unwrap();
    host.feed(Input::Tick).unwrap();
    let late = |kind: &&Kind| matches!(kind, Kind::TrustChange(change) if change.to == "locked");
    assert_eq!(
        host.disk.records().iter().filter(late).count(),
        1,
        "it is owed"
    );
    let Some(Kind::Begun(begun)) = host.disk.records().into_iter().next() else {
        panic!("it begins with {:?}", host.disk.records().first());
    };
    assert_eq!(begun.size, 1);
    assert_eq!(begun.head, broken().last.digest.bytes());
    assert!(begun.why.starts_with("missing: it was removed"));
    let again = recovered(&host);
    assert_eq!(again.highest, known.highest);
    assert_eq!(again.tombstones, known.tombstones);
    assert_eq!(
        (again.zones, again.workloads),
        (known.zones, known.workloads)
    );
    assert!(again.locked.is_empty());
}

#[test]
fn a_new_ledger_gives_nobody_a_number_that_something_still_has() {
    let mut host = trusted();
    let target = Target::Workload("helper".into());
    let (reason, uid) = ("drill".into(), 0);
    host.feed(Input::Revoke {
        target,
        reason,
        uid,
    })
    .unwrap();
    host.copies.insert(Copied {
        // It needs no lease, so it goes on.
        zone: 2,
        workload: 5,
        digest: [1; 32],
    });
    let unread = Recovered {
        broken: Some(broken()),
        ..Recovered::default()
    };
    host.restart_with(unread);
    host.feed(Input::NoPolicyKept).unwrap();
    let (reason, taken) = ("looked".to_owned(), Err("nobody answers".to_owned()));
    let refused = host.feed(Input::Unlock { reason, taken, uid }).unwrap_err();
    assert!(
        matches!(&refused, Refused::Denied(why) if why.contains("nobody answers")),
        "{refused:?}"
    );
    assert_eq!(host.engine.trust().name(), "locked");
    unlock(&mut host).unwrap();
    // The next one knows it from the ledger alone.
    let step = restarted(&host, recovered(&host));
    host.engine = step.next;
    host.load(1, Some(0)).unwrap();
    let ids = host.engine.ids();
    let zones: Vec<u32> = ids.zones.values().copied().collect();
    let workloads: Vec<u32> = ids.workloads.values().copied().collect();
    // The tombstone is of zone 2.
    assert_eq!((zones, workloads), (vec![3, 4], vec![7, 6]));
}

#[test]
fn a_ledger_that_goes_on_is_unlocked_whatever_runs() {
    let mut host = trusted();
    signals(&mut host, Signal::PinTouched, 1);
    let (reason, taken) = ("looked".to_owned(), Err("nobody answers".to_owned()));
    host.feed(Input::Unlock {
        reason,
        taken,
        uid: 0,
    })
    .unwrap();
    assert_ne!(host.engine.trust().name(), "locked");
}

#[test]
fn a_daemon_that_finds_its_ledger_broken_is_locked_and_grants_nothing() {
    let mut host = trusted();
    let found = Recovered {
        broken: Some(broken()),
        ..recovered(&host)
    };
    let step = restarted(&host, found);
    assert!(step.next.trust().has(&Cause::LedgerMissing));
    host.perform(&step.next, step.effects);
    host.engine = step.next;
    assert!(!host.allows(b"p"));
    // No record can be written, so no table comes into force.
    let table = host.kernel.table.clone();
    host.fail = (host.performed..host.performed + 40).collect();
    drop(host.load(2, Some(0)));
    assert_eq!(host.kernel.table, table);
    host.fail.clear();
    host.feed(Input::Tick).unwrap();
    assert_eq!(host.engine.trust().name(), "locked");
}

pub(super) fn reading(host: &Host, wall_back: i64, slept: Span) -> ClockReading {
    let now = clock(host.now);
    ClockReading {
        wall: WallTime(now.wall.0 - wall_back),
        suspended: slept,
        ..now
    }
}

#[derive(Clone, Debug)]
enum Move {
    Wait(u64),
    Signal(usize, u64),
    Ledger,
    Unlock,
    Load,
    Begin,
    Answer,
    Sleep(u64),
    Tick,
}

fn moves() -> impl Strategy<Value = Vec<Move>> {
    let step = prop_oneof![
        2 => (1u64..20).prop_map(Move::Wait),
        2 => (0..Signal::ALL.len(), 1u64..4).prop_map(|(s, n)| Move::Signal(s, n)),
        1 => Just(Move::Ledger),
        2 => Just(Move::Unlock),
        1 => Just(Move::Load),
        4 => Just(Move::Begin),
        4 => Just(Move::Answer),
        1 => (1u64..9).prop_map(Move::Sleep),
        3 => Just(Move::Tick),
    ];
    proptest::collection::vec(step, 1..40)
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(CASES) })]

    /// Whatever happens in whatever order, and whatever of it fails: attested work runs on no locked
    /// host, and locked is left by an unlock and by nothing else.
    #[test]
    fn locked_is_left_by_an_operator_only(
        moves in moves(),
        fail in proptest::collection::btree_set(0usize..160, 0..6),
    ) {
        let mut host = Host::new();
        host.load(1, Some(0)).unwrap();
        host.fail = fail;
        let mut slept = 0;
        for step in moves {
            let before = host.engine.trust().name();
            let unlocking = matches!(step, Move::Unlock);
            match step {
                Move::Wait(seconds) => host.now += seconds * SECOND,
                Move::Signal(which, count) => {
                    *host.kernel.signals.entry(Signal::ALL[which]).or_default() += count;
                    poll(&mut host);
                }
                Move::Ledger => drop(host.feed(Input::LedgerBroken(broken()))),
                Move::Unlock => drop(unlock(&mut host)),
                Move::Load => drop(host.load(1, Some(0))),
                Move::Begin => drop(host.begin_quote()),
                Move::Answer => host.answer_quote(false),
                Move::Sleep(seconds) => {
                    host.now += seconds * SECOND;
                    slept += seconds * SECOND;
                }
                Move::Tick => {
                    let now = reading(&host, 0, Span(slept));
                    let step = host.engine.handle(now, Input::Tick);
                    check_order(&step.effects);
                    let performed = host.perform(&step.next, step.effects);
                    host.engine = step.next;
                    for failed in Input::of_failed(performed.failed, performed.told) {
                        drop(host.feed(failed));
                    }
                }
            }
            // Two of the model's effects in a row may fail; the tick is when they are owed.
            drop(host.feed(Input::Tick));
            let locked = host.engine.trust().name() == "locked";
            let stands = host.engine.trust().causes().keys().any(Cause::locks);
            prop_assert_eq!(locked, stands, "locked without a cause that locks, or the reverse");
            prop_assert!(!(before == "locked" && !locked && !unlocking), "the lock ended");
            if locked {
                prop_assert!(host.engine.owed.is_empty() || !host.fail.is_empty());
                let runs = host.engine.owed.is_empty() && host.allows(b"p");
                prop_assert!(!runs, "attested work runs on a locked host");
            }
        }
    }
}

#[test]
fn an_appraisal_that_was_recorded_leaves_nothing_owed() {
    let mut host = trusted();
    // Tombstone, rows, stop, record: the last of them.
    host.fail = [host.performed + 3].into();
    let (target, reason, uid) = (Target::Workload("helper".into()), "drill".to_owned(), 0);
    host.feed(Input::Revoke {
        target,
        reason,
        uid,
    })
    .unwrap();
    let recorded = |host: &Host| {
        let records = host.disk.records();
        let mut kinds = records.iter();
        kinds.any(|kind| matches!(kind, Kind::Revocation(r) if r.cause == "drill"))
    };
    assert!(!recorded(&host) && host.engine.trust().has(&Cause::LedgerUnwritable));
    // Before the next tick the TPM answers, and that is written down.
    host.feed(Input::Reattest).unwrap();
    host.attest(false);
    assert!(!host.engine.trust().has(&Cause::LedgerUnwritable));
    host.feed(Input::Tick).unwrap();
    assert!(recorded(&host));
}
