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
}

impl Ids {
    /// Gives every zone and workload of `policy` that has none the next number. Numbers of names
    /// that are gone stay taken.
    pub fn assign(&mut self, policy: &Policy) {
        for (name, zone) in policy.zones() {
            if zone.is_host() {
                self.zones.insert(name.clone(), ZONE_HOST);
            } else {
                number(&mut self.zones, name.clone());
            }
        }
        for (name, workload) in policy.workloads() {
            number(&mut self.workloads, Self::key(&workload.zone, name));
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

fn number(ids: &mut BTreeMap<String, u32>, name: String) {
    let own = ids.values().filter(|id| **id < FIRST_RESERVED);
    let next = own.max().copied().unwrap_or(0).saturating_add(1);
    ids.entry(name).or_insert(next);
}

/// From here on numbers have meanings of their own.
const FIRST_RESERVED: u32 = WORKLOAD_SURVIVAL;
