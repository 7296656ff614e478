//! The engine against a small model of the kernel and the ledger, with failing effects.
//!
//! The model keeps its own, independent notion of when attested work may run: from an accepted
//! quote until its lease ends or anything speaks against it. The kernel's state, as the effects
//! left it, may never allow more.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, OnceLock},
};

use proptest::prelude::*;
use ssh_key::{HashAlg, LineEnding, PrivateKey, private::Ed25519Keypair};

use super::*;
use crate::{
    attest::{
        Nonce, composite,
        fixture::{AttestDraft, Scene, TestKey},
    },
    policy::{RawBundle, TrustedKeys},
    time::WallTime,
};

const SECOND: u64 = 1_000_000_000;
const WALL: i64 = 1_800_000_000;
const LEASE: u64 = 30 * SECOND;
/// Sequences of moves tried; each takes some milliseconds.
const CASES: u32 = 500;

fn clock(boot: u64) -> ClockReading {
    ClockReading {
        wall: WallTime(WALL + i64::try_from(boot / SECOND).unwrap()),
        boot: BootTime(boot),
    }
}

fn pcrs(changed: bool) -> BTreeMap<u8, Digest> {
    let seven = if changed { 99 } else { 7 };
    BTreeMap::from([(0, Digest::of(&[0])), (7, Digest::of(&[seven]))])
}

fn signed_policy(serial: u64) -> Arc<VerifiedPolicy> {
    let scene = Scene::ecc();
    let mut bundle = BTreeMap::new();
    let ak = format!("000b{}", Digest::of(&scene.evidence.ak_public));
    let values = pcrs(false);
    bundle.insert(
        "reference.toml".to_owned(),
        format!(
            "[ak]\nnames = [\"{ak}\"]\n[pcr]\n0 = \"{}\"\n7 = \"{}\"\n",
            values[&0], values[&7]
        )
        .into_bytes(),
    );
    bundle.insert(
        "planner.sha256".into(),
        format!("{}  planner\n", Digest::of(b"p")).into_bytes(),
    );
    bundle.insert(
        "helper.sha256".into(),
        format!("{}  helper\n", Digest::of(b"h")).into_bytes(),
    );
    let text = format!(
        "[policy]\nformat = 1\nname = \"test\"\nserial = {serial}\n\
         not_before = 2026-11-01T00:00:00Z\nnot_after = 2028-01-01T00:00:00Z\n\
         [governor]\nexec = []\n\
         [attestation]\nverifiers = [\"local\"]\nthreshold = 1\npcrs = [0, 7]\n\
         reference = \"reference.toml\"\nevery = \"10s\"\nlease = \"30s\"\n\
         [zone.agents]\ncgroup = \"governed.slice/governed-agents.slice\"\n\
         observe_up_to = \"1m\"\n\
         [zone.tools]\ncgroup = \"governed.slice/governed-tools.slice\"\nrequires = \"policy\"\n\
         on_revoke = \"deny\"\n\
         [workload.planner]\nzone = \"agents\"\nexec = [\"planner\"]\n\
         started_by = [\"operator\"]\nuser = [\"1000\"]\non_revoke = \"freeze\"\n\
         [workload.helper]\nzone = \"tools\"\nexec = [\"helper\"]\n\
         started_by = [\"operator\"]\nuser = [\"1000\"]\n\
         [set]\nplanner = \"planner.sha256\"\nhelper = \"helper.sha256\"\n"
    );
    bundle.insert("policy.toml".into(), text.into_bytes());
    let sums: String = bundle
        .iter()
        .map(|(name, bytes)| format!("{}  {name}\n", Digest::of(bytes)))
        .collect();
    let key = PrivateKey::from(Ed25519Keypair::from_seed(&[5; 32]));
    let signature = key
        .sign("governor-policy@v1", HashAlg::Sha512, sums.as_bytes())
        .unwrap();
    bundle.insert("SHA256SUMS".into(), sums.into_bytes());
    bundle.insert(
        "SHA256SUMS.sig".into(),
        signature.to_pem(LineEnding::LF).unwrap().into_bytes(),
    );
    let keys = TrustedKeys::parse(&key.public_key().to_openssh().unwrap(), 1).unwrap();
    let opened = policy::open(&RawBundle::new(bundle).unwrap(), &keys, WallTime(WALL));
    Arc::new(opened.unwrap_or_else(|error| panic!("{error}")))
}

