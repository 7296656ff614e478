//! The words every verdict depends on, and the tombstones.
//!
//! Promises: each store is read back before it counts as done. A lease is written trips, epoch,
//! deadline; an epoch only grows.

use std::{collections::BTreeMap, path::Path};

use aya::maps::{Array, MapData};
use governor_common::{
    Plain, Reason, StateWords,
    names::{self, TOMBSTONE_ROWS},
    row::{CLASS_ATTESTED, CLASS_POLICY, TombstoneKey},
    state::{self, DIGESTS_OFF, Word, is_era},
};

use super::{
    Gate, GateError,
    edition::{self, Change, Edition},
    maps::{self, TombstoneBytes},
};

/// How often the kernel read a file to measure it, how often it knew already, and how many writers it
/// turned away from files that run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Measurements {
    pub hashed: u64,
    pub recalled: u64,
    pub turned_away: u64,
}

impl Gate {
    /// The words as they are.
    pub fn state(&self) -> Result<StateWords, GateError> {
        Ok(StateWords {
            lease_deadline: self.word(Word::LeaseDeadline)?,
            lease_trips: self.word(Word::LeaseTrips)?,
            lease_epoch: self.word(Word::LeaseEpoch)?,
            epoch_attested: self.word(Word::EpochAttested)?,
            epoch_policy: self.word(Word::EpochPolicy)?,
            trips: self
                .maps
                .trips
                .get(&0, 0)
                .map_err(GateError::map(names::TRIPS, "reading the alarm counter"))?,
            break_glass_until: self.word(Word::BreakGlassUntil)?,
        })
    }

    /// Grants a lease until `deadline`; `trips` and `epoch` as read before its nonce was issued.
    pub fn set_lease(&mut self, deadline: u64, trips: u64, epoch: u64) -> Result<(), GateError> {
        let trips = trips.checked_add(1).ok_or_else(|| {
            GateError::Invalid("the alarm counter is at its end; reboot".to_owned())
        })?;
        self.set_word(Word::LeaseTrips, trips)?;
        self.set_word(Word::LeaseEpoch, epoch)?;
        self.set_word(Word::LeaseDeadline, deadline)
    }

    /// Ends the lease now.
    pub fn drop_lease(&mut self) -> Result<(), GateError> {
        self.set_word(Word::LeaseDeadline, 0)?;
        self.set_word(Word::LeaseEpoch, 0)?;
        self.set_word(Word::LeaseTrips, 0)
    }

    /// Whether an operator revoked everything and no policy was loaded by hand since.
    pub fn revoked_all(&self) -> Result<bool, GateError> {
        Ok(self.word(Word::RevokedAll)? != 0)
    }

    /// Notes it where the next daemon finds it, or that it is over.
    pub fn mark_revoked_all(&mut self, revoked: bool) -> Result<(), GateError> {
        self.set_word(Word::RevokedAll, u64::from(revoked))
    }

    /// Until when denials are lifted, CLOCK_BOOTTIME nanoseconds; it may be over. None: nobody asked
    /// for it, or what came of it was dealt with.
    pub fn break_glass(&self) -> Result<Option<u64>, GateError> {
        let until = self.word(Word::BreakGlassUntil)?;
        Ok((until != 0).then_some(until))
    }

    /// Lifts denials until then. One that runs is never made longer: whoever wants more ends it first.
    pub fn set_break_glass(&mut self, until: u64, now: u64) -> Result<(), GateError> {
        let before = self.word(Word::BreakGlassUntil)?;
        if now < before && before < until {
            return Err(GateError::Invalid(format!(
                "break-glass runs until {before} ns after boot and is not made longer"
            )));
        }
        self.set_word(Word::BreakGlassUntil, until)
    }

    /// Ends it at `at` at the latest. The word stays: that it is over is not that it was dealt with.
    pub fn end_break_glass(&mut self, at: u64) -> Result<(), GateError> {
        let before = self.word(Word::BreakGlassUntil)?;
        self.set_word(Word::BreakGlassUntil, before.min(at))
    }

    /// What came of it was dealt with, and written down. One that still runs is not forgotten.
    pub fn forget_break_glass(&mut self, now: u64) -> Result<(), GateError> {
        let before = self.word(Word::BreakGlassUntil)?;
        if now < before {
            return Err(GateError::Invalid(format!(
                "break-glass runs until {before} ns after boot and is not forgotten"
            )));
        }
        self.set_word(Word::BreakGlassUntil, 0)
    }

    /// Raises the epoch of a class by one, which revokes every row of that class; the new epoch.
    pub fn raise_epoch(&mut self, class: u32) -> Result<u64, GateError> {
        let word = match class {
            CLASS_ATTESTED => Word::EpochAttested,
            CLASS_POLICY => Word::EpochPolicy,
            other => {
                return Err(GateError::Invalid(format!(
                    "`{other:#x}` is not a trust class"
                )));
            }
        };
        let raised = self
            .word(word)?
            .checked_add(1)
            .ok_or_else(|| GateError::Invalid("the epoch is at its end; reboot".to_owned()))?;
        self.set_word(word, raised)?;
        Ok(raised)
    }

    /// Revokes content in a zone, whatever the table says.
    pub fn add_tombstone(&mut self, key: TombstoneKey, now: u64) -> Result<(), GateError> {
        edition::change(self, Change::Takes, |gate| gate.store_tombstone(key, now))
    }

