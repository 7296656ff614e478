//! What is loaded into the kernel beside the gate: modules and kernels by content, nothing else; and
//! a lockdown of its own, for kernels that were booted without one.

use core::ffi::c_void;

use aya_ebpf::{macros::lsm, programs::LsmContext};
use governor_common::{
    Signal,
    guard::{LISTED_KEXEC, LISTED_MODULE},
};

use super::{Init, is_armed, refuse};
use crate::{kept::Digest, maps, offsets, report, zone};

/// A file is read into the kernel.
#[lsm(hook = "kernel_read_file", sleepable)]
pub fn kernel_read_file(ctx: LsmContext) -> i32 {
    if ctx.arg::<i32>(3) != 0 {
        return report::refused();
    }
    if !is_armed() {
        return 0;
    }
    let id = u64::from(ctx.arg::<u32>(1));
    if id == offsets::ENUM_READING_POLICY.load() {
        return refuse(Signal::ImaPolicyTouched, Init::MayNot);
    }
    let (kind, signal) = if id == offsets::ENUM_READING_MODULE.load() {
        (LISTED_MODULE, Signal::ModuleRefused)
    } else if id == offsets::ENUM_READING_KEXEC_IMAGE.load()
        || id == offsets::ENUM_READING_KEXEC_INITRAMFS.load()
    {
        (LISTED_KEXEC, Signal::KexecRefused)
    } else {
        return 0;
    };
    let file: *mut c_void = ctx.arg(0);
    let mut digest = Digest::NONE;
    if super::is_measured(file, &mut digest) && maps::listed(kind, &digest.0) {
        return 0;
    }
    unlisted(signal)
}

/// Bytes without a file are loaded: nothing says what they are.
#[lsm(hook = "kernel_load_data")]
pub fn kernel_load_data(ctx: LsmContext) -> i32 {
    if ctx.arg::<i32>(2) != 0 {
        return report::refused();
    }
    if !is_armed() {
        return 0;
    }
    let id = u64::from(ctx.arg::<u32>(0));
    if id == offsets::ENUM_LOADING_POLICY.load() {
        return refuse(Signal::ImaPolicyTouched, Init::MayNot);
    }
    if id == offsets::ENUM_LOADING_MODULE.load() {
        return unlisted(Signal::ModuleRefused);
    }
    if id == offsets::ENUM_LOADING_KEXEC_IMAGE.load()
        || id == offsets::ENUM_LOADING_KEXEC_INITRAMFS.load()
    {
        return unlisted(Signal::KexecRefused);
    }
    0
}

/// The kernel would fetch a module because a task asked for something. For a governed task it does
/// not: the load itself would be somebody else's.
#[lsm(hook = "kernel_module_request")]
pub fn kernel_module_request(ctx: LsmContext) -> i32 {
    if ctx.arg::<i32>(1) != 0 {
        return report::refused();
    }
    if !is_armed() || !zone::is_governed() {
        return 0;
    }
    refuse(Signal::ModuleRefused, Init::MayNot)
}

/// What lockdown in its integrity mode forbids. Modules are judged by content instead of by
/// signature, and so are kernels.
#[lsm(hook = "locked_down")]
pub fn locked_down(ctx: LsmContext) -> i32 {
    if ctx.arg::<i32>(1) != 0 {
        return report::refused();
    }
    if !is_armed() {
        return 0;
    }
    let what = u64::from(ctx.arg::<u32>(0));
    if what <= offsets::ENUM_LOCKDOWN_NONE.load()
        || what >= offsets::ENUM_LOCKDOWN_INTEGRITY_MAX.load()
        || what == offsets::ENUM_LOCKDOWN_MODULE_SIGNATURE.load()
        || what == offsets::ENUM_LOCKDOWN_KEXEC.load()
    {
        return 0;
    }
    unlisted(Signal::LockdownRefused)
}

/// For everybody, the daemon too.
#[inline(always)]
fn unlisted(signal: Signal) -> i32 {
    let code = refuse(signal, Init::MayNot);
    if code != 0 {
        return code;
    }
    maps::signal(signal);
    report::refused()
}
