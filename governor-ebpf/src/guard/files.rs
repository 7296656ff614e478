//! Files that are opened for writing. What was measured of them before is forgotten, whoever opens
//! them, or they run and nobody may; and some reach around the gate: control files of cgroups, block
//! devices below mounted file systems, the integrity policy.

use core::ffi::c_void;

use aya_ebpf::{macros::lsm, programs::LsmContext};
use governor_common::{
    Signal,
    guard::{GuardWord, PROTECTED_DEVICE},
};

use super::{Init, cgroup, identity, is_armed, refuse};
use crate::{
    kept, maps,
    offsets::{self, load},
    report, trace,
};

const FMODE_WRITE: u32 = 2;
const ATTR_SIZE: u32 = 1 << 3;
const S_IFMT: u16 = 0o170_000;
const S_IFBLK: u16 = 0o060_000;
const SECURITYFS_MAGIC: u64 = 0x7363_6673;

#[lsm(hook = "file_open")]
pub fn file_open(ctx: LsmContext) -> i32 {
    if ctx.arg::<i32>(1) != 0 {
        return report::refused();
    }
    let file: *const c_void = ctx.arg(0);
    // SAFETY: a field of `file`.
    let mode: u32 = unsafe { load(file, &offsets::OFF_FILE_MODE) };
    if mode & FMODE_WRITE == 0 {
        return 0;
    }
    // SAFETY: a field of `file`.
    if kept::touched(unsafe { load(file, &offsets::OFF_FILE_INODE) }) {
        return report::busy();
    }
    let code = trace::opens_memory(file);
    if code != 0 || !is_armed() {
        return code;
    }
    // SAFETY: a field of `file`.
    let inode: *const c_void = unsafe { load(file, &offsets::OFF_FILE_INODE) };
    // SAFETY: a field of `inode`.
    let kind: u16 = unsafe { load(inode, &offsets::OFF_INODE_MODE) };
    if kind & S_IFMT == S_IFBLK {
        // SAFETY: a field of `inode`.
        let device: u32 = unsafe { load(inode, &offsets::OFF_INODE_DEVICE) };
        if maps::protected(PROTECTED_DEVICE, device, 0) {
            return refuse(Signal::DeviceTouched, Init::May);
        }
        return 0;
    }
    // SAFETY: a field of `file`.
    let dentry: *const c_void = unsafe { load(file, &offsets::OFF_FILE_DENTRY) };
    let (device, _) = identity(inode);
    if u64::from(device) == maps::guard(GuardWord::CgroupDevice) {
        return cgroup::control(dentry);
    }
    // SAFETY: a field of `inode`.
    let superblock: *const c_void = unsafe { load(inode, &offsets::OFF_INODE_SB) };
    // SAFETY: a field of `super_block`.
    let magic: u64 = unsafe { load(superblock, &offsets::OFF_SB_MAGIC) };
    if magic == SECURITYFS_MAGIC && cgroup::is_named(dentry, b"policy\0") {
        return refuse(Signal::ImaPolicyTouched, Init::MayNot);
    }
    0
}

/// A file gets another size, as kernels before 6.3 ask about it. Not every way to do that opens the file:
/// by its path, by opening it to read, below another file system, for a client.
#[lsm(hook = "inode_setattr")]
pub fn inode_setattr_plain(ctx: LsmContext) -> i32 {
    if ctx.arg::<i32>(2) != 0 {
        return report::refused();
    }
    resized(ctx.arg(0), ctx.arg(1))
}

/// The same where the kernel names the mount's mapping of users first.
#[lsm(hook = "inode_setattr")]
pub fn inode_setattr_mapped(ctx: LsmContext) -> i32 {
    if ctx.arg::<i32>(3) != 0 {
        return report::refused();
    }
    resized(ctx.arg(1), ctx.arg(2))
}

/// A file becomes one that the kernel keeps quotas in. It writes to it then without opening it, past the pages
/// that others read, and lets go of those when quotas end.
#[lsm(hook = "quota_on")]
pub fn quota_on(ctx: LsmContext) -> i32 {
    if ctx.arg::<i32>(1) != 0 {
        return report::refused();
    }
    let dentry: *const c_void = ctx.arg(0);
    // SAFETY: a field of `dentry`; what quotas are kept in is there.
    if kept::touched(unsafe { load(dentry, &offsets::OFF_DENTRY_INODE) }) {
        return report::busy();
    }
    0
}

#[inline(always)]
fn resized(dentry: *const c_void, change: *const c_void) -> i32 {
    // SAFETY: a field of `iattr`.
    let what: u32 = unsafe { load(change, &offsets::OFF_IATTR_VALID) };
    if what & ATTR_SIZE == 0 {
        return 0;
    }
    // SAFETY: a field of `dentry`; what gets another size is there.
    if kept::touched(unsafe { load(dentry, &offsets::OFF_DENTRY_INODE) }) {
        return report::busy();
    }
    0
}
