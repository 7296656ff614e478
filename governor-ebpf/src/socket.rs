//! Creating sockets: only shapes whose every send passes a hook.

use aya_ebpf::{macros::lsm, programs::LsmContext};
use governor_common::{Measured, Operation, decide, names::ZONE_HOST, net};

use crate::{
    facts,
    map::labelled,
    report,
    zone::{self, Place},
};

/// A socket of a labelled task.
#[lsm(hook = "socket_create")]
pub fn socket_create(ctx: LsmContext) -> i32 {
    if ctx.arg::<i32>(4) != 0 {
        return report::refused();
    }
    // The kernel's own sockets.
    if ctx.arg::<i32>(3) != 0 {
        return 0;
    }
    let state = match labelled() {
        Ok(Some(state)) => state,
        Ok(None) => return 0,
        Err(code) => return code,
    };
    let label = state.label;
    let facts = &mut state.facts;
    facts::begin(facts, Operation::Socket, label.zone, &label);
    facts.measured = Measured::Nothing as u32;
    facts.family = ctx.arg::<u32>(0);
    facts.kind = ctx.arg::<u32>(1) & SOCK_TYPE_MASK;
    facts.protocol = ctx.arg::<u32>(2);
    if !facts::read_state(facts) {
        return report::fault();
    }
    facts::look_up(facts);
    let decision = decide::decide_socket(facts);
    report::quiet(facts, decision)
}

/// Options of a labelled task's socket: a route of its own choosing would carry what is sent to a
/// listed address somewhere else first.
#[lsm(hook = "socket_setsockopt")]
pub fn socket_setsockopt(ctx: LsmContext) -> i32 {
    if ctx.arg::<i32>(3) != 0 {
        return report::refused();
    }
    if !net::chooses_way(ctx.arg(1), ctx.arg(2)) {
        return 0;
    }
    let state = match labelled() {
        Ok(Some(state)) => state,
        Ok(None) => return hops(ctx.arg(1), ctx.arg(2)),
        Err(code) => return code,
    };
    let label = state.label;
    let facts = &mut state.facts;
    // A socket of no family: no zone allows one.
    facts::begin(facts, Operation::Socket, label.zone, &label);
    facts.measured = Measured::Nothing as u32;
    if !facts::read_state(facts) {
        return report::fault();
    }
    facts::look_up(facts);
    let decision = decide::decide_socket(facts);
    report::quiet(facts, decision)
}

/// An option of a socket of whoever has no label: where the whole host is a zone, what is sent to an
/// address that may be reached is not handed to somebody else first.
#[inline(always)]
fn hops(level: u32, option: u32) -> i32 {
    if !net::names_hops(level, option) {
        return 0;
    }
    let state = match zone::place() {
        Place::Inside(ZONE_HOST, state) => state,
        Place::Inside(_, _) | Place::Outside => return 0,
        Place::Broken => return report::fault(),
    };
    // SAFETY: this task's storage. No helper below sleeps.
    let state = unsafe { &mut *state };
    let facts = &mut state.facts;
    facts::begin(facts, Operation::Connect, ZONE_HOST, &state.label);
    facts.measured = Measured::Nothing as u32;
    facts.address_unreadable = 1;
    if !facts::read_state(facts) {
        return report::fault();
    }
    facts::look_up(facts);
    let decision = decide::decide_connect(facts);
    report::quiet(facts, decision)
}

const SOCK_TYPE_MASK: u32 = 0xf;
