//! The verdict: pure functions from [`Facts`] to a verdict and its reason.
//!
//! Compiled for the kernel programs and for the host from this one source. Promises: every path
//! that is not an authorization is a denial; zeros deny; an observing zone turns a denial into
//! `WouldDeny` except where an operator revoked the content, and so does break-glass wherever there
//! is work; neither moves the gate's own protection. No function here reads anything but its argument.

use crate::{
    facts::{Facts, Measured, Operation, same},
    names::{STARTER_OPERATOR, STARTERS, USERS, WORKLOAD_NONE, ZONE_CANARY},
    net::{
        AF_INET, AF_INET6, AF_NETLINK, AF_PACKET, AF_UNIX, IPPROTO_TCP, IPPROTO_UDP, SOCK_DGRAM,
        SOCK_STREAM, is_loopback, socket_allowed,
    },
    reason::{Reason, Verdict},
    row::{
        CLASS_ATTESTED, CLASS_POLICY, MEMORY_ANY, MODE_ENFORCE, MODE_OBSERVE, ROLE_EXECUTABLE,
        ROLE_INTERPRETER, ROLE_LIBRARY, ROLE_SCRIPT, Row,
    },
    signal::{Actor, Signal},
};
pub use crate::{open::decide_open, peer::decide_peer};

/// A verdict with its reason.
pub type Decision = (Verdict, Reason);

/// Executing a program, or handing a script to its interpreter.
#[inline(always)]
pub fn decide_exec(f: &Facts) -> Decision {
    if ungoverned(f) {
        return (Verdict::Allow, Reason::Unlabelled);
    }
    settle(f, judge_exec(f))
}

/// Mapping a file or anonymous memory executable, or making memory executable.
#[inline(always)]
pub fn decide_map(f: &Facts) -> Decision {
    if f.on_host() && !ungoverned(f) {
        return settle(f, judge_map(f));
    }
    if !f.label.present() {
        return (Verdict::Allow, Reason::Unlabelled);
    }
    settle(f, judge_map(f))
}

/// Whether writers are to be kept from a file that was allowed to be executed or mapped: where a zone
/// enforces, what runs stays what was measured. What only observes changes nothing for anybody.
#[inline(always)]
pub fn holds(f: &Facts, (verdict, reason): Decision) -> bool {
    match verdict {
        Verdict::Allow => {
            f.measured == Measured::Sha256 as u32
                && !f.is_observed()
                && !matches!(reason, Reason::Unlabelled)
        }
        // What goes on in spite of a reason is not held to its content.
        Verdict::Deny | Verdict::WouldDeny => false,
    }
}

/// What was allowed, had not somebody been writing: what any of the judgements above says of the same
/// facts with `measured` as [`Measured::Written`].
#[inline(always)]
pub fn decide_written(f: &Facts) -> Decision {
    settle(f, Reason::BeingWritten)
}

/// Creating a socket.
#[inline(always)]
pub fn decide_socket(f: &Facts) -> Decision {
    if !f.label.present() {
        return (Verdict::Allow, Reason::Unlabelled);
    }
    let reason = if socket_allowed(f.zone_families, f.family, f.kind, f.protocol) {
        Reason::Authorized
    } else {
        Reason::SocketKind
    };
    settle(f, reason)
}

/// Connecting, or sending to a named address.
#[inline(always)]
pub fn decide_connect(f: &Facts) -> Decision {
    if !f.label.present() && (f.family == AF_UNIX || ungoverned(f)) {
        return (Verdict::Allow, Reason::Unlabelled);
    }
    settle(f, judge_connect(f))
}

/// Sending on a socket that has its peer: the task's authorization must still stand.
#[inline(always)]
pub fn decide_send(f: &Facts) -> Decision {
    // What a service manager's own code asks of the kernel before there is a workload leaves no host.
    let stays = f.family == AF_UNIX || f.family == AF_NETLINK;
    if !f.label.present() && (stays || ungoverned(f)) {
        return (Verdict::Allow, Reason::Unlabelled);
    }
    let reason = if f.label.present() {
        standing(f)
    } else if f.on_host() {
        // The peer was judged when it was named, or it came to us.
        Reason::Survival
    } else {
        Reason::NoLabel
    };
    settle(f, reason)
}

