//! What an earlier daemon began to take away and was ended before it was done.
//!
//! A revocation comes to the kernel first and is written down last. So what the kernel holds and the
//! ledger does not was cut somewhere between: what runs on it may not have been stopped. Promises: it is
//! stopped as policy says, as soon as there is one, and written down after that; one that is cut again
//! is found again. Without a policy it is written down at once, and stopped as far as the ledger says how.
//! Work that needs attestation and was left behind is stopped too, unless a quote is
//! accepted within one lease: whether its lease was dropped, or ran out, nobody is there to say. Where no
//! policy is active no quote could be, and it is stopped at the end of the lease that is left, or at once.

use governor_common::{names::ZONE_EVERY, row::TombstoneKey};

use super::{
    Cause, Effect, Engine, Grip, KernelView, Running, operator::ENTRIES_PER_RECORD, records,
};
use crate::{
    lineage::{FRESH, Recovered},
    policy::Policy,
    time::ClockReading,
};

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
            inherited: kernel.gate != FRESH,
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
        if self.owed.is_empty() {
            // Also what is known to have failed, with a policy or without one. What must come after a revocation
            // that failed waits for that one.
            self.retry_stops(effects);
        }
        let lease = self.attestation().map(|(attestation, _)| attestation.lease);
        if inherited && let Some(lease) = lease {
            self.due.get_or_insert(now.boot.after(lease));
        }
        if inherited && !self.stop_leased(|_| true).is_empty() {
            self.due.get_or_insert(now.boot);
        }
        if !recorded {
            let chunks = tombstones.chunks(ENTRIES_PER_RECORD);
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

    /// What is stopped for contents that are revoked in these zones: whatever runs with them, and the workloads
    /// that list them, which may have them mapped. Where no policy is active nobody says which workloads do, and
    /// a zone is as the last policy that named it said. In a zone of which nobody says anything it is not to go on
    /// either: it is paused, which can be taken back.
    pub(super) fn stops_of(&self, tombstones: &[TombstoneKey]) -> Vec<Effect> {
        let policy = self.policy().map(|verified| verified.policy());
        let mut stops = Vec::new();
        for tombstone in tombstones {
            let every = tombstone.zone == ZONE_EVERY;
            let zones = self.ids.zones.iter();
            for (name, zone) in zones.filter(|(_, zone)| every || **zone == tombstone.zone) {
                let said = match policy {
                    Some(policy) => policy.zone(name).map(|zone| zone.on_revoke),
                    None => self.fates.of_zone(name),
                };
                let grip = said.map_or(Some(Grip::Pause), Grip::of);
                stops.extend(grip.map(|grip| Effect::Hold {
                    zone: *zone,
                    running: Running::Digest(tombstone.digest),
                    grip,
                }));
                for (workload, described) in policy.into_iter().flat_map(Policy::workloads) {
                    let lists = || {
                        let digests = described.digests();
                        let mut bytes = digests.iter().map(|digest| digest.bytes());
                        bytes.any(|digest| *digest == tombstone.digest)
                    };
                    if described.zone == *name && lists() {
                        stops.extend(self.stop_of(workload));
                    }
                }
            }
        }
        stops
    }
}

fn found(target: &str, tombstones: &[TombstoneKey]) -> crate::lineage::Kind {
    records::revocation(target, "found in the kernel", tombstones, None)
}
