//! Records as they go on disk.
//!
//! Promises: no record and no batch that a reader would refuse is made. Numbers and clocks of each are those
//! it was given here.

use anyhow::{Result, ensure};
use governor_core::{
    lineage::{self, Entry, Head, Kind, MAX_BATCH, MAX_RECORD},
    time::ClockReading,
};
use prost::Message as _;

/// One batch that follows `head`, and the head after it.
pub(super) fn after(
    head: Head,
    boot_id: [u8; 16],
    now: ClockReading,
    kinds: &[Kind],
) -> Result<(Vec<u8>, Head)> {
    let (records, head) = records(head, boot_id, now, kinds)?;
    let frame = lineage::encode(&records);
    ensure!(
        frame.len() <= MAX_BATCH,
        "a batch of {} bytes is too long",
        frame.len()
    );
    Ok((frame, head))
}

/// All that a ledger begins with, however much it is, and its head. Nobody reads the file before it is whole.
pub(super) fn whole(
    boot_id: [u8; 16],
    now: ClockReading,
    kinds: &[Kind],
) -> Result<(Vec<u8>, Head)> {
    let (records, head) = records(Head::EMPTY, boot_id, now, kinds)?;
    Ok((lineage::encode_all(&records), head))
}

fn records(
    mut head: Head,
    boot_id: [u8; 16],
    now: ClockReading,
    kinds: &[Kind],
) -> Result<(Vec<Vec<u8>>, Head)> {
    let mut records = Vec::new();
    for kind in kinds {
        let entry = Entry {
            schema: 1,
            sequence: head.size,
            boot_id: boot_id.to_vec(),
            boot_ns: now.boot.0,
            wall: now.wall.0,
            kind: Some(kind.clone()),
        };
        let bytes = entry.encode_to_vec();
        ensure!(
            bytes.len() <= MAX_RECORD,
            "a record of {} bytes is too long",
            bytes.len()
        );
        head = head.push(&bytes);
        records.push(bytes);
    }
    Ok((records, head))
}
