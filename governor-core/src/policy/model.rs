//! What a policy says, once all of it has been checked.
//!
//! A [`Policy`] cannot be built but by [`super::parse`]; what it hands out is read-only. Every set
//! is already resolved to digests and every default already is the strictest reading.

use std::collections::{BTreeMap, BTreeSet};

use governor_common::row::{
    CLASS_ATTESTED, CLASS_POLICY, MEMORY_ANY, MEMORY_WX, MODE_ENFORCE, MODE_OBSERVE, OPENS_LISTED,
};

use super::{
    egress::Rule,
    error::Diagnostic,
    sets::{Set, is_place},
    sockets::SocketPath,
};
use crate::{
    digest::Digest,
    time::{Span, WallTime},
};

/// From the first moment up to, not including, the second.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Validity {
    pub from: WallTime,
    pub until: WallTime,
}

impl Validity {
    /// Whether `now` lies inside.
    pub fn contains(&self, now: WallTime) -> bool {
        self.from <= now && now < self.until
    }
}

/// What a zone does with a denial.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    Enforce,
    Observe,
}

impl Mode {
    /// The number the kernel knows it by.
    pub const fn number(self) -> u32 {
        match self {
            Self::Enforce => MODE_ENFORCE,
            Self::Observe => MODE_OBSERVE,
        }
    }
}

/// What must stand behind an authorization in a zone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Requires {
    Attestation,
    Policy,
}

impl Requires {
    /// The number the kernel knows it by.
    pub const fn number(self) -> u32 {
        match self {
            Self::Attestation => CLASS_ATTESTED,
            Self::Policy => CLASS_POLICY,
        }
    }
}

/// Which memory may be executable besides authorized files.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Memory {
    WriteXorExecute,
    Any,
}

impl Memory {
    /// The number the kernel knows it by.
    pub const fn number(self) -> u32 {
        match self {
            Self::WriteXorExecute => MEMORY_WX,
            Self::Any => MEMORY_ANY,
        }
    }
}

/// What a workload opens for reading, from mild to strict.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Opens {
    Any,
    /// What is listed for it, in whatever role.
    Listed,
}

impl Opens {
    /// The flag that its rows carry beside roles.
    pub const fn flag(self) -> u32 {
        match self {
            Self::Any => 0,
            Self::Listed => OPENS_LISTED,
        }
    }
}

/// What becomes of what runs in a zone without a label, from mild to strict.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Unlabelled {
    /// It goes on, and executes and sends nothing that is not listed.
    Leave,
    Freeze,
    Kill,
}

/// What happens to running copies, from mild to strict.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum OnRevoke {
    Deny,
    Freeze,
    Quarantine,
    Kill,
}

impl OnRevoke {
    /// The word used in policies and output.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Deny => "deny",
            Self::Freeze => "freeze",
            Self::Quarantine => "quarantine",
            Self::Kill => "kill",
        }
    }
}

/// `[attestation]`: the host appraises itself against one set of reference values.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attestation {
    pub pcrs: BTreeSet<u8>,
    /// Path of the reference values inside the bundle.
    pub reference_file: String,
    /// Content of that file.
    pub reference: String,
    pub every: Span,
    pub lease: Span,
}

/// `[zone.NAME]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Zone {
    /// Relative to the root of the cgroup tree, without a leading slash. Empty: the whole host.
    pub cgroup: String,
    pub mode: Mode,
    pub requires: Requires,
    pub memory: Memory,
    pub opens: Opens,
    /// Bit n set: address family n.
    pub families: u64,
    pub on_revoke: OnRevoke,
    /// How long the operator may have it observed; `None`: not at all.
    pub observe_up_to: Option<Span>,
    /// Whether what was frozen because trust ended goes on by itself when trust returns.
    pub thaw: bool,
    pub unlabelled: Unlabelled,
}

/// Who may start a workload.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Starter {
    /// A parent without a label.
    Operator,
    Workload(String),
}

/// `[workload.NAME]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Workload {
    pub zone: String,
    pub exec: BTreeSet<Digest>,
    pub libraries: BTreeSet<Digest>,
    pub scripts: BTreeSet<Digest>,
    /// What its scripts are handed to, and nobody starts.
    pub interpreters: BTreeSet<Digest>,
    /// What it may open besides.
    pub data: BTreeSet<Digest>,
    /// The stricter of its own and its zone's.
    pub opens: Opens,
    pub started_by: BTreeSet<Starter>,
    /// Names or numbers, as written.
    pub users: BTreeSet<String>,
    pub egress: Vec<Rule>,
    /// Unix sockets outside its zone that it may reach.
    pub sockets: BTreeSet<SocketPath>,
    /// Never wider than the policy's.
    pub validity: Validity,
    /// The stricter of its own and its zone's.
    pub on_revoke: OnRevoke,
}

