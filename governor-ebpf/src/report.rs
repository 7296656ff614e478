//! From a decision to a return code, a counter and an event.
//!
//! The only file that turns verdicts into numbers the kernel understands. Events leave without
//! waking their reader; a full ring is counted and changes nothing.

use core::{arch::asm, ffi::c_void};

use aya_ebpf::helpers::generated::{
    bpf_d_path, bpf_get_current_cgroup_id, bpf_get_current_comm, bpf_get_current_pid_tgid,
    bpf_probe_read_kernel,
};
use governor_common::{
    Facts, Label, Reason, Verdict,
    decide::Decision,
    event::PATH_LEN,
    names::{ABI, COUNT_LOST_DENIALS, COUNT_LOST_EVENTS},
};

use crate::{
    maps::{DENIALS, EVENTS, count},
    offsets::{self, load},
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
        Verdict::Deny | Verdict::WouldDeny => emit(facts, decision, None, |_| {}),
    }
    code(decision)
}

/// As `quiet`, with the path of the file.
#[inline(always)]
pub(crate) fn quiet_file(facts: &Facts, decision: Decision, file: Option<*mut c_void>) -> i32 {
    match decision.0 {
        Verdict::Allow => {}
        Verdict::Deny | Verdict::WouldDeny => emit(facts, decision, None, path_of(file)),
    }
    code(decision)
}

/// As `quiet`, with what a Unix socket is bound to.
#[inline(always)]
pub(crate) fn quiet_socket(facts: &Facts, decision: Decision, unix: *const c_void) -> i32 {
    match decision.0 {
        Verdict::Allow => {}
        Verdict::Deny | Verdict::WouldDeny => {
            emit(facts, decision, None, |place| tell_address(unix, place));
        }
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
    emit(facts, decision, next, path_of(file));
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
fn emit(
    facts: &Facts,
    decision: Decision,
    next: Option<&Label>,
    tell: impl FnOnce(*mut [u8; PATH_LEN]),
) {
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
        tell(&raw mut (*event).path);
    }
    entry.submit(RB_NO_WAKEUP);
}

/// Writes the path of the file, if there is one.
#[inline(always)]
fn path_of(file: Option<*mut c_void>) -> impl FnOnce(*mut [u8; PATH_LEN]) {
    move |place| {
        let Some(file) = file else { return };
        // SAFETY: every file has a path, and the verifier knows where; `place` is of the length that is said.
        unsafe {
            let path = file
                .cast::<u8>()
                .add(offsets::OFF_FILE_PATH.load() as usize);
            bpf_d_path(path.cast(), place.cast(), PATH_LEN as u32);
        }
    }
}

/// Writes what the socket is bound to as whoever bound it said it; a name that is no path with `@` before it.
#[inline(always)]
fn tell_address(unix: *const c_void, place: *mut [u8; PATH_LEN]) {
    // SAFETY: a field of `unix_sock`.
    let address: *const c_void = unsafe { load(unix, &offsets::OFF_UNIX_ADDRESS) };
    if address.is_null() {
        return;
    }
    // SAFETY: a field of `unix_address`.
    let len: u32 = unsafe { load(address, &offsets::OFF_ADDRESS_LEN) };
    // The family comes first.
    let len = len.wrapping_sub(FAMILY) & LONGEST_MASK;
    // SAFETY: the helper checks the source, which is as long as the kernel says; `place` is longer than the mask.
    unsafe {
        let name = address
            .cast::<u8>()
            .add(offsets::OFF_ADDRESS_NAME.load() as usize + FAMILY as usize);
        bpf_probe_read_kernel(place.cast(), len, name.cast());
        let first: *mut u8 = place.cast();
        if len != 0 && first.read_volatile() == 0 {
            first.write_volatile(b'@');
        }
    }
}

const FAMILY: u32 = 2;
/// A name has 108 bytes at most; what claims to be longer is cut.
const LONGEST_MASK: u32 = 127;
