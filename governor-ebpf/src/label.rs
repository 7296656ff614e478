//! What a task carries: its label, the label of an exec in flight, and room to judge in.
//!
//! Lives in task storage, so it follows the task and not its cgroup, and ends with it. A task whose
//! storage cannot be read is never taken for a task without one.

use core::ptr;

use aya_ebpf::{
    bindings::{
        BPF_LOCAL_STORAGE_GET_F_CREATE, bpf_map_type::BPF_MAP_TYPE_TASK_STORAGE, task_struct,
    },
    helpers::generated::{bpf_get_current_task_btf, bpf_task_storage_get},
    macros::{btf_map, lsm},
    programs::LsmContext,
};
use governor_common::{Facts, Label, Operation, decide, guard::Mark};

use crate::{
    facts, guard,
    maps::{self, ZoneRow},
    offsets, report,
};

/// One task's storage. User space reads the label at its start.
#[repr(C)]
pub(crate) struct TaskState {
    pub(crate) label: Label,
    /// What it is to the gate itself, a [`governor_common::guard::Mark`]; user space writes it once.
    pub(crate) mark: u32,
    /// The mark that the exec in flight earns, if it commits.
    pub(crate) pending_mark: u32,
    /// What the exec in flight makes of the task, if it commits.
    pub(crate) pending: Label,
    /// The operation that `pending` was judged as; zero: no exec was judged; one: it committed.
    pub(crate) pending_operation: u32,
    /// Workload of the script whose interpreter comes next, or came with the exec that committed; zero: none.
    pub(crate) pending_script: u32,
    /// The edition that `pending` was judged by, where the facts below are those of that judgement; zero:
    /// they are not, or it cannot be told.
    pub(crate) pending_edition: u64,
    pub(crate) known: Known,
    /// Room for one verdict: larger than the programs' stack. Used by this task only, and never
    /// across a helper that sleeps.
    pub(crate) facts: Facts,
}

/// What was looked up for the task's label and holds for as long as nothing else is stored: that no
/// tombstone stands on it, and its zone's own row. No verdict.
#[repr(C)]
#[derive(Clone, Copy)]
pub(crate) struct Known {
    /// The edition that it is of; zero: nothing is known.
    edition: u64,
    /// The execution that made the label it is about.
    exec_id: u64,
    pub(crate) zone: ZoneRow,
}

impl Known {
    /// Whether it is about this label, and of this edition.
    #[inline(always)]
    pub(crate) fn holds(&self, label: &Label, edition: u64) -> bool {
        edition != 0
            && self.edition == edition
            && label.exec_id != 0
            && self.exec_id == label.exec_id
    }

    /// Notes what was looked up for the label among these facts, under this edition.
    #[inline(always)]
    pub(crate) fn note(&mut self, facts: &Facts, edition: u64) {
        if facts.starter_tombstone == 0 && facts.zone == facts.label.zone {
            self.become_of(facts, edition, facts.label.exec_id);
        }
    }

    /// The same for the label that comes of what was judged: no tombstone stands on that, or it would
    /// have been refused.
    #[inline(always)]
    pub(crate) fn become_of(&mut self, facts: &Facts, edition: u64, exec_id: u64) {
        // A row that is missing was perhaps only not found whole.
        if facts.zone_mode == 0 {
            return;
        }
        self.edition = edition;
        self.exec_id = exec_id;
        self.zone = ZoneRow {
            families: facts.zone_families,
            observe_until: facts.zone_observe_until,
            mode: facts.zone_mode,
            class: facts.zone_class,
            memory: facts.zone_memory,
        };
    }
}

/// The BTF definition of a task storage map, which the library does not have yet.
#[repr(C)]
struct TaskStorage {
    r#type: *const [i32; BPF_MAP_TYPE_TASK_STORAGE as usize],
    key: *const i32,
    value: *const TaskState,
    max_entries: *const [i32; 0],
    map_flags: *const [i32; 1],
}

// SAFETY: pointers that only describe the map to the loader; nothing reads through them.
unsafe impl Sync for TaskStorage {}

#[btf_map]
static LABELS: TaskStorage = TaskStorage {
    r#type: ptr::null(),
    key: ptr::null(),
    value: ptr::null(),
    max_entries: ptr::null(),
    map_flags: ptr::null(),
};

/// What a task has.
pub(crate) enum Own {
    /// No storage, so no label.
    Nothing,
    Found(*mut TaskState),
    /// There is storage and it could not be read.
    Broken,
}

