//! The words that every verdict depends on besides the table.
//!
//! One array of aligned 64-bit words, so that each store and each load is whole. The daemon writes
//! these; the kernel's own alarm counter (`trips`) lives in a map of its own, so that no store from
//! user space can undo a signal.
//!
//! A new lease is written as trips, epoch, deadline, in that order, and read deadline first: a
//! reader that sees the new deadline sees the trips and epoch it belongs to.

/// Index of a word in the state array.
#[repr(u32)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Word {
    /// End of the lease, CLOCK_BOOTTIME nanoseconds. Zero: no lease.
    LeaseDeadline = 0,
    /// `trips` as read before the lease's nonce was issued, plus one (so that zero is never valid).
    LeaseTrips = 1,
    /// Epoch of the attested class as read before the nonce was issued.
    LeaseEpoch = 2,
    /// Epoch of the attested class. Zero: never set, nothing attested is allowed.
    EpochAttested = 3,
    /// Epoch of the policy class. Zero: never set, nothing is allowed.
    EpochPolicy = 4,
    /// Not zero: an operator revoked everything. No verdict reads it (the epochs deny); it tells the
    /// next daemon what a record that could not be written would have.
    RevokedAll = 5,
    /// End of break-glass, CLOCK_BOOTTIME nanoseconds. Zero: none. From that moment on the kernel
    /// denies again, whether or not anybody is there to say so.
    BreakGlassUntil = 16,
    /// Which digests kept with inodes count; see [`is_era`]. Raised whenever a program that notices
    /// writers may not have been in place.
    DigestEra = 17,
    /// Which tables and tombstones are in force; see [`is_edition`]. Closed before either is stored and
    /// raised after.
    Edition = 18,
    /// How many of the denials that the kernel counted as lost are written down. No verdict reads this
    /// word and the four after it: they tell the next daemon what this one had no time for.
    DenialsTold = 19,
    /// Denials that were taken out of their ring since, each counted before it left.
    DenialsTaken = 20,
    /// Verdicts that were counted, not kept one by one, and whose number is not written down.
    LeftOut = 21,
    /// As [`Word::DenialsTold`], of other events.
    EventsTold = 22,
    /// As [`Word::DenialsTaken`], of other events.
    EventsTaken = 23,
}

/// In [`Word::DigestEra`]: no kept digest counts, and none is kept.
pub const DIGESTS_OFF: u64 = 1 << 63;

/// Whether digests that were kept in this era count. Zero is before the first.
#[inline(always)]
pub const fn is_era(word: u64) -> bool {
    word != 0 && word & DIGESTS_OFF == 0
}

/// The era that kept digests are of: the word, the attested epoch and the alarm counter, which only grow.
/// Zero: none is kept, and none counts.
#[inline(always)]
pub const fn era(word: u64, attested: u64, trips: u64) -> u64 {
    if is_era(word) {
        word.wrapping_add(attested).wrapping_add(trips)
    } else {
        0
    }
}

/// In [`Word::Edition`]: a table or a tombstone is being stored, or whoever stored it did not come to the
/// end.
pub const EDITION_OPEN: u64 = 1;

/// Whether what was looked up in the table and among the tombstones under this edition holds for as long
/// as the word stays. Zero is before the first.
#[inline(always)]
pub const fn is_edition(word: u64) -> bool {
    word != 0 && word & EDITION_OPEN == 0
}

/// Where the array keeps how many records the ledger had and, in the four words after it, its head.
/// Two places, of which one is always whole. A size of zero: nothing is kept there.
pub const LEDGER_PLACES: [u32; 2] = [6, 11];

/// How many words the array has.
pub const WORDS: u32 = 24;

/// The state as one verdict saw it.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StateWords {
    pub lease_deadline: u64,
    pub lease_trips: u64,
    pub lease_epoch: u64,
    pub epoch_attested: u64,
    pub epoch_policy: u64,
    /// The kernel's alarm counter.
    pub trips: u64,
    /// See [`Word::BreakGlassUntil`].
    pub break_glass_until: u64,
}

impl StateWords {
    /// Whether an appraised quote stands behind this moment. Deadline, `trips` and epoch each end
    /// it alone.
    #[inline(always)]
    pub const fn lease_holds(&self, now: u64) -> bool {
        self.lease_deadline != 0
            && now < self.lease_deadline
            && self.trips < u64::MAX
            && self.lease_trips == self.trips + 1
            && self.lease_epoch != 0
            && self.lease_epoch == self.epoch_attested
    }

    /// Whether break-glass lifts denials at this moment. Zero is before every moment.
    #[inline(always)]
    pub const fn glass_is_broken(&self, now: u64) -> bool {
        now < self.break_glass_until
    }
}

#[cfg(test)]
mod tests {
    use super::{EDITION_OPEN, is_edition};

    #[test]
    fn nothing_is_kept_while_something_is_stored() {
        assert!(!is_edition(0), "before the first");
        for number in [2, 4, u64::MAX - 1] {
            assert!(is_edition(number), "{number}");
            assert!(!is_edition(number | EDITION_OPEN), "{number}, open");
        }
    }
}
