//! Why trust is not there, and what clears each reason.
//!
//! Promises: every cause has a code that leads back to it, one thing that clears it, and words that
//! say how. A cause that no quote can contradict is an operator's to clear, and locks the host.

use std::collections::BTreeMap;

use governor_common::Signal;

use crate::lineage::LOCK_UNREADABLE;

/// Why trust is not there.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Cause {
    /// No quote was accepted since the daemon started.
    NotAttested,
    /// The evidence was rejected; the appraisal's own code.
    EvidenceRejected(String),
    /// A register read between quotes differs from the reference.
    PcrDiffers(u8),
    /// No accepted quote within the lease.
    QuoteLate,
    /// The TPM answered with an error.
    TpmUnavailable,
    /// Records cannot be made durable.
    LedgerUnwritable,
    /// The ledger contradicts itself.
    LedgerContradiction,
    /// There was a ledger, and it is gone or another file lies in its place.
    LedgerMissing,
    /// Whether the ledger is the one that was left cannot be told: it could not be read at the start.
    LedgerUnreadable,
    /// The ledger is shorter than it was, or another one.
    LedgerRolledBack,
    /// Whether the host was locked cannot be told: what is kept of it beside the ledger does not check, could
    /// not be read at the start, or is gone.
    LockUnreadable,
    /// The gate itself was reached for; what the kernel saw.
    Tampered(Signal),
    /// The TPM was reset while this host ran on, so its registers may have been filled again.
    TpmReset,
    /// The wall clock was set back further than policy allows.
    ClockStepped,
    /// The host slept, and nobody saw what was done to it meanwhile.
    Suspended,
    /// More denials were lost than policy allows.
    EventsLost,
    /// Somebody with a credential had denials lifted.
    GlassBroken,
    /// The kernel's maps could not be written.
    GateFault,
    /// What runs could not be reached.
    StopFailed,
    /// No policy has been accepted.
    NoPolicy,
    /// The policy's validity is over.
    PolicyExpired,
    /// An operator revoked everything.
    OperatorRevoked,
}

/// What clears a cause.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Clears {
    /// An accepted appraisal of fresh evidence.
    Appraisal,
    /// A policy that is accepted.
    Policy,
    /// A record that becomes durable.
    Record,
    /// A table that the kernel takes.
    Table,
    /// Trying again, which happens by itself.
    Retry,
    /// Its own end, which comes by itself; an operator may have it sooner.
    End,
    /// An operator who says so, on the record: `governor unlock`.
    Operator,
}

impl Cause {
    /// What clears it.
    pub const fn clears(&self) -> Clears {
        match self {
            Self::NotAttested
            | Self::EvidenceRejected(_)
            | Self::PcrDiffers(_)
            | Self::QuoteLate
            | Self::TpmUnavailable
            | Self::Suspended
            | Self::EventsLost => Clears::Appraisal,
            Self::LedgerUnwritable => Clears::Record,
            Self::GateFault => Clears::Table,
            Self::StopFailed => Clears::Retry,
            Self::GlassBroken => Clears::End,
            Self::NoPolicy | Self::PolicyExpired | Self::OperatorRevoked => Clears::Policy,
            Self::LedgerContradiction
            | Self::LedgerMissing
            | Self::LedgerUnreadable
            | Self::LedgerRolledBack
            | Self::LockUnreadable
            | Self::Tampered(_)
            | Self::TpmReset
            | Self::ClockStepped => Clears::Operator,
        }
    }

    /// The name used in output and records.
    pub fn code(&self) -> String {
        match self {
            Self::NotAttested => "not-attested".into(),
            Self::EvidenceRejected(code) => format!("evidence-rejected:{code}"),
            Self::PcrDiffers(pcr) => format!("pcr-differs:{pcr}"),
            Self::QuoteLate => "quote-late".into(),
            Self::TpmUnavailable => "tpm-unavailable".into(),
            Self::LedgerUnwritable => "ledger-unwritable".into(),
            Self::LedgerContradiction => "ledger-contradiction".into(),
            Self::LedgerMissing => "ledger-missing".into(),
            Self::LedgerUnreadable => "ledger-unreadable".into(),
            Self::LedgerRolledBack => "ledger-rolled-back".into(),
            Self::LockUnreadable => LOCK_UNREADABLE.into(),
            Self::Tampered(signal) => format!("tampered:{}", signal.name()),
            Self::TpmReset => "tpm-reset".into(),
            Self::ClockStepped => "clock-stepped".into(),
            Self::Suspended => "suspended".into(),
            Self::EventsLost => "events-lost".into(),
            Self::GlassBroken => "break-glass".into(),
            Self::GateFault => "gate-fault".into(),
            Self::StopFailed => "stop-failed".into(),
            Self::NoPolicy => "no-policy".into(),
            Self::PolicyExpired => "policy-expired".into(),
            Self::OperatorRevoked => "operator-revoked".into(),
        }
    }

