//! A small model of the kernel and the ledger, with effects that can be made to fail.
//!
//! It keeps its own, independent notion of when attested work may run: from an accepted quote until
//! its lease ends or anything speaks against it. The kernel's state, as the effects left it, may
//! never allow more.

use std::collections::{BTreeMap, BTreeSet};

use governor_common::{Signal, names::SCOPE_START};

use super::{super::*, crash::Copied, disk::Disk, order::check_order, policies::policy_of};
use crate::{
    attest::{
        Nonce, composite,
        fixture::{AttestDraft, TestKey},
    },
    lineage::Head,
    policy::{OnRevoke, Taken},
    time::WallTime,
};

pub(super) const SECOND: u64 = 1_000_000_000;
pub(super) const BOOT: [u8; 16] = [7; 16];
pub(super) const WALL: i64 = 1_800_000_000;
pub(super) const LEASE: u64 = 30 * SECOND;
/// Sequences of moves tried; each takes some milliseconds.
pub(super) const CASES: u32 = 500;
/// The seed of the key that breaks the glass.
pub(super) const GLASS_KEY: u8 = 9;

pub(super) fn clock(boot: u64) -> ClockReading {
    ClockReading {
        wall: WallTime(WALL + i64::try_from(boot / SECOND).unwrap()),
        boot: BootTime(boot),
        suspended: Span(0),
    }
}

pub(super) fn pcrs(changed: bool) -> BTreeMap<u8, Digest> {
    let seven = if changed { 99 } else { 7 };
    BTreeMap::from([(0, Digest::of(&[0])), (7, Digest::of(&[seven]))])
}

pub(super) fn evidence(challenge: &Challenge, changed: bool) -> Evidence {
    evidence_of(challenge, changed, AttestDraft::genuine())
}

