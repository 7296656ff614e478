//! Connecting and sending: a destination is one that the workload's rules cover, or nothing.
//!
//! Not sleepable, because the trie of destinations cannot be used in sleepable programs.

use core::ffi::c_void;

use aya_ebpf::{
    btf_maps::lpm_trie::Key,
    helpers::generated::{bpf_get_current_task_btf, bpf_task_pt_regs},
    macros::lsm,
    programs::LsmContext,
};
use governor_common::{
    Facts, Measured, Operation, decide,
    names::{WORKLOAD_NONE, WORKLOAD_SURVIVAL, ZONE_HOST},
    net::{AF_INET, AF_INET6, AF_NETLINK, AF_UNIX, EGRESS_EXACT_BITS, EgressKey},
};

use crate::{
    address::{AF_UNSPEC, Address},
    facts,
    label::TaskState,
    maps::EGRESS,
    offsets::{self, load},
    report,
    zone::{self, Place},
};

/// Naming a peer.
#[lsm(hook = "socket_connect")]
pub fn socket_connect(ctx: LsmContext) -> i32 {
    if ctx.arg::<i32>(3) != 0 {
        return report::refused();
    }
    let (zone, state) = match zone::place() {
        Place::Outside => return 0,
        Place::Inside(zone, state) => (zone, state),
        Place::Broken => return report::fault(),
    };
    // SAFETY: this task's storage. No helper below sleeps.
    let state = unsafe { &mut *state };
    let address = Address::read(ctx.arg(1), ctx.arg::<u32>(2));
    let socket = Socket::of(ctx.arg(0));
    if address.readable() && address.family() == AF_UNSPEC {
        // Dissolving an association names nobody.
        return send(state, zone, &socket);
    }
    connect(state, zone, &socket, &address, false)
}

/// Sending, to the peer the socket has or to one named here.
#[lsm(hook = "socket_sendmsg")]
pub fn socket_sendmsg(ctx: LsmContext) -> i32 {
    if ctx.arg::<i32>(3) != 0 {
        return report::refused();
    }
    let (zone, state) = match zone::place() {
        Place::Outside => return 0,
        Place::Inside(zone, state) => (zone, state),
        Place::Broken => return report::fault(),
    };
    // SAFETY: this task's storage. No helper below sleeps.
    let state = unsafe { &mut *state };
    let socket = Socket::of(ctx.arg(0));
    let message: *const c_void = ctx.arg(1);
    // SAFETY: a pointer field of `msghdr`, read as a number.
    let name: u64 = unsafe { load(message, &offsets::OFF_MSG_NAME) };
    // SAFETY: a field of `msghdr`.
    let control: u64 = unsafe { load(message, &offsets::OFF_MSG_CONTROLLEN) };
    let on_host = zone == ZONE_HOST && !state.label.present();
    let on_internet = socket.family == AF_INET || socket.family == AF_INET6;
    if control != 0 && !on_host && on_internet {
        // Among them are routes of the sender's choosing; none is taken apart here.
        return connect(state, zone, &socket, &Address::unreadable(), true);
    }
    if name != 0 && !on_host && on_internet && is_one_of_many() {
        // The kernel asks about the first message alone, and each may carry a route.
        return connect(state, zone, &socket, &Address::unreadable(), true);
    }
    // Netlink names no destination outside this host; which of it may exist was judged at creation.
    if (name == 0 && socket.family != 0) || socket.family == AF_NETLINK {
        return send(state, zone, &socket);
    }
    // SAFETY: a field of `msghdr`.
    let len: u32 = unsafe { load(message, &offsets::OFF_MSG_NAMELEN) };
    let address = Address::read(name as *const c_void, len);
    connect(state, zone, &socket, &address, true)
}

/// Whether the task sends by a call that takes many messages.
#[inline(always)]
fn is_one_of_many() -> bool {
    // SAFETY: the helper returns the running task.
    let task = unsafe { bpf_get_current_task_btf() };
    // SAFETY: a task that the verifier trusts; its registers lie on its stack.
    let registers = unsafe { bpf_task_pt_regs(task) } as *const c_void;
    // SAFETY: a field of `pt_regs`, which the kernel filled when the call began.
    let call: u64 = unsafe { load(registers, &offsets::OFF_REGS_CALL) };
    // SAFETY: as above.
    let first: u64 = unsafe { load(registers, &offsets::OFF_REGS_FIRST) };
    let number = call as u32;
    MANY.contains(&number) || number == SOCKETCALL && first as u32 == SOCKETCALL_MANY
}

