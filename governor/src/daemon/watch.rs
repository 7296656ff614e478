//! What may be done to the gate and to the ledger while nobody asks anything.
//!
//! Looked at before anything is granted at start, and each time the rings are drained. It only
//! reports: what it means is decided in the engine.

use anyhow::{Context as _, Result};
use governor_core::{
    engine::Input,
    time::{BootTime, Span},
};

use tokio::sync::mpsc;

use super::{Daemon, FromTpm, answer::settled, clock};
use crate::{
    canary::Report,
    control::{Caller, Refusal, proto},
};

/// How long the canary may say nothing.
const PATIENCE: Span = Span::seconds(15);

/// When the canary was last refused by the gate, and what it said since.
#[derive(Debug)]
pub(super) struct Heard {
    refused: BootTime,
    /// How often, as the kernel counts.
    times: u64,
    since: Option<String>,
}

impl Heard {
    pub(super) const fn now(at: BootTime, times: u64) -> Self {
        Self {
            refused: at,
            times,
            since: None,
        }
    }
}

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

    /// What the canary met.
    pub(super) fn canary_reported(&mut self, report: Report) -> Result<()> {
        match report {
            // Others refuse with the same number: a mark of fanotify does, before any program is asked.
            Report::Refused => match self.hands.gate.canaries_refused()? {
                times if times > self.canary.times => {
                    self.canary = Heard::now(clock::now()?.boot, times);
                }
                _ => self.canary.since = Some("it is refused, and not by the gate".to_owned()),
            },
            Report::Passed => drop(self.apply(Input::CanaryPassed)?),
            Report::Unclear(why) => {
                tracing::warn!("the canary met neither refusal nor success: {why}");
                self.canary.since = Some(why);
            }
        }
        Ok(())
    }

    /// What the TPM answered while the loop was busy was not late.
    pub(super) fn hear_tpm(&mut self, answers: &mut mpsc::Receiver<FromTpm>) -> Result<()> {
        while let Ok(answer) = answers.try_recv() {
            self.tpm_answered(answer)?;
        }
        Ok(())
    }

    /// A canary that nobody hears is as good as one that was let through, only not by intent. What it said
    /// while the loop was busy is heard first.
    pub(super) fn miss_canary(&mut self, said: &mut mpsc::Receiver<Report>) -> Result<()> {
        while let Ok(report) = said.try_recv() {
            self.canary_reported(report)?;
        }
        if clock::now()?.boot < self.canary.refused.after(PATIENCE) {
            return Ok(());
        }
        let why = self.canary.since.clone();
        let why = why.unwrap_or_else(|| "it says nothing".to_owned());
        self.apply(Input::CanarySilent(why))?;
        Ok(())
    }

    /// Also after a record failed, before anybody is told that the disk is at fault.
    pub(super) fn watch_ledger(&mut self) -> Result<()> {
        if let Some(broken) = self.hands.ledger.check() {
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
        let taken = self.hands.gate.taken().map_err(|error| error.to_string());
        let cleared = match settled(self.apply(Input::Unlock { reason, taken, uid })?) {
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
