//! Taking the gate down, which is the only way it goes.
//!
//! Promises: registers that only a reboot resets are extended first, one of those that the policy quotes and
//! one for each policy before it that had this gate trusted, so the host cannot be trusted again before it
//! reboots, whatever policy is in force by then; if that fails, the gate stays. Then everything is
//! revoked and what runs is stopped as policy says; the record is durable before anything is let go.

use super::{Class, Effect, Engine, Refused};
use crate::{
    attest::PcrSelection,
    lineage::{Disarmed, Kind},
};

/// An operator wants the gate down, and the TPM was asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Disarming {
    reason: String,
    uid: u32,
    pcrs: PcrSelection,
}

impl Engine {
    /// `quoted`: what the kernel remembers of policies that asked for evidence. There may be none in force by
    /// now, or one that asks for other registers. An earlier version told the kernel nothing; the ledger has what
    /// was accepted.
    pub(super) fn disarm(
        &mut self,
        reason: String,
        quoted: Option<PcrSelection>,
        uid: u32,
        effects: &mut Vec<Effect>,
    ) -> Result<String, Refused> {
        if self.disarming.is_some() {
            let why = "the gate is being taken down already";
            return Err(Refused::Invalid(why.into()));
        }
        let in_force = self.watched().map(PcrSelection::lasting);
        let all = [in_force, quoted, self.quoted.clone()];
        let Some(registers) = all.into_iter().flatten().reduce(PcrSelection::union) else {
            self.take_down(reason, uid, None, effects);
            let why =
                "no evidence was asked for since the gate was made: there is nothing to extend";
            return Ok(why.into());
        };
        if !registers.all_last() {
            return Err(Refused::Denied(format!(
                "a policy quoted only registers that can be reset while the host runs ({registers}), so the \
                 host could be trusted again without its gate: have policy quote one of 0 to 15, and reboot"
            )));
        }
        let said = format!("extending PCR {registers}");
        effects.push(Effect::ExtendPcrs(registers.clone()));
        self.disarming = Some(Disarming {
            reason,
            uid,
            pcrs: registers,
        });
        Ok(said)
    }

    /// The TPM's answer.
    pub(super) fn pcrs_extended(&mut self, done: Result<(), String>, effects: &mut Vec<Effect>) {
        let Some(Disarming { reason, uid, pcrs }) = self.disarming.take() else {
            return;
        };
        match done {
            Ok(()) => self.take_down(reason, uid, Some(&pcrs), effects),
            Err(why) => effects.push(Effect::Append(vec![super::records::refusal(
                &format!("disarm: {reason}"),
                &format!("PCR {pcrs} could not be extended: {why}"),
                uid,
            )])),
        }
    }

    fn take_down(
        &mut self,
        reason: String,
        uid: u32,
        pcrs: Option<&PcrSelection>,
        effects: &mut Vec<Effect>,
    ) {
        effects.push(Effect::DropLease);
        effects.push(self.raise(Class::Attested));
        effects.push(self.raise(Class::Policy));
        self.accepted = None;
        self.outstanding = None;
        self.due = None;
        self.stop_all(effects);
        effects.push(Effect::Append(vec![Kind::Disarmed(Disarmed {
            reason,
            uid: Some(uid),
            pcrs: pcrs
                .into_iter()
                .flat_map(PcrSelection::iter)
                .map(u32::from)
                .collect(),
        })]));
        effects.push(Effect::TakeDown);
    }
}
