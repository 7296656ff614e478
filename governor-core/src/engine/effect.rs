//! What the engine wants done, as plain values.
//!
//! Each effect says whether it grants or takes away. The executor stops at the first failure of a
//! step that grants, and carries on through failures of one that takes away; either way the failure
//! comes back as an input.

use std::{collections::BTreeMap, sync::Arc};

use governor_common::{
    Row, RowKey, Signal,
    net::{EgressKey, EgressRow},
    row::TombstoneKey,
};

use super::{
    Guard,
    hold::{Grip, Running, Thaw},
    verdicts::{LEFT_OUT, LOST_DENIALS},
};
use crate::{
    attest::PcrSelection, digest::Digest, lineage::Kind, policy::OnRevoke, time::BootTime,
};

/// A table as the kernel will read it, with what belongs to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Table {
    pub generation: u32,
    pub rows: Vec<Row>,
    /// Destination, prefix length of the address in bits, ports.
    pub egress: Vec<(EgressKey, u32, EgressRow)>,
    /// cgroup path below the hierarchy's root, zone.
    pub zone_paths: Vec<(String, u32)>,
    /// No policy says anything of zones: as far as the whole host is one now, it stays one, with
    /// what survives in it; and which zones need a lease is not forgotten.
    pub grants_nothing: bool,
}

/// Which epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Class {
    Attested,
    Policy,
}

/// One thing to do.
#[derive(Clone, Debug, PartialEq)]
pub enum Effect {
    /// Make records durable, all of them or none.
    Append(Vec<Kind>),
    /// Keep the accepted policy's bytes where a restart finds them.
    KeepPolicy(Digest),
    /// Have the gate guard itself, with this content beside it.
    Guard(Box<Guard>),
    /// Put a table in force, whole.
    InstallTable(Arc<Table>),
    /// Let the kernel allow attested work until `deadline`.
    SetLease {
        deadline: u64,
        trips: u64,
        epoch: u64,
    },
    /// End the lease now.
    DropLease,
    /// Revoke everything of a class: its epoch becomes `to`.
    RaiseEpoch { class: Class, to: u64 },
    /// Note in the kernel that an operator revoked everything, or that this is over.
    MarkRevokedAll(bool),
    /// Have the kernel lift denials until then. Not done in a step in which a tombstone failed: what
    /// was revoked is not lifted.
    BreakGlass { until: BootTime },
    /// Have it lift denials no longer than that.
    EndBreakGlass { at: BootTime },
    /// What came of break-glass was dealt with, and written down.
    ForgetBreakGlass,
    /// Revoke one content in one zone, whatever the table says.
    AddTombstone(TombstoneKey),
    /// Take rows out of the table in force.
    RemoveRows(Vec<RowKey>),
    /// Reach what already runs in a zone: all of it, or one workload.
    Stop {
        zone: u32,
        workload: Option<u32>,
        action: OnRevoke,
        /// What is frozen for it does not go on for the return of trust alone: it is not for want of trust.
        barred: bool,
    },
    /// Take note in the kernel that signals were dealt with. Only once the record before it in the
    /// same step is durable.
    AcknowledgeSignals(BTreeMap<Signal, u64>),
    /// Keep beside the ledger why the host is locked, where that needs no room: it cannot be written down, and
    /// whatever is locked was taken away before.
    KeepLock(Vec<String>),
    /// Nothing is locked any more, and the record of it is durable.
    ForgetLock,
    /// Put the ledger aside that takes no more records and begin another with these.
    BeginLedger(Vec<Kind>),
    /// Hold running copies in a zone because an operator says so.
    Hold {
        zone: u32,
        running: Running,
        grip: Grip,
    },
    /// What is held in a zone is not to go on for the return of trust alone.
    Bar { zone: u32 },
    /// Let held work go on, as far as it is allowed.
    Thaw(Box<Thaw>),
    /// Have the TPM extend registers with what says that the gate goes. Answered as an input.
    ExtendPcrs(PcrSelection),
    /// Detach every program and remove every pin.
    TakeDown,
    /// Issue a nonce and have the TPM quote.
    RequestQuote {
        selection: PcrSelection,
        policy: Digest,
    },
}

