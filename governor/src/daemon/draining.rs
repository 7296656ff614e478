//! Taking events out of the rings: into the ledger, and to whoever listens.
//!
//! Promises: a denial that left its ring, or had no room in it, is written down or counted as lost, by
//! this daemon or by the next one.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result};
use governor_common::{Event, Plain as _};
use governor_core::engine::Input;

use super::{Daemon, clock, execute::Hands};
use crate::gate::{Drained, Told};

/// Events taken out of a ring at a time, so that a storm does not keep commands waiting.
pub(super) const DRAIN: usize = 2048;

/// How long the rings may be left alone before somebody should know: full ones lose what comes.
const LATE: Duration = Duration::from_secs(2);

/// What is missing of what the rings were to tell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Losses {
    /// Denials that the kernel had counted as lost when it was asked last.
    counted: u64,
    /// Denials that are missing besides.
    besides: u64,
    /// Of those, what an earlier daemon took out of the ring and did not write down, until it is told.
    left: u64,
    /// Other events that are missing.
    events: u64,
    /// Of those, what could not be read.
    unreadable: u64,
}

impl Losses {
    /// Goes on where an earlier daemon ended.
    pub(super) const fn since(told: Told) -> Self {
        Self {
            counted: told.lost,
            besides: 0,
            left: told.taken,
            events: 0,
            unreadable: 0,
        }
    }

    /// How many denials more are missing.
    fn more(&mut self, drained: &Drained) -> u64 {
        let by_kernel = drained.lost_denials.saturating_sub(self.counted);
        self.counted = drained.lost_denials;
        let besides = std::mem::take(&mut self.left).saturating_add(drained.unreadable_denials);
        self.besides = self.besides.saturating_add(besides);
        self.unreadable = self.unreadable.saturating_add(drained.unreadable_events);
        self.events = drained.lost_events.saturating_add(self.unreadable);
        by_kernel.saturating_add(besides)
    }

    /// Denials that the kernel had counted as lost when it was asked last.
    pub(super) const fn counted(&self) -> u64 {
        self.counted
    }

    /// Denials that are missing, in total.
    pub(super) const fn denials(&self) -> u64 {
        self.counted.saturating_add(self.besides)
    }

    /// Other events that are missing, in total.
    pub(super) const fn events(&self) -> u64 {
        self.events
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
        let lost = self.losses.more(&drained);
        if !drained.denials.is_empty() || !drained.events.is_empty() || lost > 0 {
            let bytes = |events: &[Event]| events.iter().map(|e| e.bytes().to_vec()).collect();
            self.apply(Input::Verdicts {
                denied: bytes(&drained.denials),
                allowed: bytes(&drained.events),
                lost,
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

    fn drained(lost_denials: u64, unreadable_denials: u64) -> Drained {
        Drained {
            lost_denials,
            unreadable_denials,
            ..Drained::default()
        }
    }

    #[test]
    fn rings_that_were_left_alone_are_told_once() {
        let (mut taken, at) = (LastTaken::default(), Instant::now());
        assert_eq!(taken.again(at), None);
        assert_eq!(taken.again(at + LATE), Some(LATE));
        assert_eq!(taken.again(at + LATE + LATE / 2), None);
    }

    #[test]
    fn what_was_lost_between_two_daemons_is_missing_once() {
        let told = Told {
            lost: 7,
            ..Told::default()
        };
        let mut losses = Losses::since(told);
        assert_eq!(losses.more(&drained(1_007, 0)), 1_000);
        assert_eq!(losses.more(&drained(1_007, 0)), 0);
        assert_eq!(losses.denials(), 1_007);
        // In maps that are new nothing was lost before.
        let mut losses = Losses::since(Told::default());
        assert_eq!(losses.more(&drained(3, 0)), 3);
    }

    #[test]
    fn what_an_earlier_daemon_took_with_it_is_missing_once() {
        let told = Told {
            lost: 7,
            taken: 20,
            left_out: 5,
        };
        let mut losses = Losses::since(told);
        assert_eq!(losses.more(&drained(8, 2)), 1 + 2 + 20);
        assert_eq!(losses.more(&drained(8, 0)), 0);
        assert_eq!(losses.more(&drained(9, 1)), 2);
        assert_eq!(losses.denials(), 9 + 20 + 3);
    }

    #[test]
    fn other_events_are_counted_and_no_denials() {
        let mut losses = Losses::since(Told::default());
        for expected in [4, 5] {
            let found = Drained {
                lost_events: 3,
                unreadable_events: 1,
                ..Drained::default()
            };
            assert_eq!(losses.more(&found), 0);
            assert_eq!((losses.denials(), losses.events()), (0, expected));
        }
    }
}
