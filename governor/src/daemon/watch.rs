//! What may be done to the gate and to the ledger while nobody asks anything.
//!
//! Looked at before anything is granted at start, and each time the rings are drained. It only
//! reports: what it means is decided in the engine.

use anyhow::{Context as _, Result};
use governor_core::engine::Input;

use super::{Daemon, answer::settled};
use crate::control::{Caller, Refusal, proto};

impl Daemon {
    /// Signals that nobody dealt with, and a ledger that is not the one that was written.
    pub(super) fn watch(&mut self) -> Result<()> {
        // A daemon that cannot see is no better than none: the lease runs out.
        let seen = self.hands.gate.signals().context("reading the signals")?;
        if !seen.is_empty() {
            self.apply(Input::Signals(seen))?;
        }
        self.watch_ledger()
    }

    /// Also after a record failed, before anybody is told that the disk is at fault.
    pub(super) fn watch_ledger(&mut self) -> Result<()> {
        if let Some(broken) = self.hands.ledger.check().cloned() {
            self.apply(Input::LedgerBroken(broken))?;
        }
        Ok(())
    }

    pub(super) fn unlock(
        &mut self,
        reason: String,
        caller: &Caller,
    ) -> Result<Result<proto::UnlockReply, Refusal>> {
        if let Err(refusal) = self.governs_nothing(caller) {
            return Ok(Err(refusal));
        }
        let uid = caller.uid;
        let cleared = match settled(self.apply(Input::Unlock { reason, uid })?) {
            Ok(cleared) => cleared,
            Err(refusal) => return Ok(Err(refusal)),
        };
        tracing::warn!(%caller, "unlocked: {cleared}");
        if self.engine.policy().is_none() {
            // Without a ledger the kept policy could not be put in force.
            self.resume()?;
        }
        Ok(Ok(proto::UnlockReply {
            cleared,
            record: self.hands.ledger.head().size.saturating_sub(1),
        }))
    }
}
