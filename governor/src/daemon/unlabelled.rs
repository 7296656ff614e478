//! What runs in zones without a label, by the zones' names, told when a policy is put in force.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs::File,
    path::Path,
};

use anyhow::{Context as _, Result};
use governor_common::names::ZONE_UNKNOWN;
use governor_core::{digest::Digest, lineage, time::ClockReading};

use super::{Daemon, loading::FromHost};
use crate::{
    bundle::measure_open,
    cgroups,
    inventory::{self, Scene, Unlabelled},
};

impl Daemon {
    /// Nobody's zone has no name.
    pub(super) fn unlabelled(
        &self,
        now: ClockReading,
    ) -> Result<BTreeMap<String, Vec<Unlabelled>>> {
        let carriers = self.hands.gate.carriers();
        let found = inventory::unlabelled(&Scene {
            cgroups: Path::new(cgroups::ROOT),
            proc: Path::new("/proc"),
            zones: &self.hands.zones,
            carriers: &carriers.context("listing what carries a label")?,
            now: now.boot,
        });
        let mut named: BTreeMap<String, Vec<Unlabelled>> = BTreeMap::new();
        for (zone, all) in found {
            named.entry(self.name_of(zone)).or_default().extend(all);
        }
        Ok(named)
    }

    /// It was there before its zone was governed, so nobody judged it; it may execute and send nothing
    /// that is not listed.
    /// Reading what they run takes a while, and is not done on the loop.
    pub(super) fn tell_unlabelled(&self, now: ClockReading) {
        let found = match self.unlabelled(now) {
            Ok(found) if found.is_empty() => return,
            Ok(found) => found,
            Err(error) => {
                tracing::warn!("looking for what runs without a label: {error:#}");
                return;
            }
        };
        for (zone, all) in &found {
            let (count, first) = (all.len(), all.first());
            tracing::warn!(zone, count, ?first, "runs without a label");
        }
        let looked = self.looked.clone();
        tokio::task::spawn_blocking(move || {
            let records = found.into_iter().map(|(zone, all)| record(zone, &all));
            // Nobody listening: the daemon ends.
            drop(looked.blocking_send(FromHost::Unlabelled(records.collect())));
        });
    }

    fn name_of(&self, zone: u32) -> String {
        if zone == ZONE_UNKNOWN {
            return String::new();
        }
        let mut known = self.engine.ids().zones.iter();
        let named = known.find(|(_, number)| **number == zone);
        named.map_or_else(|| zone.to_string(), |(name, _)| name.clone())
    }
}

/// Whoever ended meanwhile runs nothing. It is somebody else's file: not read for ever.
fn record(zone: String, all: &[Unlabelled]) -> lineage::Unlabelled {
    let measured = |one: &Unlabelled| {
        let mut file = File::open(format!("/proc/{}/exe", one.pid)).ok()?;
        let length = file.metadata().ok()?.len();
        (length <= LARGEST).then(|| measure_open(&mut file).ok()?)?
    };
    let digests: BTreeSet<Digest> = all.iter().take(LISTED).filter_map(measured).collect();
    lineage::Unlabelled {
        zone,
        processes: u32::try_from(all.len()).unwrap_or(u32::MAX),
        digests: digests.iter().map(|one| one.bytes().to_vec()).collect(),
    }
}

/// More are counted.
const LISTED: usize = 64;
/// Bytes of a program.
const LARGEST: u64 = 1 << 30;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_several_run_is_recorded_once() {
        let own = |pid: u32| Unlabelled {
            pid: pid.cast_signed(),
            program: String::new(),
        };
        let pid = std::process::id();
        let record = record("agents".into(), &[own(pid), own(pid), own(u32::MAX >> 1)]);
        let exe = std::env::current_exe().unwrap();
        let digest = Digest::of(&std::fs::read(exe).unwrap());
        assert_eq!(record.digests, [digest.bytes().to_vec()]);
        assert_eq!(record.processes, 3);
    }
}
