//! Taking events out of the rings: into the ledger, and to whoever listens.
//!
//! Promises: a verdict that left its ring, or had no room in it, is written down or counted, by this daemon
//! or by the next one.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result};
use governor_common::{Event, Plain as _};
use governor_core::engine::Input;

use super::{Daemon, clock, execute::Hands};
use crate::gate::{Drained, OfRing, Told};

/// Events taken out of a ring at a time, so that a storm does not keep commands waiting.
pub(super) const DRAIN: usize = 2048;

/// How long the rings may be left alone before somebody should know: full ones lose what comes.
const LATE: Duration = Duration::from_secs(2);

/// What is missing of what the rings were to tell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Losses {
    pub(super) denials: Loss,
    pub(super) events: Loss,
}

/// What is missing of what one of them was to tell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Loss {
    /// How many the kernel had counted as lost when it was asked last.
    counted: u64,
    /// How many are missing besides.
    besides: u64,
    /// Of those, what an earlier daemon took out of the ring and did not write down, until it is told.
    left: u64,
}

impl Losses {
    /// Goes on where an earlier daemon ended.
    pub(super) const fn since(told: Told) -> Self {
        Self {
            denials: Loss::since(told.denials),
            events: Loss::since(told.events),
        }
    }

    /// How many more are missing: denials, and others.
    fn more(&mut self, drained: &Drained) -> (u64, u64) {
        let denials = (drained.lost_denials, drained.unreadable_denials);
        let events = (drained.lost_events, drained.unreadable_events);
        (self.denials.more(denials), self.events.more(events))
    }
}

impl Loss {
    const fn since(told: OfRing) -> Self {
        Self {
            counted: told.lost,
            besides: 0,
            left: told.taken,
        }
    }

    fn more(&mut self, (lost, unreadable): (u64, u64)) -> u64 {
        let by_kernel = lost.saturating_sub(self.counted);
        self.counted = lost;
        let besides = std::mem::take(&mut self.left).saturating_add(unreadable);
        self.besides = self.besides.saturating_add(besides);
        by_kernel.saturating_add(besides)
    }

    /// How many the kernel had counted as lost when it was asked last.
    pub(super) const fn counted(&self) -> u64 {
        self.counted
    }

    /// How many are missing.
    pub(super) const fn total(&self) -> u64 {
        self.counted.saturating_add(self.besides)
    }
}

/// When the rings were taken last.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct LastTaken(Option<Instant>);

impl LastTaken {
    /// They are taken now. For how long they were not, if that is too long.
    fn again(&mut self, now: Instant) -> Option<Duration> {
        let before = self.0.replace(now)?;
        Some(now.duration_since(before)).filter(|since| *since >= LATE)
    }
}

impl Hands {
    /// Takes at most so many denials and other events, on the loop or while it waits.
    pub(super) fn take_rings(&mut self, denials: usize, events: usize) -> Result<Drained> {
        let found = self.gate.drain(denials, events);
        let found = found.context("reading the rings")?;
        if let Some(late) = self.taken.again(Instant::now()) {
            tracing::warn!(
                "the rings were left alone for {} ms: they held {} denials, {} are lost since the boot",
                late.as_millis(),
                found.denials.len(),
                found.lost_denials
            );
        }
        Ok(found)
    }
}

impl Daemon {
    pub(super) fn drain(&mut self) -> Result<()> {
        if self.hands.ledger.is_swamped() {
            // The disk does not answer. What is in the rings stays there, and what has no room is counted.
            return Ok(());
        }
        let mut drained = std::mem::take(&mut self.hands.found);
        // A daemon that cannot see is no better than none: the lease runs out.
        drained.add(self.hands.take_rings(DRAIN, DRAIN)?);
        let now = clock::now()?;
        let (lost, missed) = self.losses.more(&drained);
        if !drained.is_empty() || lost > 0 || missed > 0 {
            let bytes = |events: &[Event]| events.iter().map(|e| e.bytes().to_vec()).collect();
            self.apply(Input::Verdicts {
                denied: bytes(&drained.denials),
                allowed: bytes(&drained.events),
                lost,
                missed,
            })?;
            self.note_told()?;
        }
        let mut all = [drained.denials, drained.events].concat();
        self.hear_who_missed(&all, lost);
        self.hear_who_was_refused_a_socket(&all, lost);
        all.sort_by_key(|event| event.facts.now);
        // Whoever begins to listen after this asks for what is remembered, and the loop answers later.
        let is_heard = self.feed.receiver_count() > 0;
        for event in all {
            let remembered = self.recent.push(now, event);
            if is_heard {
                let shown = Arc::new(remembered.show(self.engine.ids()));
                // Nobody listening any more is not an error.
                drop(self.feed.send(shown));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rings_that_were_left_alone_are_told_once() {
        let (mut taken, at) = (LastTaken::default(), Instant::now());
        assert_eq!(taken.again(at), None);
        assert_eq!(taken.again(at + LATE), Some(LATE));
        assert_eq!(taken.again(at + LATE + LATE / 2), None);
    }

    const TOLD: OfRing = OfRing { lost: 7, taken: 0 };

    #[test]
    fn what_was_lost_between_two_daemons_is_missing_once() {
        let mut loss = Loss::since(TOLD);
        assert_eq!(loss.more((1_007, 0)), 1_000);
        assert_eq!(loss.more((1_007, 0)), 0);
        assert_eq!(loss.total(), 1_007);
        // In maps that are new nothing was lost before.
        let mut loss = Loss::since(OfRing::default());
        assert_eq!(loss.more((3, 0)), 3);
    }

    #[test]
    fn what_an_earlier_daemon_took_with_it_is_missing_once() {
        let mut loss = Loss::since(OfRing { taken: 20, ..TOLD });
        assert_eq!(loss.more((8, 2)), 1 + 2 + 20);
        assert_eq!(loss.more((8, 0)), 0);
        assert_eq!(loss.more((9, 1)), 2);
        assert_eq!(loss.total(), 9 + 20 + 3);
    }

    #[test]
    fn each_ring_is_counted_for_itself() {
        let mut losses = Losses::since(Told {
            denials: TOLD,
            ..Told::default()
        });
        let found = Drained {
            lost_denials: 9,
            unreadable_denials: 1,
            lost_events: 30,
            unreadable_events: 4,
            ..Drained::default()
        };
        assert_eq!(losses.more(&found), (3, 34));
        assert_eq!((losses.denials.total(), losses.events.total()), (10, 34));
    }
}
