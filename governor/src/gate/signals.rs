//! What the kernel counted against the gate itself, and how far that was dealt with.
//!
//! Promises: a signal is new until it was acknowledged, whoever was running meanwhile; acknowledging
//! never runs ahead of what was read.

use std::collections::BTreeMap;

use governor_common::{Signal, names, signal::SIGNAL_ANY};

use super::{Gate, GateError};

impl Gate {
    /// How often each signal was raised beyond what was acknowledged. Others are left out.
    pub fn signals(&mut self) -> Result<BTreeMap<Signal, u64>, GateError> {
        let mut new = BTreeMap::new();
        let all = self
            .maps
            .signals
            .get(&SIGNAL_ANY, 0)
            .map_err(GateError::map(
                names::SIGNALS,
                "reading how many signals there are",
            ))?;
        if self.quiet_at == Some(all) {
            return Ok(new);
        }
        for signal in Signal::ALL {
            let slot = *signal as u32;
            let raised = self
                .maps
                .signals
                .get(&slot, 0)
                .map_err(GateError::map(names::SIGNALS, "reading a signal"))?;
            let handled = self.handled(slot)?;
            // One that was set back counts whole: only somebody who may not could do that.
            let count = raised.checked_sub(handled).unwrap_or(raised);
            if count != 0 {
                new.insert(*signal, count);
            }
        }
        // Read before the others: one that came meanwhile is looked for again.
        self.quiet_at = new.is_empty().then_some(all);
        Ok(new)
    }

    /// Takes note that so many of these were dealt with and written down.
    pub fn acknowledge(&mut self, dealt: &BTreeMap<Signal, u64>) -> Result<(), GateError> {
        for (signal, count) in dealt {
            let slot = *signal as u32;
            let handled = self.handled(slot)?.saturating_add(*count);
            self.maps
                .handled
                .set(slot, handled, 0)
                .map_err(GateError::map(names::HANDLED, "acknowledging a signal"))?;
        }
        Ok(())
    }

    fn handled(&self, slot: u32) -> Result<u64, GateError> {
        self.maps
            .handled
            .get(&slot, 0)
            .map_err(GateError::map(names::HANDLED, "reading a signal"))
    }
}