/// Forking: a revoked task makes no more of itself.
#[inline(always)]
pub fn decide_fork(f: &Facts) -> Decision {
    if f.tombstone != 0 {
        return (Verdict::Deny, Reason::Revoked);
    }
    (Verdict::Allow, Reason::Authorized)
}

/// Tracing, where the task or whoever traces it has a label. In which zone, the facts say.
#[inline(always)]
pub fn decide_trace(f: &Facts) -> Decision {
    settle(f, Reason::Traced)
}

/// Reaching for the gate itself, or for what it leans on: for the daemon, and where the hook says so
/// for the first process. What is observed is zones, never this.
#[inline(always)]
pub fn decide_guard(f: &Facts) -> Decision {
    if f.actor == Actor::Daemon as u32 || f.actor == Actor::Init as u32 {
        (Verdict::Allow, Reason::Authorized)
    } else {
        (Verdict::Deny, Reason::Guarded)
    }
}

/// What a refused reach is counted as. An alarm is one only if nobody governed set it off, or a workload
/// could cost the host its trust.
#[inline(always)]
pub const fn counted_as(signal: Signal, governed: bool) -> Signal {
    if governed && signal.is_alarm() {
        Signal::GovernedReach
    } else {
        signal
    }
}

/// A task in no zone, on a host that is none itself: the table has no row that says so.
#[inline(always)]
fn ungoverned(f: &Facts) -> bool {
    f.on_host() && f.zone_mode == 0
}

/// What the zone's mode makes of a reason.
#[inline(always)]
pub(crate) fn settle(f: &Facts, reason: Reason) -> Decision {
    match reason {
        Reason::Authorized | Reason::Unlabelled | Reason::Survival => {
            // Without a row of its own a zone grants nothing, whatever was found in it.
            if f.zone_mode == MODE_ENFORCE || f.zone_mode == MODE_OBSERVE {
                (Verdict::Allow, reason)
            } else {
                denied(f, Reason::UnknownZone)
            }
        }
        // An operator's word holds in an observed zone too, and the gate is not observed.
        Reason::Revoked | Reason::Guarded => (Verdict::Deny, reason),
        Reason::UnknownZone
        | Reason::NotMeasured
        | Reason::NoStableFile
        | Reason::BeingWritten
        | Reason::NotKnown
        | Reason::NotAuthorized
        | Reason::WrongRole
        | Reason::WrongStarter
        | Reason::WrongUser
        | Reason::InterpreterOnly
        | Reason::UnlistedOpen
        | Reason::NotYetValid
        | Reason::Expired
        | Reason::EpochRaised
        | Reason::NoLease
        | Reason::Tripped
        | Reason::BadRow
        | Reason::GateFault
        | Reason::NoLabel
        | Reason::SocketKind
        | Reason::Destination
        | Reason::UnlistedPeer
        | Reason::BadAddress
        | Reason::WrittenMemory
        | Reason::Traced
        | Reason::LabelLost => denied(f, reason),
    }
}

/// A denial that observing and break-glass lift. The canary is no work: it must be refused always,
/// or nobody would notice a gate that refuses nothing. What nobody read because nothing lifted denials may
/// have been revoked, and observing may have begun since.
#[inline(always)]
fn denied(f: &Facts, reason: Reason) -> Decision {
    let broken = f.state.glass_is_broken(f.now) && f.zone != ZONE_CANARY;
    if (f.is_observed() || broken) && !f.is_unread() {
        (Verdict::WouldDeny, reason)
    } else {
        (Verdict::Deny, reason)
    }
}