/// Whether this record takes something back that spoke against the host or what runs there.
pub(super) const fn lets_go(kind: &Kind) -> bool {
    matches!(kind, Kind::Unlocked(_) | Kind::Resumed(_))
}

impl Effect {
    /// Whether this can make the kernel allow something it did not allow before, or lets trust be had
    /// again: a lock that could not be written off still stands, and so does a hold. Break-glass waits for nothing: it is
    /// there for when no record can be written.
    pub fn grants(&self) -> bool {
        match self {
            Self::Append(kinds) => kinds.iter().any(lets_go),
            Self::BeginLedger(_)
            | Self::ForgetLock
            | Self::InstallTable(_)
            | Self::Guard(_)
            | Self::TakeDown
            | Self::SetLease { .. }
            | Self::KeepPolicy(_)
            | Self::Thaw(_)
            | Self::MarkRevokedAll(false) => true,
            Self::AcknowledgeSignals(_)
            | Self::KeepLock(_)
            | Self::DropLease
            | Self::BreakGlass { .. }
            | Self::EndBreakGlass { .. }
            | Self::ForgetBreakGlass
            | Self::MarkRevokedAll(true)
            | Self::RaiseEpoch { .. }
            | Self::AddTombstone(_)
            | Self::RemoveRows(_)
            | Self::Stop { .. }
            | Self::Hold { .. }
            | Self::Bar { .. }
            | Self::ExtendPcrs(_)
            | Self::RequestQuote { .. } => false,
        }
    }

    /// Whether it may be done later than the rest of its step: verdicts, and numbers that stand for some.
    /// They tell of what the kernel did long since.
    pub fn can_wait(&self) -> bool {
        let told = |kind: &Kind| match kind {
            Kind::Verdict(_) => true,
            Kind::Gap(gap) => [LOST_DENIALS, LEFT_OUT].contains(&gap.what.as_str()),
            Kind::Start(_)
            | Kind::PolicyLoaded(_)
            | Kind::PolicyRefused(_)
            | Kind::Appraisal(_)
            | Kind::TrustChange(_)
            | Kind::Grant(_)
            | Kind::Revocation(_)
            | Kind::ModeChange(_)
            | Kind::Lost(_)
            | Kind::Refusal(_)
            | Kind::Signalled(_)
            | Kind::Unlocked(_)
            | Kind::Begun(_)
            | Kind::RiskMet(_)
            | Kind::Held(_)
            | Kind::Resumed(_)
            | Kind::Reached(_)
            | Kind::Disarmed(_)
            | Kind::Unlabelled(_)
            | Kind::GlassBroken(_)
            | Kind::GlassEnded(_) => false,
        };
        matches!(self, Self::Append(kinds) if kinds.iter().all(told))
    }

    /// Whether something hangs on the records before it.
    pub fn hangs_on_records(&self) -> bool {
        self.grants() || matches!(self, Self::AcknowledgeSignals(_))
    }

    /// Whether this stops one workload for what it did: nothing else bars what it stops.
    pub const fn is_of_risk(&self) -> bool {
        matches!(self, Self::Stop { barred: true, .. })
    }

    /// Whether this stops what was never judged.
    pub const fn is_of_unlabelled(&self) -> bool {
        matches!(
            self,
            Self::Hold {
                running: Running::Unlabelled,
                ..
            }
        )
    }

