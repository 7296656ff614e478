//! What runs in zones without a label, by the zones' names.
//!
//! Promises: it is told when a policy is put in force. Where policy stops it, it is also looked for every few
//! seconds, and whoever is new is told; what becomes of it is the engine's to say. It is stopped before what it
//! runs is read, which may take for ever. Whoever was held and is not any more goes on: an operator wants it to.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs::{File, OpenOptions},
    os::{
        fd::AsRawFd as _,
        unix::fs::{MetadataExt as _, OpenOptionsExt as _},
    },
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result};
use governor_common::names::ZONE_UNKNOWN;
use governor_core::{
    digest::Digest,
    engine::Input,
    lineage,
    time::{BootTime, ClockReading, Span},
};
use nix::fcntl::OFlag;

use super::{Daemon, loading::FromHost};
use crate::{
    bundle::measure_open,
    inventory::{self, Nobody, Unlabelled},
    stopping::{self, Action, OnCgroup},
};

/// A process, and no other that ever has its number.
type Id = (i32, BootTime);

/// Looking for what is to be stopped for having no label.
#[derive(Debug, Default)]
pub(super) struct Looks {
    last: Option<BootTime>,
    /// Of whom it was told.
    told: BTreeSet<Id>,
    /// Who was held. One of them that is held no more goes on because an operator wants it to.
    held: BTreeSet<Id>,
    /// How many threads read what they run.
    reading: usize,
}

/// In how many looks in a row somebody was in a cgroup.
#[derive(Debug, Default)]
pub(super) struct Crowds(BTreeMap<PathBuf, u32>);

impl Crowds {
    fn look(&mut self, found: &[Nobody]) {
        let here: BTreeSet<&PathBuf> = found.iter().map(|one| &one.cgroup).collect();
        self.0.retain(|cgroup, _| here.contains(cgroup));
        for cgroup in here {
            let times = self.0.entry(cgroup.clone()).or_default();
            *times = times.saturating_add(1);
        }
    }

    /// A cgroup in which there is somebody each time holds no service that is only about to start, though each
    /// of them may be young.
    pub(super) fn crowded(&self, cgroup: &Path) -> bool {
        self.0.get(cgroup).is_some_and(|times| *times >= CROWDED)
    }
}

/// What runs, by zone: how many processes, and handles on their programs.
type Programs = BTreeMap<String, (usize, Vec<File>)>;

impl Daemon {
    /// Those that are settled, by zone. Nobody's zone has no name.
    pub(super) fn unlabelled(&self) -> Result<BTreeMap<String, Vec<Unlabelled>>> {
        Ok(self.by_zone(&self.nobodies()?))
    }

    fn by_zone(&self, found: &[Nobody]) -> BTreeMap<String, Vec<Unlabelled>> {
        let mut named: BTreeMap<String, Vec<Unlabelled>> = BTreeMap::new();
        for one in found.iter().filter(|one| self.hands.is_settled(one)) {
            let program = inventory::program(Path::new("/proc"), one);
            named
                .entry(self.name_of(one.zone))
                .or_default()
                .push(program);
        }
        named
    }

    /// All of them, however young.
    fn nobodies(&self) -> Result<Vec<Nobody>> {
        let carriers = self.hands.gate.carriers();
        self.hands
            .nobodies(&carriers.context("listing what carries a label")?)
    }

    /// A policy is in force. What was there before its zone was governed was judged by nobody; it may execute and
    /// send nothing that is not listed.
    pub(super) fn tell_unlabelled(&mut self, now: ClockReading) -> Result<()> {
        self.looks = Looks {
            last: Some(now.boot),
            reading: self.looks.reading,
            ..Looks::default()
        };
        let found = self.nobodies().inspect_err(say).unwrap_or_default();
        let mut programs = Programs::new();
        for (zone, all) in self.by_zone(&found) {
            let (count, first) = (all.len(), all.first());
            tracing::warn!(zone, count, ?first, "runs without a label");
            let files = all.iter().filter_map(|one| handle(one.pid)).take(LISTED);
            programs.insert(zone, (count, files.collect()));
        }
        self.stop_nobodies(&found)?;
        self.measure(programs);
        Ok(())
    }

    /// Whoever was moved into a zone since, or was left alone while it was observed.
    pub(super) fn stop_unlabelled(&mut self, now: ClockReading) -> Result<()> {
        let is_early = |last: BootTime| now.boot < last.after(EVERY);
        if self.engine.ends_unlabelled().is_empty() {
            // Nobody looks: what comes later is in no row with what was.
            self.hands.crowds.0.clear();
            return Ok(());
        }
        if self.looks.last.is_some_and(is_early) {
            return Ok(());
        }
        self.looks.last = Some(now.boot);
        let Ok(found) = self.nobodies().inspect_err(say) else {
            return Ok(());
        };
        self.hands.crowds.look(&found);
        let programs = self.stop_nobodies(&found)?;
        self.measure(programs);
        Ok(())
    }