/// `sendmmsg` of x86-64, of i386 and of x32. None of these numbers sends one message in another of them.
const MANY: [u32; 3] = [307, 345, 0x4000_0000 | 538];
/// The call of i386 that stands for all of sockets, and the argument that makes it `sendmmsg`.
const SOCKETCALL: u32 = 102;
const SOCKETCALL_MANY: u32 = 20;

/// What is known of a socket; all zero when it has no protocol part (any more).
struct Socket {
    family: u32,
    kind: u32,
    protocol: u32,
}

impl Socket {
    #[inline(always)]
    fn of(socket: *const c_void) -> Self {
        let mut this = Self {
            family: 0,
            kind: 0,
            protocol: 0,
        };
        // SAFETY: a field of `socket`.
        let sk: *const c_void = unsafe { load(socket, &offsets::OFF_SOCKET_SK) };
        if sk.is_null() {
            return this;
        }
        // SAFETY: a field of `socket`.
        let kind: u16 = unsafe { load(socket, &offsets::OFF_SOCKET_TYPE) };
        // SAFETY: a field of `sock`, which is not null.
        let family: u16 = unsafe { load(sk, &offsets::OFF_SOCK_FAMILY) };
        // SAFETY: as above.
        let protocol: u16 = unsafe { load(sk, &offsets::OFF_SOCK_PROTOCOL) };
        this.family = family.into();
        this.kind = kind.into();
        this.protocol = protocol.into();
        this
    }
}

#[inline(always)]
fn send(state: &mut TaskState, zone: u32, socket: &Socket) -> i32 {
    facts::begin(&mut state.facts, Operation::Send, zone, &state.label);
    let facts = &mut state.facts;
    facts.measured = Measured::Nothing as u32;
    facts.family = socket.family;
    facts.kind = socket.kind;
    facts.protocol = socket.protocol;
    if !facts::read_state(facts) {
        return report::fault();
    }
    facts::look_up(facts);
    let decision = decide::decide_send(facts);
    report::quiet(facts, decision)
}

#[inline(always)]
fn connect(
    state: &mut TaskState,
    zone: u32,
    socket: &Socket,
    address: &Address,
    sending: bool,
) -> i32 {
    facts::begin(&mut state.facts, Operation::Connect, zone, &state.label);
    let facts = &mut state.facts;
    facts.measured = Measured::Nothing as u32;
    if socket.family != 0 && address.readable() {
        facts.kind = socket.kind;
        facts.protocol = socket.protocol;
        let named = address.family();
        // Sends on an IPv4 socket take an unspecified family for their own.
        let family = if sending && named == AF_UNSPEC && socket.family == AF_INET {
            AF_INET
        } else {
            named
        };
        address.describe(family, facts);
    } else {
        facts.address_unreadable = 1;
    }
    if !facts::read_state(facts) {
        return report::fault();
    }
    facts::look_up(facts);
    if facts.family == AF_INET || facts.family == AF_INET6 {
        facts.destination_listed = u32::from(listed(facts));
    }
    let decision = decide::decide_connect(facts);
    if facts.family == AF_UNIX || facts.on_host() {
        report::quiet(facts, decision)
    } else {
        report::full(facts, decision, None, None)
    }
}

/// Whether a rule of the workload covers destination and port.
#[inline(always)]
fn listed(facts: &Facts) -> bool {
    let workload = if facts.on_host() {
        WORKLOAD_SURVIVAL
    } else {
        facts.label.workload
    };
    if workload == 0 || workload == WORKLOAD_NONE || facts.row.key.zone == 0 {
        return false;
    }
    let key = EgressKey {
        generation: facts.row.generation,
        workload,
        protocol: facts.protocol as u16,
        family: facts.family as u16,
        address: facts.address,
    };
    let bits = if facts.family == AF_INET { 32 } else { 128 };
    match EGRESS.get(&Key::new(EGRESS_EXACT_BITS + bits, key)) {
        Some(row) => row.allows(facts.port as u16),
        None => false,
    }
}
