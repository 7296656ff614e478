//! Words for reasons, and the verdict made again from recorded facts.
//!
//! Every reason has its own arm, so a new one cannot go without a thought about what to tell people.

use governor_common::{
    Facts, Operation, Reason, Verdict,
    decide::{self, Decision},
};

/// Decides again what the kernel decided, by the operation the facts name.
pub(super) fn redecide(facts: &Facts) -> Decision {
    match Operation::from_u32(facts.operation) {
        Some(Operation::Execute | Operation::Script) => decide::decide_exec(facts),
        Some(Operation::Map | Operation::Protect) => decide::decide_map(facts),
        Some(Operation::Socket) => decide::decide_socket(facts),
        Some(Operation::Connect) => decide::decide_connect(facts),
        Some(Operation::Send) => decide::decide_send(facts),
        Some(Operation::Fork) => decide::decide_fork(facts),
        Some(Operation::Guard) => decide::decide_guard(facts),
        Some(Operation::Trace) => decide::decide_trace(facts),
        Some(Operation::Open) => decide::decide_open(facts),
        Some(Operation::Peer) => decide::decide_peer(facts),
        None => (Verdict::Deny, Reason::GateFault),
    }
}

/// What would have to change, for people.
pub(super) fn advice(reason: u32) -> String {
    match Reason::from_u32(reason) {
        Some(Reason::NotAuthorized) => "list its digest in a set of the workload and reload",
        Some(Reason::WrongRole) => "list it in a set of the role it is used in",
        Some(Reason::WrongStarter) => "add the starting workload (or `operator`) to `started_by`",
        Some(Reason::InterpreterOnly) => {
            "it runs the workload's scripts only, called by a path; to have it started by itself list it in `exec`"
        }
        Some(Reason::UnlistedOpen) => {
            "list its digest in a set of the workload, under `data` if it is nothing else, and reload"
        }
        Some(Reason::WrongUser) => "run it as a user in the workload's `user`",
        Some(Reason::NoLease | Reason::Tripped | Reason::EpochRaised) => {
            "see `governor status`: trust is missing, and the reasons say what clears them"
        }
        Some(Reason::Expired | Reason::NotYetValid) => "sign a policy that is valid now",
        Some(Reason::Revoked) => "it was revoked by hand; build and list new content",
        Some(Reason::NoStableFile) => "run it from a file with a name, on a real file system",
        Some(Reason::BeingWritten) => {
            "somebody writes it; close it, and replace files by renaming new ones over them"
        }
        Some(Reason::NotKnown) => {
            "before Linux 6.9, and of empty files, only what was measured ahead is opened, and the daemon goes over \
             what is listed by path again: see whether its path is listed, and `known ahead` in `governor status`"
        }
        Some(Reason::NotMeasured) => "the kernel could not hash it; see `governor doctor`",
        Some(Reason::WrittenMemory) => "the zone's `memory` is `w^x`",
        Some(Reason::Traced) => "work is not traced; `governor observe` its zone for a while",
        Some(Reason::SocketKind) => "add the family to the zone's `families`; raw sockets never",
        Some(Reason::Destination) => "add the destination to the workload's `egress`",
        Some(Reason::UnlistedPeer) => {
            "who listens there is outside the zone: add the socket's path to the workload's `sockets`, and see \
             whether `governor status` finds it under `named sockets`"
        }
        Some(Reason::Guarded) => {
            "only the daemon, and what policy lists under [governor], may do this on a governed host"
        }
        Some(Reason::UnknownZone) => "no policy names this cgroup; load one that does",
        Some(Reason::NoLabel) => "only a workload may use the network in a zone",
        Some(
            Reason::Authorized
            | Reason::Unlabelled
            | Reason::Survival
            | Reason::BadRow
            | Reason::GateFault
            | Reason::BadAddress
            | Reason::LabelLost,
        )
        | None => "",
    }
    .to_owned()
}
