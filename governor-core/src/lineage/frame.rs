//! Frames: how records lie in the ledger file.
//!
//! `HEADER`, then for each batch: length (u32 LE), CRC-32C of the rest (u32 LE), and its records,
//! each behind its own length (u32 LE). One frame a batch, so a batch that power loss cut short is
//! gone whole: it leaves a tail that does not check and has nothing after it, and was never
//! acknowledged. A frame that does not check and is followed by more than its own length is damage,
//! and is refused.
//!
//! `Head` chains the records: `head(n+1) = SHA-256(head(n) ‖ bytes)`, `head(0)` all zeros.

use prost::Message;
use thiserror::Error;

use super::{Entry, Kind};
use crate::digest::Digest;

/// First bytes of a ledger file.
pub const HEADER: &[u8; 16] = b"governor-ledger1";
/// Bytes before each batch.
pub const FRAME_HEADER: usize = 8;
/// Longest batch.
pub const MAX_BATCH: usize = 4 << 20;
/// Longest record.
pub const MAX_RECORD: usize = 60 * 1024;
/// So many records fit into a batch, whatever they are.
const SURELY_FIT: usize = MAX_BATCH / (MAX_RECORD + 4);

/// Size and running digest of a ledger.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Head {
    /// Records so far.
    pub size: u64,
    pub digest: Digest,
}

impl Head {
    /// The head of an empty ledger.
    pub const EMPTY: Self = Self {
        size: 0,
        digest: Digest::new([0; 32]),
    };

    /// The head after `bytes`.
    #[must_use]
    pub fn push(self, bytes: &[u8]) -> Self {
        Self {
            size: self.size.saturating_add(1),
            digest: Digest::of_parts(&[self.digest.bytes(), bytes]),
        }
    }
}

/// A ledger file, read.
#[derive(Clone, Debug)]
pub struct Scanned {
    pub entries: Vec<Entry>,
    pub head: Head,
    /// The chained digest after each record.
    pub heads: Vec<Digest>,
    /// Bytes of the file that are good.
    pub length: u64,
    /// Bytes after them that were never acknowledged.
    pub torn: u64,
}

impl Scanned {
    /// The head this ledger had when it had `size` records; none if it never had so many.
    pub fn head_at(&self, size: u64) -> Option<Head> {
        let Some(last) = size.checked_sub(1) else {
            return Some(Head::EMPTY);
        };
        let digest = *self.heads.get(usize::try_from(last).ok()?)?;
        Some(Head { size, digest })
    }

    /// Whether it says that a file beside it keeps a lock of which no record can be written.
    pub fn keeps_locks(&self) -> bool {
        self.entries
            .iter()
            .filter_map(|entry| entry.kind.as_ref())
            .any(|kind| {
                matches!(kind, Kind::Start(start) if start.keeps_locks)
                    || matches!(kind, Kind::Begun(begun) if begun.keeps_locks)
            })
    }
}

/// Why a ledger file cannot be used.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum ScanError {
    #[error("the file does not begin like a ledger")]
    NotALedger,
    #[error("the batch at byte {offset} does not match its checksum")]
    Checksum { offset: usize },
    #[error("the batch at byte {offset} is {length} bytes long, more than a batch may be")]
    TooLong { offset: usize, length: usize },
    #[error("a record of the batch at byte {offset} cannot be decoded")]
    Encoding { offset: usize },
    #[error("a record of the batch at byte {offset} has number {found} where {expected} is due")]
    Sequence {
        offset: usize,
        expected: u64,
        found: u64,
    },
}

/// The frame of a batch.
pub fn encode(records: &[Vec<u8>]) -> Vec<u8> {
    let mut batch = Vec::new();
    for record in records {
        batch.extend_from_slice(&length(record));
        batch.extend_from_slice(record);
    }
    let mut frame = Vec::with_capacity(FRAME_HEADER + batch.len());
    frame.extend_from_slice(&length(&batch));
    frame.extend_from_slice(&crc32c::crc32c(&batch).to_le_bytes());
    frame.extend_from_slice(&batch);
    frame
}

