//! Verdicts that left the rings, and those that are missing.
//!
//! Promises: each is written down for itself or as part of a number, and a number that could not be
//! written is written later, whole.

use super::{Cause, Effect, Engine, records, window::Window};
use crate::{lineage::Kind, time::ClockReading};

/// The gap that stands for denials that nobody has.
pub(super) const LOST_DENIALS: &str = "denials that were lost";
/// The gap that stands for verdicts beyond the budget.
pub(super) const LEFT_OUT: &str = "verdicts counted, not kept one by one";

impl Engine {
    /// Writes verdicts down: denials and what was allowed each within a budget of their own.
    pub(super) fn verdicts(
        &mut self,
        now: ClockReading,
        denied: &[Vec<u8>],
        allowed: &[Vec<u8>],
        lost: u64,
        effects: &mut Vec<Effect>,
    ) {
        self.count_risks(denied, effects);
        self.count_risks(allowed, effects);
        let (some, others) = (
            self.budget.take(now.boot, denied.len()),
            self.budget_allowed.take(now.boot, allowed.len()),
        );
        let kept = denied.iter().take(some).chain(allowed.iter().take(others));
        let mut kinds: Vec<Kind> = kept.map(|event| records::verdict(event)).collect();
        let left_out = denied.len() - some + allowed.len() - others;
        self.uncounted = self.uncounted.saturating_add(left_out as u64);
        self.lost = self.lost.saturating_add(lost);
        kinds.extend(self.lost_denials());
        if !kinds.is_empty() {
            effects.push(Effect::Append(kinds));
        }
        self.count_losses(now, lost, effects);
    }

    /// The gap for what was lost, which is owed no longer; it is again if it cannot be written.
    pub(super) fn lost_denials(&mut self) -> Option<Kind> {
        let lost = core::mem::take(&mut self.lost);
        (lost > 0).then(|| records::gap(LOST_DENIALS, lost))
    }

    /// A policy may say how many denials may be lost. Unless it does none are too many: whatever
    /// fills a ring is governed work, which must not be able to take the host's trust.
    fn count_losses(&mut self, now: ClockReading, lost: u64, effects: &mut Vec<Effect>) {
        let Some(bound) = self
            .policy()
            .and_then(|verified| verified.policy().losses())
        else {
            self.losses = None;
            return;
        };
        if lost == 0 {
            return;
        }
        let window = self.losses.get_or_insert_with(|| Window::new(bound.within));
        let sum = window.add(now.boot, lost);
        if sum > bound.denials {
            self.losses = None;
            let detail = format!("{sum} within {} s", bound.within.as_seconds());
            self.degrade(now, Cause::EventsLost, detail, effects);
        }
    }

    /// How many verdicts were counted whose number is not written down. `None` while records are owed:
    /// what was told to the engine meanwhile may be known to nobody else.
    pub fn left_out(&self) -> Option<u64> {
        (self.unwritten == 0 && self.lost == 0).then_some(self.uncounted)
    }
}
