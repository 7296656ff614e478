//! Events as people and programs read them, and the few that are remembered.
//!
//! What came out of a ring is untrusted bytes until every number in it is a known one. Memory is
//! bounded; what is forgotten here still stands in the ledger if it was a denial.

use std::{collections::VecDeque, sync::Arc};

use governor_common::{Event, Measured, Operation, Reason, Verdict, net::AF_INET};
use governor_core::{
    policy::Ids,
    time::{BootTime, ClockReading},
};

use super::{clock, names};
use crate::{control::proto, text};

/// Events that `events` and `explain` can still show.
const REMEMBERED: usize = 4096;

/// The last events. They are put into words for whoever asks, for most are asked for by nobody.
#[derive(Debug, Default)]
pub(crate) struct Recent {
    next: u64,
    events: VecDeque<Remembered>,
}

/// One of them.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Remembered {
    id: u64,
    /// When it left its ring.
    now: ClockReading,
    pub(crate) event: Event,
}

impl Remembered {
    /// As it is shown. A number keeps its name for as long as the daemon runs.
    pub(crate) fn show(&self, ids: &Ids) -> proto::GateEvent {
        show(self.id, self.now, ids, &self.event)
    }
}

impl Recent {
    /// Takes an event in; returns it.
    pub(crate) fn push(&mut self, now: ClockReading, event: Event) -> Remembered {
        self.next += 1;
        let id = self.next;
        let remembered = Remembered { id, now, event };
        if self.events.len() == REMEMBERED {
            self.events.pop_front();
        }
        self.events.push_back(remembered);
        remembered
    }

    /// The event with this id, if it is still remembered.
    pub(crate) fn find(&self, id: u64) -> Option<&Remembered> {
        self.events.iter().find(|remembered| remembered.id == id)
    }

    /// All that are remembered, oldest first.
    pub(crate) fn all(&self, ids: &Ids) -> Vec<Arc<proto::GateEvent>> {
        self.events
            .iter()
            .map(|remembered| Arc::new(remembered.show(ids)))
            .collect()
    }
}

fn show(id: u64, now: ClockReading, ids: &Ids, event: &Event) -> proto::GateEvent {
    let facts = &event.facts;
    let operation = Operation::from_u32(facts.operation);
    let measured = facts.measured == Measured::Sha256 as u32;
    let network = matches!(operation, Some(Operation::Connect));
    let actor = if event.next.workload != 0 {
        event.next
    } else {
        facts.label
    };
    proto::GateEvent {
        id,
        time: clock::rfc3339(now, BootTime(facts.now)),
        verdict: verdict(event.verdict).into(),
        reason: reason(event.reason),
        operation: operation.map_or_else(|| "unknown".into(), |o| o.name().into()),
        zone: names::zone(ids, facts.zone),
        workload: names::workload(ids, actor.workload),
        pid: event.tgid,
        uid: facts.uid,
        comm: printable(&event.comm),
        path: printable(&event.path),
        digest: if measured {
            facts.digest.to_vec()
        } else {
            Vec::new()
        },
        address: if network {
            address(facts.family, &facts.address)
        } else {
            String::new()
        },
        port: if network { facts.port } else { 0 },
        exec_id: actor.execution(),
    }
}

/// The protocol's verdict for the kernel's number. An unknown number is no verdict.
pub(crate) fn verdict(raw: u32) -> proto::Verdict {
    match Verdict::from_u32(raw) {
        Some(Verdict::Allow) => proto::Verdict::Allow,
        Some(Verdict::Deny) => proto::Verdict::Deny,
        Some(Verdict::WouldDeny) => proto::Verdict::WouldDeny,
        None => proto::Verdict::Unspecified,
    }
}

/// The reason's name.
pub(crate) fn reason(raw: u32) -> String {
    Reason::from_u32(raw).map_or_else(|| format!("#{raw}"), |reason| reason.name().to_owned())
}

fn address(family: u32, bytes: &[u8; 16]) -> String {
    let [a, b, c, d, ..] = *bytes;
    if family == AF_INET {
        std::net::Ipv4Addr::new(a, b, c, d).to_string()
    } else {
        std::net::Ipv6Addr::from(*bytes).to_string()
    }
}

/// Up to the first zero, whatever it is made of, without control characters.
fn printable(bytes: &[u8]) -> String {
    let end = bytes
        .iter()
        .position(|byte| *byte == 0)
        .unwrap_or(bytes.len());
    let raw = String::from_utf8_lossy(bytes.get(..end).unwrap_or_default());
    text::strip(&raw).into_owned()
}