/// The same in as many frames as that takes, none longer than a batch may be. Only for a file that takes its
/// name when all of it is there: it may be cut between any two frames.
pub fn encode_all(records: &[Vec<u8>]) -> Vec<u8> {
    records.chunks(SURELY_FIT).flat_map(encode).collect()
}

/// A length that does not fit is one that no reader accepts.
fn length(bytes: &[u8]) -> [u8; 4] {
    u32::try_from(bytes.len()).unwrap_or(u32::MAX).to_le_bytes()
}

/// Reads a whole file.
///
/// # Errors
/// If any record but a torn last one does not check.
pub fn scan(file: &[u8]) -> Result<Scanned, ScanError> {
    let Some(body) = file.strip_prefix(HEADER) else {
        // A file that power loss cut inside its header has nothing in it.
        return if HEADER.starts_with(file) {
            Ok(Scanned {
                entries: Vec::new(),
                head: Head::EMPTY,
                heads: Vec::new(),
                length: 0,
                torn: file.len() as u64,
            })
        } else {
            Err(ScanError::NotALedger)
        };
    };
    let mut scanned = Scanned {
        entries: Vec::new(),
        head: Head::EMPTY,
        heads: Vec::new(),
        length: HEADER.len() as u64,
        torn: 0,
    };
    let mut rest = body;
    while !rest.is_empty() {
        let offset = file.len() - rest.len();
        match next(rest, offset)? {
            Some((batch, after)) => {
                for record in records(batch).ok_or(ScanError::Encoding { offset })? {
                    learn(&mut scanned, record, offset)?;
                }
                scanned.length = (file.len() - after.len()) as u64;
                rest = after;
            }
            None => {
                scanned.torn = rest.len() as u64;
                break;
            }
        }
    }
    Ok(scanned)
}

fn learn(scanned: &mut Scanned, record: &[u8], offset: usize) -> Result<(), ScanError> {
    let entry = Entry::decode(record).map_err(|_source| ScanError::Encoding { offset })?;
    if entry.sequence != scanned.head.size {
        return Err(ScanError::Sequence {
            offset,
            expected: scanned.head.size,
            found: entry.sequence,
        });
    }
    scanned.entries.push(entry);
    scanned.head = scanned.head.push(record);
    scanned.heads.push(scanned.head.digest);
    Ok(())
}

/// The records of a batch, if their lengths add up to it and none is empty.
fn records(mut batch: &[u8]) -> Option<Vec<&[u8]>> {
    let mut found = Vec::new();
    while !batch.is_empty() {
        let (length, after) = batch.split_first_chunk::<4>()?;
        let (record, after) = after.split_at_checked(u32::from_le_bytes(*length) as usize)?;
        if record.is_empty() {
            return None;
        }
        found.push(record);
        batch = after;
    }
    Some(found)
}

/// A batch's bytes, and what follows them.
type Next<'a> = (&'a [u8], &'a [u8]);

