//! Which zone a task is in: its label's, else that of its deepest zone cgroup, else the whole host's
//! where the table makes it one.

use aya_ebpf::helpers::generated::bpf_get_current_ancestor_cgroup_id;
use governor_common::names::{CGROUP_LEVELS, ZONE_HOST, ZONE_SELF};

use crate::{
    facts,
    label::{self, Own, TaskState},
    maps,
};

/// The zone of the current task's cgroups that is governed; zero: none.
#[inline(always)]
pub(crate) fn governed() -> u32 {
    let zone = of_cgroup();
    if zone == ZONE_SELF { 0 } else { zone }
}

/// Whether the current task is governed, by its label or by its cgroup. The whole host as a zone does
/// not count: an operator is no workload.
#[inline(always)]
pub(crate) fn is_governed() -> bool {
    match label::own() {
        // SAFETY: this task's storage.
        Own::Found(state) if unsafe { (*state).label.present() } => true,
        Own::Found(_) | Own::Nothing => governed() != 0,
        Own::Broken => true,
    }
}

/// Whether the current task is in the cgroup of the daemon's service, and has no label.
#[inline(always)]
pub(crate) fn is_own() -> bool {
    of_cgroup() == ZONE_SELF
}

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
    place_of(&label::own())
}

#[inline(always)]
fn place_of(own: &Own) -> Place {
    match *own {
        Own::Broken => Place::Broken,
        Own::Found(state) => {
            // SAFETY: this task's storage.
            let label = unsafe { &(*state).label };
            let zone = if label.present() {
                label.zone
            } else {
                of_unlabelled()
            };
            if zone == 0 {
                Place::Outside
            } else {
                Place::Inside(zone, state)
            }
        }
        Own::Nothing => {
            let zone = of_unlabelled();
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

/// Where code is mapped: as [`place`], but for what systemd's own code does in a zone's cgroup before
/// there is a workload.
#[inline(always)]
pub(crate) fn mapping_place(own: &Own) -> Place {
    // Where nothing is judged nothing is made either: whoever asks this may sleep while it is made, and others
    // on this processor are refused theirs meanwhile.
    if matches!(own, Own::Nothing) && !facts::host_is_zone() {
        return Place::Outside;
    }
    match place_of(own) {
        Place::Outside => Place::Outside,
        Place::Broken => Place::Broken,
        Place::Inside(zone, state) => {
            // SAFETY: this task's storage.
            if zone == ZONE_HOST || unsafe { (*state).label.present() } {
                Place::Inside(zone, state)
            } else if facts::host_is_zone() {
                // Whoever goes into a zone's cgroup and comes back must have mapped nothing there that
                // it could not map outside.
                Place::Inside(ZONE_HOST, state)
            } else {
                Place::Outside
            }
        }
    }
}

#[inline(always)]
fn of_unlabelled() -> u32 {
    let zone = governed();
    if zone == 0 && facts::host_is_zone() {
        ZONE_HOST
    } else {
        zone
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
        let found = maps::zone_of(id);
        if found != 0 {
            zone = found;
        }
        level += 1;
    }
    zone
}
