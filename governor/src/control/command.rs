//! What may be asked of the daemon, as values.
//!
//! Promises: a `Command` that exists is well formed (digests have 32 bytes, addresses parse, a
//! revocation has a reason); whether it is *allowed* is the daemon's to decide. Who asks is what
//! the kernel said. A dropped `reply` answers "the daemon is stopping".

use std::{collections::BTreeMap, net::IpAddr, sync::Arc};

use governor_core::{
    digest::Digest,
    engine::{Grip, Request},
};
use tokio::sync::oneshot;

use super::{peer::Caller, proto};

/// Where the daemon answers.
pub type Answer<T> = oneshot::Sender<Result<T, Refusal>>;

/// One request.
#[derive(Debug)]
pub enum Command {
    Status {
        reply: oneshot::Sender<proto::StatusReply>,
    },
    /// Put this bundle in force: path inside the bundle to content.
    Reload {
        files: BTreeMap<String, Vec<u8>>,
        /// Workloads of the whole host may be stopped for it.
        ends_host: bool,
        caller: Caller,
        reply: Answer<proto::ReloadReply>,
    },
    PolicyShow {
        reply: Answer<proto::PolicyShowReply>,
    },
    Explain {
        question: Question,
        reply: Answer<proto::ExplainReply>,
    },
    /// Zero seconds: stop observing now.
    Observe {
        zone: String,
        seconds: u64,
        caller: Caller,
        reply: Answer<proto::ObserveReply>,
    },
    /// Move `caller.pid` into a new leaf of the zone.
    EnterZone {
        zone: String,
        caller: Caller,
        reply: Answer<proto::EnterZoneReply>,
    },
    Revoke {
        target: Target,
        reason: String,
        caller: Caller,
        reply: Answer<proto::RevokeReply>,
    },
    Disarm {
        reason: String,
        caller: Caller,
        reply: Answer<proto::DisarmReply>,
    },
    Unlock {
        reason: String,
        caller: Caller,
        reply: Answer<proto::UnlockReply>,
    },
    GlassChallenge {
        request: Request,
        caller: Caller,
        reply: Answer<proto::GlassChallengeReply>,
    },
    BreakGlass {
        request: Request,
        signature: Vec<u8>,
        caller: Caller,
        reply: Answer<proto::BreakGlassReply>,
    },
    EndBreakGlass {
        reason: String,
        caller: Caller,
        reply: Answer<proto::EndBreakGlassReply>,
    },
    Hold {
        target: Target,
        grip: Grip,
        reason: String,
        caller: Caller,
        reply: Answer<proto::HoldReply>,
    },
    Resume {
        target: Target,
        reason: String,
        caller: Caller,
        reply: Answer<proto::ResumeReply>,
    },
    /// A nonce has 32 bytes.
    Quote {
        nonce: Option<Vec<u8>>,
        caller: Caller,
        reply: Answer<proto::QuoteReply>,
    },
    Reattest {
        caller: Caller,
        reply: Answer<proto::ReattestReply>,
    },
    /// The events the daemon remembers, oldest first.
    RecentEvents {
        reply: oneshot::Sender<Vec<Arc<proto::GateEvent>>>,
    },
}

/// What is to be explained.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Question {
    /// No zone: every zone.
    Content {
        digest: Digest,
        zone: Option<String>,
    },
    Pid(i32),
    Event(u64),
    Connect {
        address: IpAddr,
        port: u16,
        protocol: proto::Protocol,
        workload: String,
    },
}

/// What is to be revoked, held or resumed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    Workload(String),
    Zone(String),
    Digest(Digest),
    All,
}

/// Why the answer is no.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// The verdict is deny, untrusted or stale.
    Denied(String),
    /// The request makes no sense here: a zone that does not exist, a policy that does not lint.
    Invalid(String),
    /// A signature, proof or quote does not verify.
    Verification(String),
    /// It was tried and failed.
    Failed(String),
}

impl From<Refusal> for tonic::Status {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::Denied(text) => Self::permission_denied(cut(text)),
            Refusal::Invalid(text) => Self::invalid_argument(cut(text)),
            Refusal::Verification(text) => Self::unauthenticated(cut(text)),
            Refusal::Failed(text) => Self::aborted(cut(text)),
        }
    }
}

/// A status travels as a header; one that is too large would be lost instead of shown.
fn cut(mut text: String) -> String {
    if text.len() > MAX_TEXT {
        let end = (0..=MAX_TEXT)
            .rev()
            .find(|&at| text.is_char_boundary(at))
            .unwrap_or(0);
        text.truncate(end);
        text.push_str("\n(and more)");
    }
    text
}

/// Three times this, for percent-encoding, stays below the 16 KiB a client accepts.
const MAX_TEXT: usize = 4096;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_refusals_are_cut_at_a_character() {
        let status = tonic::Status::from(Refusal::Invalid("ä".repeat(5000)));
        assert!(status.message().starts_with("ää"));
        assert!(status.message().ends_with("ä\n(and more)"));
        assert!(status.message().len() <= MAX_TEXT + 11);
        let short = tonic::Status::from(Refusal::Failed("no".into()));
        assert_eq!(short.message(), "no");
    }
}
