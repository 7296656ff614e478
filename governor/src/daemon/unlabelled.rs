//! What runs in zones without a label, by the zones' names.
//!
//! Promises: it is told when a policy is put in force. Where policy stops it, it is also looked for every few
//! seconds, and whoever is new is told; what becomes of it is the engine's to say.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs::File,
    path::Path,
};

use anyhow::{Context as _, Result};
use governor_common::names::ZONE_UNKNOWN;
use governor_core::{
    digest::Digest,
    engine::Input,
    lineage,
    time::{BootTime, ClockReading, Span},
};

use super::{Daemon, loading::FromHost};
use crate::{
    bundle::measure_open,
    cgroups,
    inventory::{self, Scene, Unlabelled},
};

/// Looking for what is to be stopped for having no label.
#[derive(Debug, Default)]
pub(super) struct Looks {
    /// Looks whose finds are being measured.
    under_way: usize,
    last: Option<BootTime>,
    /// Who was found where it is stopped: number and beginning.
    known: BTreeSet<(i32, BootTime)>,
}

type Found = BTreeMap<String, Vec<Unlabelled>>;

impl Daemon {
    /// Nobody's zone has no name.
    pub(super) fn unlabelled(&self, now: ClockReading) -> Result<Found> {
        let carriers = self.hands.gate.carriers();
        let found = inventory::unlabelled(&Scene {
            cgroups: Path::new(cgroups::ROOT),
            proc: Path::new("/proc"),
            zones: &self.hands.zones,
            carriers: &carriers.context("listing what carries a label")?,
            now: now.boot,
        });
        let mut named = Found::new();
        for (zone, all) in found {
            named.entry(self.name_of(zone)).or_default().extend(all);
        }
        Ok(named)
    }

    /// It was there before its zone was governed, so nobody judged it; it may execute and send nothing
    /// that is not listed.
    pub(super) fn tell_unlabelled(&mut self, now: ClockReading) {
        let Some(found) = self.look(now) else {
            return;
        };
        self.looks.known = self.to_be_stopped(&found);
        self.measure(found);
    }

    /// Whoever was moved into a zone since, or was left alone while its zone was observed.
    pub(super) fn stop_unlabelled(&mut self, now: ClockReading) {
        let is_early = |last: BootTime| now.boot < last.after(EVERY);
        let ends = self.engine.ends_unlabelled();
        if ends.is_empty() || self.looks.under_way > 0 || self.looks.last.is_some_and(is_early) {
            return;
        }
        let Some(mut found) = self.look(now) else {
            return;
        };
        let meant = self.to_be_stopped(&found);
        let news = !meant.is_subset(&self.looks.known);
        // Whoever was held and let go on by an operator stays known, and goes on.
        self.looks.known = meant;
        if news {
            let ends = self.engine.ends_unlabelled();
            found.retain(|zone, _| ends.contains_key(zone.as_str()));
            self.measure(found);
        }
    }

    /// What was measured came back.
    pub(super) fn unlabelled_measured(&mut self, found: Vec<lineage::Unlabelled>) -> Result<()> {
        self.looks.under_way = self.looks.under_way.saturating_sub(1);
        self.apply(Input::UnlabelledFound(found)).map(drop)
    }

    fn to_be_stopped(&self, found: &Found) -> BTreeSet<(i32, BootTime)> {
        let ends = self.engine.ends_unlabelled();
        let meant = found
            .iter()
            .filter(|(zone, _)| ends.contains_key(zone.as_str()));
        meant
            .flat_map(|(_, all)| all)
            .map(|one| (one.pid, one.began))
            .collect()
    }

    fn look(&mut self, now: ClockReading) -> Option<Found> {
        self.looks.last = Some(now.boot);
        match self.unlabelled(now) {
            Ok(found) => Some(found),
            Err(error) => {
                tracing::warn!("looking for what runs without a label: {error:#}");
                None
            }
        }
    }

    /// Reading what they run takes a while, and is not done on the loop.
    fn measure(&mut self, found: Found) {
        if found.is_empty() {
            return;
        }
        for (zone, all) in &found {
            let (count, first) = (all.len(), all.first());
            tracing::warn!(zone, count, ?first, "runs without a label");
        }
        self.looks.under_way += 1;
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
        // What is done to it is decided later.
        grip: String::new(),
    }
}

/// How often it is looked for where policy stops it.
const EVERY: Span = Span::seconds(5);
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
            began: BootTime(0),
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