    fn store_tombstone(&mut self, key: TombstoneKey, now: u64) -> Result<(), GateError> {
        let bytes = tombstone_bytes(&key)?;
        self.maps
            .tombstones
            .insert(bytes, now, 0)
            .map_err(GateError::map(names::TOMBSTONES, "adding a tombstone"))?;
        let back = self.maps.tombstones.get(&bytes, 0).map_err(GateError::map(
            names::TOMBSTONES,
            "reading a tombstone back",
        ))?;
        if back == now {
            Ok(())
        } else {
            Err(read_back(names::TOMBSTONES, now, back))
        }
    }

    /// Every tombstone and when it was set.
    pub fn tombstones(&self) -> Result<BTreeMap<TombstoneKey, u64>, GateError> {
        let mut all = BTreeMap::new();
        for entry in self.maps.tombstones.iter() {
            let (bytes, at) =
                entry.map_err(GateError::map(names::TOMBSTONES, "listing tombstones"))?;
            if let Some(key) = TombstoneKey::read(&bytes) {
                all.insert(key, at);
            }
            if all.len() > TOMBSTONE_ROWS as usize {
                break;
            }
        }
        Ok(all)
    }

    /// The era of kept digests; `None`: none counts.
    pub fn digest_era(&self) -> Result<Option<u64>, GateError> {
        let words = self.state()?;
        let era = state::era(
            self.word(Word::DigestEra)?,
            words.epoch_attested,
            words.trips,
        );
        Ok((era != 0).then_some(era))
    }

    /// Whether kept digests count.
    pub(super) fn has_digest_era(&self) -> Result<bool, GateError> {
        Ok(is_era(self.word(Word::DigestEra)?))
    }

    /// Begins an era of kept digests: none that was kept before counts from now on. To be called when
    /// every program that notices a writer is in place.
    pub(super) fn begin_digest_era(&mut self) -> Result<(), GateError> {
        let next = (self.word(Word::DigestEra)? & !DIGESTS_OFF).checked_add(1);
        let next = next.filter(|next| is_era(*next));
        let over = || GateError::Invalid("the digests' era is at its end; reboot".to_owned());
        self.set_word(Word::DigestEra, next.ok_or_else(over)?)
    }

    /// Measurements since the maps were made: files that were read, digests that were kept, and writers
    /// that were kept from them.
    pub fn measurements(&self) -> Result<Measurements, GateError> {
        Ok(Measurements {
            hashed: self.count(names::COUNT_HASHED)?,
            recalled: self.count(names::COUNT_RECALLED)?,
            turned_away: self.count(names::COUNT_TURNED_AWAY)?,
        })
    }

    /// Verdicts by reason since the maps were made, over all CPUs; reasons never met are left out.
    pub fn counts(&self) -> Result<BTreeMap<Reason, u64>, GateError> {
        let mut counts = BTreeMap::new();
        for reason in Reason::ALL {
            let sum = self.count(*reason as u32)?;
            if sum != 0 {
                counts.insert(*reason, sum);
            }
        }
        Ok(counts)
    }

    /// How often the gate refused its canary.
    pub fn canaries_refused(&self) -> Result<u64, GateError> {
        self.count(names::COUNT_CANARY)
    }

    pub(super) fn count(&self, slot: u32) -> Result<u64, GateError> {
        let values = self
            .maps
            .counts
            .get(&slot, 0)
            .map_err(GateError::map(names::COUNTS, "reading a counter"))?;
        Ok(values.iter().fold(0, |sum, value| sum.wrapping_add(*value)))
    }

    fn word(&self, word: Word) -> Result<u64, GateError> {
        self.maps
            .state
            .get(&(word as u32), 0)
            .map_err(GateError::map(names::STATE, "reading a word"))
    }

    pub(super) fn set_word(&mut self, word: Word, value: u64) -> Result<(), GateError> {
        self.maps
            .state
            .set(word as u32, value, 0)
            .map_err(GateError::map(names::STATE, "storing a word"))?;
        let back = self.word(word)?;
        if back == value {
            Ok(())
        } else {
            Err(read_back(names::STATE, value, back))
        }
    }
}

impl Edition for Gate {
    fn edition(&self) -> Result<u64, GateError> {
        self.word(Word::Edition)
    }

    fn set_edition(&mut self, number: u64) -> Result<(), GateError> {
        self.set_word(Word::Edition, number)
    }
}

/// No kept digest counts until an era begins: programs are about to be put in place, and one that
/// notices writers may be missing. A start that is killed leaves it so.
pub(super) fn end_digest_era(maps: &Path) -> Result<(), GateError> {
    if !maps.join(names::STATE).exists() {
        return Ok(());
    }
    let mut state: Array<MapData, u64> = maps::typed(maps, names::STATE, 4, 8)?;
    let at = Word::DigestEra as u32;
    let era = state
        .get(&at, 0)
        .map_err(GateError::map(names::STATE, "reading a word"))?;
    state
        .set(at, era | DIGESTS_OFF, 0)
        .map_err(GateError::map(names::STATE, "storing a word"))
}

/// Whether an error only says that there was nothing to remove.
pub(super) fn is_absent(error: &aya::maps::MapError) -> bool {
    use aya::maps::MapError;
    let absent = matches!(error, MapError::KeyNotFound | MapError::ElementNotFound);
    let refused = if let MapError::SyscallError(error) = error {
        error.io_error.raw_os_error()
    } else {
        None
    };
    absent || refused == Some(libc::ENOENT)
}

fn tombstone_bytes(key: &TombstoneKey) -> Result<TombstoneBytes, GateError> {
    let key = TombstoneKey {
        reserved: 0,
        ..*key
    };
    key.bytes()
        .try_into()
        .map_err(|_error| GateError::Invalid("a tombstone has another size".to_owned()))
}

fn read_back(name: &'static str, stored: u64, found: u64) -> GateError {
    GateError::ReadBack {
        name,
        detail: format!("stored {stored}, found {found}"),
    }
}
