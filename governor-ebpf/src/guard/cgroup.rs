//! Control files of cgroups: nobody but the first process touches the daemon's own, nobody freezes or
//! kills from above it, and what is frozen in a zone is frozen and thawed by the daemon alone.

use core::ffi::c_void;

use aya_ebpf::helpers::generated::bpf_probe_read_kernel_str;
use governor_common::{Signal, guard::PROTECTED_CGROUP, names::ZONE_SELF};

use super::{Init, identity, inode_of, refuse};
use crate::{
    maps,
    offsets::{self, load},
};

/// Levels of the tree above a control file that are searched for a zone.
const LEVELS: u32 = 12;

/// Judges a control file that is opened for writing.
#[inline(always)]
pub(super) fn control(file: *const c_void) -> i32 {
    let freeze = is_named(file, b"cgroup.freeze\0");
    let kill = is_named(file, b"cgroup.kill\0");
    let mut dentry = parent_of(file);
    let (device, number) = identity(inode_of(dentry));
    if maps::zone_of(number) == ZONE_SELF {
        // Being in there makes nobody the daemon, and what the first process forks has to get in.
        if is_named(file, b"cgroup.procs\0") {
            return 0;
        }
        return refuse(Signal::CgroupTouched, Init::May);
    }
    if (freeze || kill) && maps::protected(PROTECTED_CGROUP, device, number) {
        return refuse(Signal::CgroupTouched, Init::May);
    }
    if !freeze {
        return 0;
    }
    // The first process thaws slices when it stops what is in them. What is frozen there are the
    // cgroups below, and those stay.
    if maps::zone_of(number) != 0 {
        return refuse(Signal::CgroupTouched, Init::May);
    }
    let mut level = 0;
    while level < LEVELS {
        let (_, number) = identity(inode_of(dentry));
        let zone = maps::zone_of(number);
        if zone != 0 && zone != ZONE_SELF {
            return refuse(Signal::CgroupTouched, Init::MayNot);
        }
        dentry = parent_of(dentry);
        level += 1;
    }
    0
}

/// Whether an entry has this name. The name ends in a zero, so that a longer one is another.
#[inline(always)]
pub(crate) fn is_named<const N: usize>(dentry: *const c_void, name: &[u8; N]) -> bool {
    // SAFETY: a field of `dentry`.
    let from: u64 = unsafe { load(dentry, &offsets::OFF_DENTRY_NAME) };
    let mut found = [0u8; N];
    // SAFETY: the helper checks the source and ends the string within our stack.
    let read = unsafe {
        bpf_probe_read_kernel_str(found.as_mut_ptr().cast(), N as u32, from as *const c_void)
    };
    if read != N as _ {
        return false;
    }
    let mut difference = 0;
    let mut i = 0;
    while i < N {
        difference |= found[i] ^ name[i];
        i += 1;
    }
    difference == 0
}

#[inline(always)]
pub(super) fn parent_of(dentry: *const c_void) -> *const c_void {
    // SAFETY: a field of `dentry`; that of the root is itself.
    unsafe { load(dentry, &offsets::OFF_DENTRY_PARENT) }
}
