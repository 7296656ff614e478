//! Measuring what the daemon asks for: files of its own, to see that the kernel measures right, and listed
//! ones before anything executes them.
//!
//! In place only for as long as that takes, at a hook that nothing else here needs. It measures what the
//! daemon takes a lock off, as any exec would, and says what came of it in a map that nobody pins. Decides
//! nothing, and whoever makes it measure something else has done what an exec of that would do.

use core::{ffi::c_void, ptr};

use aya_ebpf::{
    btf_maps::Array, helpers::generated::bpf_get_current_pid_tgid, macros::btf_map, macros::lsm,
    programs::LsmContext,
};
use governor_common::names::{
    ASKED_COUNT, ASKED_DIGEST, ASKED_HOW, ASKED_KEPT, ASKED_RESULT, ASKED_WHO, ASKED_WORDS,
    HOW_AGAIN, HOW_EMPTY, HOW_ONCE,
};

use crate::{kept::Digest, maps, measure, report};

#[btf_map]
static ASKED: Array<u64, { ASKED_WORDS as usize }> = Array::new();

#[lsm(hook = "file_lock", sleepable)]
pub fn file_lock(ctx: LsmContext) -> i32 {
    if ctx.arg::<i32>(2) != 0 {
        return report::refused();
    }
    let who = word(ASKED_WHO);
    // SAFETY: no arguments.
    if who == 0 || who != unsafe { bpf_get_current_pid_tgid() } {
        return 0;
    }
    let file: *mut c_void = ctx.arg(0);
    let mut digest = Digest::NONE;
    let how = word(ASKED_HOW);
    let measurement = if how == HOW_AGAIN {
        measure::read(file, &mut digest)
    } else if how == HOW_ONCE || how == HOW_EMPTY {
        measure::ahead(file, &mut digest, how == HOW_EMPTY)
    } else {
        return 0;
    };
    store(ASKED_RESULT, measurement.raw.cast_unsigned());
    store(ASKED_KEPT, u64::from(measure::is_known(file)));
    let words: *const u64 = ptr::from_ref(&digest).cast();
    let mut i = 0;
    while i < 4 {
        // SAFETY: one of the digest's four words.
        store(ASKED_DIGEST + i, unsafe { words.add(i as usize).read() });
        i += 1;
    }
    if let Some(count) = ASKED.get(ASKED_COUNT) {
        maps::fetch_add(ptr::from_ref(count).cast_mut(), 1);
    }
    0
}

#[inline(always)]
fn word(at: u32) -> u64 {
    match ASKED.get(at) {
        // SAFETY: a map element, read whole.
        Some(word) => unsafe { ptr::from_ref(word).read_volatile() },
        None => 0,
    }
}

#[inline(always)]
fn store(at: u32, value: u64) {
    if let Some(word) = ASKED.get(at) {
        // SAFETY: a map element, written whole.
        unsafe { ptr::from_ref(word).cast_mut().write_volatile(value) };
    }
}
