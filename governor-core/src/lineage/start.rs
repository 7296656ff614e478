//! The record of a start, and the gap before it.

use prost::Message;

use super::Entry;
use crate::time::{BootTime, Span};

/// The daemon started.
#[derive(Clone, PartialEq, Message)]
pub struct Start {
    #[prost(string, tag = "1")]
    pub version: String,
    /// `fresh`, `adopted` or `upgraded`: what it found pinned.
    #[prost(string, tag = "2")]
    pub gate: String,
    /// SHA-256 of the kernel object it carries.
    #[prost(bytes = "vec", tag = "3")]
    pub object: Vec<u8>,
    /// From here on there is an anchor beside this ledger.
    #[prost(bool, tag = "4")]
    pub anchored: bool,
    /// And a file that keeps a lock of which no record can be written.
    #[prost(bool, tag = "5")]
    pub keeps_locks: bool,
    /// The last record before this one. From there to here nobody may have watched. Absent: this ledger begins
    /// here, or an earlier version wrote this.
    #[prost(message, optional, tag = "6")]
    pub since: Option<Since>,
}

/// Where a record stands, and when it was made, as [`Entry`] has it.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct Since {
    #[prost(uint64, tag = "1")]
    pub sequence: u64,
    #[prost(bytes = "vec", tag = "2")]
    pub boot_id: Vec<u8>,
    #[prost(uint64, tag = "3")]
    pub boot_ns: u64,
    #[prost(int64, tag = "4")]
    pub wall: i64,
}

impl Since {
    /// What this record has.
    pub fn of(entry: &Entry) -> Self {
        Self {
            sequence: entry.sequence,
            boot_id: entry.boot_id.clone(),
            boot_ns: entry.boot_ns,
            wall: entry.wall,
        }
    }

    /// How long that is until `now`, by a clock that nobody sets; nothing if it was in another boot.
    pub fn span_in(&self, boot_id: &[u8], now: BootTime) -> Option<Span> {
        (self.boot_id == boot_id).then(|| BootTime(self.boot_ns).until(now))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_span_is_of_one_boot_and_never_less_than_nothing() {
        let since = Since {
            boot_id: vec![7; 16],
            boot_ns: 100,
            ..Since::default()
        };
        assert_eq!(since.span_in(&[7; 16], BootTime(130)), Some(Span(30)));
        assert_eq!(since.span_in(&[7; 16], BootTime(90)), Some(Span(0)));
        assert_eq!(since.span_in(&[8; 16], BootTime(130)), None);
    }
}