#[inline(always)]
fn judge_exec(f: &Facts) -> Reason {
    let role = if f.operation == Operation::Execute as u32 {
        ROLE_EXECUTABLE
    } else if f.operation == Operation::Script as u32 {
        ROLE_SCRIPT
    } else {
        return Reason::GateFault;
    };
    // What was revoked starts nothing and is not started, whatever else could be said of it: where
    // denials are lifted the other reasons pass.
    if f.starter_tombstone != 0 || f.tombstone != 0 {
        return Reason::Revoked;
    }
    if f.zone_mode != MODE_ENFORCE && f.zone_mode != MODE_OBSERVE {
        return Reason::UnknownZone;
    }
    if let Some(reason) = unmeasured(f) {
        return reason;
    }
    if f.survives() {
        return Reason::Survival;
    }
    // Whoever traces it could write what it becomes.
    if f.actor == Actor::Tracer as u32 {
        return Reason::Traced;
    }
    let reason = standing(f);
    if !matches!(reason, Reason::Authorized) {
        return reason;
    }
    if f.row.roles & role == 0 {
        if f.row.roles & ROLE_INTERPRETER == 0 {
            return Reason::WrongRole;
        }
        if f.script_workload == 0 || !is_path(f.kind) {
            return Reason::InterpreterOnly;
        }
    }
    if f.row.workload == 0 || f.row.workload == WORKLOAD_NONE {
        return Reason::BadRow;
    }
    let starter = if f.label.present() {
        f.label.workload
    } else {
        STARTER_OPERATOR
    };
    if !contains(&f.row, starter) {
        return Reason::WrongStarter;
    }
    if !user_listed(&f.row, f.uid) {
        return Reason::WrongUser;
    }
    Reason::Authorized
}

#[inline(always)]
fn judge_map(f: &Facts) -> Reason {
    if f.tombstone != 0 || f.starter_tombstone != 0 {
        return Reason::Revoked;
    }
    if f.zone_mode != MODE_ENFORCE && f.zone_mode != MODE_OBSERVE {
        return Reason::UnknownZone;
    }
    if f.measured == Measured::Nothing as u32 {
        return if f.zone_memory == MEMORY_ANY {
            Reason::Authorized
        } else {
            Reason::WrittenMemory
        };
    }
    // Turning a mapped file executable later is not measured: it was not asked for as code.
    if f.operation == Operation::Protect as u32 {
        return Reason::WrittenMemory;
    }
    if f.operation != Operation::Map as u32 {
        return Reason::GateFault;
    }
    if let Some(reason) = unmeasured(f) {
        return reason;
    }
    if f.on_host() {
        return if f.survives() {
            Reason::Survival
        } else {
            Reason::NotAuthorized
        };
    }
    let reason = standing(f);
    if !matches!(reason, Reason::Authorized) {
        return reason;
    }
    if f.row.roles & (ROLE_LIBRARY | ROLE_EXECUTABLE) == 0 {
        if f.row.roles & ROLE_INTERPRETER == 0 {
            return Reason::WrongRole;
        }
        // Its own image, and nobody else's: a loader that is a program would run it with any argument.
        if f.script_workload != f.label.workload {
            return Reason::InterpreterOnly;
        }
    }
    Reason::Authorized
}

#[inline(always)]
fn judge_connect(f: &Facts) -> Reason {
    if f.tombstone != 0 {
        return Reason::Revoked;
    }
    if f.zone_mode != MODE_ENFORCE && f.zone_mode != MODE_OBSERVE {
        return Reason::UnknownZone;
    }
    if f.on_host() {
        return judge_host_connect(f);
    }
    if !f.label.present() {
        return Reason::NoLabel;
    }
    let reason = standing(f);
    if !matches!(reason, Reason::Authorized) {
        return reason;
    }
    if f.address_unreadable != 0 {
        return Reason::BadAddress;
    }
    match f.family {
        AF_UNIX => Reason::Authorized,
        AF_INET | AF_INET6 => {
            let stream = f.kind == SOCK_STREAM && f.protocol == IPPROTO_TCP;
            let datagram = f.kind == SOCK_DGRAM && f.protocol == IPPROTO_UDP;
            if !stream && !datagram {
                return Reason::SocketKind;
            }
            if f.destination_listed == 1 {
                Reason::Authorized
            } else {
                Reason::Destination
            }
        }
        _ => Reason::BadAddress,
    }
}