fn policy_of(serial: u64) -> Arc<VerifiedPolicy> {
    static MADE: OnceLock<Vec<Arc<VerifiedPolicy>>> = OnceLock::new();
    Arc::clone(&MADE.get_or_init(|| (1..=4).map(signed_policy).collect())[serial as usize - 1])
}

fn evidence(challenge: &Challenge, changed: bool) -> Evidence {
    let key = TestKey::ecc();
    let selection = PcrSelection::new([0, 7]).unwrap();
    let draft = AttestDraft {
        extra: challenge.extra_data().bytes().to_vec(),
        banks: vec![(0x000b, vec![0x81, 0, 0])],
        digest: composite(&selection, &pcrs(changed))
            .unwrap()
            .bytes()
            .to_vec(),
        ..AttestDraft::genuine()
    };
    let quote = draft.bytes();
    Evidence {
        signature: key.sign(&quote),
        ak_public: key.public().bytes(),
        quote,
        pcrs: pcrs(changed),
        event_log: Vec::new(),
    }
}

/// What the effects left behind.
#[derive(Clone, Debug, Default)]
struct Kernel {
    lease: Option<(u64, u64, u64)>,
    attested: u64,
    policy: u64,
    table: Option<Table>,
    tombstones: BTreeSet<TombstoneKey>,
}

struct Host {
    engine: Engine,
    kernel: Kernel,
    records: Vec<Kind>,
    now: u64,
    wanted: Option<(Digest, u64, u64)>,
    outstanding: Option<Challenge>,
    issued: u64,
    /// Until when attested work may run, by the model's own reckoning.
    convinced: u64,
    /// Effects to fail, by position from now.
    fail: BTreeSet<usize>,
    performed: usize,
}

impl Host {
    fn new() -> Self {
        let host = super::Host {
            id: Digest::of(b"host"),
            governed_root: "governed.slice".into(),
            version: "test".into(),
            object: Digest::of(b"object"),
        };
        let kernel = KernelView {
            gate: "fresh".into(),
            epochs: Epochs {
                attested: 0,
                policy: 0,
            },
            generation: 0,
            tombstones: BTreeSet::new(),
        };
        let step = Engine::start(clock(0), host, Recovered::default(), &kernel);
        let mut made = Self {
            engine: step.next,
            kernel: Kernel::default(),
            records: Vec::new(),
            now: SECOND,
            wanted: None,
            outstanding: None,
            issued: 0,
            convinced: 0,
            fail: BTreeSet::new(),
            performed: 0,
        };
        made.perform(step.effects);
        made
    }

    fn feed(&mut self, input: Input) -> Result<String, Refused> {
        let step = self.engine.handle(clock(self.now), input);
        check_order(&step.effects);
        let (grant_failed, failed) = self.perform(step.effects);
        if !grant_failed {
            self.engine = step.next;
        }
        for (effect, error) in failed {
            let step = self.engine.handle(
                clock(self.now),
                Input::EffectFailed {
                    effect: Box::new(effect),
                    error,
                },
            );
            check_order(&step.effects);
            // What fails again is owed; the engine asks again at the next tick.
            let (grant_failed, _) = self.perform(step.effects);
            if !grant_failed {
                self.engine = step.next;
            }
        }
        step.answer
    }

