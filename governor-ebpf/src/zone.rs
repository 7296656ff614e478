//! Which zone a task is in: its label's, else that of its deepest zone cgroup.

use aya_ebpf::helpers::generated::bpf_get_current_ancestor_cgroup_id;
use governor_common::names::CGROUP_LEVELS;

use crate::{
    label::{self, Own, TaskState},
    maps::CGROUPS,
};

/// Where the current task stands.
pub(crate) enum Place {
    /// In no zone: none of our business.
    Outside,
    Inside(u32, *mut TaskState),
    /// Perhaps in a zone, and its storage cannot be had.
    Broken,
}

/// The current task's zone, with storage to judge it in.
#[inline(always)]
pub(crate) fn place() -> Place {
    match label::own() {
        Own::Broken => Place::Broken,
        Own::Found(state) => {
            // SAFETY: this task's storage.
            let label = unsafe { &(*state).label };
            let zone = if label.present() {
                label.zone
            } else {
                of_cgroup()
            };
            if zone == 0 {
                Place::Outside
            } else {
                Place::Inside(zone, state)
            }
        }
        Own::Nothing => {
            let zone = of_cgroup();
            if zone == 0 {
                return Place::Outside;
            }
            match label::own_or_new() {
                Some(state) => Place::Inside(zone, state),
                None => Place::Broken,
            }
        }
    }
}

/// The zone of the deepest zone cgroup above the current task; zero: none.
#[inline(always)]
fn of_cgroup() -> u32 {
    let mut zone = 0;
    let mut level = 1;
    while level <= CGROUP_LEVELS {
        // SAFETY: a number in, a number out.
        let id = unsafe { bpf_get_current_ancestor_cgroup_id(level) };
        if id == 0 {
            break;
        }
        if let Some(found) = CGROUPS.get_ptr(&id) {
            // SAFETY: a map element, read whole.
            zone = unsafe { found.read_volatile() };
        }
        level += 1;
    }
    zone
}
