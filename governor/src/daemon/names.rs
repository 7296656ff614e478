//! Numbers back to names: what the kernel knows by number, an operator reads by name.

use governor_common::names::{WORKLOAD_NONE, ZONE_UNKNOWN};
use governor_core::policy::Ids;

/// The zone's name.
pub(crate) fn zone(ids: &Ids, number: u32) -> String {
    if number == ZONE_UNKNOWN {
        return "(unknown zone)".into();
    }
    ids.zones
        .iter()
        .find(|(_, known)| **known == number)
        .map_or_else(|| format!("#{number}"), |(name, _)| name.clone())
}

/// The workload's name, without its zone; empty for a task that is none.
pub(crate) fn workload(ids: &Ids, number: u32) -> String {
    if number == 0 || number == WORKLOAD_NONE {
        return String::new();
    }
    ids.workloads
        .iter()
        .find(|(_, known)| **known == number)
        .map_or_else(
            || format!("#{number}"),
            |(name, _)| name.rsplit('/').next().unwrap_or(name).to_owned(),
        )
}