    fn perform(&mut self, effects: Vec<Effect>) -> (bool, Vec<(Effect, String)>) {
        let grants = effects.iter().any(Effect::grants);
        let (mut grant_failed, mut failed) = (false, Vec::new());
        for effect in effects {
            if grant_failed && !effect.revokes() {
                continue;
            }
            let position = self.performed;
            self.performed += 1;
            if self.fail.contains(&position) {
                grant_failed |= grants && !effect.revokes();
                failed.push((effect, "made to fail".into()));
                continue;
            }
            match effect {
                Effect::Append(kinds) => self.records.extend(kinds),
                Effect::KeepPolicy(_) | Effect::Stop { .. } => {}
                Effect::InstallTable(table) => self.kernel.table = Some(*table),
                Effect::SetLease {
                    deadline,
                    trips,
                    epoch,
                } => {
                    self.kernel.lease = Some((deadline, trips, epoch));
                }
                Effect::DropLease => self.kernel.lease = None,
                Effect::RaiseEpoch { class, to } => {
                    let epoch = match class {
                        Class::Attested => &mut self.kernel.attested,
                        Class::Policy => &mut self.kernel.policy,
                    };
                    *epoch = (*epoch).max(to);
                }
                Effect::AddTombstone(key) => {
                    self.kernel.tombstones.insert(key);
                }
                Effect::RemoveRows(keys) => {
                    if let Some(table) = &mut self.kernel.table {
                        table.rows.retain(|row| !keys.contains(&row.key));
                    }
                }
                Effect::RequestQuote { policy, .. } => {
                    self.wanted = Some((policy, self.kernel.attested, self.now));
                }
            }
        }
        (grant_failed, failed)
    }

    /// Issues the nonce that was asked for.
    fn begin_quote(&mut self) -> bool {
        let Some((policy, epoch, at)) = self.wanted.take() else {
            return false;
        };
        let challenge = Challenge {
            nonce: Nonce::new(*Digest::of(&self.issued.to_le_bytes()).bytes()),
            host: Digest::of(b"host"),
            policy,
            ledger_size: self.records.len() as u64,
            ledger_head: Digest::of(b"head"),
            trips: 0,
        };
        self.issued += 1;
        self.outstanding = Some(challenge.clone());
        let challenge = Box::new(challenge);
        self.feed(Input::QuoteStarted {
            challenge,
            epoch,
            at: BootTime(at),
        })
        .unwrap();
        true
    }

    fn answer_quote(&mut self, changed: bool) {
        let Some(challenge) = self.outstanding.take() else {
            return;
        };
        let at = self
            .engine
            .outstanding
            .as_ref()
            .filter(|outstanding| outstanding.challenge.nonce == challenge.nonce)
            .map(|outstanding| outstanding.at.0);
        // A challenge that a reload voided is answered by nobody.
        if changed && at.is_some() {
            self.convinced = 0;
        } else if !changed
            && let Some(at) = at
            && self.now < at + LEASE
        {
            self.convinced = self.convinced.max(at + LEASE);
        }
        let (nonce, evidence) = (challenge.nonce, Box::new(evidence(&challenge, changed)));
        self.feed(Input::EvidenceArrived { nonce, evidence })
            .unwrap();
    }

    fn attest(&mut self, changed: bool) {
        assert!(self.begin_quote(), "no quote was asked for");
        self.answer_quote(changed);
    }

    fn load(&mut self, serial: u64, uid: Option<u32>) -> Result<String, Refused> {
        let policy = policy_of(serial);
        self.feed(Input::PolicyOffered {
            policy,
            users: BTreeMap::new(),
            uid,
        })
    }

    /// Whether the kernel would run the row of `digest` in its zone at this moment.
    fn allows(&self, content: &[u8]) -> bool {
        let digest = *Digest::of(content).bytes();
        let Some(table) = &self.kernel.table else {
            return false;
        };
        let now = self.now;
        table.rows.iter().any(|row| {
            let key = TombstoneKey {
                zone: row.key.zone,
                reserved: 0,
                digest,
            };
            row.key.digest == digest
                && row.key.scope == SCOPE_START
                && !self.kernel.tombstones.contains(&key)
                && row.not_before <= now
                && now < row.not_after
                && if row.class == governor_common::row::CLASS_ATTESTED {
                    row.epoch == self.kernel.attested
                        && self.kernel.lease.is_some_and(|(deadline, trips, epoch)| {
                            now < deadline && trips == 0 && epoch == self.kernel.attested
                        })
                } else {
                    row.epoch == self.kernel.policy
                }
        })
    }
}

