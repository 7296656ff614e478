//! The daemon as a task: how the mark is given, and what may not be done to who has it.

use core::ffi::c_void;

use aya_ebpf::{
    bindings::task_struct, helpers::generated::bpf_get_current_task_btf, macros::lsm,
    programs::LsmContext,
};
use governor_common::{
    Signal,
    guard::{LISTED_DAEMON, LISTED_LIBRARY, Mark},
    names::ZONE_CANARY,
};

use super::{Init, is_armed, refuse};
use crate::{
    kept::Digest,
    label::{self, TaskState},
    maps,
    offsets::{self, load},
    report, trace,
};

const SIGCHLD: i32 = 17;
const SIGCONT: i32 = 18;
/// Its memory is shared with another process, or somebody traces it.
const LSM_UNSAFE_SHARE: u32 = 1;
const LSM_UNSAFE_PTRACE: u32 = 2;
const PTRACE_MODE_ATTACH: u32 = 2;

/// Judges a file that is executed in the daemon's own cgroup. Nothing is refused here: what is not
/// the daemon is simply not marked. Whether it may be.
#[inline(always)]
pub(crate) fn admit(bprm: *const c_void, state: *mut TaskState, script: bool) -> bool {
    if super::first::is_first() {
        // Whatever cgroup somebody put it into. What it becomes is noted in the same place.
        return false;
    }
    let mut digest = Digest::NONE;
    // SAFETY: a field of `linux_binprm`.
    let file: *mut c_void = unsafe { load(bprm, &offsets::OFF_BPRM_FILE) };
    // SAFETY: a field of `linux_binprm`.
    let unsafe_how: u32 = unsafe { load(bprm, &offsets::OFF_BPRM_UNSAFE) };
    // Read, not recalled: whoever becomes the daemon holds everything else.
    let measured = super::is_measured(file, &mut digest);
    // SAFETY: this task's storage.
    let state = unsafe { &mut *state };
    let fit = state.pending_mark != Mark::Spoiled as u32
        && !script
        && unsafe_how & (LSM_UNSAFE_SHARE | LSM_UNSAFE_PTRACE) == 0
        && measured
        && is_armed()
        && maps::listed(LISTED_DAEMON, &digest.0)
        && is_started_by_init()
        && !is_traced();
    state.pending_mark = if fit {
        Mark::Candidate as u32
    } else {
        Mark::Spoiled as u32
    };
    fit
}

/// At the point of no return the mark of the new image takes the place of the old one's. True: the
/// exec is dealt with.
#[inline(always)]
pub(crate) fn committed(state: &mut TaskState) -> bool {
    let candidate = state.pending_mark == Mark::Candidate as u32;
    state.mark = if candidate { state.pending_mark } else { 0 };
    state.pending_mark = 0;
    candidate
}

/// What comes of mapping something executable.
pub(crate) enum Maps {
    /// Not a task that has a mark.
    Other,
    Allowed,
    Refused,
}

/// A mapping of a task with a mark: listed, or the task loses the mark that it has not used yet, or
/// the mapping is refused.
#[inline(always)]
pub(crate) fn mapped(state: *mut TaskState, file: *mut c_void, plain: bool) -> Maps {
    // SAFETY: this task's storage.
    let mark = unsafe { (*state).mark };
    if mark != Mark::Candidate as u32 && mark != Mark::Daemon as u32 {
        return Maps::Other;
    }
    let mut digest = Digest::NONE;
    let listed = plain
        && super::is_measured(file, &mut digest)
        && (maps::listed(LISTED_LIBRARY, &digest.0) || maps::listed(LISTED_DAEMON, &digest.0));
    if listed || !is_armed() {
        return Maps::Allowed;
    }
    if mark == Mark::Candidate as u32 {
        // SAFETY: this task's storage.
        unsafe { (*state).mark = Mark::Spoiled as u32 };
        return Maps::Other;
    }
    Maps::Refused
}

/// A signal at the daemon.
#[lsm(hook = "task_kill")]
pub fn task_kill(ctx: LsmContext) -> i32 {
    if ctx.arg::<i32>(4) != 0 {
        return report::refused();
    }
    let signal: i32 = ctx.arg(2);
    if signal == 0 || signal == SIGCHLD || signal == SIGCONT || !is_armed() {
        return 0;
    }
    if !is_marked(ctx.arg(0)) {
        return 0;
    }
    refuse(Signal::DaemonTouched, Init::May)
}

/// Tracing, reading or writing another's memory, taking its descriptors.
#[lsm(hook = "ptrace_access_check")]
pub fn ptrace_access_check(ctx: LsmContext) -> i32 {
    if ctx.arg::<i32>(2) != 0 {
        return report::refused();
    }
    if ctx.arg::<u32>(1) & PTRACE_MODE_ATTACH == 0 {
        return 0;
    }
    let child: *mut task_struct = ctx.arg(0);
    // SAFETY: a field of `task_struct`.
    let tgid: i32 = unsafe { load(child.cast(), &offsets::OFF_TASK_TGID) };
    // Whoever traces the first process is the first process.
    if is_armed() && (tgid == 1 || is_marked(child)) {
        let code = refuse(Signal::DaemonTouched, Init::May);
        if code != 0 {
            return code;
        }
    }
    trace::meets(child)
}

/// Limits of the daemon: a limit on processor time is a signal that kills.
#[lsm(hook = "task_setrlimit")]
pub fn task_setrlimit(ctx: LsmContext) -> i32 {
    if ctx.arg::<i32>(3) != 0 {
        return report::refused();
    }
    if !is_armed() || !is_marked(ctx.arg(0)) {
        return 0;
    }
    refuse(Signal::DaemonTouched, Init::May)
}

/// Whether a task with this mark has, or may have, maps and programs of the gate open.
#[inline(always)]
pub(crate) const fn holds_the_gate(mark: u32) -> bool {
    mark == Mark::Daemon as u32 || mark == Mark::Candidate as u32 || mark == Mark::Offspring as u32
}

/// Whether the task is the daemon, about to be, a process that it is just making, or its canary. Its storage is
/// not made.
#[inline(always)]
fn is_marked(task: *mut task_struct) -> bool {
    match label::existing(task) {
        Some(state) => {
            // SAFETY: the task's storage, which lives while the hook runs.
            let (mark, zone) = unsafe { ((*state).mark, (*state).label.zone) };
            holds_the_gate(mark) || zone == ZONE_CANARY
        }
        None => false,
    }
}

#[inline(always)]
fn is_started_by_init() -> bool {
    // SAFETY: the helper returns the running task.
    let task: *const c_void = unsafe { bpf_get_current_task_btf() }.cast();
    // SAFETY: a field of `task_struct`.
    let parent: *const c_void = unsafe { load(task, &offsets::OFF_TASK_PARENT) };
    // SAFETY: a field of `task_struct`.
    let tgid: i32 = unsafe { load(parent, &offsets::OFF_TASK_TGID) };
    tgid == 1
}

/// Whether somebody traces the current task.
#[inline(always)]
pub(super) fn is_traced() -> bool {
    // SAFETY: the helper returns the running task.
    let task: *const c_void = unsafe { bpf_get_current_task_btf() }.cast();
    // SAFETY: a field of `task_struct`.
    let traced: u32 = unsafe { load(task, &offsets::OFF_TASK_PTRACE) };
    traced != 0
}
