//! Zone cgroups as they come and go.
//!
//! Runs inside the kernel's mkdir, before the new cgroup can be seen: one that is made again under
//! a new id is governed from its first moment, with no process in user space taking part.

use core::ffi::c_void;

use aya_ebpf::{
    helpers::generated::bpf_probe_read_kernel_str, macros::btf_tracepoint,
    programs::BtfTracePointContext,
};
use governor_common::names::ZONE_PATH_LEN;

use crate::{
    maps::{CGROUPS, ZONE_PATHS},
    offsets::{self, load},
};

/// A cgroup is made.
#[btf_tracepoint(function = "cgroup_mkdir")]
pub fn cgroup_mkdir(ctx: BtfTracePointContext) -> i32 {
    let Some(id) = id_in_unified(ctx.arg(0)) else {
        return 0;
    };
    let mut path = [0u8; ZONE_PATH_LEN];
    // SAFETY: the helper checks the source and ends the string within our stack.
    let read = unsafe {
        bpf_probe_read_kernel_str(
            path.as_mut_ptr().cast(),
            ZONE_PATH_LEN as u32,
            ctx.arg::<*const c_void>(1),
        )
    };
    // A path that fills the buffer was cut: it is not a zone's.
    if read <= 0 || read >= ZONE_PATH_LEN as _ {
        return 0;
    }
    if let Some(zone) = ZONE_PATHS.get_ptr(&path) {
        // SAFETY: a map element, read whole.
        let zone = unsafe { zone.read_volatile() };
        // A full map leaves the cgroup to the zone above it, at worst to the unknown one.
        let _ = CGROUPS.insert(&id, &zone, 0);
    }
    0
}

/// A cgroup is removed; its id may come again for another.
#[btf_tracepoint(function = "cgroup_rmdir")]
pub fn cgroup_rmdir(ctx: BtfTracePointContext) -> i32 {
    if let Some(id) = id_in_unified(ctx.arg(0)) {
        // Not a zone's: not there.
        let _ = CGROUPS.remove(&id);
    }
    0
}

/// The cgroup's id, if it is of the unified hierarchy. Ids of others may be equal to its ids.
#[inline(always)]
fn id_in_unified(cgroup: *const c_void) -> Option<u64> {
    // SAFETY: fields of `cgroup`.
    let root: *const c_void = unsafe { load(cgroup, &offsets::OFF_CGROUP_ROOT) };
    // SAFETY: a field of `cgroup_root`.
    let hierarchy: i32 = unsafe { load(root, &offsets::OFF_ROOT_HIERARCHY) };
    if hierarchy != 0 {
        return None;
    }
    // SAFETY: a field of `cgroup`.
    let node: *const c_void = unsafe { load(cgroup, &offsets::OFF_CGROUP_KN) };
    // SAFETY: a field of `kernfs_node`.
    Some(unsafe { load(node, &offsets::OFF_KN_ID) })
}
