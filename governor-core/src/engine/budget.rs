//! How many denials are recorded one by one: a burst, then a trickle.
//!
//! A workload that is denied in a loop must not be able to fill the disk that trust depends on. What
//! the budget leaves out is still counted, here and in the kernel.

use crate::time::{BootTime, Span};

/// Records in a burst.
const BURST: u64 = 256;
/// One more record for each of these.
const REFILL: Span = Span(200_000_000);

#[derive(Clone, Copy, Debug)]
pub(super) struct Budget {
    left: u64,
    filled: BootTime,
}

impl Budget {
    pub(super) const fn full(now: BootTime) -> Self {
        Self {
            left: BURST,
            filled: now,
        }
    }

    /// Takes up to `wanted` records; returns how many there were.
    pub(super) fn take(&mut self, now: BootTime, wanted: usize) -> usize {
        let due = self.filled.until(now).0 / REFILL.0;
        if due > 0 {
            self.left = self.left.saturating_add(due).min(BURST);
            self.filled = self.filled.after(Span(due.saturating_mul(REFILL.0)));
        }
        let taken = usize::try_from(self.left).unwrap_or(usize::MAX).min(wanted);
        self.left = self.left.saturating_sub(taken as u64);
        taken
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_then_a_trickle() {
        let mut budget = Budget::full(BootTime(0));
        assert_eq!(budget.take(BootTime(0), 1000), 256);
        assert_eq!(budget.take(BootTime(1), 10), 0);
        assert_eq!(budget.take(BootTime(REFILL.0 * 3), 10), 3);
        assert_eq!(budget.take(BootTime(REFILL.0 * 100_000), 1000), 256);
    }
}
