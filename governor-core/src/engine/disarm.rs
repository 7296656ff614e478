//! Taking the gate down, which is the only way it goes.
//!
//! Promises: a register that the policy quotes and that only a reboot resets is extended first, so the
//! host cannot be trusted again before it reboots; if that fails, the gate stays. Then everything is
//! revoked and what runs is stopped as policy says; the record is durable before anything is let go.

use super::{Class, Effect, Engine, Refused};
use crate::lineage::{Disarmed, Kind};

/// Registers above this one can be reset while the host runs, or belong to somebody else.
const LAST_UNTIL_REBOOT: u8 = 15;

/// An operator wants the gate down, and the TPM was asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Disarming {
    reason: String,
    uid: u32,
    pcr: u8,
}

impl Engine {
    pub(super) fn disarm(
        &mut self,
        reason: String,
        uid: u32,
        effects: &mut Vec<Effect>,
    ) -> Result<String, Refused> {
        if self.disarming.is_some() {
            let why = "the gate is being taken down already";
            return Err(Refused::Invalid(why.into()));
        }
        let Some(selection) = self.watched() else {
            self.take_down(reason, uid, None, effects);
            return Ok("no policy asks for evidence: there is nothing to extend".into());
        };
        let lasting = selection.iter().filter(|pcr| *pcr <= LAST_UNTIL_REBOOT);
        let Some(pcr) = lasting.max() else {
            return Err(Refused::Denied(format!(
                "the policy quotes only registers that can be reset while the host runs ({selection}), \
                 so the host could be trusted again without its gate: quote one of 0 to \
                 {LAST_UNTIL_REBOOT}"
            )));
        };
        effects.push(Effect::ExtendPcr(pcr));
        self.disarming = Some(Disarming { reason, uid, pcr });
        Ok(format!("extending PCR {pcr}"))
    }

    /// The TPM's answer.
    pub(super) fn pcr_extended(&mut self, done: Result<(), String>, effects: &mut Vec<Effect>) {
        let Some(Disarming { reason, uid, pcr }) = self.disarming.take() else {
            return;
        };
        match done {
            Ok(()) => self.take_down(reason, uid, Some(pcr), effects),
            Err(why) => effects.push(Effect::Append(vec![super::records::refusal(
                &format!("disarm: {reason}"),
                &format!("PCR {pcr} could not be extended: {why}"),
                uid,
            )])),
        }
    }

    fn take_down(&mut self, reason: String, uid: u32, pcr: Option<u8>, effects: &mut Vec<Effect>) {
        effects.push(Effect::DropLease);
        effects.push(self.raise(Class::Attested));
        effects.push(self.raise(Class::Policy));
        self.accepted = None;
        self.outstanding = None;
        self.due = None;
        self.stop_all(|_, _| true, effects);
        effects.push(Effect::Append(vec![Kind::Disarmed(Disarmed {
            reason,
            uid: Some(uid),
            pcr: pcr.map(u32::from),
        })]));
        effects.push(Effect::TakeDown);
    }
}