    /// Has them stopped where policy says so, and what is new of them written down; their programs.
    fn stop_nobodies(&mut self, found: &[Nobody]) -> Result<Programs> {
        let mut programs = Programs::new();
        let (mut zones, mut told) = (BTreeSet::new(), BTreeSet::new());
        for one in found.iter().filter(|one| self.hands.is_settled(one)) {
            let (zone, id) = (self.name_of(one.zone), (one.pid, one.began));
            if !self.is_to_be_stopped(&zone, one) {
                continue;
            }
            zones.insert(zone.clone());
            if !self.looks.told.contains(&id) {
                told.insert(id);
                let (count, files) = programs.entry(zone).or_default();
                *count += 1;
                files.extend((files.len() < LISTED).then(|| handle(one.pid)).flatten());
            }
        }
        if zones.is_empty() {
            return Ok(programs);
        }
        let news = programs
            .iter()
            .map(|(zone, (count, _))| record(zone.clone(), *count, BTreeSet::new()));
        let news = news.collect();
        self.apply(Input::UnlabelledFound { zones, news })?;
        self.looks.told.extend(told);
        for one in self.nobodies().unwrap_or_default() {
            if self.hands.is_settled(&one)
                && stopping::is_held(&OnCgroup, &one.cgroup, Action::Pause)
            {
                self.looks.held.insert((one.pid, one.began));
            }
        }
        Ok(programs)
    }

    fn is_to_be_stopped(&self, zone: &str, one: &Nobody) -> bool {
        let ends = self.engine.ends_unlabelled();
        let Some(action) = ends.get(zone).map(|grip| Action::by_hand(*grip)) else {
            return false;
        };
        let goes_on = action != Action::Kill && self.looks.held.contains(&(one.pid, one.began));
        !goes_on && !stopping::is_held(&OnCgroup, &one.cgroup, action)
    }

    /// Reading what they run may take for ever, and nobody waits for it.
    fn measure(&mut self, programs: Programs) {
        if programs.is_empty() {
            return;
        }
        if self.looks.reading >= READING {
            tracing::warn!("what runs without a label is not measured: others are still read");
            return;
        }
        self.looks.reading += 1;
        let looked = self.looked.clone();
        tokio::task::spawn_blocking(move || {
            let records = programs
                .into_iter()
                .map(|(zone, (count, files))| record(zone, count, digests(&files)));
            // Nobody listening: the daemon ends.
            drop(looked.blocking_send(FromHost::Unlabelled(records.collect())));
        });
    }

    /// What was measured came back.
    pub(super) fn unlabelled_measured(&mut self, found: Vec<lineage::Unlabelled>) -> Result<()> {
        self.looks.reading = self.looks.reading.saturating_sub(1);
        self.apply(Input::UnlabelledMeasured(found)).map(drop)
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

/// It is looked for again.
fn say(error: &anyhow::Error) {
    tracing::warn!("looking for what runs without a label: {error:#}");
}

/// A handle on its program that asks no file system anything, and is good when it has ended.
fn handle(pid: i32) -> Option<File> {
    let flags = OFlag::O_PATH | OFlag::O_CLOEXEC;
    let path = format!("/proc/{pid}/exe");
    let opened = OpenOptions::new()
        .read(true)
        .custom_flags(flags.bits())
        .open(path);
    opened.ok()
}

/// Of each file once. It is somebody else's: not read for ever.
fn digests(handles: &[File]) -> BTreeSet<Digest> {
    let mut seen = BTreeSet::new();
    let measured = |handle: &File| {
        let found = handle.metadata().ok()?;
        if found.len() > LARGEST || !seen.insert((found.dev(), found.ino())) {
            return None;
        }
        let again = format!("/proc/self/fd/{}", handle.as_raw_fd());
        measure_open(&mut File::open(again).ok()?).ok()?
    };
    handles.iter().filter_map(measured).collect()
}

fn record(zone: String, processes: usize, digests: BTreeSet<Digest>) -> lineage::Unlabelled {
    lineage::Unlabelled {
        zone,
        processes: u32::try_from(processes).unwrap_or(u32::MAX),
        digests: digests.iter().map(|one| one.bytes().to_vec()).collect(),
        // What is done to it is not decided here.
        grip: String::new(),
    }
}

/// How often it is looked for where policy stops it.
const EVERY: Span = Span::seconds(5);
/// In this many looks in a row somebody is in a cgroup that does not only start a service.
const CROWDED: u32 = 3;
/// Programs of a zone that are measured; more are counted.
const LISTED: usize = 64;
/// Bytes of a program.
const LARGEST: u64 = 1 << 30;
/// Threads that read programs.
const READING: usize = 2;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cgroup_is_crowded_when_somebody_was_there_in_looks_in_a_row() {
        let nobody = |name: &str| Nobody {
            pid: 1,
            zone: 1,
            cgroup: name.into(),
            began: BootTime(0),
            is_leaderless: false,
            is_settled: false,
        };
        let (always, now_and_then) = (nobody("/a"), nobody("/b"));
        let mut crowds = Crowds::default();
        for look in 1..=2 * CROWDED {
            let mut found = vec![always.clone(), always.clone()];
            found.extend((look % CROWDED != 0).then(|| now_and_then.clone()));
            crowds.look(&found);
            assert_eq!(crowds.crowded(&always.cgroup), look >= CROWDED);
            assert!(!crowds.crowded(&now_and_then.cgroup));
        }
    }

    #[test]
    fn what_several_run_is_recorded_once() {
        let own = std::process::id().cast_signed();
        let handles: Vec<File> = [own, own, i32::MAX]
            .into_iter()
            .filter_map(handle)
            .collect();
        assert_eq!(handles.len(), 2, "nobody has that number");
        let record = record("agents".into(), 3, digests(&handles));
        let exe = std::env::current_exe().unwrap();
        let digest = Digest::of(&std::fs::read(exe).unwrap());
        assert_eq!(record.digests, [digest.bytes().to_vec()]);
        assert_eq!(record.processes, 3);
    }
}
