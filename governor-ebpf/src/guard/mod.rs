//! The gate guards itself: who may reach its maps, programs, pins, process and switches.
//!
//! Promises: while the guard is armed a stranger's reach is refused, counted, and where it is an
//! alarm raises `trips` in the same call. Who is no stranger is a mark on the task, given at an exec
//! by content, cgroup and parent; never a pid (but the kernel's own first process), never a path.
//!
//! Before a policy lists a daemon the guard is not armed and these programs look once and leave.

mod bpf;
mod cgroup;
mod daemon;
mod files;
mod first;
mod kernel;
mod mounts;
mod pins;
mod sysctl;
mod tree;

use core::ffi::c_void;

use aya_ebpf::{EbpfContext as _, helpers::generated::bpf_get_func_arg, programs::LsmContext};
use governor_common::{
    Actor, Operation, Signal, Verdict, decide,
    guard::{ARMED, GuardWord, Mark},
};

pub(crate) use cgroup::is_named;
pub(crate) use daemon::{Maps, admit, committed, holds_the_gate, mapped};
pub(crate) use first::{becomes, changes, makes_code, maps_another};

use crate::{
    facts,
    kept::{self, Digest},
    label::{self, Own},
    maps, measure,
    offsets::{self, load},
    report, zone,
};

const CAP_SYS_ADMIN: u32 = 1 << 21;

/// Whether a policy that lists a daemon was put in force since boot.
#[inline(always)]
pub(crate) fn is_armed() -> bool {
    maps::guard(GuardWord::Armed) == ARMED
}

/// Measures what may stand beside the gate. False: it was not, or somebody who mounted it may have it say
/// something else when it is read next.
#[inline(always)]
fn is_measured(file: *mut c_void, digest: &mut Digest) -> bool {
    measure::read(file, digest).is_stable() && kept::is_local(file)
}

/// The first process, as the kernel counts, and what it was when the guard was armed.
#[inline(always)]
pub(crate) fn is_init() -> bool {
    first::is_first() && !first::is_changed()
}

/// Whether the first process may do what is asked besides the daemon.
#[derive(Clone, Copy)]
pub(crate) enum Init {
    May,
    MayNot,
}

/// Whether the task administers the whole host. Some hooks are asked before the kernel finds out: what
/// it is about to refuse to an ordinary user may not cost the host its trust.
#[inline(always)]
pub(crate) fn is_administrator() -> bool {
    let credentials = facts::credentials();
    // SAFETY: the first half of a field of `cred`, whatever halves it is made of.
    let capabilities: u32 = unsafe { load(credentials, &offsets::OFF_CRED_EFFECTIVE) };
    capabilities & CAP_SYS_ADMIN != 0 && facts::is_in_hosts_namespace()
}

/// Refuses, unless the asking task is the daemon. To be called when the guard is armed and the
/// object is one of the gate's.
#[inline(always)]
pub(crate) fn refuse(signal: Signal, init: Init) -> i32 {
    let mark = match label::own() {
        // Perhaps the daemon: refused, and no alarm.
        Own::Broken => return report::fault(),
        Own::Nothing => 0,
        // SAFETY: this task's storage.
        Own::Found(state) => unsafe { (*state).mark },
    };
    let actor = if mark == Mark::Daemon as u32 {
        Actor::Daemon
    } else if matches!(init, Init::May) && is_init() {
        Actor::Init
    } else {
        Actor::Stranger
    };
    if !matches!(actor, Actor::Stranger) {
        return 0;
    }
    let Some(state) = label::own_or_new() else {
        maps::signal(signal);
        return report::fault();
    };
    // SAFETY: this task's storage. No helper below sleeps.
    let state = unsafe { &mut *state };
    let label = state.label;
    let zone = if label.present() {
        label.zone
    } else {
        zone::governed()
    };
    let facts = &mut state.facts;
    facts::begin(facts, Operation::Guard, zone, &label);
    facts.signal = signal as u32;
    facts.actor = actor as u32;
    let decision = decide::decide_guard(facts);
    match decision.0 {
        Verdict::Allow => {}
        Verdict::Deny | Verdict::WouldDeny => {
            let governed = facts.label.present() || facts.zone != 0;
            raise(decide::counted_as(signal, governed));
        }
    }
    report::quiet(facts, decision)
}

/// Counts a signal; an alarm voids the lease in the same call.
#[inline(always)]
pub(crate) fn raise(signal: Signal) {
    maps::signal(signal);
    if signal.is_alarm() {
        maps::trip();
    }
}

/// Device and number of an inode.
#[inline(always)]
pub(crate) fn identity(inode: *const c_void) -> (u32, u64) {
    // SAFETY: fields of `inode`.
    let superblock: *const c_void = unsafe { load(inode, &offsets::OFF_INODE_SB) };
    // SAFETY: a field of `super_block`.
    let device: u32 = unsafe { load(superblock, &offsets::OFF_SB_DEVICE) };
    // SAFETY: a field of `inode`.
    let number: u64 = unsafe { load(inode, &offsets::OFF_INODE_NUMBER) };
    (device, number)
}

/// The inode behind a directory entry; null where there is none.
#[inline(always)]
pub(crate) fn inode_of(dentry: *const c_void) -> *const c_void {
    // SAFETY: a field of `dentry`.
    unsafe { load(dentry, &offsets::OFF_DENTRY_INODE) }
}

/// An argument as the bare number: the verifier would have it point only to what it knows.
#[inline(always)]
pub(crate) fn argument(ctx: &LsmContext, which: u32) -> u64 {
    let mut value = 0;
    // SAFETY: the program's own context, and one word of our stack.
    unsafe { bpf_get_func_arg(ctx.as_ptr(), which, &raw mut value) };
    value
}
