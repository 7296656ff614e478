//! From a decision to a return code, a counter and an event.
//!
//! The only file that turns verdicts into numbers the kernel understands. Events leave without
//! waking their reader; a full ring is counted and changes nothing.

use core::{arch::asm, ffi::c_void};

use aya_ebpf::helpers::generated::{
    bpf_d_path, bpf_get_current_cgroup_id, bpf_get_current_comm, bpf_get_current_pid_tgid,
};
use governor_common::{
    Facts, Label, Reason, Verdict,
    decide::Decision,
    event::PATH_LEN,
    names::{ABI, COUNT_LOST_DENIALS, COUNT_LOST_EVENTS},
};

use crate::{
    maps::{DENIALS, EVENTS, count},
    offsets,
};

/// `-EPERM`: refused, by us or by whoever came before us.
///
/// Written so that the compiler cannot know the value: it would otherwise compute it from the
/// verdict (as `-(verdict == Deny)`), whose range the verifier cannot follow.
#[inline(always)]
pub(crate) fn refused() -> i32 {
    let code: i64;
    // SAFETY: sets a register.
    unsafe { asm!("{code} = -1", code = out(reg) code, options(pure, nomem)) };
    code as i32
}

/// `-ETXTBSY`: somebody comes to write what runs. The kernel's own answer for what it guards itself.
#[inline(always)]
pub(crate) fn busy() -> i32 {
    let code: i64;
    // SAFETY: sets a register; why, see `refused`.
    unsafe { asm!("{code} = -26", code = out(reg) code, options(pure, nomem)) };
    code as i32
}

const RB_NO_WAKEUP: u64 = 1;

/// A task that may be in a zone, and something a verdict needs is missing.
#[cold]
#[inline(always)]
pub(crate) fn fault() -> i32 {
    code((Verdict::Deny, Reason::GateFault))
}

/// Counts; reports denials only.
#[inline(always)]
pub(crate) fn quiet(facts: &Facts, decision: Decision) -> i32 {
    match decision.0 {
        Verdict::Allow => {}
        Verdict::Deny | Verdict::WouldDeny => emit(facts, decision, None, None),
    }
    code(decision)
}

/// As `quiet`, with the path of the file.
#[inline(always)]
pub(crate) fn quiet_file(facts: &Facts, decision: Decision, file: Option<*mut c_void>) -> i32 {
    match decision.0 {
        Verdict::Allow => {}
        Verdict::Deny | Verdict::WouldDeny => emit(facts, decision, None, file),
    }
    code(decision)
}

/// Counts and reports.
#[inline(always)]
pub(crate) fn full(
    facts: &Facts,
    decision: Decision,
    next: Option<&Label>,
    file: Option<*mut c_void>,
) -> i32 {
    emit(facts, decision, next, file);
    code(decision)
}

#[inline(always)]
fn code(decision: Decision) -> i32 {
    let (verdict, reason) = decision;
    count(reason as u32);
    match verdict {
        Verdict::Allow | Verdict::WouldDeny => 0,
        Verdict::Deny => refused(),
    }
}

#[inline(always)]
fn emit(facts: &Facts, decision: Decision, next: Option<&Label>, file: Option<*mut c_void>) {
    let (verdict, reason) = decision;
    let (entry, lost) = match verdict {
        Verdict::Allow => (EVENTS.reserve(0), COUNT_LOST_EVENTS),
        Verdict::Deny | Verdict::WouldDeny => (DENIALS.reserve(0), COUNT_LOST_DENIALS),
    };
    let Some(mut entry) = entry else {
        count(lost);
        return;
    };
    let event = entry.as_mut_ptr();
    // SAFETY: reserved ring memory of an event's size; every field is written before it leaves.
    unsafe {
        (*event).abi = ABI;
        (*event).verdict = verdict as u32;
        (*event).reason = reason as u32;
        let ids = bpf_get_current_pid_tgid();
        (*event).tgid = (ids >> 32) as u32;
        (*event).pid = ids as u32;
        (*event).cgroup = bpf_get_current_cgroup_id();
        match next {
            Some(next) => (*event).next = *next,
            None => (&raw mut (*event).next).write_bytes(0, 1),
        }
        (*event).facts = *facts;
        (&raw mut (*event).path).write_bytes(0, 1);
        bpf_get_current_comm((&raw mut (*event).comm).cast(), 16);
        if let Some(file) = file {
            let path = file
                .cast::<u8>()
                .add(offsets::OFF_FILE_PATH.load() as usize);
            bpf_d_path(
                path.cast(),
                (&raw mut (*event).path).cast(),
                PATH_LEN as u32,
            );
        }
    }
    entry.submit(RB_NO_WAKEUP);
}
