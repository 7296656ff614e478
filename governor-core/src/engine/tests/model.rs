//! A small model of the kernel and the ledger, with effects that can be made to fail.
//!
//! It keeps its own, independent notion of when attested work may run: from an accepted quote until
//! its lease ends or anything speaks against it. The kernel's state, as the effects left it, may
//! never allow more.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use governor_common::{Signal, names::SCOPE_START};

use super::{
    super::*, crash::Copied, crash_moves::kind, disk::Disk, held::Mark, order::check_order,
    policies::policy_of,
};
use crate::{
    attest::{
        composite,
        fixture::{AttestDraft, TestKey},
    },
    lineage::{Broken, Head},
    policy::Taken,
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
    /// Registers that stood for evidence since the gate was made.
    pub(super) quoted: Option<PcrSelection>,
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
    /// What is frozen, and why.
    pub(super) frozen: BTreeMap<Copied, Mark>,
    /// The ledger takes no records until another is begun.
    pub(super) broken: Option<Broken>,
    /// Another was begun, and the kernel was not told.
    pub(super) begun: bool,
    /// The gate was taken down; this daemon does nothing any more.
    pub(super) down: bool,
    /// Kinds of input that were met.
    pub(super) met: BTreeSet<&'static str>,
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
    /// How many of the next stops reach nobody.
    pub(super) lame: usize,
    pub(super) performed: usize,
    /// The register that the TPM was asked to extend.
    pub(super) extending: Option<PcrSelection>,
    /// The TPM did, so nothing that it says convinces anybody before a reboot.
    pub(super) extended: bool,
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
            leased: BTreeSet::new(),
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
            frozen: BTreeMap::new(),
            broken: None,
            begun: false,
            down: false,
            met: BTreeSet::new(),
            dies: None,
            now: SECOND,
            set: 0,
            slept: Span(0),
            wanted: None,
            outstanding: None,
            issued: 0,
            convinced: 0,
            fail: BTreeSet::new(),
            lame: 0,
            performed: 0,
            extending: None,
            extended: false,
            thaws: Vec::new(),
        };
        let engine = made.engine.clone();
        made.perform(&engine, step.effects);
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

    /// What another daemon finds in the kernel.
    pub(super) fn kernel_view(&self) -> KernelView {
        KernelView {
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
            leased: leased(self.kernel.table.iter().flat_map(|table| &table.rows)),
        }
    }

    /// Another daemon, which knows what the kernel holds and nothing from a ledger.
    pub(super) fn restart(&mut self) {
        self.restart_with(Recovered::default());
    }

    /// The same, with what a ledger says.
    pub(super) fn restart_with(&mut self, recovered: Recovered) {
        let (host, kernel) = (self.engine.host().clone(), self.kernel_view());
        let step = Engine::start(self.clock(), host, recovered, &kernel);
        self.perform(&step.next, step.effects);
        self.engine = step.next;
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
        let mut inputs = VecDeque::from([input]);
        let mut answer = None;
        while let Some(input) = inputs.pop_front() {
            self.met.insert(kind(&input));
            let step = self.engine.handle(self.clock(), input);
            check_order(&step.effects);
            let performed = self.perform(&step.next, step.effects);
            self.engine.go_on(step.next, performed.grant_failed);
            inputs.extend(Input::of_failed(performed.failed, performed.told));
            answer.get_or_insert(step.answer);
        }
        answer.unwrap()
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
