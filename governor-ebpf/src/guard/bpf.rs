//! Maps, programs and links by descriptor: every way to a new one passes here.

use core::ffi::c_void;

use aya_ebpf::{macros::lsm, programs::LsmContext};
use governor_common::{
    Signal,
    guard::{Mark, PROTECTED_LINK, PROTECTED_MAP, PROTECTED_PROGRAM},
};

use super::{Init, is_armed, refuse};
use crate::{
    label::{self, Own},
    maps,
    offsets::{self, load},
    report,
};

const BPF_LINK_GET_FD_BY_ID: i32 = 30;

/// A descriptor of a map, by id, by pin or by making it.
#[lsm(hook = "bpf_map")]
pub fn bpf_map(ctx: LsmContext) -> i32 {
    if ctx.arg::<i32>(2) != 0 {
        return report::refused();
    }
    if !is_armed() {
        return 0;
    }
    let map: *const c_void = ctx.arg(0);
    // SAFETY: a field of `bpf_map`.
    let id: u32 = unsafe { load(map, &offsets::OFF_MAP_ID) };
    if !maps::protected(PROTECTED_MAP, 0, id.into()) {
        return 0;
    }
    promote();
    refuse(Signal::MapTouched, Init::MayNot)
}

/// A descriptor of a program.
#[lsm(hook = "bpf_prog")]
pub fn bpf_prog(ctx: LsmContext) -> i32 {
    if ctx.arg::<i32>(1) != 0 {
        return report::refused();
    }
    if !is_armed() {
        return 0;
    }
    let program: *const c_void = ctx.arg(0);
    // SAFETY: a field of `bpf_prog`.
    let aux: *const c_void = unsafe { load(program, &offsets::OFF_PROG_AUX) };
    // SAFETY: a field of `bpf_prog_aux`.
    let id: u32 = unsafe { load(aux, &offsets::OFF_AUX_ID) };
    if !maps::protected(PROTECTED_PROGRAM, 0, id.into()) {
        return 0;
    }
    promote();
    refuse(Signal::ProgramTouched, Init::MayNot)
}

/// A descriptor of a link by id. One by pin only keeps the link longer: nothing of ours can be
/// detached or replaced through it.
#[lsm(hook = "bpf")]
pub fn bpf(ctx: LsmContext) -> i32 {
    if ctx.arg::<i32>(3) != 0 {
        return report::refused();
    }
    if ctx.arg::<i32>(0) != BPF_LINK_GET_FD_BY_ID || !is_armed() {
        return 0;
    }
    let attr: *const u32 = ctx.arg(1);
    // SAFETY: the first word of `bpf_attr`, for this command the link's id; the verifier checks it.
    let id = unsafe { attr.read_volatile() };
    if !maps::protected(PROTECTED_LINK, 0, id.into()) {
        return 0;
    }
    promote();
    refuse(Signal::LinkTouched, Init::MayNot)
}

/// A candidate that reaches for the gate, with nothing unlisted in it so far, is the daemon: from
/// here on nothing unlisted gets in.
#[inline(always)]
fn promote() {
    if let Own::Found(state) = label::own() {
        // SAFETY: this task's storage.
        let state = unsafe { &mut *state };
        if state.mark == Mark::Candidate as u32 && !super::daemon::is_traced() {
            state.mark = Mark::Daemon as u32;
        }
    }
}
