//! Numbers for names: the kernel knows zones and workloads by number only.
//!
//! Promises: a name keeps its number, and a number is never given to a second name, also when the
//! first one is gone from the policy: a running task's label would otherwise change its meaning.

use std::collections::{BTreeMap, BTreeSet};

use governor_common::names::{WORKLOAD_SURVIVAL, ZONE_HOST};

use super::{compile::CompileError, model::Policy, zones::HOST};

/// Numbers for names, kept by the caller so that a name keeps its number over reloads.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ids {
    pub zones: BTreeMap<String, u32>,
    /// By `zone/workload`.
    pub workloads: BTreeMap<String, u32>,
    /// Somebody's, whose name nobody knows any more.
    pub taken: Taken,
}

/// The highest numbers that are in use, whoever had them. Zero: none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Taken {
    pub zones: u32,
    pub workloads: u32,
}

impl Taken {
    /// A zone's number was met. Those with a meaning of their own are nobody's.
    pub const fn zone(&mut self, number: u32) {
        self.zones = higher(self.zones, number);
    }

    /// A workload's number was met.
    pub const fn workload(&mut self, number: u32) {
        self.workloads = higher(self.workloads, number);
    }

    /// Whatever either of them met.
    pub const fn and(mut self, other: Self) -> Self {
        self.zone(other.zones);
        self.workload(other.workloads);
        self
    }
}

const fn higher(known: u32, met: u32) -> u32 {
    if met < FIRST_RESERVED && met > known {
        met
    } else {
        known
    }
}

impl Ids {
    /// Gives every zone and workload of `policy` that has none the next number. Numbers of names
    /// that are gone stay taken, and so do those whose names were lost.
    pub fn assign(&mut self, policy: &Policy) {
        for (name, zone) in policy.zones() {
            if zone.is_host() {
                self.zones.insert(name.clone(), ZONE_HOST);
            } else {
                number(&mut self.zones, self.taken.zones, name.clone());
            }
        }
        for (name, workload) in policy.workloads() {
            let key = Self::key(&workload.zone, name);
            number(&mut self.workloads, self.taken.workloads, key);
        }
    }

    /// The number of a zone.
    pub fn zone(&self, zone: &str) -> Option<u32> {
        self.zones.get(zone).copied()
    }

    /// The number of a workload.
    pub fn workload(&self, zone: &str, workload: &str) -> Option<u32> {
        self.workloads.get(&Self::key(zone, workload)).copied()
    }

    /// What a workload is numbered by.
    pub(crate) fn key(zone: &str, workload: &str) -> String {
        format!("{zone}/{workload}")
    }

    /// Refuses numbers that mean something else, or two things.
    pub(super) fn check(&self) -> Result<(), CompileError> {
        distinct(&self.zones)?;
        distinct(&self.workloads)
    }
}

fn distinct(ids: &BTreeMap<String, u32>) -> Result<(), CompileError> {
    let mut seen = BTreeSet::new();
    for (name, id) in ids {
        let (name, id) = (name.clone(), *id);
        if id == ZONE_HOST && name == HOST {
            continue;
        }
        if id == 0 || id >= FIRST_RESERVED {
            return Err(CompileError::ReservedId { name, id });
        }
        if !seen.insert(id) {
            return Err(CompileError::IdTwice { name, id });
        }
    }
    Ok(())
}

fn number(ids: &mut BTreeMap<String, u32>, taken: u32, name: String) {
    let own = ids.values().filter(|id| **id < FIRST_RESERVED);
    let next = own
        .max()
        .map_or(taken, |own| taken.max(*own))
        .saturating_add(1);
    ids.entry(name).or_insert(next);
}

/// From here on numbers have meanings of their own.
const FIRST_RESERVED: u32 = WORKLOAD_SURVIVAL;
