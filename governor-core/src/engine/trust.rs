//! Trust, its reasons, and what clears each.
//!
//! A state is left by consuming it; there is no way back to `Trusted` but through
//! [`Trust::appraised`]. A reason that a quote can contradict is cleared by an accepted appraisal;
//! the others name the one thing that clears them. Time, restart and reload clear nothing that
//! they do not themselves disprove.

use std::collections::BTreeMap;

use super::cause::{Cause, Clears};
use crate::time::BootTime;

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
