//! Executing: each file of the chain is judged, and the label comes with the commit.
//!
//! A script is judged first and its interpreter after it; the task then carries the script's label.
//! Between check and commit the world may have changed, so the commit judges again and kills.

use core::ffi::c_void;

use aya_ebpf::{
    helpers::generated::{bpf_bprm_opts_set, bpf_probe_read_kernel, bpf_send_signal},
    macros::lsm,
    programs::LsmContext,
};
use governor_common::{
    Actor, Facts, Label, Measured, Operation, Reason, Signal, Verdict,
    decide::{self, Decision},
    facts::{LABEL_OPENS_LISTED, same},
    names::{COUNT_CANARY, WORKLOAD_NONE, ZONE_CANARY, ZONE_HOST},
    row::OPENS_LISTED,
};

use crate::{
    facts, guard,
    kept::{self, Digest, Hold},
    label::{self, Own, TaskState},
    maps, measure,
    offsets::{self, load},
    report,
    zone::{self, Place},
};

/// A new exec begins: whatever an earlier, failed one left behind is forgotten, and there is storage to
/// judge it in. Made here, where the kernel does not sleep: while it makes storage it lets nobody else on
/// this processor have any, and a program that sleeps meanwhile would have others refused.
#[lsm(hook = "bprm_creds_for_exec")]
pub fn bprm_creds_for_exec(ctx: LsmContext) -> i32 {
    if ctx.arg::<i32>(1) != 0 {
        return report::refused();
    }
    match label::own() {
        // If it cannot be had now it is tried again when it is needed.
        Own::Nothing => {
            let _made = zone::place();
        }
        Own::Broken => return report::fault(),
        Own::Found(state) => {
            // SAFETY: this task's storage.
            let state = unsafe { &mut *state };
            forget_pending(state);
            state.pending_mark = 0;
            if state.label.present() && state.label.zone != ZONE_HOST {
                // Work is never taken for the daemon.
                return 0;
            }
        }
    }
    if guard::is_armed() && zone::is_own() {
        let _made = label::own_or_new();
        // The loader takes nothing from the environment then. It cannot be turned on later.
        // SAFETY: the hook's own argument and a flag.
        unsafe { bpf_bprm_opts_set(ctx.arg(0), BPF_F_BPRM_SECUREEXEC) };
    }
    0
}

/// Each file of the chain.
#[lsm(hook = "bprm_check_security", sleepable)]
pub fn bprm_check_security(ctx: LsmContext) -> i32 {
    if ctx.arg::<i32>(1) != 0 {
        return report::refused();
    }
    let bprm: *const c_void = ctx.arg(0);
    guard::becomes(bprm);
    let (zone, state) = match zone::place() {
        Place::Outside => {
            if guard::is_armed() && zone::is_own() {
                return match label::own_or_new() {
                    Some(state) => {
                        guard::admit(bprm, state, is_script(bprm));
                        0
                    }
                    None => report::fault(),
                };
            }
            return 0;
        }
        Place::Inside(zone, state) => (zone, state),
        Place::Broken => return report::fault(),
    };
    // Perhaps the daemon, which needs no other leave than being listed as that.
    if zone == ZONE_HOST
        && guard::is_armed()
        && zone::is_own()
        && guard::admit(bprm, state, is_script(bprm))
    {
        return 0;
    }
    // SAFETY: a field of `linux_binprm`.
    let file: *mut c_void = unsafe { load(bprm, &offsets::OFF_BPRM_FILE) };
    let operation = if is_script(bprm) {
        Operation::Script
    } else {
        Operation::Execute
    };
    let mut digest = Digest::NONE;
    let measurement = measure::file(file, &mut digest, zone);
    // SAFETY: this task's storage. No helper below sleeps.
    let state = unsafe { &mut *state };
    facts::begin(&mut state.facts, operation, zone, &state.label);
    let facts = &mut state.facts;
    facts.measured = measurement.measured as u32;
    facts.measured_raw = measurement.raw;
    if measurement.is_sha256() {
        // Also of a file that is refused for having no name: revoked content is revoked there too.
        facts.digest = digest.0;
    }
    facts.script_workload = state.pending_script;
    if facts.script_workload != 0 {
        facts.kind = first_of_name(bprm);
    }
    // SAFETY: a field of `linux_binprm`. Nobody attaches between here and the commit.
    let unsafe_how: u32 = unsafe { load(bprm, &offsets::OFF_BPRM_UNSAFE) };
    if unsafe_how & LSM_UNSAFE_PTRACE != 0 {
        facts.actor = Actor::Tracer as u32;
    }
    if !facts::read_state(facts) {
        return report::fault();
    }
    let edition = facts::look_up_known(facts, &mut state.known);
    let mut decision = decide::decide_exec(facts);
    if decide::holds(facts, decision) {
        match kept::hold(measurement.kept, file, measurement.generation) {
            Hold::Held => {}
            Hold::Written => decision = facts::written(facts),
            Hold::Broken => return report::fault(),
        }
    }
    if zone == ZONE_CANARY && matches!(decision.0, Verdict::Deny) {
        // It tries for ever, and being refused is all it is for: no denial, and nobody is told.
        maps::count(COUNT_CANARY);
        forget_pending(state);
        return report::refused();
    }
    match decision.0 {
        Verdict::Allow | Verdict::WouldDeny => {
            if !pend(state, operation, decision) {
                return report::fault();
            }
            state.pending_edition = edition;
        }
        Verdict::Deny => forget_pending(state),
    }
    let file = if measurement.is_file() {
        Some(file)
    } else {
        None
    };
    if state.facts.on_host() && state.pending_operation == 0 {
        // What the host itself does is not told one by one, only what it may not.
        return report::quiet_file(&state.facts, decision, file);
    }
    let code = report::full(&state.facts, decision, Some(&state.pending), file);
    #[cfg(feature = "log")]
    aya_log_ebpf::info!(
        &ctx,
        "zone {} verdict {:x} reason {}",
        zone,
        decision.0 as u32,
        decision.1 as u32
    );
    code
}