/// The same, with what `draft` says of the TPM's clock.
pub(super) fn evidence_of(challenge: &Challenge, changed: bool, draft: AttestDraft) -> Evidence {
    let key = TestKey::ecc();
    let selection = PcrSelection::new([0, 7]).unwrap();
    let draft = AttestDraft {
        extra: challenge.extra_data().bytes().to_vec(),
        banks: vec![(0x000b, vec![0x81, 0, 0])],
        digest: composite(&selection, &pcrs(changed))
            .unwrap()
            .bytes()
            .to_vec(),
        ..draft
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
pub(super) struct Kernel {
    /// The ledger's head as it was noted last, in the kernel and beside the ledger.
    pub(super) noted: Option<Head>,
    pub(super) anchored: Option<Head>,
    pub(super) lease: Option<(u64, u64, u64)>,
    pub(super) attested: u64,
    pub(super) policy: u64,
    pub(super) revoked_all: bool,
    /// Until when denials are lifted.
    pub(super) glass: Option<u64>,
    pub(super) armed: bool,
    pub(super) table: Option<Table>,
    pub(super) tombstones: BTreeSet<TombstoneKey>,
    /// What was counted and not acknowledged.
    pub(super) signals: BTreeMap<Signal, u64>,
}

#[derive(Clone)]
pub(super) struct Host {
    pub(super) engine: Engine,
    pub(super) kernel: Kernel,
    pub(super) disk: Disk,
    /// The ledger's disk takes nothing that needs room.
    pub(super) full: bool,
    /// What is kept of a lock beside the ledger.
    pub(super) kept_lock: Vec<String>,
    /// Policies kept where a restart finds them.
    pub(super) kept: BTreeSet<Digest>,
    /// What runs and was neither frozen nor killed; tests say what starts.
    pub(super) copies: BTreeSet<Copied>,
    /// Points until the daemon ends, if a test wants that.
    pub(super) dies: Option<usize>,
    pub(super) now: u64,
    /// By how many seconds somebody set the wall clock.
    pub(super) set: i64,
    pub(super) slept: Span,
    pub(super) wanted: Option<(Digest, u64, u64)>,
    pub(super) outstanding: Option<Challenge>,
    pub(super) issued: u64,
    /// Until when attested work may run, by the model's own reckoning.
    pub(super) convinced: u64,
    /// Effects to fail, by position from now.
    pub(super) fail: BTreeSet<usize>,
    pub(super) performed: usize,
    /// The register that the TPM was asked to extend.
    pub(super) extending: Option<PcrSelection>,
    /// What was let go on.
    pub(super) thaws: Vec<Thaw>,
}

impl Host {
    pub(super) fn new() -> Self {
        let host = super::super::Host {
            id: Digest::of(b"host"),
            governed_root: "governed.slice".into(),
            opens_judged: OpensJudged::Measured,
            version: "test".into(),
            object: Digest::of(b"object"),
            daemon: Digest::of(b"daemon"),
            glass_keys: Ok(super::glass::keys(&[GLASS_KEY])),
        };
        let kernel = KernelView {
            gate: "fresh".into(),
            epochs: Epochs {
                attested: 0,
                policy: 0,
            },
            generation: 0,
            tombstones: BTreeSet::new(),
            lease: None,
            revoked_all: false,
            boot_id: BOOT,
            armed: false,
            break_glass: None,
            survivors: BTreeSet::new(),
        };
        let step = Engine::start(clock(0), host, Recovered::default(), &kernel);
        let mut made = Self {
            engine: step.next,
            kernel: Kernel::default(),
            disk: Disk::default(),
            full: false,
            kept_lock: Vec::new(),
            kept: BTreeSet::new(),
            copies: BTreeSet::new(),
            dies: None,
            now: SECOND,
            set: 0,
            slept: Span(0),
            wanted: None,
            outstanding: None,
            issued: 0,
            convinced: 0,
            fail: BTreeSet::new(),
            performed: 0,
            extending: None,
            thaws: Vec::new(),
        };
        made.perform(step.effects);
        made
    }

    pub(super) fn clock(&self) -> ClockReading {
        let now = clock(self.now);
        ClockReading {
            wall: WallTime(now.wall.0 + self.set),
            suspended: self.slept,
            ..now
        }
    }

    /// Another daemon, which knows what the kernel holds and nothing from a ledger.
    pub(super) fn restart(&mut self) {
        self.restart_with(Recovered::default());
    }

    /// The same, with what a ledger says.
    pub(super) fn restart_with(&mut self, recovered: Recovered) {
        let kernel = KernelView {
            gate: "adopted".into(),
            epochs: Epochs {
                attested: self.kernel.attested,
                policy: self.kernel.policy,
            },
            generation: 1,
            tombstones: self.kernel.tombstones.clone(),
            lease: self.kernel.lease.map(|(deadline, _, _)| BootTime(deadline)),
            revoked_all: self.kernel.revoked_all,
            boot_id: BOOT,
            armed: self.kernel.armed,
            break_glass: self.kernel.glass.map(BootTime),
            survivors: survivors(self.kernel.table.iter().flat_map(|table| &table.rows)),
        };
        let host = self.engine.host().clone();
        let step = Engine::start(self.clock(), host, recovered, &kernel);
        self.engine = step.next;
        self.perform(step.effects);
    }

    /// An operator's unlocking, with the numbers that the kernel and what runs have now.
    pub(super) fn unlocking(&self, uid: u32) -> Input {
        let mut taken = Taken::default();
        for row in self.kernel.table.iter().flat_map(|table| &table.rows) {
            taken.zone(row.key.zone);
            taken.workload(row.workload);
        }
        for copy in &self.copies {
            taken.zone(copy.zone);
            taken.workload(copy.workload);
        }
        Input::Unlock {
            reason: "looked".into(),
            taken: Ok(taken),
            uid,
        }
    }

    pub(super) fn feed(&mut self, input: Input) -> Result<String, Refused> {
        let step = self.engine.handle(self.clock(), input);
        check_order(&step.effects);
        let (grant_failed, failed) = self.perform(step.effects);
        self.engine.go_on(step.next, grant_failed);
        for (effect, error) in failed {
            let step = self.engine.handle(
                self.clock(),
                Input::EffectFailed {
                    effect: Box::new(effect),
                    error,
                },
            );
            check_order(&step.effects);
            // What fails again is owed; the engine asks again at the next tick.
            let (grant_failed, _) = self.perform(step.effects);
            self.engine.go_on(step.next, grant_failed);
        }
        step.answer
    }

    fn stop(&mut self, zone: u32, running: Running) {
        self.copies.retain(|copy| {
            let meant = match running {
                Running::All => true,
                Running::Workload(workload) => copy.workload == workload,
                Running::Digest(digest) => copy.digest == digest,
                // Every copy has a label.
                Running::Unlabelled => false,
            };
            copy.zone != zone || !meant
        });
    }

    /// One point at which the daemon may end; nothing it does afterwards happens.
    pub(super) fn ended(&mut self) -> bool {
        self.dies = self.dies.map(|points| points.saturating_sub(1));
        self.dies == Some(0)
    }

    pub(super) fn perform(&mut self, effects: Vec<Effect>) -> (bool, Vec<(Effect, String)>) {
        let grants = effects.iter().any(Effect::grants);
        let (mut grant_failed, mut failed) = (false, Vec::new());
        for effect in effects {
            if grant_failed && !effect.revokes() {
                continue;
            }
            if self.ended() {
                break;
            }
            let position = self.performed;
            self.performed += 1;
            let writes = matches!(effect, Effect::Append(_) | Effect::BeginLedger(_));
            if self.fail.contains(&position) || self.full && writes {
                grant_failed |= grants && !effect.revokes();
                failed.push((effect, "made to fail".into()));
                continue;
            }
            match effect {
                Effect::Append(kinds) => self.write(&kinds),
                Effect::BeginLedger(kinds) => {
                    self.disk.begin(self.clock(), &kinds);
                    self.note_head();
                }
                Effect::KeepLock(reasons) => self.kept_lock = reasons,
                Effect::ForgetLock => self.kept_lock.clear(),
                Effect::AcknowledgeSignals(dealt) => {
                    if !failed
                        .iter()
                        .any(|(effect, _)| matches!(effect, Effect::Append(_)))
                    {
                        for (signal, count) in dealt {
                            let left = self.kernel.signals.entry(signal).or_default();
                            *left = left.saturating_sub(count);
                        }
                    }
                }
                Effect::BreakGlass { .. }
                    if failed
                        .iter()
                        .any(|(effect, _)| matches!(effect, Effect::AddTombstone(_))) =>
                {
                    failed.push((effect, "something is not revoked everywhere".into()));
                }
                Effect::BreakGlass { until } => self.kernel.glass = Some(until.0),
                Effect::EndBreakGlass { at } => {
                    self.kernel.glass = self.kernel.glass.map(|until| until.min(at.0));
                }
                Effect::ForgetBreakGlass => self.kernel.glass = None,
                Effect::KeepPolicy(digest) => drop(self.kept.insert(digest)),
                Effect::Stop {
                    action: OnRevoke::Deny,
                    ..
                }
                | Effect::Bar { .. } => {}
                Effect::Stop { zone, workload, .. } => {
                    self.stop(zone, workload.map_or(Running::All, Running::Workload));
                }
                Effect::Hold { zone, running, .. } => self.stop(zone, running),
                Effect::Thaw(thaw) if thaw.attested && !self.lease_holds() => {
                    grant_failed = true;
                    failed.push((Effect::Thaw(thaw), "the lease does not hold".into()));
                }
                Effect::Thaw(thaw) => {
                    for digest in thaw.allowed.values().flatten() {
                        assert!(
                            self.allows_digest(thaw.zone, *digest),
                            "something goes on that might not even be started"
                        );
                    }
                    self.thaws.push(*thaw);
                }
                Effect::InstallTable(table) => {
                    let mut table = Arc::unwrap_or_clone(table);
                    let before = self.kernel.table.take().map(|table| table.rows);
                    table.rows = table.rows_after(before.unwrap_or_default());
                    self.kernel.table = Some(table);
                }
                Effect::Guard(_) => self.kernel.armed = true,
                Effect::ExtendPcrs(pcrs) => self.extending = Some(pcrs),
                Effect::TakeDown => self.kernel = Kernel::default(),
                Effect::SetLease {
                    deadline,
                    trips,
                    epoch,
                } => {
                    self.kernel.lease = Some((deadline, trips, epoch));
                }
                Effect::DropLease => self.kernel.lease = None,
                Effect::MarkRevokedAll(revoked) => self.kernel.revoked_all = revoked,
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
    pub(super) fn begin_quote(&mut self) -> bool {
        let Some((policy, epoch, at)) = self.wanted.take() else {
            return false;
        };
        let challenge = Challenge {
            nonce: Nonce::new(*Digest::of(&self.issued.to_le_bytes()).bytes()),
            host: Digest::of(b"host"),
            policy,
            ledger_size: self.disk.head().size,
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

    pub(super) fn answer_quote(&mut self, changed: bool) {
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

    pub(super) fn attest(&mut self, changed: bool) {
        assert!(self.begin_quote(), "no quote was asked for");
        self.answer_quote(changed);
    }

    /// Waits until a quote is due, and answers it.
    pub(super) fn attest_when_due(&mut self) {
        self.now += 11 * SECOND;
        self.feed(Input::Tick).unwrap();
        self.attest(false);
    }

    pub(super) fn load(&mut self, serial: u64, uid: Option<u32>) -> Result<String, Refused> {
        let policy = policy_of(serial);
        self.feed(Input::PolicyOffered {
            policy,
            users: BTreeMap::new(),
            uid,
        })
    }

    /// Whether the kernel would run `content` in any zone at this moment.
    pub(super) fn allows(&self, content: &[u8]) -> bool {
        let digest = *Digest::of(content).bytes();
        (1..=2).any(|zone| self.allows_digest(zone, digest))
    }

    pub(super) fn lease_holds(&self) -> bool {
        self.kernel.lease.is_some_and(|(deadline, trips, epoch)| {
            self.now < deadline && trips == 0 && epoch == self.kernel.attested
        })
    }

    /// Whether the kernel would run the row of `digest` in this zone at this moment.
    pub(super) fn allows_digest(&self, zone: u32, digest: [u8; 32]) -> bool {
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
                && row.key.zone == zone
                && row.key.scope == SCOPE_START
                && !self.kernel.tombstones.contains(&key)
                && row.not_before <= now
                && now < row.not_after
                && if row.class == governor_common::row::CLASS_ATTESTED {
                    row.epoch == self.kernel.attested && self.lease_holds()
                } else {
                    row.epoch == self.kernel.policy
                }
        })
    }
}