    /// What an operator can do about it.
    pub const fn remedy(&self) -> &'static str {
        match self {
            Self::NotAttested => "the first accepted quote clears this; it is asked for by itself",
            Self::EvidenceRejected(_) => {
                "an accepted quote clears this: bring the host back to the referenced state \
                 (usually a reboot), or load a policy whose reference values match it"
            }
            Self::PcrDiffers(_) => {
                "a quote in which the register matches clears this: a register only goes back by a \
                 reboot; if the change is wanted, sign a policy with new reference values"
            }
            Self::QuoteLate | Self::TpmUnavailable => {
                "an accepted quote clears this: see `governor doctor` and the journal for the TPM"
            }
            Self::LedgerUnwritable => {
                "the next record that becomes durable clears this: free space on the ledger's file \
                 system or mend its permissions"
            }
            Self::LedgerContradiction => {
                "an operator clears this: keep the ledger as evidence, find out who wrote to it, then \
                 `governor unlock --reason R`, which begins a new one that names it"
            }
            Self::LedgerMissing => {
                "an operator clears this: find out who removed the ledger, then `governor unlock \
                 --reason R`, which begins a new one that names the last head of the old"
            }
            Self::LedgerUnreadable => {
                "a daemon that starts and can read it clears this: mend the disk or the permissions and \
                 restart the daemon; where it is lost, an operator clears this by `governor unlock \
                 --reason R`, which begins a new one that names the last head known"
            }
            Self::LedgerRolledBack => {
                "an operator clears this: keep the ledger as evidence, find out who put it there, then \
                 `governor unlock --reason R`, which begins a new one that names the last head known"
            }
            Self::LockUnreadable => {
                "an operator clears this: the host may have been locked when a record of it could not be \
                 written; find out why from the last records and the journal, then `governor unlock \
                 --reason R`"
            }
            Self::Tampered(_) => {
                "an operator clears this: the gate was reached for by somebody it is not for; find out \
                 who, reboot if in doubt, then `governor unlock --reason R`"
            }
            Self::TpmReset => {
                "an operator clears this: reboot, then `governor unlock --reason R`; without a reboot it \
                 comes back with the next quote"
            }
            Self::ClockStepped => {
                "an operator clears this: set the clock right, then `governor unlock --reason R`, which \
                 takes the clock as it stands"
            }
            Self::Suspended => {
                "an accepted quote clears this; it is asked for by itself when the host wakes"
            }
            Self::EventsLost => {
                "an accepted quote clears this: it signs the ledger that says how many are missing"
            }
            Self::GlassBroken => {
                "its end clears this, by itself or by `governor break-glass --end --reason R`; after \
                 it a fresh quote is due"
            }
            Self::GateFault => "a table that the kernel accepts clears this: reload the policy",
            Self::StopFailed => {
                "reaching what runs clears this: it is tried again all the time; the journal says \
                 what could not be stopped"
            }
            Self::NoPolicy => "a signed policy clears this: `governor policy reload DIR`",
            Self::PolicyExpired => "a policy that is valid now clears this: sign a newer serial",
            Self::OperatorRevoked => "an operator reloading a signed policy clears this",
        }
    }
}

/// Causes with the details an operator reads.
pub type Causes = BTreeMap<Cause, String>;

impl Cause {
    /// The cause with this code, if there is one.
    pub fn from_code(code: &str) -> Option<Self> {
        if let Some(found) = PLAIN.iter().find(|cause| cause.code() == code) {
            return Some(found.clone());
        }
        let (kind, of) = code.split_once(':')?;
        match kind {
            "evidence-rejected" => Some(Self::EvidenceRejected(of.to_owned())),
            "pcr-differs" => of.parse().ok().map(Self::PcrDiffers),
            "tampered" => Signal::from_name(of).map(Self::Tampered),
            _ => None,
        }
    }

    /// Whether it is an operator's to clear, so that the host is locked while it stands.
    pub fn locks(&self) -> bool {
        self.clears() == Clears::Operator
    }

