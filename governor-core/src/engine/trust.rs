//! Trust, its reasons, and what clears each.
//!
//! A state is left by consuming it; there is no way back to `Trusted` but through
//! [`Trust::appraised`]. A reason that a quote can contradict is cleared by an accepted appraisal;
//! the others name the one thing that clears them. Time, restart and reload clear nothing that
//! they do not themselves disprove.

use std::collections::BTreeMap;

use crate::time::BootTime;

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
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
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
    /// An operator starting a new ledger.
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
            | Self::TpmUnavailable => Clears::Appraisal,
            Self::LedgerUnwritable => Clears::Record,
            Self::GateFault => Clears::Table,
            Self::StopFailed => Clears::Retry,
            Self::NoPolicy | Self::PolicyExpired | Self::OperatorRevoked => Clears::Policy,
            Self::LedgerContradiction => Clears::Operator,
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
                "an operator clears this: keep the ledger as evidence, move it away, restart"
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

/// Whether the host is trusted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Trust {
    Unattested(Doubted),
    Trusted(Trusted),
    Degraded(Doubted),
    Locked(Doubted),
}

/// Trust behind a lease.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trusted {
    pub since: BootTime,
    pub deadline: BootTime,
}

/// No trust, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Doubted {
    pub since: BootTime,
    pub causes: Causes,
}

impl Trust {
    /// Where every start begins: whatever stood before, nothing has been shown yet.
    pub fn begin(now: BootTime, locked: &[String]) -> Self {
        if locked.is_empty() {
            let causes = Causes::from([(Cause::NotAttested, String::new())]);
            Self::Unattested(Doubted { since: now, causes })
        } else {
            let causes = Causes::from([(Cause::LedgerContradiction, locked.join(", "))]);
            Self::Locked(Doubted { since: now, causes })
        }
    }

    /// Fresh evidence was accepted, and the record of it will be durable before the lease.
    #[must_use]
    pub fn appraised(self, now: BootTime, deadline: BootTime) -> Self {
        match self {
            Self::Trusted(trusted) => Self::Trusted(Trusted {
                since: trusted.since,
                deadline,
            }),
            Self::Unattested(doubted) | Self::Degraded(doubted) => {
                let mut causes = doubted.causes;
                causes.retain(|cause, _| {
                    !matches!(
                        cause.clears(),
                        Clears::Appraisal | Clears::Record | Clears::Retry
                    )
                });
                if causes.is_empty() {
                    Self::Trusted(Trusted {
                        since: now,
                        deadline,
                    })
                } else {
                    Self::Degraded(Doubted {
                        since: doubted.since,
                        causes,
                    })
                }
            }
            Self::Locked(doubted) => Self::Locked(doubted),
        }
    }

    /// Something speaks against trust.
    #[must_use]
    pub fn doubt(self, now: BootTime, cause: Cause, detail: String) -> Self {
        match self {
            Self::Trusted(_) => Self::Degraded(Doubted {
                since: now,
                causes: Causes::from([(cause, detail)]),
            }),
            Self::Unattested(mut doubted) => {
                doubted.causes.insert(cause, detail);
                Self::Unattested(doubted)
            }
            Self::Degraded(mut doubted) => {
                doubted.causes.insert(cause, detail);
                Self::Degraded(doubted)
            }
            Self::Locked(mut doubted) => {
                doubted.causes.insert(cause, detail);
                Self::Locked(doubted)
            }
        }
    }

    /// What was shown ends every cause that it clears. Never ends in `Trusted`: when nothing is
    /// left, evidence is what is missing.
    #[must_use]
    pub fn cleared(self, by: Clears) -> Self {
        let clear = |doubted: Doubted| {
            let mut causes = doubted.causes;
            causes.retain(|cause, _| cause.clears() != by);
            if causes.is_empty() {
                causes.insert(Cause::NotAttested, String::new());
            }
            Doubted {
                since: doubted.since,
                causes,
            }
        };
        match self {
            Self::Trusted(trusted) => Self::Trusted(trusted),
            Self::Unattested(doubted) => Self::Unattested(clear(doubted)),
            Self::Degraded(doubted) => Self::Degraded(clear(doubted)),
            Self::Locked(doubted) => Self::Locked(doubted),
        }
    }

    /// The name used in output and records.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Unattested(_) => "unattested",
            Self::Trusted(_) => "trusted",
            Self::Degraded(_) => "degraded",
            Self::Locked(_) => "locked",
        }
    }

    /// The causes, none when trusted.
    pub fn causes(&self) -> Causes {
        match self {
            Self::Trusted(_) => Causes::new(),
            Self::Unattested(doubted) | Self::Degraded(doubted) | Self::Locked(doubted) => {
                doubted.causes.clone()
            }
        }
    }

    /// Whether this cause stands.
    pub fn has(&self, cause: &Cause) -> bool {
        match self {
            Self::Trusted(_) => false,
            Self::Unattested(doubted) | Self::Degraded(doubted) | Self::Locked(doubted) => {
                doubted.causes.contains_key(cause)
            }
        }
    }

    /// Since when it is so.
    pub const fn since(&self) -> BootTime {
        match self {
            Self::Trusted(trusted) => trusted.since,
            Self::Unattested(doubted) | Self::Degraded(doubted) | Self::Locked(doubted) => {
                doubted.since
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: BootTime = BootTime(100);
    const LATER: BootTime = BootTime(200);

    #[test]
    fn only_an_appraisal_leads_to_trust() {
        let trust = Trust::begin(NOW, &[]);
        for by in [
            Clears::Appraisal,
            Clears::Policy,
            Clears::Record,
            Clears::Table,
        ] {
            assert_ne!(trust.clone().cleared(by).name(), "trusted");
        }
        assert_eq!(trust.appraised(NOW, LATER).name(), "trusted");
    }

    #[test]
    fn an_appraisal_does_not_clear_what_it_cannot_see() {
        let trust = Trust::begin(NOW, &[])
            .appraised(NOW, LATER)
            .doubt(NOW, Cause::OperatorRevoked, String::new())
            .appraised(NOW, LATER);
        assert_eq!(trust.name(), "degraded");
        let trust = trust.cleared(Clears::Policy);
        assert_eq!(trust.name(), "degraded");
        assert_eq!(trust.appraised(NOW, LATER).name(), "trusted");
    }

    #[test]
    fn nothing_but_an_operator_unlocks() {
        let trust = Trust::begin(NOW, &["ledger-contradiction".into()]);
        let trust = trust
            .appraised(NOW, LATER)
            .cleared(Clears::Policy)
            .cleared(Clears::Operator);
        assert_eq!(trust.name(), "locked");
    }
}