impl Workload {
    /// Every digest it may use in any role.
    pub fn digests(&self) -> BTreeSet<Digest> {
        self.exec
            .iter()
            .chain(&self.scripts)
            .chain(&self.interpreters)
            .chain(&self.data)
            .chain(&self.libraries)
            .copied()
            .collect()
    }
}

/// What a `[risk.NAME]` counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RiskEvent {
    DeniedExec,
    DeniedMap,
    /// Opening what is not listed, where only that may be opened.
    DeniedOpen,
    DeniedSocket,
    DeniedConnect,
    /// Reaching somebody outside its zone through a Unix socket. Whoever sends it datagrams can bring answers about.
    DeniedPeer,
    /// Reaching for the gate, or for what it leans on.
    DeniedGuard,
    /// An execution that was allowed.
    Spawn,
    /// A connection that was allowed.
    Connect,
}

/// `[events]`: how many denials may be lost before the host is not trusted any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Losses {
    pub denials: u64,
    pub within: Span,
}

/// `[risk.NAME]`: how often a workload may do something before it is stopped.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Risk {
    pub count: u32,
    pub of: RiskEvent,
    pub within: Span,
    pub action: OnRevoke,
}

/// `[survival]`: what must go on running where the whole host is a zone, whatever becomes of trust.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Survival {
    pub exec: BTreeSet<Digest>,
    pub libraries: BTreeSet<Digest>,
    /// `#!` files; their interpreters are in `exec`.
    pub scripts: BTreeSet<Digest>,
    /// Where it may connect besides this host.
    pub egress: Vec<Rule>,
}

impl Survival {
    /// Every digest, in whatever role.
    pub fn digests(&self) -> BTreeSet<Digest> {
        let all = self.exec.iter().chain(&self.libraries).chain(&self.scripts);
        all.copied().collect()
    }
}

/// `[governor]`: what may be the daemon, and what may be loaded into the kernel beside the gate.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Governor {
    /// Programs that may be the daemon. None: the gate does not guard itself.
    pub exec: BTreeSet<Digest>,
    /// What the daemon may map besides what it had mapped when it armed the gate.
    pub libraries: BTreeSet<Digest>,
    /// Kernel modules that may be loaded.
    pub modules: BTreeSet<Digest>,
    /// Kernels and initial file systems that may be loaded for `kexec`.
    pub kexec: BTreeSet<Digest>,
}

/// A checked policy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Policy {
    pub(super) name: String,
    pub(super) serial: u64,
    pub(super) validity: Validity,
    pub(super) governor: Governor,
    pub(super) attestation: Option<Attestation>,
    pub(super) zones: BTreeMap<String, Zone>,
    pub(super) workloads: BTreeMap<String, Workload>,
    pub(super) risks: BTreeMap<String, Risk>,
    pub(super) clock_step: Span,
    pub(super) losses: Option<Losses>,
    pub(super) survival: Survival,
    pub(super) sets: BTreeMap<String, Set>,
    pub(super) warnings: Vec<Diagnostic>,
}

impl Policy {
    pub fn name(&self) -> &str {
        &self.name
    }

    /// At least 1.
    pub fn serial(&self) -> u64 {
        self.serial
    }

    pub fn validity(&self) -> Validity {
        self.validity
    }

    /// What may be the daemon, and what may be loaded into the kernel.
    pub fn governor(&self) -> &Governor {
        &self.governor
    }

    /// Present whenever a zone requires attestation.
    pub fn attestation(&self) -> Option<&Attestation> {
        self.attestation.as_ref()
    }

    pub fn zones(&self) -> &BTreeMap<String, Zone> {
        &self.zones
    }

    pub fn zone(&self, name: &str) -> Option<&Zone> {
        self.zones.get(name)
    }

    /// The whole-host zone, if there is one.
    pub fn host(&self) -> Option<&Zone> {
        self.zones.values().find(|zone| zone.is_host())
    }

    pub fn workloads(&self) -> &BTreeMap<String, Workload> {
        &self.workloads
    }

    pub fn workload(&self, name: &str) -> Option<&Workload> {
        self.workloads.get(name)
    }

    pub fn risks(&self) -> &BTreeMap<String, Risk> {
        &self.risks
    }

    /// How far the wall clock may be set back.
    pub fn clock_step(&self) -> Span {
        self.clock_step
    }

    /// How many denials may be lost; none: the host's trust does not hang on it.
    pub fn losses(&self) -> Option<Losses> {
        self.losses
    }

    pub fn survival(&self) -> &Survival {
        &self.survival
    }

    /// What sets list by a whole path: path and digest.
    pub fn listed_by_path(&self) -> impl Iterator<Item = (&str, Digest)> {
        let listed = self.sets.values().flatten();
        listed
            .filter(|(_, name)| is_place(name))
            .map(|(digest, name)| (name.as_str(), *digest))
    }

    /// What a person should look at although the policy is accepted.
    pub fn warnings(&self) -> &[Diagnostic] {
        &self.warnings
    }
}
