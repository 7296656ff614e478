//! What a daemon is told, and what happens to its host, in random order; each input is cut.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use governor_common::{Label, Operation, Signal, Verdict};
use proptest::{
    prelude::*,
    strategy::{Strategy, ValueTree as _},
    test_runner::TestRunner,
};

use super::{
    crash::{Copied, walk},
    crash_policies::{ALL_ENDS, SERIALS, SOME_END, menu},
    glass::request,
    model::{Host, *},
    risk::raw,
};
use crate::{
    engine::*,
    lineage::{Broken, Flaw, Unlabelled},
};

/// Sequences tried; each is cut at some hundred points.
const SEQUENCES: u32 = 60;
/// Sequences that are not cut, of which each kind of input must be in one.
const UNCUT: usize = 400;

/// The name of each kind of input, and the list of all. One that is not in it does not compile, and one
/// that no move brings about is missed by a test.
macro_rules! kinds {
    ($($kind:ident)*) => {
        pub(super) fn kind(input: &Input) -> &'static str {
            match input {
                $(Input::$kind { .. } => stringify!($kind),)*
            }
        }

        const KINDS: &[&str] = &[$(stringify!($kind)),*];
    };
}

kinds! {
    PolicyOffered PolicyRefused HostShutOut NoPolicyKept
    QuoteStarted EvidenceArrived QuoteFailed PcrsRead Reattest
    Observe Revoke Hold Resume Unlock Disarm PcrsExtended
    GlassAsked GlassSigned GlassMended
    Signals CanaryPassed CanarySilent LedgerBroken
    UnlabelledFound UnlabelledMeasured Verdicts LeftOut
    EffectFailed StopsFailed Tick
}

/// How another daemon goes on with the policy that was kept.
#[derive(Clone, Copy, Debug)]
pub(super) enum Kept {
    Resumes,
    Refused,
    /// It would shut the operator out.
    ShutsOut,
}

