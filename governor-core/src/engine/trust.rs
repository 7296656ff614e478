//! Trust, its reasons, and what clears each.
//!
//! A state is left by consuming it; there is no way back to `Trusted` but through
//! [`Trust::appraised`], and none out of `Locked` but an operator's word. A reason that a quote can
//! contradict is cleared by an accepted appraisal; the others name the one thing that clears them.
//! Time, restart and reload clear nothing that they do not themselves disprove. The whole of it is
//! drawn in `docs/trust.md`, and a test holds the drawing against this file.

use super::cause::{Cause, Causes, Clears};
use crate::time::BootTime;

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
    /// Where every start begins: whatever stood before, nothing has been shown yet. What locked the
    /// host stands on.
    pub fn begin(now: BootTime, locked: Causes) -> Self {
        if locked.is_empty() {
            let causes = Causes::from([(Cause::NotAttested, String::new())]);
            Self::Unattested(Doubted { since: now, causes })
        } else {
            Self::Locked(Doubted {
                since: now,
                causes: locked,
            })
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
                    // What could not be stopped runs, whatever the evidence says.
                    !matches!(cause.clears(), Clears::Appraisal | Clears::Record)
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

    /// The lease ends sooner than it was given for.
    #[must_use]
    pub fn until(self, deadline: BootTime) -> Self {
        match self {
            Self::Trusted(trusted) => Self::Trusted(Trusted {
                deadline: trusted.deadline.min(deadline),
                ..trusted
            }),
            other @ (Self::Unattested(_) | Self::Degraded(_) | Self::Locked(_)) => other,
        }
    }

    /// Something speaks against trust. What is an operator's to clear locks.
    #[must_use]
    pub fn doubt(self, now: BootTime, cause: Cause, detail: String) -> Self {
        let locks = cause.locks();
        let doubted = |doubted: Doubted| {
            let Doubted { since, mut causes } = doubted;
            causes.insert(cause, detail);
            Doubted { since, causes }
        };
        let nothing = Doubted {
            since: now,
            causes: Causes::new(),
        };
        match self {
            Self::Locked(before) => Self::Locked(doubted(before)),
            Self::Trusted(_) if locks => Self::Locked(doubted(nothing)),
            Self::Unattested(before) | Self::Degraded(before) if locks => {
                let causes = before.causes;
                Self::Locked(doubted(Doubted { since: now, causes }))
            }
            Self::Trusted(_) => Self::Degraded(doubted(nothing)),
            Self::Unattested(before) => Self::Unattested(doubted(before)),
            Self::Degraded(before) => Self::Degraded(doubted(before)),
        }
    }

    /// As [`Self::doubt`], by something that was seen on this host and takes its authorizations: it
    /// is not merely that nothing was shown yet.
    #[must_use]
    pub fn lose(self, now: BootTime, cause: Cause, detail: String) -> Self {
        match self.doubt(now, cause, detail) {
            Self::Unattested(doubted) => Self::Degraded(doubted),
            Self::Trusted(trusted) => Self::Trusted(trusted),
            Self::Degraded(doubted) => Self::Degraded(doubted),
            Self::Locked(doubted) => Self::Locked(doubted),
        }
    }

    /// What was shown ends every cause that it clears. Never ends in `Trusted`: when nothing is
    /// left, evidence is what is missing. An operator's word ends the lock and nothing else.
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
            Self::Locked(doubted) if by == Clears::Operator => {
                let mut left = clear(doubted);
                left.causes.insert(Cause::NotAttested, String::new());
                Self::Degraded(left)
            }
            Self::Locked(doubted) => Self::Locked(clear(doubted)),
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
        let trust = Trust::begin(NOW, Causes::new());
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
        let trust = Trust::begin(NOW, Causes::new())
            .appraised(NOW, LATER)
            .doubt(NOW, Cause::OperatorRevoked, String::new())
            .appraised(NOW, LATER);
        assert_eq!(trust.name(), "degraded");
        let trust = trust.cleared(Clears::Policy);
        assert_eq!(trust.name(), "degraded");
        assert_eq!(trust.appraised(NOW, LATER).name(), "trusted");
    }

    #[test]
    fn nothing_but_an_operator_unlocks_and_then_a_quote_is_missing() {
        let trust = Trust::begin(NOW, Causes::new())
            .appraised(NOW, LATER)
            .doubt(NOW, Cause::PolicyExpired, String::new())
            .doubt(NOW, Cause::LedgerMissing, "gone".into());
        assert_eq!(trust.name(), "locked");
        let trust = trust
            .appraised(NOW, LATER)
            .cleared(Clears::Policy)
            .cleared(Clears::Appraisal)
            .cleared(Clears::Record)
            .cleared(Clears::Table)
            .cleared(Clears::Retry)
            .lose(NOW, Cause::QuoteLate, String::new());
        assert_eq!(trust.name(), "locked");
        let trust = trust.cleared(Clears::Operator);
        assert_eq!(trust.name(), "degraded");
        assert!(trust.has(&Cause::NotAttested) && trust.has(&Cause::QuoteLate));
        assert_eq!(trust.appraised(NOW, LATER).name(), "trusted");
    }
}
