//! The model's ledger: the bytes that a daemon would have on its disk, and what is read back from them.

use std::fmt;

use prost::Message as _;

use super::model::BOOT;
use crate::{
    lineage::{Entry, HEADER, Head, Kind, Recovered, Scanned, encode, scan},
    time::ClockReading,
};

/// One ledger file.
#[derive(Clone)]
pub(super) struct Disk {
    bytes: Vec<u8>,
    head: Head,
}

impl fmt::Debug for Disk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.records()).finish()
    }
}

impl Default for Disk {
    fn default() -> Self {
        Self {
            bytes: HEADER.to_vec(),
            head: Head::EMPTY,
        }
    }
}

impl Disk {
    /// One batch, as the daemon writes it.
    pub(super) fn append(&mut self, now: ClockReading, kinds: &[Kind]) {
        let mut records = Vec::new();
        for kind in kinds {
            let entry = Entry {
                schema: 1,
                sequence: self.head.size,
                boot_id: BOOT.to_vec(),
                boot_ns: now.boot.0,
                wall: now.wall.0,
                kind: Some(kind.clone()),
            };
            let bytes = entry.encode_to_vec();
            self.head = self.head.push(&bytes);
            records.push(bytes);
        }
        self.bytes.extend(encode(&records));
    }

    pub(super) const fn head(&self) -> Head {
        self.head
    }

    /// The file, read as a daemon that starts reads it.
    pub(super) fn read(&self) -> Scanned {
        let scanned = scan(&self.bytes).unwrap();
        assert_eq!((scanned.head, scanned.torn), (self.head, 0));
        scanned
    }

    pub(super) fn recovered(&self) -> Recovered {
        Recovered::from_entries(&self.read().entries)
    }

    /// What was written down, in order.
    pub(super) fn records(&self) -> Vec<Kind> {
        let entries = self.read().entries.into_iter();
        entries.filter_map(|entry| entry.kind).collect()
    }
}
