//! What an earlier daemon began to take away and was ended before it was done.
//!
//! A revocation comes to the kernel first and is written down last. So what the kernel holds and the
//! ledger does not was cut somewhere between: what runs on it may not have been stopped. Promises: it is
//! stopped as policy says, as soon as there is one, and written down after that; one that is cut again
//! is found again. Without a policy it is written down at once, and stopped as far as the ledger says how.
//! Work that needs attestation and was left behind is stopped too, unless a quote is
//! accepted within one lease: whether its lease was dropped, or ran out, nobody is there to say. Where no
//! policy is active no quote could be, and it is stopped at the end of the lease that is left, or at once.

use std::collections::BTreeMap;

use governor_common::row::TombstoneKey;

use super::{
    Cause, Effect, Engine, Grip, KernelView, Running, operator::TOMBSTONES_PER_RECORD, records,
};
use crate::{lineage::Recovered, time::ClockReading};

/// What was found at start, until it is finished.
#[derive(Clone, Debug, Default)]
pub(super) struct Unfinished {
    tombstones: Vec<TombstoneKey>,
    everything: bool,
    recorded: bool,
    /// Something may run that an earlier daemon of this boot started to watch over.
    inherited: bool,
}

impl Unfinished {
    pub(super) fn found(recovered: &Recovered, kernel: &KernelView) -> Self {
        let missing = kernel.tombstones.difference(&recovered.tombstones);
        Self {
            tombstones: missing.copied().collect(),
            everything: kernel.revoked_all && !recovered.revoked_all,
            recorded: false,
            inherited: kernel.gate != "fresh",
        }
    }
}

impl Engine {
    /// Finishes it, as far as it is known how.
    pub(super) fn finish(&mut self, now: ClockReading, effects: &mut Vec<Effect>) {
        let Unfinished {
            tombstones,
            everything,
            recorded,
            inherited,
        } = self.unfinished.clone();
        if everything && self.trust.has(&Cause::OperatorRevoked) {
            self.stop_all(effects);
        }
        for stop in self.stops_of(&tombstones) {
            if !effects.contains(&stop) {
                effects.push(stop);
            }
        }
        let lease = self.attestation().map(|(attestation, _)| attestation.lease);
        if inherited && let Some(lease) = lease {
            self.due.get_or_insert(now.boot.after(lease));
        }
        if inherited && !self.stop_leased(|_| true).is_empty() {
            self.due.get_or_insert(now.boot);
        }
        if !recorded {
            let chunks = tombstones.chunks(TOMBSTONES_PER_RECORD);
            let mut kinds: Vec<_> = chunks.map(|chunk| found("kernel", chunk)).collect();
            kinds.extend(everything.then(|| found("all", &[])));
            if !kinds.is_empty() {
                effects.push(Effect::Append(kinds));
            }
        }
        if self.active.is_some() {
            self.unfinished = Unfinished::default();
        }
        self.unfinished.recorded = true;
    }

    /// Whatever runs with this content, and the workloads that list it: they may have it mapped.
    fn stops_of(&self, tombstones: &[TombstoneKey]) -> Vec<Effect> {
        let numbers = self.ids.zones.iter();
        let zones: BTreeMap<u32, &str> = numbers
            .map(|(name, number)| (*number, name.as_str()))
            .collect();
        let hold = |tombstone: &TombstoneKey, action| {
            Grip::of(action).map(|grip| Effect::Hold {
                zone: tombstone.zone,
                running: Running::Digest(tombstone.digest),
                grip,
            })
        };
        let Some(active) = &self.active else {
            // Which workloads listed it, nobody says.
            let said = |tombstone: &TombstoneKey| self.fates.of_zone(zones.get(&tombstone.zone)?);
            let stops = tombstones.iter();
            return stops
                .filter_map(|tombstone| hold(tombstone, said(tombstone)?))
                .collect();
        };
        let policy = active.verified.policy();
        let mut stops = Vec::new();
        for tombstone in tombstones {
            let Some(name) = zones.get(&tombstone.zone) else {
                continue;
            };
            let zone = policy.zone(name);
            stops.extend(zone.and_then(|zone| hold(tombstone, zone.on_revoke)));
            for (workload, described) in policy.workloads() {
                let digests = described.digests();
                let mut bytes = digests.iter().map(|digest| digest.bytes());
                if described.zone == **name && bytes.any(|digest| *digest == tombstone.digest) {
                    stops.extend(self.stop_of(workload));
                }
            }
        }
        stops
    }
}

fn found(target: &str, tombstones: &[TombstoneKey]) -> crate::lineage::Kind {
    records::revocation(target, "found in the kernel", tombstones, None)
}
