//! Taking the gate down.
//!
//! Promises: registers that are to be extended first are kept where nobody else can write, and are known
//! whatever policy or ledger there is by then. Programs go before the maps that they read. So a start that comes after one that was cut short
//! finds every map of what is in force still, with all that was revoked in it, and puts back the programs
//! that are gone; or it finds no program, and goes on from nothing. It can be told to take the gate down
//! once more. No note says that the gate is to go: whoever could write one could take it down.

use std::path::Path;

use governor_common::guard::GuardWord;
use governor_core::attest::PcrSelection;

use super::{Gate, GateError, hosts, let_go};

impl Gate {
    /// Registers that stand for the evidence that policies asked for since the gate was made.
    pub fn quoted(&self) -> Result<Option<PcrSelection>, GateError> {
        let bits = self.guard_word(GuardWord::Quoted)?;
        PcrSelection::from_bits(bits).map_err(|error| {
            GateError::Invalid(format!(
                "reading which registers stand for evidence: {error}"
            ))
        })
    }

    /// Remembers, for as long as there is a gate, that these do too.
    pub fn note_quoted(&mut self, registers: &PcrSelection) -> Result<(), GateError> {
        let before = self.guard_word(GuardWord::Quoted)?;
        let bits = before | u64::from(registers.bits());
        if bits != before {
            self.set_guard_word(GuardWord::Quoted, bits)?;
        }
        Ok(())
    }

    /// Takes the gate down: nothing is enforced afterwards, and nothing guarded. If it fails, programs are
    /// in force still, and nothing is guarded until a policy arms the guard again.
    pub fn take_down(&mut self) -> Result<(), GateError> {
        self.set_guard_word(GuardWord::Armed, 0)?;
        #[cfg(feature = "fault-points")]
        crate::fault::at("unguarded");
        let root = self.ready.parent().unwrap_or(Path::new("/")).to_owned();
        let mut dirs = hosts::directories_below(&root)?;
        // Whatever else is there, what it holds goes before it.
        dirs.reverse();
        dirs.sort_by_key(|dir| self.rank(&root, dir));
        for dir in dirs {
            let_go(&dir)?;
        }
        // The last holders of what hangs on links.
        self.links.clear();
        Ok(())
    }

    /// When a directory goes. Our maps go after those of other layouts: beside all of ours, others are what
    /// is left of an upgrade.
    fn rank(&self, root: &Path, dir: &Path) -> Rank {
        let is = |prefix: &str| {
            let name = dir.file_name().and_then(|name| name.to_str());
            name.is_some_and(|name| name.starts_with(prefix))
        };
        if dir == root {
            Rank::Root
        } else if dir == self.pinned_maps {
            Rank::OurMaps
        } else if is("maps-") {
            Rank::Maps
        } else if is("links-") {
            Rank::Programs
        } else {
            Rank::First
        }
    }
}

/// In this order.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Rank {
    /// What governed units wait for.
    First,
    Programs,
    Maps,
    OurMaps,
    Root,
}