    /// Whether this takes something away: it must happen, if not now then later.
    pub const fn revokes(&self) -> bool {
        match self {
            Self::DropLease
            | Self::EndBreakGlass { .. }
            | Self::MarkRevokedAll(true)
            | Self::RaiseEpoch { .. }
            | Self::AddTombstone(_)
            | Self::RemoveRows(_)
            | Self::Stop { .. }
            | Self::Hold { .. }
            | Self::Bar { .. } => true,
            Self::Append(_)
            | Self::AcknowledgeSignals(_)
            | Self::KeepLock(_)
            | Self::ForgetLock
            | Self::BeginLedger(_)
            | Self::KeepPolicy(_)
            | Self::Thaw(_)
            | Self::MarkRevokedAll(false)
            | Self::Guard(_)
            | Self::InstallTable(_)
            | Self::SetLease { .. }
            | Self::BreakGlass { .. }
            | Self::ForgetBreakGlass
            | Self::ExtendPcrs(_)
            | Self::TakeDown
            | Self::RequestQuote { .. } => false,
        }
    }

    /// Whether this reaches what runs.
    pub const fn stops(&self) -> bool {
        match self {
            Self::Stop { .. } | Self::Hold { .. } | Self::Bar { .. } => true,
            Self::Append(_)
            | Self::Guard(_)
            | Self::AcknowledgeSignals(_)
            | Self::KeepLock(_)
            | Self::ForgetLock
            | Self::BeginLedger(_)
            | Self::KeepPolicy(_)
            | Self::InstallTable(_)
            | Self::SetLease { .. }
            | Self::DropLease
            | Self::BreakGlass { .. }
            | Self::EndBreakGlass { .. }
            | Self::ForgetBreakGlass
            | Self::MarkRevokedAll(_)
            | Self::RaiseEpoch { .. }
            | Self::AddTombstone(_)
            | Self::RemoveRows(_)
            | Self::Thaw(_)
            | Self::ExtendPcrs(_)
            | Self::TakeDown
            | Self::RequestQuote { .. } => false,
        }
    }

    /// The name used in records and logs.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Append(_) => "append",
            Self::KeepPolicy(_) => "keep-policy",
            Self::Guard(_) => "guard",
            Self::InstallTable(_) => "install-table",
            Self::SetLease { .. } => "set-lease",
            Self::DropLease => "drop-lease",
            Self::BreakGlass { .. } => "break-glass",
            Self::EndBreakGlass { .. } => "end-break-glass",
            Self::ForgetBreakGlass => "forget-break-glass",
            Self::MarkRevokedAll(_) => "mark-revoked-all",
            Self::RaiseEpoch { .. } => "raise-epoch",
            Self::AddTombstone(_) => "add-tombstone",
            Self::RemoveRows(_) => "remove-rows",
            Self::Stop { .. } => "stop",
            Self::AcknowledgeSignals(_) => "acknowledge-signals",
            Self::KeepLock(_) => "keep-lock",
            Self::ForgetLock => "forget-lock",
            Self::BeginLedger(_) => "begin-ledger",
            Self::Hold { .. } => "hold",
            Self::Bar { .. } => "bar",
            Self::Thaw(_) => "thaw",
            Self::ExtendPcrs(_) => "extend-pcrs",
            Self::TakeDown => "take-down",
            Self::RequestQuote { .. } => "request-quote",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{engine::records, lineage::Start};

    #[test]
    fn only_verdicts_and_what_stands_for_some_can_wait() {
        let verdict = || records::verdict(b"x");
        let numbers = [records::gap(LOST_DENIALS, 1), records::gap(LEFT_OUT, 2)];
        let of = |kinds: &[Kind]| Effect::Append(kinds.to_vec()).can_wait();
        assert!(of(&[verdict()]) && of(&numbers));
        // What is owed is tried, and whether it is written says that the disk takes records again.
        let others = [
            records::gap(crate::engine::LOST_RECORDS, 1),
            records::lost("x", "y"),
            Kind::Start(Start::default()),
        ];
        for other in others {
            assert!(!of(std::slice::from_ref(&other)) && !of(&[verdict(), other]));
        }
        let begins = Effect::BeginLedger(vec![verdict()]);
        assert!(!begins.can_wait() && begins.hangs_on_records());
        assert!(Effect::AcknowledgeSignals(BTreeMap::new()).hangs_on_records());
        assert!(!Effect::DropLease.hangs_on_records());
    }
}
