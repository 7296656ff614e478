//! What the engine can be told.
//!
//! Every variant is plain data; whatever it was read from, parsed bytes and clock readings come in
//! with it. Nothing here is a callback.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use governor_common::Signal;

use crate::{
    attest::{Challenge, Evidence, Nonce, PcrSelection},
    digest::Digest,
    lineage::{Broken, Unlabelled},
    policy::{Taken, VerifiedPolicy},
    time::{BootTime, Span},
};

/// One input.
#[derive(Clone, Debug)]
pub enum Input {
    /// A policy whose signature and content were verified. `uid`: who asked; none: the daemon found
    /// it where it had kept it.
    PolicyOffered {
        policy: Arc<VerifiedPolicy>,
        users: BTreeMap<String, u32>,
        uid: Option<u32>,
    },
    /// A policy that did not get that far.
    PolicyRefused {
        why: String,
        digest: Option<Digest>,
        uid: Option<u32>,
    },
    /// The kept policy, which is offered next, would shut the operator out of this host as it is now.
    HostShutOut,
    /// There is no kept policy to go on with.
    NoPolicyKept,
    /// A nonce was issued; epoch and, in the challenge, `trips` were read before it.
    QuoteStarted {
        challenge: Box<Challenge>,
        epoch: u64,
        at: BootTime,
    },
    /// The evidence that was made for the challenge with this nonce.
    EvidenceArrived {
        nonce: Nonce,
        evidence: Box<Evidence>,
    },
    /// The TPM did not answer, or with an error.
    /// With the nonce, if one was issued.
    QuoteFailed { nonce: Option<Nonce>, why: String },
    /// Registers read between quotes.
    PcrsRead(BTreeMap<u8, Digest>),
    /// An operator relaxes a zone for a while.
    Observe { zone: String, span: Span, uid: u32 },
    /// An operator takes authorizations back.
    Revoke {
        target: Target,
        reason: String,
        uid: u32,
    },
    /// What the kernel counted against the gate beyond what was acknowledged.
    Signals(BTreeMap<Signal, u64>),
    /// The canary was executed: the gate let through what it must refuse.
    CanaryPassed,
    /// The canary says nothing any more, and why as far as it is known.
    CanarySilent(String),
    /// An operator wants the gate taken down.
    Disarm {
        reason: String,
        /// The registers that the kernel remembers as standing for evidence.
        quoted: Option<PcrSelection>,
        uid: u32,
    },
    /// Somebody wants to sign for break-glass; a nonce that was never used.
    GlassAsked {
        request: super::Request,
        nonce: [u8; 32],
        uid: u32,
    },
    /// Somebody signed: an armored signature over the challenge that is open.
    GlassSigned {
        request: super::Request,
        signature: Vec<u8>,
        uid: u32,
    },
    /// An operator ends break-glass.
    GlassMended { reason: String, uid: u32 },
    /// What the TPM made of extending the registers that were asked for.
    PcrsExtended(Result<(), String>),
    /// The ledger is gone, or not the one that was written.
    LedgerBroken(Broken),
    /// An operator has looked at what locked the host.
    Unlock {
        reason: String,
        /// The numbers that the kernel holds, or why nobody can say.
        taken: Result<Taken, String>,
        uid: u32,
    },
    /// Somebody runs in these zones of the policy in force, and carries no label. `news`: what was not told of
    /// them before.
    UnlabelledFound {
        zones: BTreeSet<String>,
        news: Vec<Unlabelled>,
    },
    /// What they run, or ran.
    UnlabelledMeasured(Vec<Unlabelled>),
    /// An operator holds running copies; what may be started is not touched.
    Hold {
        target: Target,
        grip: super::Grip,
        reason: String,
        uid: u32,
    },
    /// An operator lets held copies go on.
    Resume {
        target: Target,
        reason: String,
        uid: u32,
    },
    /// Quote now instead of when it is due.
    Reattest,
    /// Verdicts that left the rings, as bytes, and what is missing since the last batch: `lost` denials, and
    /// `missed` of the others.
    Verdicts {
        denied: Vec<Vec<u8>>,
        allowed: Vec<Vec<u8>>,
        lost: u64,
        missed: u64,
    },
    /// Verdicts that an earlier daemon counted and ended before their number was written down.
    LeftOut(u64),
    /// An effect could not be carried out.
    EffectFailed {
        effect: Box<super::Effect>,
        error: String,
    },
    /// Stops of one step could not be carried out, one after the other. `told`: the records of that step, which
    /// are durable, say so too ([`Engine::also_lost`](super::Engine::also_lost)).
    StopsFailed {
        failed: Vec<(super::Effect, String)>,
        told: bool,
    },
    /// Time passed.
    Tick,
}

impl Input {
    /// What the engine is told of the effects of one step that failed, in their order. `told`: the records of the
    /// step say it of stops among so many of the first.
    pub fn of_failed(failed: Vec<(super::Effect, String)>, told: usize) -> Vec<Self> {
        let mut inputs = Vec::new();
        for (position, (effect, error)) in failed.into_iter().enumerate() {
            if !effect.stops() {
                let effect = Box::new(effect);
                inputs.push(Self::EffectFailed { effect, error });
                continue;
            }
            let said = position < told;
            match inputs.last_mut() {
                Some(Self::StopsFailed { failed, told }) if *told == said => {
                    failed.push((effect, error));
                }
                // Another input, or none: a step has no more of these than it has effects.
                Some(_) | None => inputs.push(Self::StopsFailed {
                    failed: vec![(effect, error)],
                    told: said,
                }),
            }
        }
        inputs
    }
}

/// What is revoked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    Workload(String),
    Zone(String),
    Digest(Digest),
    All,
}

/// Why the engine did not do what was asked. Nothing changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refused {
    /// Policy or trust does not allow it.
    Denied(String),
    /// What was asked for does not exist or makes no sense.
    Invalid(String),
    /// A signature does not verify.
    Unverified(String),
}

impl Refused {
    /// The reason, for people.
    pub fn into_reason(self) -> String {
        match self {
            Self::Denied(why) | Self::Invalid(why) | Self::Unverified(why) => why,
        }
    }
}
