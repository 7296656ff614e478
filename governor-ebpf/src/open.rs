//! Opening to read, where a label says that only what is listed may be.
//!
//! Asked once for each open, when the file can be read and before anybody has it. A kernel that asks nobody
//! then is asked earlier, when nothing can be read yet: there the digest is one that was kept, or there is
//! none. Everybody else's label, or that there is none, is all that is looked at.

use core::{ffi::c_void, ptr};

use aya_ebpf::{macros::lsm, programs::LsmContext};
use governor_common::{Facts, Measured, Operation, decide};

use crate::{
    facts,
    kept::{self, Digest, Hold, UNKNOWN},
    label::{self, Own},
    measure::{self, HASH_ALGO_SHA256, Measurement},
    offsets::{self, load},
    report,
};

/// What is executed is opened too, without this: that is judged where it is executed.
const MAY_READ: i32 = 4;
const FMODE_READ: u32 = 1;
/// In the flags of a file that is opened to be executed; `open` takes no such flag from anybody.
const FMODE_EXEC: u32 = 0x20;
/// In those of a file that was made for whoever opens it, empty and without a name.
const TMPFILE: u32 = 0x40_0000;
const S_IFMT: u16 = 0o170_000;
const S_IFREG: u16 = 0o100_000;
/// Its files are made up when they are read, some as long as all memory.
const PROC_SUPER_MAGIC: u64 = 0x9fa0;

#[lsm(hook = "file_post_open", sleepable)]
pub fn file_post_open(ctx: LsmContext) -> i32 {
    if ctx.arg::<i32>(2) != 0 {
        return report::refused();
    }
    if ctx.arg::<i32>(1) & MAY_READ == 0 {
        return 0;
    }
    judge(ctx.arg(0), measure::file)
}

/// The same where that hook is missing. The file has no content to measure yet, and a writer is counted by now.
#[lsm(hook = "file_open")]
pub fn file_open_recalled(ctx: LsmContext) -> i32 {
    if ctx.arg::<i32>(1) != 0 {
        return report::refused();
    }
    let file: *mut c_void = ctx.arg(0);
    // SAFETY: a field of `file`.
    let mode: u32 = unsafe { load(file, &offsets::OFF_FILE_MODE) };
    if mode & FMODE_READ == 0 {
        return 0;
    }
    // SAFETY: a field of `file`.
    let flags: u32 = unsafe { load(file, &offsets::OFF_FILE_FLAGS) };
    if flags & (FMODE_EXEC | TMPFILE) != 0 {
        return 0;
    }
    judge(file, |file, digest, _| measure::recalled(file, digest))
}

/// Opening `file` to read it. Two ways to its digest, and one to a verdict.
#[inline(always)]
fn judge(
    file: *mut c_void,
    measure: impl FnOnce(*mut c_void, &mut Digest, u32) -> Measurement,
) -> i32 {
    let state = match label::own() {
        Own::Nothing => return 0,
        Own::Broken => return report::fault(),
        // SAFETY: this task's storage, which lives as long as the task runs this program.
        Own::Found(state) => unsafe { &mut *state },
    };
    if !state.label.opens_listed() {
        return 0;
    }
    // SAFETY: every file has an inode.
    let inode: *const c_void = unsafe { load(file, &offsets::OFF_FILE_INODE) };
    // SAFETY: a field of `inode`.
    let mode: u16 = unsafe { load(inode, &offsets::OFF_INODE_MODE) };
    // SAFETY: as above.
    let device: u32 = unsafe { load(inode, &offsets::OFF_INODE_DEVICE) };
    let mut digest = Digest::NONE;
    let mut is_said_to_be_empty = false;
    let (measured, raw, kept, generation) = if mode & S_IFMT != S_IFREG {
        (Measured::Nothing, 0, ptr::null_mut(), UNKNOWN)
    } else if is_made_up(inode) {
        (Measured::Unstable, -1, ptr::null_mut(), UNKNOWN)
    } else {
        let measurement = measure(file, &mut digest, state.label.zone);
        is_said_to_be_empty = measurement.recalled;
        (
            measurement.measured,
            measurement.raw,
            measurement.kept,
            measurement.generation,
        )
    };
    let label = state.label;
    let facts = &mut state.facts;
    facts::begin(facts, Operation::Open, label.zone, &label);
    facts.kind = u32::from(mode & S_IFMT);
    facts.protocol = device;
    facts.measured = measured as u32;
    facts.measured_raw = raw;
    if raw == HASH_ALGO_SHA256 {
        facts.digest = digest.0;
    }
    if !facts::read_state(facts) {
        return report::fault();
    }
    facts::look_up(facts);
    if facts.measured == Measured::Sha256 as u32 && digest.is_of_nothing() && !is_said_to_be_empty {
        facts.measured = unsaid(facts, file) as u32;
    }
    let mut decision = decide::decide_open(facts);
    if decide::holds(facts, decision) {
        match kept::hold(kept, file, generation) {
            Hold::Held => {}
            Hold::Written => decision = facts::written(facts),
            Hold::Broken => return report::fault(),
        }
    }
    report::quiet_file(facts, decision, Some(file))
}

/// What an empty file counts as of which no policy says that it is: it may be about to be filled by anybody, and on
/// some file systems need not be empty when it is read. Without a row for it it is listed nowhere.
#[inline(always)]
fn unsaid(facts: &Facts, file: *const c_void) -> Measured {
    if !kept::may_keep(file) {
        Measured::Unstable
    } else if facts.row.roles != 0 {
        Measured::Unknown
    } else {
        Measured::Sha256
    }
}

#[inline(always)]
fn is_made_up(inode: *const c_void) -> bool {
    // SAFETY: every inode has a superblock.
    let superblock: *const c_void = unsafe { load(inode, &offsets::OFF_INODE_SB) };
    // SAFETY: a field of `super_block`.
    let magic: u64 = unsafe { load(superblock, &offsets::OFF_SB_MAGIC) };
    magic == PROC_SUPER_MAGIC
}
