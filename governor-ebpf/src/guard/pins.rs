//! The directory of pins: what is in it comes and goes by the daemon alone. And the cgroups of
//! zones, which only the first process removes. And the directory that the way to the pins is mounted
//! on.

use core::ffi::c_void;

use aya_ebpf::{macros::lsm, programs::LsmContext};
use governor_common::{
    Signal,
    guard::{GuardWord, PROTECTED_PINS},
    names::ZONE_SELF,
};

use super::{
    Init, argument,
    cgroup::{self, parent_of},
    identity, inode_of, is_administrator, is_armed, refuse,
    tree::{self, Hit},
};
use crate::{maps, report};

#[inline(always)]
fn in_pins(dir: *const c_void) -> bool {
    let (device, number) = identity(dir);
    u64::from(device) == maps::guard(GuardWord::PinDevice)
        && maps::protected(PROTECTED_PINS, device, number)
}

/// Whether the way to the pins is mounted on what this argument names. Who sees nothing mounted on a
/// directory may remove or replace it, and then the kernel takes away what others have mounted there, and
/// asks nobody. The name is asked for besides the number because subvolumes of btrfs use numbers again.
///
/// What a name leads to is nothing yet where something is renamed to it, so it is not followed by type.
#[inline(always)]
fn carries_way(ctx: &LsmContext, which: usize) -> bool {
    cgroup::is_named(ctx.arg(which), b"sys\0")
        && tree::place(argument(ctx, which as u32), 0) == Hit::Way
}

/// Who does not administer the host does not see it without what is mounted there: something of the same
/// name and number.
#[inline(always)]
fn touched() -> Signal {
    if is_administrator() {
        Signal::MountTouched
    } else {
        Signal::MountRefused
    }
}

#[inline(always)]
fn entry(ctx: &LsmContext, returned: i32, dir: *const c_void) -> i32 {
    let _ = ctx;
    if returned != 0 {
        return report::refused();
    }
    if !is_armed() || !in_pins(dir) {
        return 0;
    }
    refuse(Signal::PinTouched, Init::MayNot)
}

#[lsm(hook = "inode_unlink")]
pub fn inode_unlink(ctx: LsmContext) -> i32 {
    entry(&ctx, ctx.arg::<i32>(2), ctx.arg(0))
}

#[lsm(hook = "inode_create")]
pub fn inode_create(ctx: LsmContext) -> i32 {
    entry(&ctx, ctx.arg::<i32>(3), ctx.arg(0))
}

#[lsm(hook = "inode_mkdir")]
pub fn inode_mkdir(ctx: LsmContext) -> i32 {
    entry(&ctx, ctx.arg::<i32>(3), ctx.arg(0))
}

#[lsm(hook = "inode_symlink")]
pub fn inode_symlink(ctx: LsmContext) -> i32 {
    entry(&ctx, ctx.arg::<i32>(3), ctx.arg(0))
}

/// A second name, among the pins or for one of them: what has one stays when the pin goes.
#[lsm(hook = "inode_link")]
pub fn inode_link(ctx: LsmContext) -> i32 {
    if ctx.arg::<i32>(3) != 0 {
        return report::refused();
    }
    if !is_armed() || !(in_pins(ctx.arg(1)) || in_pins(inode_of(parent_of(ctx.arg(0))))) {
        return 0;
    }
    refuse(Signal::PinTouched, Init::MayNot)
}

/// Both ends, and a directory of pins that is itself renamed.
#[lsm(hook = "inode_rename")]
pub fn inode_rename(ctx: LsmContext) -> i32 {
    if ctx.arg::<i32>(4) != 0 {
        return report::refused();
    }
    if !is_armed() {
        return 0;
    }
    if in_pins(ctx.arg(0)) || in_pins(ctx.arg(2)) || in_pins(inode_of(ctx.arg(1))) {
        return refuse(Signal::PinTouched, Init::MayNot);
    }
    if carries_way(&ctx, 1) || carries_way(&ctx, 3) {
        return refuse(touched(), Init::MayNot);
    }
    0
}

/// A directory of pins, or the cgroup of a zone.
#[lsm(hook = "inode_rmdir")]
pub fn inode_rmdir(ctx: LsmContext) -> i32 {
    if ctx.arg::<i32>(2) != 0 {
        return report::refused();
    }
    if !is_armed() {
        return 0;
    }
    let inode = inode_of(ctx.arg(1));
    if in_pins(ctx.arg(0)) || in_pins(inode) {
        return refuse(Signal::PinTouched, Init::MayNot);
    }
    if carries_way(&ctx, 1) {
        return refuse(touched(), Init::MayNot);
    }
    let (device, number) = identity(inode);
    if u64::from(device) == maps::guard(GuardWord::CgroupDevice) {
        let zone = maps::zone_of(number);
        if zone != 0 && zone != ZONE_SELF {
            return refuse(Signal::ZoneRemoved, Init::May);
        }
    }
    0
}
