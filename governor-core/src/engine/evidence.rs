//! Evidence: what an answer of the TPM comes to.
//!
//! Promises: only the answer to the challenge that stands is looked at; trust comes from an accepted
//! appraisal whose record precedes its lease; registers read between quotes only take away.

use std::{collections::BTreeMap, sync::Arc};

use super::{
    Cause, Effect, Engine, Outstanding, Trust,
    clocks::{self, ClockDoubt},
    records,
};
use crate::{
    attest::{self, Evidence, Nonce},
    digest::Digest,
    time::ClockReading,
};

impl Engine {
    pub(super) fn evidence_arrived(
        &mut self,
        now: ClockReading,
        nonce: Nonce,
        evidence: Evidence,
        effects: &mut Vec<Effect>,
    ) {
        // It may have been asked for before the host slept, and made after.
        self.watch_sleep(now, effects);
        // Evidence nobody asked for, or for a challenge that was given up, is nobody's evidence: it
        // grants nothing, and says nothing against a host that answers the current one.
        let asked = self
            .outstanding
            .take_if(|outstanding| outstanding.challenge.nonce == nonce);
        let Some(outstanding) = asked else {
            return;
        };
        let Some((attestation, digest)) = self.attestation() else {
            return;
        };
        if outstanding.challenge.policy != digest {
            return;
        }
        let appraised = attest::appraise(
            &evidence,
            &outstanding.challenge,
            &attestation.selection,
            &attestation.reference,
        );
        let deadline = outstanding.at.after(attestation.lease);
        if let Ok(result) = &appraised
            && let Err(doubt) = self.clocks.judge(&clocks::of(result))
        {
            let (cause, why) = match doubt {
                ClockDoubt::Reset(why) => (Cause::TpmReset, why),
                ClockDoubt::Backwards(why) => {
                    (Cause::EvidenceRejected("tpm-clock-backwards".into()), why)
                }
            };
            self.rejected(now, cause, &why, &evidence, &outstanding, effects);
            return;
        }
        match appraised {
            Ok(result) if now.boot < deadline => {
                self.clocks.accept(clocks::of(&result));
                let before = self.trust.name();
                self.trust = self.trust.clone().appraised(now.boot, deadline);
                let mut kinds = vec![records::appraisal(
                    &evidence,
                    &outstanding.challenge,
                    outstanding.epoch,
                    Ok((&result, deadline, self.clocks.slept())),
                )];
                if self.trust.name() != before {
                    kinds.push(records::trust_change(before, &self.trust));
                }
                let trusted = matches!(self.trust, Trust::Trusted(_));
                if trusted && self.table_epochs != self.epochs {
                    match self.table(now) {
                        Ok(table) => {
                            kinds.push(records::grant(&table, digest, self.epochs));
                            effects.push(Effect::Append(kinds));
                            effects.push(Effect::InstallTable(Arc::new(table)));
                        }
                        Err(why) => {
                            effects.push(Effect::Append(kinds));
                            self.degrade(now, Cause::GateFault, why, effects);
                            return;
                        }
                    }
                } else {
                    effects.push(Effect::Append(kinds));
                }
                if trusted {
                    self.withdrawn = false;
                    self.tpm_error = None;
                    self.due = Some(deadline);
                    effects.push(Effect::SetLease {
                        deadline: deadline.0,
                        trips: outstanding.challenge.trips,
                        epoch: outstanding.epoch,
                    });
                    self.accepted = Some((Arc::new(evidence), outstanding));
                }
            }
            Ok(_) => self.degrade(
                now,
                Cause::QuoteLate,
                "the quote came after the lease it could have granted".into(),
                effects,
            ),
            Err(rejection) => {
                let cause = Cause::EvidenceRejected(rejection.code().to_owned());
                let why = rejection.to_string();
                self.rejected(now, cause, &why, &evidence, &outstanding, effects);
            }
        }
    }

    fn rejected(
        &mut self,
        now: ClockReading,
        cause: Cause,
        why: &str,
        evidence: &Evidence,
        outstanding: &Outstanding,
        effects: &mut Vec<Effect>,
    ) {
        let known = self.trust.has(&cause);
        self.degrade(now, cause, why.to_owned(), effects);
        if !known {
            effects.push(Effect::Append(vec![records::appraisal(
                evidence,
                &outstanding.challenge,
                outstanding.epoch,
                Err(why),
            )]));
        }
    }

    /// A TPM that fails is asked again; the lease is what it has for answering. The failure of a
    /// challenge that was given up does not end the one that stands.
    pub(super) fn quote_failed(
        &mut self,
        now: ClockReading,
        nonce: Option<Nonce>,
        why: String,
        effects: &mut Vec<Effect>,
    ) {
        self.outstanding
            .take_if(|outstanding| nonce.is_none_or(|nonce| outstanding.challenge.nonce == nonce));
        if self.tpm_error.as_ref() != Some(&why) {
            effects.push(Effect::Append(vec![records::lost("request-quote", &why)]));
        }
        self.tpm_error = Some(why.clone());
        if !matches!(self.trust, Trust::Trusted(_)) && !self.trust.has(&Cause::TpmUnavailable) {
            let before = self.trust.name();
            self.doubt(now, Cause::TpmUnavailable, why);
            effects.push(Effect::Append(vec![records::trust_change(
                before,
                &self.trust,
            )]));
        }
    }

    pub(super) fn pcrs_read(
        &mut self,
        now: ClockReading,
        values: &BTreeMap<u8, Digest>,
        effects: &mut Vec<Effect>,
    ) {
        let Some((attestation, _)) = self.attestation() else {
            return;
        };
        let reference = Arc::clone(&attestation.reference);
        for (pcr, value) in values {
            if attestation_quotes(self, *pcr) && reference.pcr(*pcr) != Some(value) {
                let cause = Cause::PcrDiffers(*pcr);
                if !self.trust.has(&cause) {
                    let detail = format!("PCR {pcr} is `{value}`");
                    self.degrade(now, cause, detail, effects);
                }
            }
        }
    }
}

fn attestation_quotes(engine: &Engine, pcr: u8) -> bool {
    engine
        .watched()
        .is_some_and(|selection| selection.contains(pcr))
}