/// The point of no return: the pending label becomes the task's, if it still may.
#[lsm(hook = "bprm_committed_creds", sleepable)]
pub fn bprm_committed_creds(_ctx: LsmContext) -> i32 {
    let state = match label::own() {
        Own::Nothing => return 0,
        Own::Broken => {
            kill();
            report::fault();
            return 0;
        }
        // SAFETY: this task's storage.
        Own::Found(state) => unsafe { &mut *state },
    };
    guard::changes(state);
    if state.label.zone == ZONE_CANARY {
        // Whatever let this happen, the gate does not hold.
        guard::raise(Signal::CanaryPassed);
        kill();
        return 0;
    }
    if state.pending_operation == COMMITTED {
        // While an upgrade is under way two sets of programs run, and the other was first.
        return 0;
    }
    if guard::committed(state) {
        state.pending_operation = COMMITTED;
        return 0;
    }
    if state.pending_operation == 0 {
        if state.label.present() {
            // A labelled task changed its image without a verdict.
            kill();
            let facts = &mut state.facts;
            facts::begin(facts, Operation::Execute, state.label.zone, &state.label);
            report::quiet(facts, (Verdict::Deny, Reason::LabelLost));
        }
        return 0;
    }
    let operation = if state.pending_operation == Operation::Script as u32 {
        Operation::Script
    } else {
        Operation::Execute
    };
    let (edition, decision) = judge_again(state, operation);
    match decision.0 {
        Verdict::Allow | Verdict::WouldDeny => {
            let exec_id = state.pending.exec_id;
            state.known.become_of(&state.facts, edition, exec_id);
        }
        Verdict::Deny => {
            kill();
            report::quiet(&state.facts, decision);
        }
    }
    state.label = state.pending;
    let script = state.pending_script;
    forget_pending(state);
    // Its interpreter is mapped after this. The next exec clears it.
    state.pending_script = script;
    state.pending_operation = COMMITTED;
    0
}

/// What becomes of the exec now, and the edition it was judged by. If neither table nor tombstones changed
/// since the check, what that looked up is not looked up again: clock and state words are.
#[inline(always)]
fn judge_again(state: &mut TaskState, operation: Operation) -> (u64, Decision) {
    let edition = maps::edition();
    let looked_up = edition != 0 && state.pending_edition == edition && is_of_pending(state);
    let facts = &mut state.facts;
    if looked_up {
        facts::again(facts);
    } else {
        facts::begin(facts, operation, state.pending.zone, &state.label);
        facts.measured = Measured::Sha256 as u32;
        facts.digest = state.pending.digest;
    }
    if !facts::read_state(facts) {
        return (0, (Verdict::Deny, Reason::GateFault));
    }
    let edition = if looked_up {
        edition
    } else {
        facts::look_up_known(facts, &mut state.known)
    };
    (edition, decide::decide_exec(facts))
}

