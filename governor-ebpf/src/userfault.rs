//! `userfaultfd`: whoever has one fills the pages of a mapping when they are first touched, also those of a file that
//! was measured when it was mapped. So where written memory is not executed, work makes none.
//!
//! No hook is about that alone. This one is asked of each file that the kernel makes for a descriptor of its own kinds,
//! and is told what it calls it, which is nobody else's choice.

use core::ffi::c_void;

use aya_ebpf::{helpers::generated::bpf_probe_read_kernel, macros::lsm, programs::LsmContext};
use governor_common::{Measured, Operation, decide};

use crate::{
    facts, label,
    offsets::{self, load},
    report,
    zone::{self, Place},
};

#[lsm(hook = "inode_init_security_anon")]
pub fn inode_init_security_anon(ctx: LsmContext) -> i32 {
    if ctx.arg::<i32>(3) != 0 {
        return report::refused();
    }
    if !is_userfault(ctx.arg(1)) {
        return 0;
    }
    let (zone, state) = match zone::mapping_place(&label::own()) {
        Place::Outside => return 0,
        Place::Inside(zone, state) => (zone, state),
        Place::Broken => return report::fault(),
    };
    // SAFETY: this task's storage, which lives as long as the task runs this program.
    let state = unsafe { &mut *state };
    let label = state.label;
    let facts = &mut state.facts;
    // Memory that somebody writes, to be executed.
    facts::begin(facts, Operation::Map, zone, &label);
    facts.measured = Measured::Nothing as u32;
    if !facts::read_state(facts) {
        return report::fault();
    }
    facts::look_up(facts);
    let decision = decide::decide_map(facts);
    report::quiet(facts, decision)
}

/// Whether that is the kernel's name for it. What cannot be read could be.
#[inline(always)]
fn is_userfault(name: *const c_void) -> bool {
    // SAFETY: a field of `qstr`.
    let text: *const c_void = unsafe { load(name, &offsets::OFF_QSTR_NAME) };
    let mut first = [0u8; NAME.len()];
    // SAFETY: the helper checks the source; the destination is as long as is said.
    let read = unsafe { bpf_probe_read_kernel(first.as_mut_ptr().cast(), NAME.len() as u32, text) };
    if read != 0 {
        return true;
    }
    let mut differing = 0;
    let mut i = 0;
    while i < NAME.len() {
        differing |= first[i] ^ NAME[i];
        i += 1;
    }
    differing == 0
}

/// As in `fs/userfaultfd.c`, both for the system call and for `/dev/userfaultfd`.
const NAME: &[u8; 13] = b"[userfaultfd]";
