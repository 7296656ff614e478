//! What operators ask for, and what a revocation reaches: observing, revoking, stopping.
//!
//! Effects are only listed here. A revocation lists the kernel's part before its record.

use std::collections::BTreeSet;

use governor_common::{
    RowKey,
    names::{SCOPE_START, ZONE_EVERY, ZONE_HOST, ZONE_UNKNOWN},
    row::TombstoneKey,
};

use super::{Cause, Class, Effect, Engine, Refused, Target, gone::needs_lease, records};
use crate::{
    digest::Digest,
    policy::{Mode, OnRevoke, Policy, Workload, Zone},
    time::{ClockReading, Span},
};

/// Keeps a record well below the longest there may be.
pub(super) const ENTRIES_PER_RECORD: usize = 512;

impl Engine {
    pub(super) fn observe(
        &mut self,
        now: ClockReading,
        zone: String,
        span: Span,
        uid: u32,
        effects: &mut Vec<Effect>,
    ) -> Result<String, Refused> {
        let bound = self
            .active
            .as_ref()
            .and_then(|active| active.verified.policy().zone(&zone))
            .ok_or_else(|| Refused::Invalid(format!("the policy has no zone `{zone}`")))?
            .observe_up_to;
        match bound {
            None => {
                return Err(Refused::Denied(format!(
                    "the policy does not let zone `{zone}` be observed: it sets no `observe_up_to`"
                )));
            }
            Some(bound) if span > bound => {
                return Err(Refused::Denied(format!(
                    "the policy lets zone `{zone}` be observed for at most {} s",
                    bound.as_seconds()
                )));
            }
            Some(_) => {}
        }
        if span.0 == 0 {
            self.observed.remove(&zone);
            let record = records::mode_change(&zone, "policy", 0, Some(uid));
            self.reinstall(now, vec![record], effects)
                .map_err(Refused::Denied)?;
            self.stop_no_longer_observed(&BTreeSet::from([zone.clone()]), effects);
            return Ok(format!("zone `{zone}` is as the policy has it"));
        }
        let until = now.boot.after(span);
        self.observed.insert(zone.clone(), until);
        let record = records::mode_change(&zone, "observe", until.0, Some(uid));
        self.reinstall(now, vec![record], effects)
            .map_err(Refused::Denied)?;
        Ok(format!(
            "zone `{zone}` is observed for {} s",
            span.as_seconds()
        ))
    }

    pub(super) fn revoke(
        &mut self,
        now: ClockReading,
        target: &Target,
        reason: &str,
        uid: u32,
        effects: &mut Vec<Effect>,
    ) -> Result<String, Refused> {
        let mut tombstones = Vec::new();
        let mut stops = Vec::new();
        let name = match target {
            Target::All => {
                // Everything is: break-glass would lift all of it again.
                self.end_glass(now, "everything was revoked", Some(uid), effects);
                effects.push(Effect::MarkRevokedAll(true));
                effects.push(Effect::DropLease);
                effects.push(self.raise(Class::Attested));
                effects.push(self.raise(Class::Policy));
                let before = self.trust.name();
                self.accepted = None;
                self.doubt(now, Cause::OperatorRevoked, reason.to_owned());
                self.due = None;
                self.outstanding = None;
                self.stop_all(effects);
                effects.push(Effect::Append(vec![
                    records::revocation("all", reason, &[], Some(uid)),
                    records::trust_change(before, &self.trust),
                ]));
                return Ok("everything is revoked".into());
            }
            Target::Digest(digest) => {
                if let Some(why) = self.keeps_host_alive(*digest) {
                    return Err(Refused::Denied(why));
                }
                // Zones that come later are held against the first of these.
                let everywhere = tombstone(ZONE_EVERY, *digest);
                stops.extend(self.stops_of(&[everywhere]));
                tombstones.push(everywhere);
                for zone in self.ids.zones.values() {
                    tombstones.push(tombstone(*zone, *digest));
                }
                format!("digest {digest}")
            }
            Target::Workload(name) => {
                self.doom(|found, _| found == name, &mut tombstones, &mut stops);
                format!("workload {name}")
            }
            Target::Zone(name) => {
                self.doom(
                    |_, workload| workload.zone == *name,
                    &mut tombstones,
                    &mut stops,
                );
                format!("zone {name}")
            }
        };
        if tombstones.is_empty() {
            return Err(Refused::Invalid(format!("the policy has no {name}")));
        }
        let (buried, under_glass) = self.bury_under_glass(&tombstones);
        tombstones.extend(buried);
        stops.extend(under_glass);
        for tombstone in &tombstones {
            self.tombstones.insert(*tombstone);
            effects.push(Effect::AddTombstone(*tombstone));
        }
        let keys = tombstones
            .iter()
            .filter(|t| t.zone != ZONE_EVERY && t.zone != ZONE_UNKNOWN)
            .map(|t| RowKey {
                zone: t.zone,
                scope: SCOPE_START,
                digest: t.digest,
            })
            .collect();
        // Before whoever runs is stopped: if a tombstone could not be set, what it is meant for is not
        // to be started again behind the stop.
        effects.push(Effect::RemoveRows(keys));
        effects.extend(stops);
        let chunks = tombstones.chunks(ENTRIES_PER_RECORD);
        effects.push(Effect::Append(
            chunks
                .map(|chunk| records::revocation(&name, reason, chunk, Some(uid)))
                .collect(),
        ));
        Ok(format!("revoked {name}"))
    }

