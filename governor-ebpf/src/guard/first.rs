//! The first process: it may do at the gate what others may not, so it has to stay what it was when the
//! guard was armed. Whoever is root may have it execute itself again, and may have put something else in
//! its place or into it.
//!
//! What it executes and maps is held against what it had executed and mapped then, by content. Something
//! else costs it its exceptions and is counted, and nothing is refused to it: a host whose first process
//! ends is a host that is gone. Executing what is listed gives them back.

use core::ffi::c_void;

use aya_ebpf::helpers::generated::{bpf_get_current_cgroup_id, bpf_get_current_task_btf};
use governor_common::{
    Signal,
    guard::{CHANGED, GuardWord, LISTED_FIRST, LISTED_LIBRARY, Mark},
};

use super::{is_armed, raise};
use crate::{
    kept::Digest,
    label::{self, TaskState},
    maps,
    offsets::{self, load},
};

/// Whether the current task is of the first process.
#[inline(always)]
pub(crate) fn is_first() -> bool {
    // SAFETY: the helper returns the running task.
    let task: *const c_void = unsafe { bpf_get_current_task_btf() }.cast();
    // SAFETY: a field of `task_struct`.
    let tgid: i32 = unsafe { load(task, &offsets::OFF_TASK_TGID) };
    tgid == 1
}

/// Whether it is another than it was.
#[inline(always)]
pub(super) fn is_changed() -> bool {
    maps::guard(GuardWord::FirstProcess) == CHANGED
}

/// Whether the first process, which is the current task, was put into another cgroup. Nobody is asked about
/// that, and it matters when it executes itself: it takes the cgroup it finds itself in for the root of all.
#[inline(always)]
fn is_moved() -> bool {
    let home = maps::guard(GuardWord::FirstCgroup);
    // SAFETY: takes nothing, returns a number.
    home != 0 && unsafe { bpf_get_current_cgroup_id() } != home
}

/// The first process executes a file of a chain: what it becomes is noted until the commit.
#[inline(always)]
pub(crate) fn becomes(bprm: *const c_void) {
    if !is_armed() || !is_first() {
        return;
    }
    if is_moved() {
        raise(Signal::FirstProcessMoved);
    }
    // SAFETY: a field of `linux_binprm`.
    let file: *mut c_void = unsafe { load(bprm, &offsets::OFF_BPRM_FILE) };
    let known = is_known(file);
    let Some(state) = label::own_or_new() else {
        // Nothing to note it in: at once, and until the next time.
        change();
        return;
    };
    // SAFETY: this task's storage.
    let state = unsafe { &mut *state };
    if !known {
        state.pending_mark = Mark::Changing as u32;
    } else if state.pending_mark == 0 {
        state.pending_mark = Mark::Staying as u32;
    }
}

/// The first process is past the point of no return.
#[inline(always)]
pub(crate) fn changes(state: &TaskState) {
    if !is_armed() || !is_first() {
        return;
    }
    if state.pending_mark == Mark::Changing as u32 {
        change();
    } else if state.pending_mark == Mark::Staying as u32 {
        maps::set_guard(GuardWord::FirstProcess, 0);
    }
}

/// The first process maps a file executable.
#[inline(always)]
pub(crate) fn maps_another(file: *mut c_void, plain: bool) {
    if is_armed() && is_first() && !is_changed() && !(plain && is_known(file)) {
        change();
    }
}

/// The first process makes memory executable that holds no file, or more than one holds. It never does
/// of itself.
#[inline(always)]
pub(crate) fn makes_code() {
    if is_armed() && is_first() && !is_changed() {
        change();
    }
}

#[inline(always)]
fn is_known(file: *mut c_void) -> bool {
    let mut digest = Digest::NONE;
    super::is_measured(file, &mut digest)
        && (maps::listed(LISTED_FIRST, &digest.0) || maps::listed(LISTED_LIBRARY, &digest.0))
}

#[inline(always)]
fn change() {
    maps::set_guard(GuardWord::FirstProcess, CHANGED);
    raise(Signal::FirstProcessChanged);
}
