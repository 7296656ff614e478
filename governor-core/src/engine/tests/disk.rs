//! The model's ledger: the bytes that a daemon would have on its disk, and what is read back from them.

use std::fmt;

use prost::Message as _;

use super::model::{BOOT, Host};
use crate::{
    lineage::{
        Entry, HEADER, Head, Kind, MAX_BATCH, MAX_RECORD, Recovered, Scanned, encode, encode_all,
        scan,
    },
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
        let frame = encode(&self.records_of(now, kinds));
        assert!(frame.len() <= MAX_BATCH, "a batch of {}", frame.len());
        self.bytes.extend(frame);
    }

    /// Another ledger in the place of this one, as the daemon begins it.
    pub(super) fn begin(&mut self, now: ClockReading, kinds: &[Kind]) {
        *self = Self::default();
        let records = self.records_of(now, kinds);
        self.bytes.extend(encode_all(&records));
    }

    fn records_of(&mut self, now: ClockReading, kinds: &[Kind]) -> Vec<Vec<u8>> {
        let records = kinds.iter().map(|kind| {
            let entry = Entry {
                schema: 1,
                sequence: self.head.size,
                boot_id: BOOT.to_vec(),
                boot_ns: now.boot.0,
                wall: now.wall.0,
                kind: Some(kind.clone()),
            };
            let bytes = entry.encode_to_vec();
            assert!(bytes.len() <= MAX_RECORD, "a record of {}", bytes.len());
            self.head = self.head.push(&bytes);
            bytes
        });
        records.collect()
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

impl Host {
    pub(super) fn write(&mut self, kinds: &[Kind]) {
        // There is an anchor before there is anything to anchor.
        self.kernel.anchored.get_or_insert(Head::EMPTY);
        self.disk.append(self.clock(), kinds);
        self.note_head();
    }

    /// Puts another ledger in the place of the one that is broken. Until its anchor is written it is too.
    pub(super) fn begin_ledger(&mut self, kinds: &[Kind]) {
        self.disk.begin(self.clock(), kinds);
        self.begun = true;
        self.note_head();
        self.begun &= self.kernel.noted != Some(self.disk.head());
    }

    fn note_head(&mut self) {
        if !self.ended() {
            self.kernel.anchored = Some(self.disk.head());
            self.broken = None;
        }
        if !self.ended() {
            self.kernel.noted = Some(self.disk.head());
        }
    }
}
