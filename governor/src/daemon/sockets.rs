//! When the sockets that policy names are looked for: with each policy, when somebody was refused one, and whenever
//! one comes, which the thread that looks notices by itself.

use std::time::Duration;

use governor_common::Event;

use super::{Daemon, start};
use crate::{
    control::proto,
    peers::{Found, Peers},
};

/// How long the loop waits for the first look at them: a path may lead to a file system that does not answer.
const PATIENCE: Duration = Duration::from_millis(500);

impl Daemon {
    pub(super) fn find_sockets(&mut self) {
        let Some(policy) = self.engine.policy() else {
            return;
        };
        let mut workloads = policy.policy().workloads().values();
        if self.peers.is_none() && workloads.any(|workload| !workload.sockets.is_empty()) {
            let namer = self.hands.gate.namer().map_err(anyhow::Error::from);
            match namer.and_then(Peers::start) {
                Ok(peers) => self.peers = Some(peers),
                Err(error) => tracing::warn!("looking for sockets: {error:#}"),
            }
        }
        if let Some(peers) = &mut self.peers {
            let numbers = || start::numbers(policy);
            if peers.look(policy.digest(), policy.policy(), numbers) {
                // Work that is started next may reach for them at once.
                peers.wait(PATIENCE);
            }
        }
    }

    /// Looks who was refused somebody outside the zone.
    pub(super) fn hear_who_was_refused_a_socket(&mut self, events: &[Event], lost: u64) {
        if let Some(peers) = &mut self.peers {
            peers.hear(events, lost);
        }
    }

    /// How many of them the kernel knows; absent where policy names none.
    pub(super) fn named_sockets(&self) -> Option<proto::NamedSockets> {
        let Found {
            found,
            absent,
            unfit,
        } = self.peers.as_ref()?.found();
        (found + absent + unfit > 0).then_some(proto::NamedSockets {
            found,
            absent,
            unfit,
        })
    }
}
