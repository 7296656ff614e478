//! Names and tombstones, cut into what fits into records.
//!
//! Promises: however many there are, no part is too long for a record, nothing is in two of them, and all of
//! them together say what one would. There is always a first one. They are folded in any order, and belong
//! into one batch: a part alone would let numbers be given again.

use prost::Message;

use crate::lineage::{MAX_RECORD, Named, TombstoneRecord};

/// What one record says.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Part {
    pub(super) zones: Vec<Named>,
    pub(super) workloads: Vec<Named>,
    pub(super) tombstones: Vec<TombstoneRecord>,
}

/// Everything, in as many parts as that takes.
pub(super) fn of(
    zones: Vec<Named>,
    workloads: Vec<Named>,
    tombstones: Vec<TombstoneRecord>,
) -> Vec<Part> {
    let mut parts = Parts::default();
    for zone in zones {
        parts.with_room_for(&zone).zones.push(zone);
    }
    for workload in workloads {
        parts.with_room_for(&workload).workloads.push(workload);
    }
    for tombstone in tombstones {
        parts.with_room_for(&tombstone).tombstones.push(tombstone);
    }
    parts.full.push(parts.last);
    parts.full
}

#[derive(Default)]
struct Parts {
    full: Vec<Part>,
    last: Part,
    /// Bytes in the last one.
    taken: usize,
}

impl Parts {
    fn with_room_for(&mut self, entry: &impl Message) -> &mut Part {
        let bytes = entry.encoded_len() + FIELD;
        if self.taken + bytes > MOST {
            self.full.push(core::mem::take(&mut self.last));
            self.taken = 0;
        }
        self.taken += bytes;
        &mut self.last
    }
}

/// Bytes of a record that are for names and tombstones. Who signed, and why a ledger was given up, has
/// room in the rest.
const MOST: usize = MAX_RECORD / 2;
/// Tag and length before each of them, at most.
const FIELD: usize = 4;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_is_always_a_first_part_and_a_full_one_is_followed_by_another() {
        assert_eq!(
            of(Vec::new(), Vec::new(), Vec::new()),
            [Part::default()],
            "a record is due also where there is nothing to name"
        );
        let buried = TombstoneRecord {
            zone: 1,
            digest: vec![9; 32],
        };
        let fit = MOST / (buried.encoded_len() + FIELD);
        let parts = |count| of(Vec::new(), Vec::new(), vec![buried.clone(); count]);
        assert_eq!(parts(fit).len(), 1);
        let cut: Vec<usize> = parts(fit + 1)
            .iter()
            .map(|part| part.tombstones.len())
            .collect();
        assert_eq!(cut, [fit, 1]);
    }
}
