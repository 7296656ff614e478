//! Executable memory: what is mapped is measured, what was written is refused.
//!
//! In a zone only labelled tasks are judged; before that, systemd's own code runs in the cgroup. Where
//! the whole host is a zone, what is in no other is judged without a label too.

use core::{ffi::c_void, ptr};

use aya_ebpf::{
    EbpfContext as _, helpers::generated::bpf_get_func_arg, macros::lsm, programs::LsmContext,
};
use governor_common::{Measured, Operation, decide};

use crate::{
    exec, facts, guard,
    kept::{self, Digest, Hold, UNKNOWN},
    label::{self, Own, TaskState},
    measure::{self, HASH_ALGO_SHA256},
    offsets::{self, load},
    report,
    zone::{self, Place},
};

const PROT_WRITE: u64 = 2;
const PROT_EXEC: u64 = 4;
const MAP_ANONYMOUS: u64 = 0x20;
const VM_EXEC: u64 = 4;

/// Mapping something executable.
#[lsm(hook = "mmap_file", sleepable)]
pub fn mmap_file(ctx: LsmContext) -> i32 {
    if ctx.arg::<i32>(4) != 0 {
        return report::refused();
    }
    if ctx.arg::<u64>(2) & PROT_EXEC == 0 {
        return 0;
    }
    let file: *mut c_void = ctx.arg(0);
    // The kernel maps a page of zeros without a file and without saying that it is anonymous.
    let anonymous = ctx.arg::<u64>(3) & MAP_ANONYMOUS != 0 || is_null(&ctx, 0);
    let prot: u64 = ctx.arg(2);
    let writable = prot & PROT_WRITE != 0;
    if anonymous {
        guard::makes_code();
    } else {
        guard::maps_another(file, !writable);
    }
    let own = label::own();
    let (zone, state) = if let Some(state) = work(&own) {
        // SAFETY: this task's storage.
        (unsafe { (*state).label.zone }, state)
    } else {
        match marked(&own, file, !anonymous && !writable) {
            guard::Maps::Other => {}
            guard::Maps::Allowed => return 0,
            guard::Maps::Refused => return report::fault(),
        }
        match zone::mapping_place(&own) {
            Place::Outside => return 0,
            Place::Inside(zone, state) => (zone, state),
            Place::Broken => return report::fault(),
        }
    };
    // SAFETY: this task's storage, which lives as long as the task runs this program.
    let state = unsafe { &mut *state };
    let mut digest = Digest::NONE;
    let (measured, raw, kept, generation) = if anonymous {
        (Measured::Nothing, 0, ptr::null_mut(), UNKNOWN)
    } else if writable {
        // What can be written is not what was measured: judged like making written memory
        // executable, and not hashed.
        (Measured::Failed, -1, ptr::null_mut(), UNKNOWN)
    } else {
        let measurement = measure::file(file, &mut digest, zone);
        (
            measurement.measured,
            measurement.raw,
            measurement.kept,
            measurement.generation,
        )
    };
    let label = state.label;
    let script = exec::script_of(state);
    let facts = &mut state.facts;
    let operation = if writable && !anonymous {
        Operation::Protect
    } else {
        Operation::Map
    };
    facts::begin(facts, operation, zone, &label);
    facts.script_workload = script;
    facts.measured = measured as u32;
    facts.measured_raw = raw;
    if raw == HASH_ALGO_SHA256 {
        facts.digest = digest.0;
    }
    if !facts::read_state(facts) {
        return report::fault();
    }
    facts::look_up_known(facts, &mut state.known);
    let mut decision = decide::decide_map(facts);
    // What is held was measured, so there is a file.
    if decide::holds(facts, decision) {
        match kept::hold(kept, file, generation) {
            Hold::Held => {}
            Hold::Written => decision = facts::written(facts),
            Hold::Broken => return report::fault(),
        }
    }
    let file = if !anonymous && raw >= 0 {
        Some(file)
    } else {
        None
    };
    report::quiet_file(facts, decision, file)
}

/// Making memory executable that was not, or writable and executable at once.
#[lsm(hook = "file_mprotect")]
pub fn file_mprotect(ctx: LsmContext) -> i32 {
    if ctx.arg::<i32>(3) != 0 {
        return report::refused();
    }
    let prot: u64 = ctx.arg(2);
    if prot & PROT_EXEC == 0 {
        return 0;
    }
    let vma: *const c_void = ctx.arg(0);
    // SAFETY: a field of `vm_area_struct`.
    let flags: u64 = unsafe { load(vma, &offsets::OFF_VMA_FLAGS) };
    if flags & VM_EXEC != 0 && prot & PROT_WRITE == 0 {
        return 0;
    }
    guard::makes_code();
    let own = label::own();
    match marked(&own, ptr::null_mut(), false) {
        guard::Maps::Other => {}
        guard::Maps::Allowed => return 0,
        guard::Maps::Refused => return report::fault(),
    }
    let (zone, state) = match zone::mapping_place(&own) {
        Place::Outside => return 0,
        Place::Inside(zone, state) => (zone, state),
        Place::Broken => return report::fault(),
    };
    // SAFETY: this task's storage, which lives as long as the task runs this program.
    let state = unsafe { &mut *state };
    // SAFETY: a pointer field.
    let file: *const c_void = unsafe { load(vma, &offsets::OFF_VMA_FILE) };
    let label = state.label;
    let facts = &mut state.facts;
    facts::begin(facts, Operation::Protect, zone, &label);
    // Memory that is shared without a name is a file to the kernel alone.
    let measured = if file.is_null() || measure::is_kernels_own(file) {
        Measured::Nothing
    } else {
        Measured::Failed
    };
    facts.measured = measured as u32;
    if !facts::read_state(facts) {
        return report::fault();
    }
    facts::look_up(facts);
    let decision = decide::decide_map(facts);
    report::quiet(facts, decision)
}

/// Whether an argument is null. The verifier believes that none is, and would take a comparison of the
/// pointer itself out of the program; the helper gives the bare number.
#[inline(always)]
fn is_null(ctx: &LsmContext, argument: u32) -> bool {
    let mut value = 0;
    // SAFETY: the program's own context, and one word of our stack.
    let failed = unsafe { bpf_get_func_arg(ctx.as_ptr(), argument, &raw mut value) };
    failed != 0 || value == 0
}

/// The current task, if it has a label and no mark: only that says where it is then.
#[inline(always)]
fn work(own: &Own) -> Option<*mut TaskState> {
    match *own {
        // SAFETY: this task's storage.
        Own::Found(state) if unsafe { (*state).mark == 0 && (*state).label.present() } => {
            Some(state)
        }
        Own::Found(_) | Own::Nothing | Own::Broken => None,
    }
}

/// What the guard says of a mapping, if the current task has a mark.
#[inline(always)]
fn marked(own: &Own, file: *mut c_void, plain: bool) -> guard::Maps {
    match *own {
        Own::Nothing => guard::Maps::Other,
        Own::Broken => guard::Maps::Refused,
        Own::Found(state) => guard::mapped(state, file, plain),
    }
}

/// The current task's storage if it has a label.
#[inline(always)]
pub(crate) fn labelled() -> Result<Option<&'static mut TaskState>, i32> {
    match label::own() {
        Own::Nothing => Ok(None),
        Own::Broken => Err(report::fault()),
        Own::Found(state) => {
            // SAFETY: this task's storage, which lives as long as the task runs this program.
            let state = unsafe { &mut *state };
            if state.label.present() {
                Ok(Some(state))
            } else {
                Ok(None)
            }
        }
    }
}
