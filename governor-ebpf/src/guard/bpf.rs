//! Maps, programs and links by descriptor: every way to a new one passes here.

use core::ffi::c_void;

use aya_ebpf::{macros::lsm, programs::LsmContext};
use governor_common::{
    Signal,
    guard::{Mark, PROTECTED_LINK, PROTECTED_MAP, PROTECTED_PROGRAM},
};

use super::{Init, is_administrator, is_armed, refuse};
use crate::{
    label::{self, Own},
    maps,
    offsets::{self, load},
    report,
};

const BPF_PROG_LOAD: i32 = 5;
const BPF_PROG_ATTACH: i32 = 8;
const BPF_RAW_TRACEPOINT_OPEN: i32 = 17;
const BPF_LINK_CREATE: i32 = 28;
const BPF_LINK_GET_FD_BY_ID: i32 = 30;
const PROG_KPROBE: u32 = 2;
const PROG_TRACEPOINT: u32 = 5;
const PROG_PERF_EVENT: u32 = 7;
const PROG_RAW_TRACEPOINT: u32 = 17;
const PROG_CGROUP_SYSCTL: u32 = 23;
const PROG_RAW_TRACEPOINT_WRITABLE: u32 = 24;
const PROG_TRACING: u32 = 26;
const PROG_STRUCT_OPS: u32 = 27;
const PROG_EXTENSION: u32 = 28;
const PROG_LSM: u32 = 29;
const BPF_CGROUP_SYSCTL: u32 = 18;
const TRACE_FENTRY: u32 = 24;
const TRACE_FEXIT: u32 = 25;
const MODIFY_RETURN: u32 = 26;
const LSM_MAC: u32 = 27;
const TRACE_KPROBE_MULTI: u32 = 42;

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
/// detached or replaced through it. And programs of others that ride on what ours ride on.
#[lsm(hook = "bpf")]
pub fn bpf(ctx: LsmContext) -> i32 {
    if ctx.arg::<i32>(3) != 0 {
        return report::refused();
    }
    if !is_armed() {
        return 0;
    }
    let attr: *const u32 = ctx.arg(1);
    // SAFETY: the first word of `bpf_attr`; the verifier checks it.
    let first = unsafe { attr.read_volatile() };
    // SAFETY: the third word of `bpf_attr`; the verifier checks it.
    let third = unsafe { attr.add(2).read_volatile() };
    let (signal, init) = match ctx.arg::<i32>(0) {
        BPF_LINK_GET_FD_BY_ID
            if maps::protected(PROTECTED_LINK, 0, first.into()) && is_administrator() =>
        {
            (Signal::LinkTouched, Init::MayNot)
        }
        // The service manager loads programs of its own before it starts anything.
        BPF_PROG_LOAD if rides(first) => (Signal::ProgramRefused, Init::May),
        BPF_RAW_TRACEPOINT_OPEN => (Signal::ProgramRefused, Init::May),
        BPF_LINK_CREATE if is_ridden(third) => (Signal::ProgramRefused, Init::May),
        BPF_LINK_CREATE | BPF_PROG_ATTACH if third == BPF_CGROUP_SYSCTL => {
            (Signal::ProgramRefused, Init::MayNot)
        }
        _ => return 0,
    };
    promote();
    refuse(signal, init)
}

/// Whether programs of this type run where kernel functions are called, and may return something else in
/// their place, end whoever calls them, or take all the room there is; or after our guard of settings,
/// whose refusal they may take back.
#[inline(always)]
const fn rides(kind: u32) -> bool {
    matches!(
        kind,
        PROG_KPROBE
            | PROG_TRACEPOINT
            | PROG_PERF_EVENT
            | PROG_RAW_TRACEPOINT
            | PROG_CGROUP_SYSCTL
            | PROG_RAW_TRACEPOINT_WRITABLE
            | PROG_TRACING
            | PROG_STRUCT_OPS
            | PROG_EXTENSION
            | PROG_LSM
    )
}

/// Whether a link of this type puts a program there. Lists hang on nothing.
#[inline(always)]
const fn is_ridden(place: u32) -> bool {
    matches!(
        place,
        TRACE_FENTRY | TRACE_FEXIT | MODIFY_RETURN | LSM_MAC | TRACE_KPROBE_MULTI
    )
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
