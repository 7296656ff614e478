//! `[risk]`: a workload that does something too often is stopped, and nobody else is.
//!
//! Promises: every event counts, also those that no record is kept of; the stricter of zone, workload
//! and risk decides; the host's trust is never touched, not even when stopping fails and is tried again. An event counts
//! for the workload whose label the acting task carried; what the kernel had no room to report cannot
//! be counted for anybody. A count begins anew when it was met, when a policy is put in force, and
//! with the daemon.

use std::collections::BTreeMap;

use governor_common::{Event, Operation, Plain as _, Reason, Verdict, names::WORKLOAD_NONE};

use super::{Effect, Engine, records, window::Window};
use crate::{
    lineage::RiskMet,
    policy::{Mode, OnRevoke, Risk, RiskEvent},
    time::BootTime,
};

/// What is counted.
#[derive(Clone, Debug, Default)]
pub(super) struct Risks {
    /// By name of the risk and number of the workload.
    windows: BTreeMap<(String, u32), Window>,
}

impl Risks {
    /// Another policy counts other things.
    pub(super) fn begin_anew(&mut self) {
        self.windows.clear();
    }
}

/// What an event counts as: none of it, or one thing.
fn kind(event: &Event) -> Option<RiskEvent> {
    let operation = Operation::from_u32(event.facts.operation)?;
    match (Verdict::from_u32(event.verdict)?, operation) {
        (Verdict::Deny, Operation::Execute | Operation::Script) => Some(RiskEvent::DeniedExec),
        (Verdict::Deny, Operation::Map | Operation::Protect | Operation::Trace) => Some(RiskEvent::DeniedMap),
        (Verdict::Deny, Operation::Open) => is_probing(event).then_some(RiskEvent::DeniedOpen),
        (Verdict::Deny, Operation::Socket) => Some(RiskEvent::DeniedSocket),
        (Verdict::Deny, Operation::Connect | Operation::Send) => Some(RiskEvent::DeniedConnect),
        // Not where trust or the lease ended.
        (Verdict::Deny, Operation::Peer) => {
            (event.reason == Reason::UnlistedPeer as u32).then_some(RiskEvent::DeniedPeer)
        }
        (Verdict::Deny, Operation::Guard) => Some(RiskEvent::DeniedGuard),
        (Verdict::Allow, Operation::Execute) => Some(RiskEvent::Spawn),
        (Verdict::Allow, Operation::Connect) => Some(RiskEvent::Connect),
        // A fork that was refused was refused because of a revocation, and is no probing.
        (Verdict::Deny, Operation::Fork)
        | (
            Verdict::Allow,
            Operation::Script
            | Operation::Map
            | Operation::Protect
            | Operation::Socket
            | Operation::Send
            | Operation::Fork
            | Operation::Guard
            | Operation::Trace
            | Operation::Open
            | Operation::Peer,
        )
        // Where a zone is observed nothing is held back, and nothing is held against anybody.
        | (Verdict::WouldDeny, _) => None,
    }
}

/// Whether what was to be opened was refused for what it is, and not because trust or the lease ended: who opens
/// what is listed for them has done nothing. Nor has who opens what the kernel forgot, or does not know yet.
fn is_probing(event: &Event) -> bool {
    [
        Reason::UnlistedOpen,
        Reason::NotMeasured,
        Reason::NoStableFile,
        Reason::BeingWritten,
    ]
    .contains(&Reason::from_u32(event.reason).unwrap_or(Reason::UnlistedOpen))
}

impl Engine {
    /// Counts events, and stops the workloads that met a risk.
    pub(super) fn count_risks(&mut self, events: &[Vec<u8>], effects: &mut Vec<Effect>) {
        let Some(active) = &self.active else { return };
        let verified = std::sync::Arc::clone(&active.verified);
        let risks = verified.policy().risks();
        if risks.is_empty() {
            return;
        }
        for event in events.iter().filter_map(|bytes| Event::read(bytes)) {
            let label = event.facts.label;
            let counted = kind(&event).filter(|_| label.present());
            let Some(of) = counted.filter(|_| label.workload != WORKLOAD_NONE) else {
                continue;
            };
            for (name, risk) in risks.iter().filter(|(_, risk)| risk.of == of) {
                let at = BootTime(event.facts.now);
                let key = (name.clone(), label.workload);
                let window = self.risks.windows.entry(key.clone());
                let sum = window
                    .or_insert_with(|| Window::new(risk.within))
                    .add(at, 1);
                if sum >= u64::from(risk.count) {
                    self.risks.windows.remove(&key);
                    self.met(name, risk, label.zone, label.workload, sum, effects);
                }
            }
        }
    }

    fn met(
        &self,
        name: &str,
        risk: &Risk,
        zone: u32,
        workload: u32,
        count: u64,
        effects: &mut Vec<Effect>,
    ) {
        let Some(action) = self.contain(risk.action, zone, workload) else {
            return;
        };
        if action != OnRevoke::Deny {
            effects.push(Effect::Stop {
                zone,
                workload: Some(workload),
                action,
                barred: true,
            });
        }
        effects.push(Effect::Append(vec![records::risk_met(RiskMet {
            risk: name.to_owned(),
            zone,
            workload,
            action: action.name().to_owned(),
            count,
            within: risk.within.0,
        })]));
    }

    /// The strictest of what risk, zone and workload say; none in a zone that is observed, or that
    /// the policy does not name any more.
    fn contain(&self, action: OnRevoke, zone: u32, workload: u32) -> Option<OnRevoke> {
        let policy = self.policy()?.policy();
        let named = |known: &BTreeMap<String, u32>, number| {
            let found = known.iter().find(|(_, known)| **known == number);
            found.map(|(name, _)| name.clone())
        };
        let zone = named(&self.ids.zones, zone)?;
        let described = policy.zone(&zone)?;
        if described.mode == Mode::Observe || self.observed.contains_key(&zone) {
            return None;
        }
        let own = named(&self.ids.workloads, workload)
            .and_then(|name| policy.workload(name.rsplit('/').next()?))
            .map_or(OnRevoke::Deny, |workload| workload.on_revoke);
        Some(action.max(described.on_revoke).max(own))
    }
}
