//! Mounts: the way to the pins stays what it is, in the mount namespace of the first process. What
//! others do in namespaces of their own changes copies.

use core::ffi::c_void;

use aya_ebpf::{helpers::generated::bpf_get_current_task_btf, macros::lsm, programs::LsmContext};
use governor_common::{
    Signal,
    guard::{GuardWord, PROTECTED_PINS, PROTECTED_TREE, PROTECTED_WAY},
};

use super::{Init, identity, inode_of, is_administrator, is_armed, refuse};
use crate::{
    maps,
    offsets::{self, load},
    report,
};

const MS_BIND: u64 = 4096;
const MS_REMOUNT: u64 = 32;
const MS_MOVE: u64 = 8192;
/// Shared, private, slave, unbindable: what happens to a mount's copies.
const PROPAGATION: u64 = 1 << 20 | 1 << 18 | 1 << 19 | 1 << 17;

/// A mount goes.
#[lsm(hook = "sb_umount")]
pub fn sb_umount(ctx: LsmContext) -> i32 {
    if ctx.arg::<i32>(2) != 0 {
        return report::refused();
    }
    if !is_watched() {
        return 0;
    }
    let root = root_of(ctx.arg(0));
    if is_way(root) {
        return refuse(Signal::MountTouched, Init::May);
    }
    let (device, number) = identity(root);
    if maps::protected(PROTECTED_TREE, device, number) {
        return refuse(Signal::MountRefused, Init::May);
    }
    0
}

/// Something is mounted here, by the old call.
#[lsm(hook = "sb_mount")]
pub fn sb_mount(ctx: LsmContext) -> i32 {
    if ctx.arg::<i32>(5) != 0 {
        return report::refused();
    }
    let flags: u64 = ctx.arg(3);
    // The kernel looks at these in this order: what binds is bound, whatever else is asked for.
    let changes_only = flags & MS_REMOUNT != 0 || flags & MS_BIND == 0 && flags & PROPAGATION != 0;
    if changes_only || !is_watched() || !is_administrator() {
        return 0;
    }
    let over = mounted_over(entry_of(ctx.arg(1)));
    if over != 0 {
        return over;
    }
    if flags & MS_MOVE != 0 {
        // What it would move is a name here, and names say nothing. The newer call says it.
        return refuse(Signal::MountRefused, Init::May);
    }
    0
}

/// A mount is put in place, or from one place to another.
#[lsm(hook = "move_mount")]
pub fn move_mount(ctx: LsmContext) -> i32 {
    if ctx.arg::<i32>(2) != 0 {
        return report::refused();
    }
    if !is_watched() {
        return 0;
    }
    let from: *const c_void = ctx.arg(0);
    // SAFETY: a field of `path`.
    let mount: *const c_void = unsafe { load(from, &offsets::OFF_PATH_MNT) };
    let root = root_of(mount);
    if is_pins(root) {
        return refuse(Signal::MountTouched, Init::May);
    }
    let (device, number) = identity(root);
    if maps::protected(PROTECTED_TREE, device, number) {
        return refuse(Signal::MountRefused, Init::May);
    }
    mounted_over(entry_of(ctx.arg(1)))
}

/// Another root for everybody.
#[lsm(hook = "sb_pivotroot")]
pub fn sb_pivotroot(ctx: LsmContext) -> i32 {
    if ctx.arg::<i32>(2) != 0 {
        return report::refused();
    }
    if !is_watched() {
        return 0;
    }
    refuse(Signal::MountTouched, Init::May)
}

/// Whether the guard is armed and the task sees the mounts that the first process sees.
#[inline(always)]
fn is_watched() -> bool {
    if !is_armed() {
        return false;
    }
    // SAFETY: the helper returns the running task.
    let task: *const c_void = unsafe { bpf_get_current_task_btf() }.cast();
    // SAFETY: a field of `task_struct`.
    let proxy: *const c_void = unsafe { load(task, &offsets::OFF_TASK_NSPROXY) };
    // SAFETY: a field of `nsproxy`.
    let namespace: *const c_void = unsafe { load(proxy, &offsets::OFF_NSPROXY_MNT) };
    // SAFETY: a field of `mnt_namespace`.
    let number: u32 = unsafe { load(namespace, &offsets::OFF_MNTNS_NUMBER) };
    u64::from(number) == maps::guard(GuardWord::MountNamespace)
}

/// What comes of mounting over this directory: the way to the pins stays clear, and so does the tree of
/// cgroups, or the first process would start what is governed where nothing is.
#[inline(always)]
fn mounted_over(inode: *const c_void) -> i32 {
    if is_way(inode) {
        return refuse(Signal::MountTouched, Init::May);
    }
    let (device, number) = identity(inode);
    if u64::from(device) == maps::guard(GuardWord::CgroupDevice)
        || maps::protected(PROTECTED_TREE, device, number)
    {
        return refuse(Signal::MountRefused, Init::May);
    }
    0
}

#[inline(always)]
fn is_way(inode: *const c_void) -> bool {
    let (device, number) = identity(inode);
    maps::protected(PROTECTED_WAY, device, number)
        || maps::protected(PROTECTED_PINS, device, number)
}

#[inline(always)]
fn is_pins(inode: *const c_void) -> bool {
    u64::from(identity(inode).0) == maps::guard(GuardWord::PinDevice)
}

/// The inode at the root of a mount.
#[inline(always)]
fn root_of(mount: *const c_void) -> *const c_void {
    // SAFETY: a field of `vfsmount`.
    inode_of(unsafe { load(mount, &offsets::OFF_MNT_ROOT) })
}

/// The inode a path leads to.
#[inline(always)]
fn entry_of(path: *const c_void) -> *const c_void {
    // SAFETY: a field of `path`.
    inode_of(unsafe { load(path, &offsets::OFF_PATH_DENTRY) })
}
