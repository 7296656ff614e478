//! Unix sockets: whom a labelled task reaches through one.
//!
//! Asked when the peer is known, and not when it is named: a name says nothing of who listens. Work's own sockets are
//! noted when they are made. Of everybody else's the ones count that the daemon found where policy names them.

use core::{ffi::c_void, ptr};

use aya_ebpf::{
    bindings::{
        BPF_F_NO_PREALLOC, BPF_SK_STORAGE_GET_F_CREATE, bpf_map_type::BPF_MAP_TYPE_SK_STORAGE,
        inode,
    },
    btf_maps::InodeStorage,
    helpers::generated::{bpf_sk_storage_get, bpf_skc_to_unix_sock},
    macros::{btf_map, lsm},
    programs::LsmContext,
};
use governor_common::{Measured, Operation, decide, net::AF_UNIX};

use crate::{
    facts,
    label::TaskState,
    map::labelled,
    maps,
    offsets::{self, load},
    report,
};

/// The BTF definition of a socket storage map that any hook can use; the library's is for one kind of program.
#[repr(C)]
struct SocketStorage {
    r#type: *const [i32; BPF_MAP_TYPE_SK_STORAGE as usize],
    key: *const i32,
    value: *const u32,
    max_entries: *const [i32; 0],
    map_flags: *const [i32; BPF_F_NO_PREALLOC as usize],
}

// SAFETY: pointers that only describe the map to the loader; nothing reads through them.
unsafe impl Sync for SocketStorage {}

/// The zone of the work that made a socket.
#[btf_map]
static SOCKETS: SocketStorage = SocketStorage {
    r#type: ptr::null(),
    key: ptr::null(),
    value: ptr::null(),
    max_entries: ptr::null(),
    map_flags: ptr::null(),
};

/// Which of the sockets that policies name was found at an inode. User space alone writes it.
#[btf_map]
static NAMED: InodeStorage<[u64; WORDS]> = InodeStorage::new();

const WORDS: usize = 4;

/// A Unix socket that work makes is of its zone, whoever has it later.
#[lsm(hook = "socket_post_create")]
pub fn socket_post_create(ctx: LsmContext) -> i32 {
    if ctx.arg::<i32>(5) != 0 {
        return report::refused();
    }
    if ctx.arg::<u32>(1) != AF_UNIX || ctx.arg::<i32>(4) != 0 {
        return 0;
    }
    let state = match labelled() {
        Ok(Some(state)) => state,
        Ok(None) => return 0,
        Err(code) => return code,
    };
    let socket: *const c_void = ctx.arg(0);
    // SAFETY: a field of `socket`.
    let sk: *mut c_void = unsafe { load(socket, &offsets::OFF_SOCKET_SK) };
    if sk.is_null() {
        return report::fault();
    }
    let made = storage(sk, BPF_SK_STORAGE_GET_F_CREATE);
    if made.is_null() {
        return report::fault();
    }
    // SAFETY: the socket's storage, written whole.
    unsafe { made.write_volatile(state.label.zone) };
    0
}

/// Connecting to a socket that somebody listens on.
#[lsm(hook = "unix_stream_connect")]
pub fn unix_stream_connect(ctx: LsmContext) -> i32 {
    if ctx.arg::<i32>(3) != 0 {
        return report::refused();
    }
    match labelled() {
        Ok(Some(state)) => judge(state, ctx.arg(1)),
        Ok(None) => 0,
        Err(code) => code,
    }
}

/// Naming one for datagrams, and sending one.
#[lsm(hook = "unix_may_send")]
pub fn unix_may_send(ctx: LsmContext) -> i32 {
    if ctx.arg::<i32>(2) != 0 {
        return report::refused();
    }
    let state = match labelled() {
        Ok(Some(state)) => state,
        Ok(None) => return 0,
        Err(code) => return code,
    };
    let other: *const c_void = ctx.arg(1);
    // SAFETY: a field of `socket`.
    let sk: *mut c_void = unsafe { load(other, &offsets::OFF_SOCKET_SK) };
    if sk.is_null() {
        return report::fault();
    }
    judge(state, sk)
}

/// Whether work reaches who has the socket `sk`.
#[inline(always)]
fn judge(state: &mut TaskState, sk: *mut c_void) -> i32 {
    let label = state.label;
    let facts = &mut state.facts;
    facts::begin(facts, Operation::Peer, label.zone, &label);
    facts.measured = Measured::Nothing as u32;
    facts.family = AF_UNIX;
    facts.port = zone_of(sk);
    // SAFETY: a socket that the verifier trusts.
    let unix: *const c_void = unsafe { bpf_skc_to_unix_sock(sk) }.cast();
    if unix.is_null() {
        return report::fault();
    }
    let mut named_by = 0;
    if let Some(name) = name_of(unix) {
        // SAFETY: four words of the facts, on their boundary.
        unsafe { (&raw mut facts.digest).cast::<[u64; WORDS]>().write(name) };
        named_by = maps::names(label.zone, label.workload, &name);
    }
    if !facts::read_state(facts) {
        return report::fault();
    }
    facts::look_up(facts);
    // Of the same table as the row that it stands on: neither of two lets what each has a half of.
    facts.destination_listed = u32::from(named_by != 0 && named_by == facts.row.generation);
    let decision = decide::decide_peer(facts);
    report::quiet_socket(facts, decision, unix)
}

/// The zone of the work that made it; zero: none.
#[inline(always)]
fn zone_of(sk: *mut c_void) -> u32 {
    let made = storage(sk, 0);
    if made.is_null() {
        return 0;
    }
    // SAFETY: the socket's storage, read whole.
    unsafe { made.read_volatile() }
}

#[inline(always)]
fn storage(sk: *mut c_void, flags: u32) -> *mut u32 {
    let map = ptr::from_ref(&SOCKETS).cast_mut().cast();
    // SAFETY: the map and a socket that the verifier trusts; new storage is zeroed.
    unsafe { bpf_sk_storage_get(map, sk, ptr::null_mut(), flags.into()).cast() }
}

/// Which of the sockets that policies name it is bound to. It keeps the inode that it was bound to, whatever is at
/// that path by now.
#[inline(always)]
fn name_of(unix: *const c_void) -> Option<[u64; WORDS]> {
    // SAFETY: a field of `unix_sock`.
    let dentry: *const c_void = unsafe { load(unix, &offsets::OFF_UNIX_DENTRY) };
    if dentry.is_null() {
        return None;
    }
    // SAFETY: a field of `dentry`.
    let inode: *mut inode = unsafe { load(dentry, &offsets::OFF_DENTRY_INODE) };
    // SAFETY: an inode that the verifier trusts; the helper takes none as well.
    let found = unsafe { NAMED.get_ptr_mut(inode) };
    if found.is_null() {
        return None;
    }
    let mut name = [0; WORDS];
    maps::copy_words(found.cast(), (&raw mut name).cast(), 0, WORDS);
    Some(name)
}
