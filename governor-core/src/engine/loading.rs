//! A policy that is offered: what it must satisfy, and what comes of it.
//!
//! Promises: a refused policy changes nothing but the record of it; what an operator revoked is not
//! granted by a daemon that merely starts again, and what was revoked in every zone is revoked in zones
//! that come later; a lease does not outlive the reference values it was appraised with, and neither it
//! nor observing lasts longer than the policy in force allows.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use governor_common::{names::ZONE_EVERY, row::TombstoneKey};

use super::{
    Active, Attestation, Cause, Clears, Effect, Engine, OpensJudged, Refused, Trust,
    lint::outside,
    operator::{ENTRIES_PER_RECORD, tombstone},
    records,
};
use crate::{
    attest::{self, PcrSelection, ReferenceValues},
    digest::Digest,
    lineage::Kind,
    policy::{HOST, Mode, Opens, Policy, VerifiedPolicy},
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
        if let Some((name, zone)) = outside(verified.policy(), &self.host.governed_root) {
            return refuse(
                effects,
                format!(
                    "zone `{name}` has the cgroup `{zone}`, which is not below `{}`, the only place \
                     this host lets be governed",
                    self.host.governed_root
                ),
            );
        }
        if let Some(why) = self.unjudged(verified.policy()) {
            return refuse(effects, why).map_err(|refused| Refused::Denied(refused.into_reason()));
        }
        if let Some(digest) = self.revoked_survivor(verified.policy()) {
            let why = format!(
                "digest {digest} was revoked by hand and [survival] lists it: take it out of the set"
            );
            return refuse(effects, why).map_err(|refused| Refused::Denied(refused.into_reason()));
        }
        if let Some(why) = self.unguarded(verified.policy()) {
            return refuse(effects, why).map_err(|refused| Refused::Denied(refused.into_reason()));
        }
        let before = self.active.as_ref();
        let before = before.map(|active| Arc::clone(&active.verified));
        let relaxed = self.relaxed();
        self.ids.assign(verified.policy());
        self.fates.learn(verified.policy());
        self.active = Some(Active {
            verified: Arc::clone(&verified),
            users,
            attestation,
        });
        let policy = verified.policy();
        self.shut_out &= uid.is_none();
        let bounded = self.bound_observing(now, policy);
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
        let buried = self.bury(policy);
        let table = match self.table(now) {
            Ok(table) => table,
            Err(why) => return refuse(effects, why),
        };
        // A lease speaks for the reference values it was appraised with, whatever else is thought of
        // the host by now. What a daemon that starts again finds in force was granted under them.
        let shortened = match uid {
            Some(_) => self.hold_lease_against_policy(now, effects),
            None => None,
        };
        // A challenge names the policy it was made under.
        self.outstanding = self
            .outstanding
            .take()
            .filter(|outstanding| outstanding.challenge.policy == verified.digest());
        self.next_quote = now.boot;
        effects.push(Effect::KeepPolicy(verified.digest()));
        effects.extend(buried.iter().copied().map(Effect::AddTombstone));
        let mut kinds = records::policy_loaded(&verified, &self.ids, &self.fates, uid);
        kinds.push(records::grant(&table, verified.digest(), self.epochs));
        kinds.extend(bounded);
        kinds.extend(buried.chunks(ENTRIES_PER_RECORD).map(|chunk| {
            let cause = "revoked in every zone before this one was named";
            records::revocation("zones of a policy", cause, chunk, uid)
        }));
        effects.push(Effect::Append(kinds));
        let rows = table.rows.len();
        effects.extend(shortened);
        effects.extend(self.guard(policy));
        effects.push(Effect::InstallTable(Arc::new(table)));
        effects.extend(self.stop_gone(before.as_ref().map(|before| before.policy())));
        if before.is_none() && self.withdrawn && self.broken_glass().is_none() {
            // Trust ended without a policy: what nobody had said anything of was left to run.
            self.stop_attested(|_| true, effects);
        }
        self.stop_no_longer_observed(&relaxed, effects);
        effects.extend(barred);
        if uid.is_some() {
            // Not before what was stopped then is barred: a daemon that starts bars nothing.
            effects.push(Effect::MarkRevokedAll(false));
        }
        self.finish(now, effects);
        self.request_quote_if_due(now, effects);
        Ok(format!(
            "policy `{}` serial {} in force, {rows} rows",
            policy.name(),
            policy.serial()
        ))
    }

    /// Why this kernel cannot do what a policy asks of opening files; nothing if it can, or need not.
    fn unjudged(&self, policy: &Policy) -> Option<String> {
        match self.host.opens_judged {
            OpensJudged::Measured | OpensJudged::Recalled => return None,
            OpensJudged::Never => {}
        }
        let mut workloads = policy.workloads().iter();
        let (name, _) = workloads.find(|(_, workload)| workload.opens == Opens::Listed)?;
        Some(format!(
            "workload `{name}` opens only what is listed, and this kernel asks nobody about what is opened \
             (its hooks `file_post_open` and `file_open` are missing): use another kernel, or say \
             `opens = \"any\"` for zone and workload"
        ))
    }

    /// The lease that runs must be one that this policy would have given: with the evidence it asks
    /// for, and no longer than it says. What is to be set in its place, if it goes on for less.
    fn hold_lease_against_policy(
        &mut self,
        now: ClockReading,
        effects: &mut Vec<Effect>,
    ) -> Option<Effect> {
        let lease = self.attestation().map(|(attestation, _)| attestation.lease);
        let asked = self
            .accepted
            .as_ref()
            .filter(|_| self.evidence_still_convinces())
            .map(|(_, asked)| asked);
        let doubt = match (asked, lease) {
            (Some(asked), Some(lease)) => {
                let ends = asked.at.after(lease);
                if self.due.is_none_or(|due| due <= ends) {
                    return None;
                }
                if ends > now.boot {
                    let shorter = Effect::SetLease {
                        deadline: ends.0,
                        trips: asked.challenge.trips,
                        epoch: asked.epoch,
                    };
                    self.due = Some(ends);
                    self.trust = self.trust.clone().until(ends);
                    return Some(shorter);
                }
                "the last quote is older than the policy's lease"
            }
            (Some(_) | None, _) => "the policy asks for other evidence",
        };
        self.accepted = None;
        if self.due.is_some() {
            effects.push(Effect::DropLease);
        }
        if let Some(lease) = lease {
            // What runs has as long as a lease of this policy to be vouched for again.
            let longest = now.boot.after(lease);
            self.due = self.due.map(|due| due.min(longest));
        }
        if matches!(self.trust, Trust::Trusted(_)) {
            self.doubt(now, Cause::NotAttested, doubt.to_owned());
        }
        None
    }

    /// Tombstones for zones that were not known when something was revoked in every zone: where this
    /// policy lists it, and where observing would let it run without being listed. The kernel has
    /// room for so many, and what is neither listed nor observed is denied without one.
    fn bury(&mut self, policy: &Policy) -> Vec<TombstoneKey> {
        let everywhere: BTreeSet<Digest> = self
            .tombstones
            .iter()
            .filter(|key| key.zone == ZONE_EVERY)
            .map(|key| Digest::new(key.digest))
            .collect();
        let mut keys = BTreeSet::new();
        for (name, zone) in policy.zones() {
            let Some(number) = self.ids.zone(name) else {
                continue;
            };
            let lenient = zone.mode == Mode::Observe
                || zone.observe_up_to.is_some()
                || self.observed.contains_key(name)
                || self.broken_glass().is_some();
            let observed = everywhere.iter().filter(|_| lenient);
            keys.extend(observed.map(|digest| tombstone(number, *digest)));
        }
        for workload in policy.workloads().values() {
            let Some(number) = self.ids.zone(&workload.zone) else {
                continue;
            };
            let listed = workload.digests();
            let found = everywhere.iter().filter(|digest| listed.contains(digest));
            keys.extend(found.map(|digest| tombstone(number, *digest)));
        }
        keys.into_iter()
            .filter(|key| self.tombstones.insert(*key))
            .collect()
    }

    /// Observing goes on as far as this policy allows it, and no further. The records of what it cut.
    fn bound_observing(&mut self, now: ClockReading, policy: &Policy) -> Vec<Kind> {
        let mut kinds = Vec::new();
        let shut_out = self.shut_out;
        self.observed.retain(|name, until| {
            if shut_out && name == HOST {
                return true;
            }
            let Some(bound) = policy.zone(name).and_then(|zone| zone.observe_up_to) else {
                kinds.push(records::mode_change(name, "policy", 0, None));
                return false;
            };
            let longest = now.boot.after(bound);
            if *until > longest {
                *until = longest;
                kinds.push(records::mode_change(name, "observe", until.0, None));
            }
            true
        });
        kinds
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
