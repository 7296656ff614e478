//! Memory past its protection: who traces whom, and who writes memory as a file.
//!
//! What runs was measured, and whoever may write the memory of a process makes it something else. So
//! nobody attaches to a task that carries a label, and no task that carries one attaches to another.
//! Reading what the kernel shows of a task is not asked about. A tracer that was there before the label is
//! seen at the exec that would give it.

use core::ffi::c_void;

use aya_ebpf::{bindings::task_struct, macros::lsm, programs::LsmContext};
use governor_common::{Actor, Measured, Operation, decide};

use crate::{
    facts, guard,
    label::{self, Own, TaskState},
    offsets::{self, load},
    report,
};

/// A task asks to be traced by the one that started it.
#[lsm(hook = "ptrace_traceme")]
pub fn ptrace_traceme(ctx: LsmContext) -> i32 {
    if ctx.arg::<i32>(1) != 0 {
        return report::refused();
    }
    meets(ctx.arg(0))
}

/// The current task and another: one of them is to trace the other, or to take or write what is its own.
/// Each label is judged in its own zone: one that is only observed takes nothing from the other.
#[inline(always)]
pub(crate) fn meets(other: *mut task_struct) -> i32 {
    let own = match label::own() {
        Own::Broken => return report::fault(),
        Own::Nothing => 0,
        // SAFETY: this task's storage.
        Own::Found(state) => label_zone(unsafe { &*state }),
    };
    let others = match label::of_another(other) {
        Own::Broken => return report::fault(),
        Own::Nothing => 0,
        // SAFETY: the task's storage, which lives while the hook runs.
        Own::Found(state) => label_zone(unsafe { &*state }),
    };
    if own != 0 {
        let code = judge(own);
        if code != 0 {
            return code;
        }
    }
    if others != 0 && others != own {
        return judge(others);
    }
    0
}

/// The current task traces, or is traced, where `zone` has a say.
#[inline(always)]
fn judge(zone: u32) -> i32 {
    let Some(state) = label::own_or_new() else {
        return report::fault();
    };
    // SAFETY: this task's storage. No helper below sleeps.
    let state = unsafe { &mut *state };
    let label = state.label;
    let facts = &mut state.facts;
    facts::begin(facts, Operation::Trace, zone, &label);
    facts.actor = Actor::Tracer as u32;
    if !facts::read_state(facts) {
        return report::fault();
    }
    facts::look_up(facts);
    let decision = decide::decide_trace(facts);
    report::quiet(facts, decision)
}

/// A file is opened for writing: memory of a process, which the kernel writes also where it is read-only.
/// Of another process the kernel asks who attaches, of one's own it does not.
#[inline(always)]
pub(crate) fn opens_memory(file: *const c_void) -> i32 {
    // SAFETY: a field of `file`.
    let inode: *const c_void = unsafe { load(file, &offsets::OFF_FILE_INODE) };
    // SAFETY: a field of `inode`.
    let superblock: *const c_void = unsafe { load(inode, &offsets::OFF_INODE_SB) };
    // SAFETY: a field of `super_block`.
    let magic: u64 = unsafe { load(superblock, &offsets::OFF_SB_MAGIC) };
    if magic != PROC_SUPER_MAGIC {
        return 0;
    }
    // SAFETY: a field of `file`. Whatever way leads here, the entry is the kernel's own: nobody names,
    // renames or links anything on this file system.
    let dentry: *const c_void = unsafe { load(file, &offsets::OFF_FILE_DENTRY) };
    if !guard::is_named(dentry, b"mem\0") {
        return 0;
    }
    // Also where the whole host is a zone: who has no label may trace what has none.
    let state = match label::own() {
        Own::Broken => return report::fault(),
        Own::Nothing => return 0,
        // SAFETY: this task's storage. No helper below sleeps.
        Own::Found(state) => unsafe { &mut *state },
    };
    let zone = label_zone(state);
    if zone == 0 {
        return 0;
    }
    let label = state.label;
    let facts = &mut state.facts;
    // What is written so was never asked for as code: as making a file's memory executable.
    facts::begin(facts, Operation::Protect, zone, &label);
    facts.measured = Measured::Failed as u32;
    if !facts::read_state(facts) {
        return report::fault();
    }
    facts::look_up(facts);
    let decision = decide::decide_map(facts);
    report::quiet(facts, decision)
}

/// The zone of a task's label; zero: it has none.
#[inline(always)]
fn label_zone(state: &TaskState) -> u32 {
    if state.label.present() {
        state.label.zone
    } else {
        0
    }
}

const PROC_SUPER_MAGIC: u64 = 0x9fa0;