/// The current task's storage, if it has any.
#[inline(always)]
pub(crate) fn own() -> Own {
    // SAFETY: the helper returns the running task.
    of_another(unsafe { bpf_get_current_task_btf() })
}

/// Any task's storage, if it has any.
#[inline(always)]
pub(crate) fn of_another(task: *mut task_struct) -> Own {
    // SAFETY: a pointer field of `task_struct`, only compared with zero.
    let storage: u64 = unsafe { offsets::load(task.cast(), &offsets::OFF_TASK_STORAGE) };
    if storage == 0 {
        return Own::Nothing;
    }
    // A plain lookup may find nothing because the storage is busy. With the create flag, nothing
    // can only mean a failure; at worst a task with another program's storage gets an empty one.
    match of(task) {
        Some(state) => Own::Found(state),
        None => Own::Broken,
    }
}

/// The current task's storage, made if need be.
#[inline(always)]
pub(crate) fn own_or_new() -> Option<*mut TaskState> {
    // SAFETY: the helper returns the running task.
    of(unsafe { bpf_get_current_task_btf() })
}

/// A task's storage, if it has any. Not made: a task without has no label and no mark.
#[inline(always)]
pub(crate) fn existing(task: *mut task_struct) -> Option<*mut TaskState> {
    let map = ptr::from_ref(&LABELS).cast_mut().cast();
    // SAFETY: the map and a task that the verifier trusts.
    let state = unsafe { bpf_task_storage_get(map, task, ptr::null_mut(), 0) };
    if state.is_null() {
        None
    } else {
        Some(state.cast())
    }
}

#[inline(always)]
fn of(task: *mut task_struct) -> Option<*mut TaskState> {
    let map = ptr::from_ref(&LABELS).cast_mut().cast();
    let flags = u64::from(BPF_LOCAL_STORAGE_GET_F_CREATE);
    // SAFETY: the map and a task that the verifier trusts; new storage is zeroed.
    let state = unsafe { bpf_task_storage_get(map, task, ptr::null_mut(), flags) };
    if state.is_null() {
        None
    } else {
        Some(state.cast())
    }
}

/// A child is what its parent is.
#[lsm(hook = "task_alloc")]
pub fn task_alloc(ctx: LsmContext) -> i32 {
    if ctx.arg::<i32>(2) != 0 {
        return report::refused();
    }
    let state = match own() {
        Own::Nothing => return 0,
        Own::Found(state) => state,
        Own::Broken => return report::fault(),
    };
    // SAFETY: this task's storage.
    let state = unsafe { &mut *state };
    if !state.label.present() {
        if facts::host_is_zone() {
            // It is judged when it maps code, where making this could sleep. If it cannot be had now it is tried
            // again then.
            let _made = of(ctx.arg::<*mut task_struct>(0));
        }
        return same_daemon(state, ctx.arg(0), ctx.arg::<u64>(1));
    }
    let label = state.label;
    let facts = &mut state.facts;
    // All that is asked. Of the other facts nobody reads anything unless it is refused.
    facts.tombstone = 0;
    if !state.known.holds(&label, maps::edition()) && maps::tombstone(label.zone, &label.words()) {
        facts::begin(facts, Operation::Fork, label.zone, &label);
        facts.tombstone = 1;
    }
    let decision = decide::decide_fork(facts);
    let code = report::quiet(facts, decision);
    if code != 0 {
        return code;
    }
    match of(ctx.arg::<*mut task_struct>(0)) {
        Some(child) => {
            // SAFETY: the child's storage; nothing else knows the child yet.
            unsafe {
                (*child).label = label;
                (*child).known = state.known;
            }
            0
        }
        None => report::fault(),
    }
}

/// A thread of the daemon is the daemon. A process that it starts is not, but nobody takes from that what the
/// daemon has open, until it executes something and has none of it any more.
#[inline(always)]
fn same_daemon(state: &TaskState, child: *mut task_struct, flags: u64) -> i32 {
    let mark = if flags & CLONE_THREAD != 0 {
        state.mark
    } else if guard::holds_the_gate(state.mark) {
        Mark::Offspring as u32
    } else {
        0
    };
    if mark == 0 {
        return 0;
    }
    match of(child) {
        Some(child) => {
            // SAFETY: the child's storage; nothing else knows the child yet.
            unsafe { (*child).mark = mark };
            0
        }
        None => report::fault(),
    }
}

const CLONE_THREAD: u64 = 0x1_0000;
