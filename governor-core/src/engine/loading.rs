//! A policy that is offered: what it must satisfy, and what comes of it.
//!
//! Promises: a refused policy changes nothing but the record of it; what an operator revoked is not
//! granted by a daemon that merely starts again; a lease does not outlive the reference values it was
//! appraised with.

use std::{collections::BTreeMap, sync::Arc};

use super::{Active, Attestation, Cause, Clears, Effect, Engine, Refused, Trust, records};
use crate::{
    attest::{self, PcrSelection, ReferenceValues},
    policy::{Policy, VerifiedPolicy},
    time::ClockReading,
};

impl Engine {
    pub(super) fn policy_offered(
        &mut self,
        now: ClockReading,
        verified: Arc<VerifiedPolicy>,
        users: BTreeMap<String, u32>,
        uid: Option<u32>,
        effects: &mut Vec<Effect>,
    ) -> Result<String, Refused> {
        let refuse = |effects: &mut Vec<Effect>, why: String| {
            let digest = Some(verified.digest());
            effects.push(Effect::Append(vec![records::policy_refused(
                &why, digest, uid,
            )]));
            Err(Refused::Invalid(why))
        };
        if let Err(error) = verified.check_serial(self.highest) {
            // Stale, not malformed.
            return refuse(effects, error.to_string())
                .map_err(|refused| Refused::Denied(refused.into_reason()));
        }
        let attestation = match Attestation::of(verified.policy()) {
            Ok(attestation) => attestation,
            Err(why) => return refuse(effects, why),
        };
        if let Some((name, zone)) = self.outside(verified.policy()) {
            return refuse(
                effects,
                format!(
                    "zone `{name}` has the cgroup `{zone}`, which is not below `{}`, the only place \
                     this host lets be governed",
                    self.host.governed_root
                ),
            );
        }
        if let Some(why) = self.unguarded(verified.policy()) {
            return refuse(effects, why).map_err(|refused| Refused::Denied(refused.into_reason()));
        }
        let gone = self.active.as_ref().map(|active| {
            let zones = active.verified.policy().zones().iter();
            zones
                .filter(|(name, _)| verified.policy().zone(name).is_none())
                .map(|(name, zone)| (name.clone(), zone.on_revoke))
                .collect::<Vec<_>>()
        });
        self.ids.assign(verified.policy());
        self.active = Some(Active {
            verified: Arc::clone(&verified),
            users,
            attestation,
        });
        let policy = verified.policy();
        self.observed.retain(|zone, _| policy.zone(zone).is_some());
        self.highest = Some((policy.serial(), verified.digest()));
        self.expiry_recorded = false;
        self.risks.begin_anew();
        self.losses = None;
        // What an operator revoked is not granted by a daemon that merely starts again.
        let was_revoked = self.trust.has(&Cause::OperatorRevoked);
        let stays = uid.is_none() && was_revoked;
        self.trust = self
            .trust
            .clone()
            .cleared(Clears::Policy)
            .cleared(Clears::Table);
        if stays {
            self.doubt(now, Cause::OperatorRevoked, String::new());
        }
        let barred = self.bars(uid.is_some() && was_revoked);
        let table = match self.table(now) {
            Ok(table) => table,
            Err(why) => return refuse(effects, why),
        };
        // A lease speaks for the reference values it was appraised with, whatever else is thought of
        // the host by now. What a daemon that starts again finds in force was granted under them.
        if uid.is_some() && !self.evidence_still_convinces() {
            self.accepted = None;
            if self.due.is_some() {
                effects.push(Effect::DropLease);
            }
            if matches!(self.trust, Trust::Trusted(_)) {
                let detail = "the policy asks for other evidence".to_owned();
                self.doubt(now, Cause::NotAttested, detail);
            }
        }
        // A challenge names the policy it was made under.
        self.outstanding = self
            .outstanding
            .take()
            .filter(|outstanding| outstanding.challenge.policy == verified.digest());
        self.next_quote = now.boot;
        let gone = gone.map(|zones| self.stop_gone(&zones)).unwrap_or_default();
        effects.push(Effect::KeepPolicy(verified.digest()));
        effects.push(Effect::Append(vec![
            records::policy_loaded(&verified, &self.ids, uid),
            records::grant(&table, verified.digest(), self.epochs),
        ]));
        let rows = table.rows.len();
        effects.extend(self.guard(policy));
        effects.push(Effect::InstallTable(Box::new(table)));
        if uid.is_some() {
            effects.push(Effect::MarkRevokedAll(false));
        }
        effects.extend(gone);
        effects.extend(barred);
        self.request_quote_if_due(now, effects);
        Ok(format!(
            "policy `{}` serial {} in force, {rows} rows",
            policy.name(),
            policy.serial()
        ))
    }

    /// Whether the evidence behind the running lease also satisfies the policy that is active now.
    fn evidence_still_convinces(&self) -> bool {
        let (Some((attestation, _)), Some((evidence, outstanding))) =
            (self.attestation(), &self.accepted)
        else {
            return false;
        };
        attest::appraise(
            evidence,
            &outstanding.challenge,
            &attestation.selection,
            &attestation.reference,
        )
        .is_ok()
    }
}

impl Attestation {
    pub(super) fn of(policy: &Policy) -> Result<Option<Self>, String> {
        let Some(section) = policy.attestation() else {
            return Ok(None);
        };
        let selection = PcrSelection::new(section.pcrs.iter().copied())
            .map_err(|error| format!("reading `attestation.pcrs`: {error}"))?;
        let reference = ReferenceValues::parse(&section.reference)
            .map_err(|error| format!("reading `{}`: {error}", section.reference_file))?;
        Ok(Some(Self {
            selection,
            reference: Arc::new(reference),
            every: section.every,
            lease: section.lease,
        }))
    }
}
