//! A trial of the measurement itself, for the daemon when it starts.
//!
//! In place only for as long as that takes, at a hook that nothing else here needs. It measures what the
//! daemon locks and says what came of it, in a map that nobody pins. Decides nothing.

use core::{ffi::c_void, ptr};

use aya_ebpf::{
    btf_maps::Array, helpers::generated::bpf_get_current_pid_tgid, macros::btf_map, macros::lsm,
    programs::LsmContext,
};
use governor_common::names::{TRIAL_COUNT, TRIAL_DIGEST, TRIAL_RESULT, TRIAL_WHO, TRIAL_WORDS};

use crate::{kept::Digest, maps, measure, report};

#[btf_map]
static TRIAL: Array<u64, { TRIAL_WORDS as usize }> = Array::new();

#[lsm(hook = "file_lock", sleepable)]
pub fn file_lock(ctx: LsmContext) -> i32 {
    if ctx.arg::<i32>(2) != 0 {
        return report::refused();
    }
    let Some(who) = TRIAL.get(TRIAL_WHO) else {
        return 0;
    };
    // SAFETY: a map element, read whole.
    let who = unsafe { ptr::from_ref(who).read_volatile() };
    // SAFETY: no arguments.
    if who == 0 || who != unsafe { bpf_get_current_pid_tgid() } {
        return 0;
    }
    let file: *mut c_void = ctx.arg(0);
    let mut digest = Digest::NONE;
    let measurement = measure::read(file, &mut digest);
    store(TRIAL_RESULT, measurement.raw.cast_unsigned());
    let words: *const u64 = ptr::from_ref(&digest).cast();
    let mut i = 0;
    while i < 4 {
        // SAFETY: one of the digest's four words.
        store(TRIAL_DIGEST + i, unsafe { words.add(i as usize).read() });
        i += 1;
    }
    if let Some(count) = TRIAL.get(TRIAL_COUNT) {
        maps::fetch_add(ptr::from_ref(count).cast_mut(), 1);
    }
    0
}

#[inline(always)]
fn store(at: u32, value: u64) {
    if let Some(word) = TRIAL.get(at) {
        // SAFETY: a map element, written whole.
        unsafe { ptr::from_ref(word).cast_mut().write_volatile(value) };
    }
}
