//! Who carries a label: a list of tasks that the daemon reads.
//!
//! Runs inside the daemon's own read, once for each task of the host. Promises: a line is about one
//! task, read from the task itself and never by its number; a task that has something stored which
//! cannot be read is listed as such; the list ends with a line that says so. Changes nothing but a
//! count, and that only for the daemon: who else reads a list learns what runs and leaves no trace
//! that could be taken for the daemon's reading.

use core::ffi::c_void;

use aya_ebpf::{
    bindings::{seq_file, task_struct},
    helpers::generated::bpf_seq_write,
};
use governor_common::{Carrier, Label, Line, guard::Mark, names::COUNT_LISTS};

use crate::{
    label::{self, Own},
    maps,
    offsets::{self, load},
};

/// One task, or null behind the last one.
#[unsafe(no_mangle)]
#[unsafe(link_section = "iter/task")]
pub extern "C" fn labelled_tasks(ctx: *mut c_void) -> i32 {
    let words: *const *const c_void = ctx.cast_const().cast();
    // SAFETY: the first word of `bpf_iter__task`.
    let list = unsafe { words.read_volatile() };
    // SAFETY: the second one.
    let task = unsafe { words.add(1).read_volatile() };
    // SAFETY: a field of `bpf_iter_meta`.
    let out: *mut seq_file = unsafe { load(list, &offsets::OFF_LIST_SEQ) };
    if task.is_null() {
        if is_daemon() {
            maps::count(COUNT_LISTS);
        }
        return write(out, &line(Line::End));
    }
    // SAFETY: a pointer field of `task_struct`, only compared with zero.
    let storage: u64 = unsafe { load(task, &offsets::OFF_TASK_STORAGE) };
    // SAFETY: a field of `task_struct`.
    let exit: u32 = unsafe { load(task, &offsets::OFF_TASK_EXIT) };
    if storage == 0 || exit != 0 {
        return 0;
    }
    let mut line = match label::existing(task.cast::<task_struct>().cast_mut()) {
        Some(state) => {
            // SAFETY: the task's storage. It may just change its image: then it is asked again.
            let label = unsafe { (*state).label };
            if !label.present() {
                return 0;
            }
            Carrier {
                label,
                ..line(Line::Labelled)
            }
        }
        // Busy, or storage of somebody else's programs.
        None => line(Line::Unread),
    };
    // SAFETY: fields of `task_struct`.
    line.tgid = unsafe { load(task, &offsets::OFF_TASK_TGID) };
    // SAFETY: as above.
    line.pid = unsafe { load(task, &offsets::OFF_TASK_PID) };
    // SAFETY: as above.
    line.started = unsafe { load(task, &offsets::OFF_TASK_STARTED) };
    // SAFETY: as above.
    let cgroups: *const c_void = unsafe { load(task, &offsets::OFF_TASK_CGROUPS) };
    // SAFETY: a field of `css_set`.
    let cgroup: *const c_void = unsafe { load(cgroups, &offsets::OFF_CGROUPS_UNIFIED) };
    // SAFETY: a field of `cgroup`.
    let node: *const c_void = unsafe { load(cgroup, &offsets::OFF_CGROUP_KN) };
    // SAFETY: a field of `kernfs_node`.
    line.cgroup = unsafe { load(node, &offsets::OFF_KN_ID) };
    // SAFETY: a field of `task_struct`; one that is leaving has none, and then zero is read.
    let spaces: *const c_void = unsafe { load(task, &offsets::OFF_TASK_NSPROXY) };
    // SAFETY: a field of `nsproxy`.
    let network: *const c_void = unsafe { load(spaces, &offsets::OFF_NSPROXY_NET) };
    // SAFETY: a field of `net`.
    line.network = unsafe { load(network, &offsets::OFF_NET_NUMBER) };
    write(out, &line)
}

#[inline(always)]
fn line(kind: Line) -> Carrier {
    Carrier {
        line: kind as u32,
        tgid: 0,
        pid: 0,
        network: 0,
        started: 0,
        cgroup: 0,
        label: Label {
            zone: 0,
            workload: 0,
            exec_id: 0,
            digest: [0; 32],
        },
    }
}

/// What does not fit is not lost: the kernel asks about this task once more when there is room.
#[inline(always)]
fn write(out: *mut seq_file, line: &Carrier) -> i32 {
    let bytes: *const Carrier = line;
    // SAFETY: the list that is being read, and one line of ours with its size.
    let _again = unsafe { bpf_seq_write(out, bytes.cast(), size_of::<Carrier>() as u32) };
    0
}

/// Whether it is the daemon who reads.
#[inline(always)]
fn is_daemon() -> bool {
    match label::own() {
        // SAFETY: this task's storage.
        Own::Found(state) => unsafe { (*state).mark == Mark::Daemon as u32 },
        Own::Nothing | Own::Broken => false,
    }
}
