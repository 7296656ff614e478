//! Break-glass, as far as somebody asks for it and is told.
//!
//! Promises: whoever has denials lifted is named in the journal, louder than anything else there, also
//! when the ledger takes no record; a caller is told whether the record is durable. Decides nothing.

use anyhow::{Context as _, Result};
use governor_core::{
    engine::{Input, PATIENCE, Request},
    time::ClockReading,
};

use super::{Applied, Daemon, answer::settled, clock};
use crate::control::{Caller, Refusal, proto};

impl Daemon {
    pub(super) fn glass_challenge(
        &mut self,
        request: Request,
        caller: &Caller,
    ) -> Result<Result<proto::GlassChallengeReply, Refusal>> {
        if let Err(refusal) = self.governs_nothing(caller) {
            return Ok(Err(refusal));
        }
        let mut nonce = [0; 32];
        getrandom::fill(&mut nonce).context("making a nonce")?;
        tracing::warn!(%caller, "asked for a challenge to break the glass for {request}");
        let uid = caller.uid;
        let applied = self.apply(Input::GlassAsked {
            request,
            nonce,
            uid,
        })?;
        Ok(
            settled(applied).map(|challenge| proto::GlassChallengeReply {
                challenge,
                patience_seconds: PATIENCE.as_seconds(),
            }),
        )
    }

    pub(super) fn break_glass(
        &mut self,
        request: Request,
        signature: Vec<u8>,
        caller: &Caller,
    ) -> Result<Result<proto::BreakGlassReply, Refusal>> {
        if let Err(refusal) = self.governs_nothing(caller) {
            return Ok(Err(refusal));
        }
        let uid = caller.uid;
        let asked = request.to_string();
        let applied = self.apply(Input::GlassSigned {
            request,
            signature,
            uid,
        })?;
        if applied.answer.is_err() {
            tracing::error!(%caller, "refused to break the glass for {asked}");
            return Ok(Err(refused(applied)));
        }
        let Some(glass) = self.engine.broken_glass() else {
            // The kernel was not told.
            return Ok(Err(refused(applied)));
        };
        let until = clock::rfc3339(clock::now()?, glass.until);
        let key = glass.key.clone();
        let unwritten = self.unwritten(&applied);
        // Whatever becomes of the ledger, here it stands.
        tracing::error!(
            %caller,
            key,
            until,
            reason = glass.reason.as_str(),
            unwritten,
            "THE GLASS IS BROKEN: denials are lifted for {asked}"
        );
        Ok(Ok(proto::BreakGlassReply {
            until,
            key,
            unwritten,
        }))
    }

    pub(super) fn end_break_glass(
        &mut self,
        reason: String,
        caller: &Caller,
    ) -> Result<Result<proto::EndBreakGlassReply, Refusal>> {
        if let Err(refusal) = self.governs_nothing(caller) {
            return Ok(Err(refusal));
        }
        let uid = caller.uid;
        let applied = self.apply(Input::GlassMended { reason, uid })?;
        let unwritten = self.unwritten(&applied);
        if applied.answer.is_err() || (unwritten.is_empty() && applied.failed.is_some()) {
            return Ok(Err(refused(applied)));
        }
        tracing::warn!(%caller, unwritten, "ended break-glass");
        Ok(Ok(proto::EndBreakGlassReply {
            frozen: applied.reached.stopped.frozen as u64,
            quarantined: applied.reached.stopped.quarantined as u64,
            killed: applied.reached.stopped.killed as u64,
            unwritten,
        }))
    }

    /// What there is to say about it.
    pub(super) fn glass_status(&self, now: ClockReading) -> proto::BreakGlass {
        let (keys, impossible) = match &self.engine.host().glass_keys {
            Ok(keys) => (keys.fingerprints().collect(), String::new()),
            Err(why) => (Vec::new(), why.clone()),
        };
        let status = proto::BreakGlass {
            impossible,
            keys,
            refused: self.engine.refused_glass(),
            owed: self.engine.owes_glass(),
            ..proto::BreakGlass::default()
        };
        let Some(glass) = self.engine.broken_glass() else {
            return status;
        };
        proto::BreakGlass {
            left_ms: now.boot.until(glass.until).0.div_ceil(1_000_000),
            until: clock::rfc3339(now, glass.until),
            reason: glass.reason.clone(),
            uid: glass.uid,
            key: glass.key.clone(),
            ..status
        }
    }

    /// Why a record of it is owed, if one is.
    fn unwritten(&self, applied: &Applied) -> String {
        let owed = self.engine.owes_glass();
        let failed = applied.failed.clone().filter(|_| owed);
        failed.unwrap_or_default()
    }
}

/// Why it was not done, or not all of it.
fn refused(applied: Applied) -> Refusal {
    let done = || Refusal::Failed("the kernel was not told".into());
    settled(applied).err().unwrap_or_else(done)
}
