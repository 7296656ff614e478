//! Holding by hand and going on: what each asks of the engine, and what its caller is told.
//!
//! Answers are sent after the effects. What stays held although it was meant is a denial, unless
//! something else of what was meant goes on.

use anyhow::Result;
use governor_core::engine::{self, Grip, Input};

use super::{Daemon, answer::settled};
use crate::control::{Caller, Refusal, Target, proto};

impl Daemon {
    pub(super) fn hold(
        &mut self,
        target: Target,
        grip: Grip,
        reason: String,
        caller: &Caller,
    ) -> Result<Result<proto::HoldReply, Refusal>> {
        if let Err(refusal) = self.governs_nothing(caller) {
            return Ok(Err(refusal));
        }
        let applied = self.apply(Input::Hold {
            target: meant(target),
            grip,
            reason,
            uid: caller.uid,
        })?;
        let stopped = applied.reached.stopped;
        let record = self.hands.ledger.head().size.saturating_sub(1);
        Ok(settled(applied).map(|_| proto::HoldReply {
            frozen: stopped.frozen as u64,
            quarantined: stopped.quarantined as u64,
            killed: stopped.killed as u64,
            closed: stopped.closed as u64,
            record,
        }))
    }

    pub(super) fn let_go(
        &mut self,
        target: Target,
        reason: String,
        caller: &Caller,
    ) -> Result<Result<proto::ResumeReply, Refusal>> {
        if let Err(refusal) = self.governs_nothing(caller) {
            return Ok(Err(refusal));
        }
        let applied = self.apply(Input::Resume {
            target: meant(target),
            reason,
            uid: caller.uid,
        })?;
        let thawed = applied.reached.thawed;
        let record = self.hands.ledger.head().size.saturating_sub(1);
        Ok(settled(applied).and_then(|said| {
            if thawed.thawed == 0 && thawed.kept > 0 {
                return Err(Refusal::Denied(format!(
                    "{} cgroups stay held: each holds something that is not authorized now; see \
                     `governor explain PID`, and kill what should not run",
                    thawed.kept
                )));
            }
            Ok(proto::ResumeReply {
                thawed: thawed.thawed as u64,
                kept: thawed.kept as u64,
                record,
                said,
            })
        }))
    }
}

/// The same, in the engine's words.
pub(super) fn meant(target: Target) -> engine::Target {
    match target {
        Target::Workload(name) => engine::Target::Workload(name),
        Target::Zone(name) => engine::Target::Zone(name),
        Target::Digest(digest) => engine::Target::Digest(digest),
        Target::All => engine::Target::All,
    }
}