    /// Whether another start finds it by itself, if it is still so.
    pub(super) fn is_of_this_start(&self) -> bool {
        [Self::LedgerUnreadable, Self::LockUnreadable].contains(self)
    }
}

/// A cause and its detail as records carry them.
pub(super) fn written(cause: &Cause, detail: &str) -> String {
    if detail.is_empty() {
        cause.code()
    } else {
        format!("{}: {detail}", cause.code())
    }
}

/// The causes that lock, out of the reasons that a record of `locked` lists. A record that lists
/// none that is known here still locks.
pub(super) fn locking(reasons: &[String]) -> Causes {
    let mut causes = Causes::new();
    for reason in reasons {
        let (code, detail) = reason.split_once(": ").unwrap_or((reason, ""));
        if let Some(cause) = Cause::from_code(code).filter(Cause::locks) {
            causes.insert(cause, detail.to_owned());
        }
    }
    if causes.is_empty() && !reasons.is_empty() {
        causes.insert(Cause::LedgerContradiction, reasons.join(", "));
    }
    causes
}

/// Causes that say all in their name.
const PLAIN: &[Cause] = &[
    Cause::NotAttested,
    Cause::QuoteLate,
    Cause::TpmUnavailable,
    Cause::LedgerUnwritable,
    Cause::LedgerContradiction,
    Cause::LedgerMissing,
    Cause::LedgerUnreadable,
    Cause::LedgerRolledBack,
    Cause::LockUnreadable,
    Cause::TpmReset,
    Cause::ClockStepped,
    Cause::Suspended,
    Cause::EventsLost,
    Cause::GlassBroken,
    Cause::GateFault,
    Cause::StopFailed,
    Cause::NoPolicy,
    Cause::PolicyExpired,
    Cause::OperatorRevoked,
];

/// One cause of each kind, by walking a match that must name them all.
#[cfg(test)]
pub(super) fn every() -> Vec<Cause> {
    fn after(cause: &Cause) -> Option<Cause> {
        Some(match cause {
            Cause::NotAttested => Cause::EvidenceRejected("ak-not-listed".into()),
            Cause::EvidenceRejected(_) => Cause::PcrDiffers(7),
            Cause::PcrDiffers(_) => Cause::QuoteLate,
            Cause::QuoteLate => Cause::TpmUnavailable,
            Cause::TpmUnavailable => Cause::LedgerUnwritable,
            Cause::LedgerUnwritable => Cause::LedgerContradiction,
            Cause::LedgerContradiction => Cause::LedgerMissing,
            Cause::LedgerMissing => Cause::LedgerUnreadable,
            Cause::LedgerUnreadable => Cause::LedgerRolledBack,
            Cause::LedgerRolledBack => Cause::LockUnreadable,
            Cause::LockUnreadable => Cause::Tampered(Signal::MapTouched),
            Cause::Tampered(_) => Cause::TpmReset,
            Cause::TpmReset => Cause::ClockStepped,
            Cause::ClockStepped => Cause::Suspended,
            Cause::Suspended => Cause::EventsLost,
            Cause::EventsLost => Cause::GlassBroken,
            Cause::GlassBroken => Cause::GateFault,
            Cause::GateFault => Cause::StopFailed,
            Cause::StopFailed => Cause::NoPolicy,
            Cause::NoPolicy => Cause::PolicyExpired,
            Cause::PolicyExpired => Cause::OperatorRevoked,
            Cause::OperatorRevoked => return None,
        })
    }
    std::iter::successors(Some(Cause::NotAttested), after).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_leads_back_to_its_cause() {
        for cause in every() {
            assert_eq!(Cause::from_code(&cause.code()), Some(cause));
        }
        assert_eq!(Cause::from_code("tampered:nothing"), None);
        assert_eq!(Cause::from_code("trusted"), None);
    }

    #[test]
    fn a_lock_is_read_back_with_its_details_and_never_as_nothing() {
        let reasons = |of: &[&str]| of.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>();
        let read = locking(&reasons(&[
            "tampered:map-touched: 3 times: once more",
            "quote-late: gone",
            "ledger-missing",
        ]));
        let expected = Causes::from([
            (
                Cause::Tampered(Signal::MapTouched),
                "3 times: once more".to_owned(),
            ),
            (Cause::LedgerMissing, String::new()),
        ]);
        assert_eq!(read, expected);
        let unknown = locking(&reasons(&["of-a-later-version"]));
        assert!(unknown.contains_key(&Cause::LedgerContradiction));
        assert!(locking(&[]).is_empty());
    }
}
