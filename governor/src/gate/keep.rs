//! Where the ledger ends, kept in the kernel for as long as it runs.
//!
//! Promises: of two places one is always whole, so a daemon that is killed between two stores leaves
//! an older head and never a false one. No verdict reads these words.

use governor_common::{names, state::LEDGER_PLACES};
use governor_core::{digest::Digest, lineage::Head};

use super::{Gate, GateError};

impl Gate {
    /// The last head that was noted in this boot.
    pub fn ledger_head(&self) -> Result<Option<Head>, GateError> {
        let [first, second] = [self.place(0)?, self.place(1)?];
        Ok([first, second].into_iter().flatten().max_by_key(|h| h.size))
    }

    /// Notes the head of a ledger that grew.
    pub fn note_ledger_head(&mut self, head: Head) -> Result<(), GateError> {
        let older = match (self.place(0)?, self.place(1)?) {
            (None, _) => 0,
            (Some(_), None) => 1,
            (Some(first), Some(second)) => usize::from(second.size < first.size),
        };
        self.store_place(older, head)
    }

    /// Notes the head of a ledger that begins, and forgets the one before.
    pub fn note_new_ledger(&mut self, head: Head) -> Result<(), GateError> {
        for at in LEDGER_PLACES {
            self.store_word(at, 0)?;
        }
        self.store_place(0, head)
    }

    fn place(&self, place: usize) -> Result<Option<Head>, GateError> {
        let at = LEDGER_PLACES[place];
        let size = self.load_word(at)?;
        if size == 0 {
            return Ok(None);
        }
        let mut digest = [0; 32];
        for (word, bytes) in (at + 1..).zip(digest.chunks_exact_mut(8)) {
            bytes.copy_from_slice(&self.load_word(word)?.to_le_bytes());
        }
        let digest = Digest::new(digest);
        Ok(Some(Head { size, digest }))
    }

    /// Void first, valid last.
    fn store_place(&mut self, place: usize, head: Head) -> Result<(), GateError> {
        let at = LEDGER_PLACES[place];
        self.store_word(at, 0)?;
        let (words, _) = head.digest.bytes().as_chunks::<8>();
        for (word, bytes) in (at + 1..).zip(words) {
            self.store_word(word, u64::from_le_bytes(*bytes))?;
        }
        self.store_word(at, head.size)
    }

    fn load_word(&self, at: u32) -> Result<u64, GateError> {
        self.maps
            .state
            .get(&at, 0)
            .map_err(GateError::map(names::STATE, "reading the ledger's head"))
    }

    fn store_word(&mut self, at: u32, value: u64) -> Result<(), GateError> {
        self.maps
            .state
            .set(at, value, 0)
            .map_err(GateError::map(names::STATE, "noting the ledger's head"))
    }
}