    /// A stop for everything, as policy says; where none is active, as the last one that had a name said.
    pub(super) fn stop_all(&self, effects: &mut Vec<Effect>) {
        self.stop_zones(|_, _| true, effects);
        effects.extend(self.stop_said(|_| true));
    }

    /// A stop for every workload of the zones that `which` picks, as policy says, and for whatever
    /// else runs there with a label, as the zone says: what ran under an earlier policy too.
    fn stop_zones(&self, which: impl Fn(&str, &Zone) -> bool, effects: &mut Vec<Effect>) {
        let Some(active) = &self.active else { return };
        let policy = active.verified.policy();
        for (name, zone) in policy.zones() {
            if !which(name, zone) {
                continue;
            }
            if let Some(number) = self.ids.zone(name)
                && zone.on_revoke != OnRevoke::Deny
            {
                effects.push(Effect::Stop {
                    zone: number,
                    workload: None,
                    action: zone.on_revoke,
                    barred: false,
                });
            }
            for (workload, described) in policy.workloads() {
                if described.zone == *name {
                    effects.extend(self.stop_of(workload));
                }
            }
        }
    }

    /// Zones whose relaxation is over go back to what policy says. The kernel denies from that
    /// moment on already; this makes the table say so.
    pub(super) fn end_observing(
        &mut self,
        now: ClockReading,
        waits: bool,
        effects: &mut Vec<Effect>,
    ) {
        let over: Vec<String> = self
            .observed
            .iter()
            .filter(|(_, until)| now.boot >= **until)
            .map(|(zone, _)| zone.clone())
            .collect();
        // While it cannot be written down it waits: nothing hangs on it.
        if over.is_empty() || waits {
            return;
        }
        for zone in &over {
            self.observed.remove(zone);
        }
        let kinds = over
            .iter()
            .map(|zone| records::mode_change(zone, "policy", 0, None))
            .collect();
        if let Err(why) = self.reinstall(now, kinds, effects) {
            self.degrade(now, Cause::GateFault, why, effects);
        }
        self.stop_no_longer_observed(&over.into_iter().collect(), effects);
    }

    /// Zones that are observed now, by policy or by an operator.
    pub(super) fn relaxed(&self) -> BTreeSet<String> {
        let zones = self.policy().into_iter().flat_map(|verified| {
            let zones = verified.policy().zones().iter();
            zones.filter(|(_, zone)| zone.mode == Mode::Observe)
        });
        let by_policy = zones.map(|(name, _)| name.clone());
        by_policy.chain(self.observed.keys().cloned()).collect()
    }

    /// What was left to run for being observed while trust ended is stopped once it is not observed
    /// any more, unless trust has returned.
    pub(super) fn stop_no_longer_observed(
        &self,
        zones: &BTreeSet<String>,
        effects: &mut Vec<Effect>,
    ) {
        effects.extend(zones.iter().flat_map(|zone| self.stop_gone_from(zone)));
        // While the glass is broken it is left to run for that, and its end stops it.
        if !self.withdrawn || self.broken_glass().is_some() {
            return;
        }
        self.stop_attested(|name| zones.contains(name), effects);
    }

    /// A stop for what runs on trust in the zones that `which` picks. A zone that is observed was never
    /// held back, and is not stopped either.
    pub(super) fn stop_attested(&self, which: impl Fn(&str) -> bool, effects: &mut Vec<Effect>) {
        let meant = |name: &str| which(name) && !self.observed.contains_key(name);
        self.stop_zones(|name, zone| meant(name) && needs_lease(zone), effects);
        effects.extend(self.stop_leased(meant));
    }

    /// What a policy lets survive although it was revoked.
    pub(super) fn revoked_survivor(&self, policy: &Policy) -> Option<Digest> {
        policy.host()?;
        let digests = policy.survival().digests();
        digests.into_iter().find(|digest| {
            let keys = [ZONE_EVERY, ZONE_HOST].map(|zone| tombstone(zone, *digest));
            keys.iter().any(|key| self.tombstones.contains(key))
        })
    }

    pub(super) fn stop_of(&self, name: &str) -> Option<Effect> {
        let workload = self.active.as_ref()?.verified.policy().workload(name)?;
        let action = workload.on_revoke;
        if action == OnRevoke::Deny {
            return None;
        }
        let number = self.ids.workload(&workload.zone, name)?;
        let zone = self.ids.zone(&workload.zone)?;
        Some(Effect::Stop {
            zone,
            workload: Some(number),
            action,
            barred: false,
        })
    }

    fn doom(
        &self,
        which: impl Fn(&str, &Workload) -> bool,
        tombstones: &mut Vec<TombstoneKey>,
        stops: &mut Vec<Effect>,
    ) {
        let Some(active) = &self.active else { return };
        for (name, workload) in active.verified.policy().workloads() {
            let Some(zone) = self
                .ids
                .zone(&workload.zone)
                .filter(|_| which(name, workload))
            else {
                continue;
            };
            for digest in workload.exec.iter().chain(&workload.scripts) {
                tombstones.push(tombstone(zone, *digest));
            }
            stops.extend(self.stop_of(name));
        }
    }
}

pub(super) const fn tombstone(zone: u32, digest: Digest) -> TombstoneKey {
    TombstoneKey {
        zone,
        reserved: 0,
        digest: *digest.bytes(),
    }
}
