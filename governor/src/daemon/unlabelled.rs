//! What runs in zones without a label, by the zones' names, told when a policy is put in force.

use std::{collections::BTreeMap, path::Path};

use anyhow::{Context as _, Result};
use governor_common::names::ZONE_UNKNOWN;
use governor_core::time::ClockReading;

use super::Daemon;
use crate::{
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
    pub(super) fn tell_unlabelled(&self, now: ClockReading) {
        match self.unlabelled(now) {
            Ok(found) => {
                for (zone, all) in found {
                    let (count, first) = (all.len(), all.first());
                    tracing::warn!(zone, count, ?first, "runs without a label");
                }
            }
            Err(error) => tracing::warn!("looking for what runs without a label: {error:#}"),
        }
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