/// Records come before grants and after revocations, in every step.
fn check_order(effects: &[Effect]) {
    for (position, effect) in effects.iter().enumerate() {
        let recorded_before = effects[..position]
            .iter()
            .any(|effect| matches!(effect, Effect::Append(_)));
        match effect {
            Effect::SetLease { .. } => assert!(recorded_before, "a lease before its record"),
            Effect::InstallTable(table) if !table.rows.is_empty() => {
                assert!(recorded_before, "a table before its record");
            }
            Effect::RaiseEpoch { .. } | Effect::AddTombstone(_) | Effect::Stop { .. } => {
                let recorded_after = effects[position..]
                    .iter()
                    .any(|effect| matches!(effect, Effect::Append(_)));
                let grants = effects.iter().any(Effect::grants);
                assert!(
                    recorded_after || grants || !recorded_before,
                    "a revocation's record first"
                );
            }
            Effect::InstallTable(_)
            | Effect::Append(_)
            | Effect::KeepPolicy(_)
            | Effect::DropLease
            | Effect::RemoveRows(_)
            | Effect::RequestQuote { .. } => {}
        }
    }
}

#[test]
fn a_new_host_grants_nothing_and_governs_everything_below_the_root() {
    let host = Host::new();
    let table = host.kernel.table.as_ref().unwrap();
    assert!(table.rows.is_empty());
    assert_eq!(
        table.zone_paths,
        vec![("/governed.slice".to_owned(), ZONE_UNKNOWN)]
    );
    assert!(host.kernel.attested > 0 && host.kernel.policy > 0);
    assert_eq!(host.engine.trust().name(), "unattested");
}

#[test]
fn policy_class_work_runs_without_a_quote_and_attested_work_does_not() {
    let mut host = Host::new();
    host.load(1, Some(0)).unwrap();
    assert!(host.allows(b"h"));
    assert!(!host.allows(b"p"));
    host.attest(false);
    assert_eq!(host.engine.trust().name(), "trusted");
    assert!(host.allows(b"p"));
    assert_eq!(
        host.kernel.lease.unwrap().0,
        SECOND + LEASE,
        "the deadline counts from the nonce"
    );
}

#[test]
fn a_register_that_differs_revokes_and_only_matching_evidence_restores() {
    let mut host = Host::new();
    host.load(1, Some(0)).unwrap();
    host.attest(false);
    let step = host
        .engine
        .handle(clock(host.now), Input::PcrsRead(pcrs(true)));
    let stop = step
        .effects
        .iter()
        .position(|e| matches!(e, Effect::Stop { .. }))
        .unwrap();
    let record = step
        .effects
        .iter()
        .position(|e| matches!(e, Effect::Append(_)))
        .unwrap();
    assert!(stop < record);
    assert!(
        matches!(
            step.effects[stop],
            Effect::Stop {
                action: OnRevoke::Kill,
                ..
            }
        ),
        "the zone says kill, the workload freeze: the stricter"
    );
    host.feed(Input::PcrsRead(pcrs(true))).unwrap();
    assert!(
        !host.allows(b"p") && host.allows(b"h"),
        "policy-class work goes on"
    );
    assert!(host.engine.trust().has(&Cause::PcrDiffers(7)));
    host.load(1, Some(0)).unwrap();
    assert!(
        !host.allows(b"p"),
        "a reload clears nothing that a quote must clear"
    );
    host.now += 11 * SECOND;
    host.feed(Input::Tick).unwrap();
    host.attest(true);
    assert!(!host.allows(b"p"));
    host.now += 11 * SECOND;
    host.feed(Input::Tick).unwrap();
    host.attest(false);
    assert!(
        host.allows(b"p"),
        "rows are written again with the new epoch"
    );
}

#[test]
fn an_answer_to_a_challenge_that_was_given_up_says_nothing() {
    let mut host = Host::new();
    host.load(1, Some(0)).unwrap();
    assert!(host.begin_quote());
    let late = host.outstanding.take().unwrap();
    host.now += LEASE;
    host.feed(Input::Tick).unwrap();
    host.attest(false);
    let (nonce, evidence) = (late.nonce, Box::new(evidence(&late, false)));
    host.feed(Input::EvidenceArrived { nonce, evidence })
        .unwrap();
    assert_eq!(host.engine.trust().name(), "trusted");
}