/// Whether the facts are still those of the judgement that made the pending label: not of an interpreter
/// after its script, nor of what else was judged meanwhile.
#[inline(always)]
fn is_of_pending(state: &TaskState) -> bool {
    let facts = &state.facts;
    facts.operation == state.pending_operation
        && facts.script_workload == 0
        && facts.zone == state.pending.zone
        && same(&facts.subject(), &state.pending.words())
}

/// Notes what the task becomes. False: no execution number could be had.
#[inline(always)]
fn pend(state: &mut TaskState, operation: Operation, (verdict, reason): Decision) -> bool {
    // The interpreter of a script: the script's label stays, marked where the interpreter may not run.
    if state.pending_script != 0 {
        if matches!(verdict, Verdict::WouldDeny) {
            if state.facts.on_host() && state.facts.is_observed() {
                // Whoever chose another interpreter is what they were.
                forget_pending(state);
            } else {
                state.pending.workload = WORKLOAD_NONE;
            }
        }
        return true;
    }
    // What survives, and what is only observed on the host, stays what it was: it is no workload. What
    // runs only because the glass is broken is marked, so that it is found when that is over.
    if state.facts.on_host()
        && !matches!(reason, Reason::Authorized)
        && (matches!(verdict, Verdict::Allow) || state.facts.is_observed())
    {
        return true;
    }
    let Some(mut exec_id) = maps::next_execution() else {
        return false;
    };
    let facts: &Facts = &state.facts;
    let workload = match verdict {
        Verdict::Allow => {
            if facts.row.roles & OPENS_LISTED != 0 {
                exec_id |= LABEL_OPENS_LISTED;
            }
            facts.row.workload
        }
        Verdict::WouldDeny => WORKLOAD_NONE,
        Verdict::Deny => return false,
    };
    let (zone, digest) = (facts.zone, facts.digest);
    state.pending = Label {
        zone,
        workload,
        exec_id,
        digest,
    };
    state.pending_operation = operation as u32;
    if let Operation::Script = operation {
        state.pending_script = workload;
    }
    true
}

#[inline(always)]
fn forget_pending(state: &mut TaskState) {
    state.pending = Label {
        zone: 0,
        workload: 0,
        exec_id: 0,
        digest: [0; 32],
    };
    state.pending_operation = 0;
    state.pending_script = 0;
    state.pending_edition = 0;
}

/// Whether the file's first bytes hand it to an interpreter.
#[inline(always)]
fn is_script(bprm: *const c_void) -> bool {
    // SAFETY: the kernel filled the buffer before this hook.
    let start: [u8; 2] = unsafe { load(bprm, &offsets::OFF_BPRM_BUF) };
    start[0] == b'#' && start[1] == b'!'
}

/// Workload of the script whose interpreter the task is since its last execution; zero: it is none. An
/// exec that failed on the way there made nobody one.
#[inline(always)]
pub(crate) fn script_of(state: &TaskState) -> u32 {
    if state.pending_operation == COMMITTED {
        state.pending_script
    } else {
        0
    }
}

/// The first byte of the name that the first file of the chain was called by; zero: it cannot be told. In a user
/// namespace of its own a task can have the kernel hand files to what it likes (binfmt_misc, from Linux 6.7), and
/// the name is not what an interpreter is told.
#[inline(always)]
fn first_of_name(bprm: *const c_void) -> u32 {
    if !facts::is_in_hosts_namespace() {
        return 0;
    }
    // SAFETY: a field of `linux_binprm`.
    let name: *const c_void = unsafe { load(bprm, &offsets::OFF_BPRM_NAME) };
    let mut first = 0u8;
    // SAFETY: one byte of our stack; the helper reads zero where it may not read.
    unsafe { bpf_probe_read_kernel((&raw mut first).cast(), 1, name) };
    u32::from(first)
}

#[inline(always)]
fn kill() {
    const SIGKILL: u32 = 9;
    // SAFETY: a number in; the current task gets the signal. Process 1 cannot.
    unsafe { bpf_send_signal(SIGKILL) };
}

/// Somebody traces it.
const LSM_UNSAFE_PTRACE: u32 = 2;
const BPF_F_BPRM_SECUREEXEC: u64 = 1;
/// In `pending_operation`: the exec's label is in place. The next exec clears it.
const COMMITTED: u32 = 1;
