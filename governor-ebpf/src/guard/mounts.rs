//! Mounts: what the first process finds the pins and the cgroups by stays what it is, whichever mount
//! namespace somebody acts in. What others do to copies of their own is their business.
//!
//! Not even the first process may: whoever is root may ask it. While the host goes down it has no need to.

use core::ffi::c_void;

use aya_ebpf::{helpers::generated::bpf_get_current_task_btf, macros::lsm, programs::LsmContext};
use governor_common::{Signal, guard::GuardWord};

use super::{
    Init, argument, is_administrator, is_armed, refuse,
    tree::{self, Hit},
};
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
const MNT_DETACH: i32 = 2;

/// A mount goes.
#[lsm(hook = "sb_umount")]
pub fn sb_umount(ctx: LsmContext) -> i32 {
    if ctx.arg::<i32>(2) != 0 {
        return report::refused();
    }
    if !is_armed() {
        return 0;
    }
    let with_all_below = ctx.arg::<i32>(1) & MNT_DETACH != 0;
    judge(tree::removed(
        tree::around(argument(&ctx, 0)),
        with_all_below,
    ))
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
    if changes_only || !is_armed() {
        return 0;
    }
    let over = judge(mounted_over(argument(&ctx, 1)));
    if over != 0 {
        return over;
    }
    if flags & MS_MOVE != 0 && is_watched() {
        // What it would move is a name here, and names say nothing. The newer call says it.
        return refuse(Signal::MountRefused, Init::MayNot);
    }
    0
}

/// A mount is put in place, or from one place to another, or takes part in what happens to another.
#[lsm(hook = "move_mount")]
pub fn move_mount(ctx: LsmContext) -> i32 {
    if ctx.arg::<i32>(2) != 0 {
        return report::refused();
    }
    if !is_armed() {
        return 0;
    }
    let (from, to) = (argument(&ctx, 0), argument(&ctx, 1));
    let moved = tree::mount_of(from);
    if tree::is_protected(moved) {
        return judge(tree::root_of(moved));
    }
    let over = judge(mounted_over(to));
    if over != 0 {
        return over;
    }
    let onto = tree::mount_of(to);
    if tree::is_root(onto, tree::entry_of(to)) {
        // Perhaps beneath it, which is on what that is mounted on; the hook is not told.
        let beneath = judge(tree::removed(onto, false));
        if beneath != 0 {
            return beneath;
        }
    }
    // Who takes part in what happens to one of ours is one that reaches it, from then on.
    judge(tree::covered(moved, tree::entry_of(to), 0))
}

/// Another root for everybody.
#[lsm(hook = "sb_pivotroot")]
pub fn sb_pivotroot(ctx: LsmContext) -> i32 {
    if ctx.arg::<i32>(2) != 0 {
        return report::refused();
    }
    if !is_armed() || !is_watched() {
        return 0;
    }
    refuse(Signal::MountTouched, Init::MayNot)
}

/// The kernel asks here before it knows who may mount at all, and whoever has a user namespace may in
/// mount namespaces of its own. They are refused like everybody; the host's trust is not theirs to take.
#[inline(always)]
fn judge(hit: Hit) -> i32 {
    match hit {
        Hit::Nothing => 0,
        Hit::Way if is_administrator() => refuse(Signal::MountTouched, Init::MayNot),
        Hit::Way | Hit::Tree => refuse(Signal::MountRefused, Init::MayNot),
    }
}

/// What comes of mounting over this directory: the way to the pins stays clear, and so does the tree of
/// cgroups, or the first process would start what is governed where nothing is.
#[inline(always)]
fn mounted_over(path: u64) -> Hit {
    tree::covered(
        tree::mount_of(path),
        tree::entry_of(path),
        maps::guard(GuardWord::CgroupDevice),
    )
}

/// Whether the task sees the mounts that the first process sees.
#[inline(always)]
fn is_watched() -> bool {
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