#[test]
fn a_lower_serial_changes_nothing() {
    let mut host = Host::new();
    host.load(3, Some(0)).unwrap();
    let before = host.kernel.table.clone();
    assert!(host.load(2, Some(0)).is_err());
    assert_eq!(host.kernel.table, before);
    assert_eq!(host.engine.highest().unwrap().0, 3);
    assert!(matches!(host.records.last(), Some(Kind::PolicyRefused(_))));
    host.load(3, Some(0)).unwrap();
    host.load(4, Some(0)).unwrap();
}

#[test]
fn a_policy_whose_record_fails_is_not_in_force() {
    let mut host = Host::new();
    host.load(1, Some(0)).unwrap();
    host.fail = (host.performed..host.performed + 40).collect();
    let generation = host.kernel.table.as_ref().unwrap().generation;
    drop(host.load(2, Some(0)));
    assert_eq!(host.kernel.table.as_ref().unwrap().generation, generation);
    assert_eq!(host.engine.highest().unwrap().0, 1);
}

#[test]
fn the_lease_ends_by_itself_and_the_engine_says_so() {
    let mut host = Host::new();
    host.load(1, Some(0)).unwrap();
    host.attest(false);
    host.now = SECOND + LEASE;
    assert!(!host.allows(b"p"), "the kernel needs nobody for this");
    host.feed(Input::Tick).unwrap();
    assert!(host.engine.trust().has(&Cause::QuoteLate));
}

#[test]
fn everything_revoked_stays_so_until_a_policy_is_loaded_by_hand() {
    let mut host = Host::new();
    host.load(1, Some(0)).unwrap();
    host.attest(false);
    host.feed(Input::Revoke {
        target: Target::All,
        reason: "drill".into(),
        uid: 0,
    })
    .unwrap();
    assert!(!host.allows(b"p") && !host.allows(b"h"));
    host.now += 11 * SECOND;
    host.feed(Input::Tick).unwrap();
    host.attest(false);
    assert!(
        !host.allows(b"p") && !host.allows(b"h"),
        "a quote does not undo an operator"
    );
    host.load(1, None).unwrap();
    assert!(!host.allows(b"h"), "a restart does not undo an operator");
    host.load(2, Some(0)).unwrap();
    assert!(host.allows(b"h"));
}

#[test]
fn a_revoked_workload_stays_revoked_under_the_next_policy() {
    let mut host = Host::new();
    host.load(1, Some(0)).unwrap();
    let target = Target::Workload("helper".into());
    host.feed(Input::Revoke {
        target,
        reason: "drill".into(),
        uid: 0,
    })
    .unwrap();
    assert!(!host.allows(b"h"));
    host.load(2, Some(0)).unwrap();
    assert!(!host.allows(b"h"));
}

#[test]
fn observing_is_bounded_by_policy_and_by_time() {
    let mut host = Host::new();
    host.load(1, Some(0)).unwrap();
    let observe = |zone: &str, seconds| Input::Observe {
        zone: zone.into(),
        span: Span::seconds(seconds),
        uid: 0,
    };
    assert!(matches!(
        host.feed(observe("tools", 1)),
        Err(Refused::Denied(_))
    ));
    assert!(matches!(
        host.feed(observe("agents", 61)),
        Err(Refused::Denied(_))
    ));
    assert!(matches!(
        host.feed(observe("nowhere", 1)),
        Err(Refused::Invalid(_))
    ));
    host.feed(observe("agents", 60)).unwrap();
    let mode = |host: &Host| {
        let table = host.kernel.table.as_ref().unwrap();
        table
            .rows
            .iter()
            .find(|row| row.roles == 0 && row.key.zone == 1)
            .unwrap()
            .mode
    };
    assert_eq!(mode(&host), governor_common::row::MODE_OBSERVE);
    host.now += 60 * SECOND;
    host.feed(Input::Tick).unwrap();
    assert_eq!(mode(&host), governor_common::row::MODE_ENFORCE);
}

