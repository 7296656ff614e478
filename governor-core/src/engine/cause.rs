//! Why trust is not there, and what clears each reason.
//!
//! Promises: every cause has a code that leads back to it, one thing that clears it, and words that
//! say how. A cause that no quote can contradict is an operator's to clear, and locks the host.

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