#[derive(Clone, Debug)]
pub(super) enum Move {
    Wait(u64),
    Sleep(u64),
    /// The wall clock is set to this many seconds off.
    Set(i64),
    /// Whether the ledger's disk takes nothing.
    Full(bool),
    /// So many of the next stops reach nobody.
    Lame(usize),
    Tick,
    Load(u64, bool),
    PolicyRefused,
    Restart(Kept),
    Begin,
    Answer(bool),
    QuoteFails,
    Reattest,
    Pcrs(bool),
    Revoke(Target),
    Observe(&'static str, u64),
    Alarm,
    Canary(bool),
    LedgerBreaks(Flaw),
    Unlock,
    Hold(Target, Grip),
    Resume(Target),
    Ask(u64),
    Break(u64),
    Mend,
    /// Somebody of those who run is refused, or executes something.
    Probe(usize, Verdict),
    Lose(u64),
    LeftOut,
    UnlabelledFound,
    UnlabelledMeasured,
    Disarm,
    /// The TPM extended the registers, or did not.
    Extended(bool),
}

fn targets() -> impl Strategy<Value = Target> {
    let workloads = ["helper", "extra", "planner"].map(str::to_owned).to_vec();
    let zones = ["agents", "tools"].map(str::to_owned).to_vec();
    let digests = [b"p", b"h"].map(|content| Digest::of(content)).to_vec();
    prop_oneof![
        3 => Just(Target::All),
        3 => proptest::sample::select(workloads).prop_map(Target::Workload),
        1 => proptest::sample::select(zones).prop_map(Target::Zone),
        1 => proptest::sample::select(digests).prop_map(Target::Digest),
    ]
}

pub(super) fn moves() -> impl Strategy<Value = Vec<Move>> {
    let any = |likely| proptest::bool::weighted(likely);
    let kept = prop_oneof![
        3 => Just(Kept::Resumes),
        1 => Just(Kept::Refused),
        1 => Just(Kept::ShutsOut),
    ];
    let flaws = vec![Flaw::Missing, Flaw::Contradicting];
    let grips = vec![Grip::Pause, Grip::Quarantine, Grip::Kill];
    let hold = (targets(), proptest::sample::select(grips));
    let sets = vec![0, 30, -30, -90, SOME_END, ALL_ENDS];
    let probe = (
        any_index(),
        prop_oneof![3 => Just(Verdict::Deny), 1 => Just(Verdict::Allow)],
    );
    let of_host = prop_oneof![
        4 => (1u64..20).prop_map(Move::Wait),
        1 => (1u64..10).prop_map(Move::Sleep),
        1 => proptest::sample::select(sets).prop_map(Move::Set),
        1 => any(0.4).prop_map(Move::Full),
        2 => kept.prop_map(Move::Restart),
        2 => (1usize..5).prop_map(Move::Lame),
    ];
    let of_trust = prop_oneof![
        8 => Just(Move::Begin),
        8 => any(0.1).prop_map(Move::Answer),
        1 => Just(Move::QuoteFails),
        1 => Just(Move::Reattest),
        2 => any(0.3).prop_map(Move::Pcrs),
        2 => Just(Move::Alarm),
        1 => any(0.5).prop_map(Move::Canary),
        1 => proptest::sample::select(flaws).prop_map(Move::LedgerBreaks),
        2 => Just(Move::Unlock),
    ];
    let by_hand = prop_oneof![
        8 => (SERIALS, any(0.8)).prop_map(|(serial, by_hand)| Move::Load(serial, by_hand)),
        1 => Just(Move::PolicyRefused),
        3 => targets().prop_map(Move::Revoke),
        2 => (proptest::sample::select(vec!["agents", "tools"]), 0u64..3)
            .prop_map(|(zone, n)| Move::Observe(zone, n * 20)),
        3 => hold.prop_map(|(target, grip)| Move::Hold(target, grip)),
        3 => targets().prop_map(Move::Resume),
        2 => Just(Move::Disarm),
        4 => any(0.7).prop_map(Move::Extended),
    ];
    let of_glass = prop_oneof![
        1 => (1u64..50).prop_map(Move::Ask),
        4 => (1u64..50).prop_map(Move::Break),
        2 => Just(Move::Mend),
    ];
    let of_work = prop_oneof![
        4 => probe.prop_map(|(who, verdict)| Move::Probe(who, verdict)),
        1 => (0u64..30).prop_map(Move::Lose),
        1 => Just(Move::LeftOut),
        1 => Just(Move::UnlabelledFound),
        1 => Just(Move::UnlabelledMeasured),
    ];
    let step = prop_oneof![
        6 => Just(Move::Tick),
        8 => of_host,
        16 => of_trust,
        14 => by_hand,
        4 => of_glass,
        6 => of_work,
    ];
    proptest::collection::vec(step, 1..30)
}

fn any_index() -> impl Strategy<Value = usize> {
    0usize..16
}

/// What the daemon is told, in order; what only happens to the host is done.
fn inputs(host: &mut Host, step: &Move) -> Vec<Input> {
    let (reason, uid) = ("drill".to_owned(), 0);
    let told = match step {
        Move::Wait(seconds) => {
            host.now += seconds * SECOND;
            None
        }
        Move::Lame(stops) => {
            host.lame = *stops;
            None
        }
        Move::Sleep(seconds) => {
            host.now += seconds * SECOND;
            host.slept = Span(host.slept.0 + seconds * SECOND);
            None
        }
        Move::Set(seconds) => host.set_clock(*seconds),
        Move::Full(full) => {
            host.full = *full;
            None
        }
        Move::Restart(kept) => return restarted(host, *kept),
        Move::Tick => Some(Input::Tick),
        Move::Load(serial, by_hand) => Some(offered(*serial, by_hand.then_some(uid))),
        Move::PolicyRefused => Some(refused(Some(uid))),
        Move::Begin => host.issue(),
        Move::Answer(changed) => host.outstanding.take().map(|challenge| {
            let evidence = evidence(&challenge, *changed || host.extended);
            Input::EvidenceArrived {
                nonce: challenge.nonce,
                evidence: Box::new(evidence),
            }
        }),
        Move::QuoteFails => Some(Input::QuoteFailed {
            nonce: host.outstanding.take().map(|challenge| challenge.nonce),
            why: "the TPM says nothing".into(),
        }),
        Move::Reattest => Some(Input::Reattest),
        Move::Pcrs(changed) => Some(Input::PcrsRead(pcrs(*changed || host.extended))),
        Move::Revoke(target) => Some(Input::Revoke {
            target: target.clone(),
            reason,
            uid,
        }),
        Move::Observe(zone, seconds) => Some(Input::Observe {
            zone: (*zone).into(),
            span: Span::seconds(*seconds),
            uid,
        }),
        Move::Alarm => {
            *host.kernel.signals.entry(Signal::PinTouched).or_default() += 1;
            Some(Input::Signals(host.kernel.signals.clone()))
        }
        Move::Canary(true) => Some(Input::CanaryPassed),
        Move::Canary(false) => Some(Input::CanarySilent("it says nothing".into())),
        Move::LedgerBreaks(flaw) => host.break_ledger(*flaw),
        Move::Unlock => Some(host.unlocking(uid)),
        Move::Hold(target, grip) => Some(Input::Hold {
            target: target.clone(),
            grip: *grip,
            reason,
            uid,
        }),
        Move::Resume(target) => Some(Input::Resume {
            target: target.clone(),
            reason,
            uid,
        }),
        Move::Ask(seconds) => Some(Input::GlassAsked {
            request: request(*seconds),
            nonce: [1; 32],
            uid,
        }),
        Move::Break(seconds) => host.credential(*seconds).ok(),
        Move::Mend => Some(Input::GlassMended { reason, uid }),
        Move::Probe(who, verdict) => Some(verdicts(probed(host, *who, *verdict), *verdict, 0)),
        Move::Lose(lost) => Some(verdicts(Vec::new(), Verdict::Deny, *lost)),
        Move::LeftOut => Some(Input::LeftOut(7)),
        Move::UnlabelledFound => Some(Input::UnlabelledFound {
            zones: BTreeSet::from(["agents".to_owned(), "tools".to_owned()]),
            news: vec![unlabelled()],
        }),
        Move::UnlabelledMeasured => Some(Input::UnlabelledMeasured(vec![unlabelled()])),
        Move::Disarm => Some(Input::Disarm {
            reason,
            quoted: host.kernel.quoted.clone(),
            uid,
        }),
        Move::Extended(done) => host.extending.take().map(|_| {
            host.extended |= done;
            Input::PcrsExtended(done.then_some(()).ok_or_else(|| "it is busy".to_owned()))
        }),
    };
    told.into_iter().collect()
}

/// Another daemon, and how it goes on with the policy that was kept.
fn restarted(host: &mut Host, kept: Kept) -> Vec<Input> {
    host.begin_again();
    if host
        .broken
        .as_ref()
        .is_some_and(|broken| broken.flaw == Flaw::Missing)
    {
        // Names went with the ledger. What runs under their numbers is denied whatever the gate is asked about,
        // and nobody can say what it is: nothing is promised of it.
        host.copies.clear();
        host.frozen.clear();
    }
    let Some((serial, _)) = host.engine.highest() else {
        return vec![Input::NoPolicyKept];
    };
    match kept {
        Kept::Resumes => vec![offered(serial, None)],
        Kept::ShutsOut => vec![Input::HostShutOut, offered(serial, None)],
        Kept::Refused => vec![refused(None), Input::NoPolicyKept],
    }
}

fn offered(serial: u64, uid: Option<u32>) -> Input {
    Input::PolicyOffered {
        policy: menu(serial),
        users: BTreeMap::new(),
        uid,
    }
}

fn refused(uid: Option<u32>) -> Input {
    Input::PolicyRefused {
        why: "its signature does not verify".into(),
        digest: None,
        uid,
    }
}

/// What somebody of those who run executed, or was kept from.
fn probed(host: &Host, who: usize, verdict: Verdict) -> Vec<Vec<u8>> {
    let copies: Vec<Copied> = host.copies.iter().copied().collect();
    let one = copies.get(who % copies.len().max(1));
    let event = one.map(|copy| {
        let label = Label {
            zone: copy.zone,
            workload: copy.workload,
            ..Label::default()
        };
        raw(label, Operation::Execute, verdict, host.now)
    });
    event.into_iter().collect()
}

fn verdicts(events: Vec<Vec<u8>>, verdict: Verdict, lost: u64) -> Input {
    let (denied, allowed) = match verdict {
        Verdict::Deny | Verdict::WouldDeny => (events, Vec::new()),
        Verdict::Allow => (Vec::new(), events),
    };
    Input::Verdicts {
        denied,
        allowed,
        lost,
        missed: lost / 2,
    }
}

fn unlabelled() -> Unlabelled {
    Unlabelled {
        zone: "agents".into(),
        processes: 2,
        digests: Vec::new(),
        grip: String::new(),
    }
}

impl Host {
    /// The wall clock is set, and seen. What was seen of it and could not be written down is forgotten with the
    /// daemon: without a policy nothing is, and a table in its place waits while records or tables fail.
    fn set_clock(&mut self, seconds: i64) -> Option<Input> {
        let trust = self.engine.trust();
        let waits = [Cause::LedgerUnwritable, Cause::GateFault];
        let waits =
            self.full || self.broken.is_some() || waits.iter().any(|cause| trust.has(cause));
        if waits || self.engine.policy().is_none() {
            return None;
        }
        self.set = seconds;
        Some(Input::Tick)
    }

