//! Records and the disk: which wait for it, and what goes on meanwhile.
//!
//! Promises: a record that something hangs on is durable before it goes on; verdicts, on which nothing
//! hangs, are written beside the loop. While anything waits for the disk the rings are taken. What the
//! kernel is told to be written down is durable.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use governor_core::{
    engine::{Effect, Input},
    lineage::Kind,
    time::ClockReading,
};

use super::{
    Daemon,
    draining::DRAIN,
    execute::{Hands, Outcome},
};
use crate::{
    gate::{OfRing, UpTo},
    ledger::Written,
    progress,
};

/// How often the rings are taken while somebody waits for the disk.
const ROUND: Duration = Duration::from_millis(50);
/// How many denials, and how many other events, are kept in memory while somebody waits; the rest stays in its
/// ring.
const MOST: (usize, usize) = (8192, 2048);
/// How often the rings are emptied at the end.
const ROUNDS: usize = 8;
/// A disk that takes longer for a record is worth a word.
pub(super) const LATE: Duration = Duration::from_secs(2);
/// For how long waiting for the disk counts as work. A daemon that is killed for it is followed by one that
/// waits for the same disk, and forgets what this one knows.
const PATIENCE: Duration = Duration::from_secs(120);

impl Hands {
    /// Has records written that nobody waits for.
    pub(super) fn record_beside(&mut self, now: ClockReading, kinds: &[Kind]) -> Result<()> {
        self.gate.try_measuring()?;
        self.ledger.hand_over(now, kinds)
    }

    /// Makes records durable, after all that was handed over before.
    pub(super) fn record(
        &mut self,
        now: ClockReading,
        kinds: &[Kind],
        outcome: &mut Outcome,
    ) -> Result<()> {
        self.wait_for_disk(|written| outcome.written.push(written))?;
        self.ledger.hand_over(now, kinds)?;
        let mut mine = None;
        self.wait_for_disk(|written| mine = Some(written))?;
        mine.context("a batch did not come back")?.result
    }

    /// Until everything that was handed over came back. The rings do not wait with it.
    pub(super) fn wait_for_disk(&mut self, mut back: impl FnMut(Written)) -> Result<()> {
        let began = Instant::now();
        while !self.ledger.is_idle() {
            if let Some(written) = self.back(ROUND)? {
                back(written);
                continue;
            }
            let denials = MOST.0.saturating_sub(self.found.denials.len()).min(DRAIN);
            let events = MOST.1.saturating_sub(self.found.events.len()).min(DRAIN);
            let found = self.take_rings(denials, events)?;
            self.found.add(found);
            if began.elapsed() < PATIENCE {
                progress::made();
            }
        }
        Ok(())
    }

    /// What came of a batch, if that is known within this time.
    fn back(&mut self, patience: Duration) -> Result<Option<Written>> {
        let written = self.ledger.back(patience)?;
        if let Some(written) = written.as_ref().filter(|written| written.took >= LATE) {
            tracing::warn!(
                "the ledger's disk took long: {} ms for {} records",
                written.took.as_millis(),
                written.kinds.len()
            );
        }
        Ok(written)
    }

    /// What is to be known of a batch that was written beside the loop.
    fn note_written(&mut self, written: &Written) -> Result<()> {
        if written.result.is_ok() {
            self.went_well();
            self.gate
                .note_ledger_head(written.head)
                .context("noting the ledger's head")?;
        }
        Ok(())
    }

    pub(super) fn went_well(&mut self) {
        if let Some(failed) = self.unwritten.went_well() {
            tracing::warn!("records are written again, after {failed} tries that failed");
        }
    }
}

impl Daemon {
    /// What came of the batches that were written beside the loop, as far as that is known.
    pub(super) fn hear_ledger(&mut self) -> Result<()> {
        while let Some(written) = self.hands.back(Duration::ZERO)? {
            if let Some(failed) = self.written(written)? {
                self.apply(failed)?;
            }
        }
        Ok(())
    }

    /// A batch came back. What failed is for the engine.
    pub(super) fn written(&mut self, written: Written) -> Result<Option<Input>> {
        let noted = self.hands.note_written(&written);
        let Err(error) = written.result.and(noted) else {
            // What is owed since may be known to nobody else.
            if let Some(up_to) = written.up_to.filter(|_| self.engine.left_out().is_some()) {
                self.hands.gate.note_told(up_to).context(NOTING)?;
            }
            return Ok(None);
        };
        let effect = Effect::Append(written.kinds);
        self.hands.say(&effect, &error);
        Ok(Some(Input::EffectFailed {
            effect: Box::new(effect),
            error: format!("{error:#}"),
        }))
    }

    /// What the engine was told is written down once the last batch is, unless records are owed.
    pub(super) fn note_told(&mut self) -> Result<()> {
        let Some(left_out) = self.engine.left_out() else {
            return Ok(());
        };
        let gate = &mut self.hands.gate;
        let (so_far, found) = (gate.taken_so_far(), self.hands.found.taken());
        let up_to = UpTo {
            denials: OfRing {
                lost: self.losses.denials.counted(),
                taken: so_far.denials.saturating_sub(found.denials),
            },
            events: OfRing {
                lost: self.losses.events.counted(),
                taken: so_far.events.saturating_sub(found.events),
            },
            left_out,
        };
        if self.hands.ledger.say_with_the_last(up_to) {
            return Ok(());
        }
        gate.note_told(up_to).context(NOTING)
    }

    /// Takes what is left in the rings, and waits until everything is written.
    pub(super) fn finish_records(&mut self) -> Result<()> {
        for _ in 0..ROUNDS {
            self.drain()?;
            self.await_records()?;
            // What was taken meanwhile is to be written too.
            if self.hands.found.is_empty() {
                return Ok(());
            }
        }
        // The next daemon tells how many are missing.
        tracing::warn!("denials come faster than they are written: not all are");
        Ok(())
    }

    /// Waits until what was handed over is written.
    pub(super) fn await_records(&mut self) -> Result<()> {
        let mut all = Vec::new();
        self.hands.wait_for_disk(|written| all.push(written))?;
        for written in all {
            if let Some(failed) = self.written(written)? {
                self.apply(failed)?;
            }
        }
        Ok(())
    }
}

const NOTING: &str = "noting what is written down";