/// What keeps a host reachable: itself, what obtains an address for it, and where policy says.
#[inline(always)]
fn judge_host_connect(f: &Facts) -> Reason {
    if f.address_unreadable != 0 {
        return Reason::BadAddress;
    }
    match f.family {
        AF_UNIX | AF_NETLINK | AF_PACKET => Reason::Survival,
        AF_INET | AF_INET6 => {
            if f.destination_listed == 1 || is_loopback(f.family, &f.address) {
                Reason::Survival
            } else {
                Reason::Destination
            }
        }
        _ => Reason::BadAddress,
    }
}

/// Whether a name beginning so is a path to every interpreter. A script is handed over by the name that it
/// was called by, which may be a link: `-c` would make its first argument the text.
#[inline(always)]
const fn is_path(first: u32) -> bool {
    first == b'/' as u32 || first == b'.' as u32
}

/// Why there is no digest of what the file holds and goes on holding; nothing if there is one.
#[inline(always)]
pub(crate) const fn unmeasured(f: &Facts) -> Option<Reason> {
    if f.measured == Measured::Unstable as u32 {
        return Some(Reason::NoStableFile);
    }
    if f.measured == Measured::Written as u32 {
        return Some(Reason::BeingWritten);
    }
    if f.measured == Measured::Unknown as u32 {
        return Some(Reason::NotKnown);
    }
    if f.measured != Measured::Sha256 as u32 {
        return Some(Reason::NotMeasured);
    }
    None
}

/// Whether the row found stands at this moment: present, the one asked for, not revoked, its epoch
/// current, its lease alive, its validity begun and not over.
#[inline(always)]
pub(crate) fn standing(f: &Facts) -> Reason {
    let row = &f.row;
    if f.tombstone != 0 {
        return Reason::Revoked;
    }
    if row.key.zone == 0
        || row.key.zone != f.zone
        || row.key.scope != f.scope()
        || !same(&f.row_words(), &f.subject())
    {
        return Reason::NotAuthorized;
    }
    let state = &f.state;
    if row.class == CLASS_ATTESTED {
        if row.epoch == 0 || row.epoch != state.epoch_attested {
            return Reason::EpochRaised;
        }
        if !state.lease_holds(f.now) {
            return if state.lease_deadline != 0
                && f.now < state.lease_deadline
                && state.lease_epoch == state.epoch_attested
            {
                Reason::Tripped
            } else {
                Reason::NoLease
            };
        }
    } else if row.class == CLASS_POLICY {
        if f.zone_class != CLASS_POLICY {
            return Reason::BadRow;
        }
        if row.epoch == 0 || row.epoch != state.epoch_policy {
            return Reason::EpochRaised;
        }
    } else {
        return Reason::BadRow;
    }
    if f.now < row.not_before {
        return Reason::NotYetValid;
    }
    if f.now >= row.not_after {
        return Reason::Expired;
    }
    Reason::Authorized
}

#[inline(always)]
fn contains(row: &Row, starter: u32) -> bool {
    let mut i = 0;
    while i < STARTERS {
        if row.starters[i] == starter && starter != 0 {
            return true;
        }
        i += 1;
    }
    false
}

#[inline(always)]
fn user_listed(row: &Row, uid: u32) -> bool {
    let mut i = 0;
    while i < USERS {
        // Stored plus one, so that an unused place names nobody. The largest uid is "no user".
        if row.users[i] != 0 && row.users[i] - 1 == uid {
            return true;
        }
        i += 1;
    }
    false
}