    /// The ledger is not the one that was written any more, and whoever looks at it says so once.
    fn break_ledger(&mut self, flaw: Flaw) -> Option<Input> {
        if self.broken.is_some() {
            return None;
        }
        let broken = Broken {
            flaw,
            detail: "somebody was at it".into(),
            last: self.disk.head(),
        };
        self.broken = Some(broken.clone());
        Some(Input::LedgerBroken(broken))
    }
}

/// Whether what this takes away is taken before any record of it.
pub(super) fn takes_unrecorded(input: &Input) -> bool {
    match input {
        // Tombstones for zones that a policy names anew come before it: until it is written down, the one
        // before goes on.
        Input::PolicyOffered { .. }
        // As long as the gate is there what it allows goes on: it is stopped because nobody could stop it later.
        | Input::Disarm { .. }
        | Input::PcrsExtended(_) => false,
        Input::PolicyRefused { .. }
        | Input::HostShutOut
        | Input::NoPolicyKept
        | Input::QuoteStarted { .. }
        | Input::EvidenceArrived { .. }
        | Input::QuoteFailed { .. }
        | Input::PcrsRead(_)
        | Input::Observe { .. }
        | Input::Revoke { .. }
        | Input::Signals(_)
        | Input::CanaryPassed
        | Input::CanarySilent(_)
        | Input::GlassAsked { .. }
        | Input::GlassSigned { .. }
        | Input::GlassMended { .. }
        | Input::LedgerBroken(_)
        | Input::Unlock { .. }
        | Input::UnlabelledFound { .. }
        | Input::UnlabelledMeasured(_)
        | Input::Hold { .. }
        | Input::Resume { .. }
        | Input::Reattest
        | Input::Verdicts { .. }
        | Input::LeftOut(_)
        | Input::EffectFailed { .. }
        | Input::StopsFailed { .. }
        | Input::Tick => true,
    }
}

/// Goes through all of it, and hands each input on before the daemon is told.
pub(super) fn go<E>(
    moves: &[Move],
    mut told: impl FnMut(&Host, &Input) -> Result<(), E>,
) -> Result<Host, E> {
    let mut host = Host::new();
    for step in moves {
        let mut inputs = VecDeque::from(inputs(&mut host, step));
        while let Some(input) = inputs.pop_front() {
            // No two decisions are made at one instant.
            host.now += 1;
            told(&host, &input)?;
            let resumes = matches!(&input, Input::PolicyOffered { uid: None, .. });
            drop(host.feed(input));
            if resumes && host.engine.policy().is_none() {
                // It could not be put in force.
                inputs.push_back(Input::NoPolicyKept);
            }
            host.populate();
            if host.down {
                // Somebody has a gate again.
                assert!(host.adopt(None));
            }
        }
    }
    Ok(host)
}

/// Cuts each of these where it can be cut, and goes on with the whole.
fn walk_all(moves: &[Move]) -> Result<(), TestCaseError> {
    go(moves, walk).map(drop)
}

#[test]
fn what_an_earlier_break_glass_left_may_stay_when_the_next_is_cut_short() {
    let (first, other) = (Move::Load(1, false), Move::Load(6, false));
    let glass = Move::Break(1);
    let everything = Move::Revoke(Target::All);
    walk_all(&[first, glass.clone(), everything, other, glass]).unwrap();
}

#[test]
fn each_kind_of_input_is_among_the_moves() {
    let mut runner = TestRunner::deterministic();
    let mut met = BTreeSet::new();
    for _ in 0..UNCUT {
        let moves = moves().new_tree(&mut runner).unwrap().current();
        let host = go(&moves, |_, _| Ok::<_, ()>(())).unwrap();
        met.extend(host.met);
    }
    let missed: Vec<_> = KINDS.iter().filter(|kind| !met.contains(*kind)).collect();
    assert!(missed.is_empty(), "nobody walks {missed:?}");
}

proptest! {
    #![proptest_config(ProptestConfig {
        failure_persistence: None,
        ..ProptestConfig::with_cases(SEQUENCES)
    })]

    #[test]
    fn a_kill_between_any_two_effects_leaves_no_more_than_there_was(moves in moves()) {
        walk_all(&moves)?;
    }
}