/// The next batch and what follows it, or `None` if what is left is a torn tail.
fn next(rest: &[u8], offset: usize) -> Result<Option<Next<'_>>, ScanError> {
    let Some((length, after)) = rest.split_first_chunk::<4>() else {
        return Ok(None);
    };
    let Some((checksum, after)) = after.split_first_chunk::<4>() else {
        return Ok(None);
    };
    let length = u32::from_le_bytes(*length) as usize;
    if length > MAX_BATCH {
        // File systems may leave zeros or old blocks after a cut, never a length of ours.
        return Err(ScanError::TooLong { offset, length });
    }
    let Some((bytes, after)) = after.split_at_checked(length) else {
        return Ok(None);
    };
    if length == 0 || crc32c::crc32c(bytes) != u32::from_le_bytes(*checksum) {
        let only_zeros = rest.iter().all(|byte| *byte == 0);
        return if after.is_empty() || only_zeros {
            Ok(None)
        } else {
            Err(ScanError::Checksum { offset })
        };
    }
    Ok(Some((bytes, after)))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::lineage::Gap;

    fn ledger(count: u64) -> Vec<u8> {
        let mut file = HEADER.to_vec();
        for sequence in 0..count {
            let gap = Gap {
                what: "test".into(),
                count: sequence,
            };
            let entry = Entry {
                schema: 1,
                sequence,
                kind: Some(Kind::Gap(gap)),
                ..Entry::default()
            };
            file.extend(encode(&[entry.encode_to_vec()]));
        }
        file
    }

    #[test]
    fn what_is_written_is_read() {
        let file = ledger(3);
        let scanned = scan(&file).unwrap();
        assert_eq!(scanned.entries.len(), 3);
        assert_eq!(scanned.head.size, 3);
        assert_eq!(scanned.length, file.len() as u64);
        assert_eq!(scanned.torn, 0);
    }

    #[test]
    fn a_tail_cut_anywhere_loses_only_the_last_record() {
        let two = ledger(2).len();
        let file = ledger(3);
        for cut in two..file.len() {
            let scanned = scan(&file[..cut]).unwrap();
            assert_eq!(scanned.entries.len(), 2, "cut at {cut}");
            assert_eq!(scanned.length, two as u64);
            assert_eq!(scanned.torn, (cut - two) as u64);
        }
    }

    #[test]
    fn a_batch_is_read_whole_or_not_at_all() {
        let records: Vec<Vec<u8>> = (0..3)
            .map(|sequence| {
                let entry = Entry {
                    schema: 1,
                    sequence,
                    ..Entry::default()
                };
                entry.encode_to_vec()
            })
            .collect();
        let mut file = HEADER.to_vec();
        file.extend(encode(&records));
        assert_eq!(scan(&file).unwrap().entries.len(), 3);
        for cut in HEADER.len()..file.len() {
            assert_eq!(scan(&file[..cut]).unwrap().entries.len(), 0, "cut at {cut}");
        }
    }

    #[test]
    fn more_than_fits_into_a_batch_is_read_from_several() {
        let long = |sequence| {
            let gap = Gap {
                what: "x".repeat(MAX_RECORD - 64),
                count: sequence,
            };
            let entry = Entry {
                schema: 1,
                sequence,
                kind: Some(Kind::Gap(gap)),
                ..Entry::default()
            };
            entry.encode_to_vec()
        };
        let records: Vec<Vec<u8>> = (0..200).map(long).collect();
        let file = [HEADER.as_slice(), &encode(&records)].concat();
        assert!(matches!(scan(&file), Err(ScanError::TooLong { .. })));
        let file = [HEADER.as_slice(), &encode_all(&records)].concat();
        let scanned = scan(&file).unwrap();
        assert_eq!((scanned.head.size, scanned.torn), (200, 0));
    }

    #[test]
    fn damage_before_the_end_is_refused() {
        let one = ledger(1).len();
        let mut file = ledger(3);
        file[one + FRAME_HEADER + 6] ^= 1;
        assert_eq!(
            scan(&file).unwrap_err(),
            ScanError::Checksum { offset: one }
        );
    }

    #[test]
    fn a_record_taken_out_is_noticed() {
        let (one, two) = (ledger(1).len(), ledger(2).len());
        let mut file = ledger(3);
        file.drain(one..two);
        assert_eq!(
            scan(&file).unwrap_err(),
            ScanError::Sequence {
                offset: one,
                expected: 1,
                found: 2
            }
        );
    }

    #[test]
    fn another_file_is_not_a_ledger() {
        assert_eq!(
            scan(b"#!/bin/sh\necho no\n").unwrap_err(),
            ScanError::NotALedger
        );
        assert_eq!(scan(b"").unwrap().entries.len(), 0);
        assert_eq!(scan(&HEADER[..7]).unwrap().length, 0);
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
            let mut file = HEADER.to_vec();
            file.extend(&bytes);
            if let Ok(scanned) = scan(&file) {
                prop_assert_eq!(scanned.length + scanned.torn, file.len() as u64);
            }
            drop(scan(&bytes));
        }
    }
}
