//! How many in what time: a sliding window with bounded memory.
//!
//! Promises: what happened counts for at least the width of the window and at most a 256th longer;
//! the order in which it is told makes no difference; memory does not grow with the count.

use std::collections::BTreeMap;

use crate::time::{BootTime, Span};

const PARTS: u64 = 256;

/// What happened in the last `width`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Window {
    width: Span,
    parts: BTreeMap<u64, u64>,
}

impl Window {
    pub(super) const fn new(width: Span) -> Self {
        Self {
            width,
            parts: BTreeMap::new(),
        }
    }

    /// `count` more happened at `at`; how many that makes in the window that ends with the latest.
    pub(super) fn add(&mut self, at: BootTime, count: u64) -> u64 {
        let part = at.0 / self.width.0.div_ceil(PARTS).max(1);
        let held = self.parts.entry(part).or_default();
        *held = held.saturating_add(count);
        let last = self.parts.last_key_value().map_or(part, |(last, _)| *last);
        // One part more than fit in the width, so that nothing is forgotten early.
        self.parts = self.parts.split_off(&last.saturating_sub(PARTS));
        self.parts.values().fold(0, |sum, n| sum.saturating_add(*n))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn it_counts_what_is_in_the_window_and_hardly_more(
            width in 1_000u64..2_000_000,
            times in proptest::collection::vec(0u64..4_000_000, 1..200),
        ) {
            let mut window = Window::new(Span(width));
            let mut told: Vec<u64> = Vec::new();
            for at in &times {
                told.push(*at);
                let counted = window.add(BootTime(*at), 1);
                let latest = told.iter().copied().max().unwrap();
                let within = |span: u64| {
                    told.iter().filter(|t| latest - **t <= span).count() as u64
                };
                prop_assert!(counted >= within(width), "forgotten early");
                prop_assert!(counted <= within(width + width / PARTS + PARTS + 1), "remembered too long");
                prop_assert!(window.parts.len() as u64 <= PARTS + 1);
            }
            let mut ordered = times.clone();
            ordered.sort_unstable();
            let mut again = Window::new(Span(width));
            let last = ordered.iter().map(|at| again.add(BootTime(*at), 1)).last();
            prop_assert_eq!(&again, &window, "the order made a difference");
            prop_assert!(last.is_some());
        }
    }
}
