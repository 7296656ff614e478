//! Taking the gate down, as far as it needs the TPM and whoever asked for it.

use anyhow::Result;
use governor_core::{attest::PcrSelection, digest::Digest, engine::Input};

use super::{Daemon, FromTpm, answer::settled};
use crate::control::{Answer, Caller, Refusal, proto};

/// What registers are extended with: that no gate stands behind this host any more.
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
        let quoted = match self.hands.gate.quoted() {
            Ok(quoted) => quoted,
            Err(error) => {
                let error = anyhow::Error::new(error)
                    .context("the gate stays: reading which registers stand for evidence");
                drop(reply.send(Err(Refusal::Failed(format!("{error:#}")))));
                return Ok(());
            }
        };
        match settled(self.apply(Input::Disarm {
            reason,
            quoted,
            uid,
        })?) {
            Err(refusal) => drop(reply.send(Err(refusal))),
            Ok(said) if self.hands.down => drop(reply.send(Ok(proto::DisarmReply {
                said,
                pcrs: Vec::new(),
            }))),
            Ok(_) => self.disarming = Some(reply),
        }
        Ok(())
    }

    /// Has the TPM extend registers, all or as far as it gets; an input only if it could not even be asked.
    pub(super) fn begin_extending(&mut self, pcrs: PcrSelection) -> Option<Input> {
        let attester = match self.attester() {
            Ok(attester) => attester,
            Err(error) => return Some(Input::PcrsExtended(Err(format!("{error:#}")))),
        };
        let reply = self.tpm.clone();
        tokio::spawn(async move {
            let mut done = Ok(());
            for pcr in pcrs.iter() {
                let extended = attester.extend(pcr, Digest::of(MEANING)).await;
                done = done.and(extended.map_err(|error| format!("{error:#}")));
            }
            #[cfg(feature = "fault-points")]
            crate::fault::at("extended");
            drop(reply.send(FromTpm::Extended(pcrs, done)).await);
        });
        None
    }

    pub(super) fn extended(&mut self, pcrs: &PcrSelection, done: Result<(), String>) -> Result<()> {
        let failed = done.clone().err();
        let applied = settled(self.apply(Input::PcrsExtended(done))?);
        let Some(reply) = self.disarming.take() else {
            return Ok(());
        };
        let answer = match (failed, applied) {
            (Some(why), _) => Err(Refusal::Denied(format!(
                "the gate stays: PCR {pcrs} could not be extended: {why}"
            ))),
            (None, Err(refusal)) => Err(refusal),
            (None, Ok(_)) if self.hands.down => Ok(proto::DisarmReply {
                said: format!(
                    "PCR {pcrs} says so: this host is not trusted again before it reboots"
                ),
                pcrs: pcrs.iter().map(u32::from).collect(),
            }),
            (None, Ok(_)) => Err(Refusal::Failed("the gate could not be taken down".into())),
        };
        if reply.send(answer).is_err() {
            tracing::warn!("who asked for the gate to be taken down is gone");
        }
        Ok(())
    }
}
