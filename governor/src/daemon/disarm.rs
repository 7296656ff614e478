//! Taking the gate down, as far as it needs the TPM and whoever asked for it.

use anyhow::Result;
use governor_core::{digest::Digest, engine::Input};

use super::{Daemon, FromTpm, answer::settled};
use crate::control::{Answer, Caller, Refusal, proto};

/// What a register is extended with: that no gate stands behind this host any more.
const MEANING: &[u8] = b"governor-disarmed-v1";

impl Daemon {
    pub(super) fn disarm(
        &mut self,
        reason: String,
        caller: &Caller,
        reply: Answer<proto::DisarmReply>,
    ) -> Result<()> {
        if let Err(refusal) = self.governs_nothing(caller) {
            drop(reply.send(Err(refusal)));
            return Ok(());
        }
        tracing::warn!(%caller, "asked to take the gate down: {reason}");
        let uid = caller.uid;
        match settled(self.apply(Input::Disarm { reason, uid })?) {
            Err(refusal) => drop(reply.send(Err(refusal))),
            Ok(said) if self.hands.down => {
                drop(reply.send(Ok(proto::DisarmReply { said, pcr: None })))
            }
            Ok(_) => self.disarming = Some(reply),
        }
        Ok(())
    }

    /// Has the TPM extend a register; an input only if it could not even be asked.
    pub(super) fn begin_extending(&mut self, pcr: u8) -> Option<Input> {
        let attester = match self.attester() {
            Ok(attester) => attester,
            Err(error) => return Some(Input::PcrExtended(Err(format!("{error:#}")))),
        };
        let reply = self.tpm.clone();
        tokio::spawn(async move {
            let done = attester.extend(pcr, Digest::of(MEANING)).await;
            let done = done.map_err(|error| format!("{error:#}"));
            drop(reply.send(FromTpm::Extended(pcr, done)).await);
        });
        None
    }

    pub(super) fn extended(&mut self, pcr: u8, done: Result<(), String>) -> Result<()> {
        let failed = done.clone().err();
        let applied = settled(self.apply(Input::PcrExtended(done))?);
        let Some(reply) = self.disarming.take() else {
            return Ok(());
        };
        let answer = match (failed, applied) {
            (Some(why), _) => Err(Refusal::Denied(format!(
                "the gate stays: PCR {pcr} could not be extended: {why}"
            ))),
            (None, Err(refusal)) => Err(refusal),
            (None, Ok(_)) if self.hands.down => Ok(proto::DisarmReply {
                said: format!(
                    "PCR {pcr} says so: this host is not trusted again before it reboots"
                ),
                pcr: Some(pcr.into()),
            }),
            (None, Ok(_)) => Err(Refusal::Failed("the gate could not be taken down".into())),
        };
        if reply.send(answer).is_err() {
            tracing::warn!("who asked for the gate to be taken down is gone");
        }
        Ok(())
    }
}