#[test]
fn a_revocation_that_fails_takes_everything_and_is_tried_again() {
    let mut host = Host::new();
    host.load(1, Some(0)).unwrap();
    host.fail = BTreeSet::from([host.performed]);
    let target = Target::Workload("helper".into());
    host.feed(Input::Revoke {
        target,
        reason: "drill".into(),
        uid: 0,
    })
    .unwrap();
    assert!(!host.allows(b"h"), "the class was revoked instead");
    assert!(host.kernel.tombstones.is_empty());
    host.feed(Input::Tick).unwrap();
    assert_eq!(host.kernel.tombstones.len(), 1);
}

#[derive(Clone, Debug)]
enum Move {
    Wait(u64),
    Tick,
    Load(u64, bool),
    Begin,
    Answer(bool),
    Fail,
    Pcrs(bool),
    RevokeAll,
    RevokeHelper,
}

fn moves() -> impl Strategy<Value = Vec<Move>> {
    let step = prop_oneof![
        3 => (1u64..20).prop_map(Move::Wait),
        4 => Just(Move::Tick),
        2 => (1u64..5, any::<bool>()).prop_map(|(serial, by_hand)| Move::Load(serial, by_hand)),
        4 => Just(Move::Begin),
        4 => proptest::bool::weighted(0.2).prop_map(Move::Answer),
        1 => Just(Move::Fail),
        2 => proptest::bool::weighted(0.3).prop_map(Move::Pcrs),
        1 => Just(Move::RevokeAll),
        1 => Just(Move::RevokeHelper),
    ];
    proptest::collection::vec(step, 1..40)
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(CASES) })]

    #[test]
    fn the_kernel_never_allows_more_than_the_evidence(
        moves in moves(),
        fail in proptest::collection::btree_set(0usize..160, 0..6),
    ) {
        let mut host = Host::new();
        host.fail = fail;
        let mut helper_revoked = false;
        for step in moves {
            match step {
                Move::Wait(seconds) => host.now += seconds * SECOND,
                Move::Tick => drop(host.feed(Input::Tick)),
                Move::Load(serial, by_hand) => drop(host.load(serial, by_hand.then_some(0))),
                Move::Begin => {
                    host.begin_quote();
                }
                Move::Answer(changed) => host.answer_quote(changed),
                Move::Fail => {
                    host.outstanding = None;
                    drop(host.feed(Input::QuoteFailed { why: "made to fail".into() }));
                }
                Move::Pcrs(changed) => {
                    if changed && host.engine.watched().is_some() {
                        host.convinced = 0;
                    }
                    drop(host.feed(Input::PcrsRead(pcrs(changed))));
                    // Two of the model's effects in a row may fail; the tick is when they are owed.
                    drop(host.feed(Input::Tick));
                }
                Move::RevokeAll => {
                    host.convinced = 0;
                    let input =
                        Input::Revoke { target: Target::All, reason: "drill".into(), uid: 0 };
                    drop(host.feed(input));
                    drop(host.feed(Input::Tick));
                }
                Move::RevokeHelper => {
                    let target = Target::Workload("helper".into());
                    let input = Input::Revoke { target, reason: "drill".into(), uid: 0 };
                    helper_revoked |= host.feed(input).is_ok();
                    drop(host.feed(Input::Tick));
                }
            }
            if host.allows(b"p") {
                prop_assert!(host.now < host.convinced, "attested work without evidence");
                let against = host.engine.trust().causes().into_keys().find(|cause| {
                    matches!(
                        cause,
                        Cause::EvidenceRejected(_)
                            | Cause::PcrDiffers(_)
                            | Cause::QuoteLate
                            | Cause::OperatorRevoked
                    )
                });
                prop_assert_eq!(against, None, "attested work runs against what the engine knows");
            }
            prop_assert!(!(helper_revoked && host.allows(b"h")), "a revoked workload runs");
        }
    }
}
