//! The ledger file: the only code that writes it.
//!
//! Promises: `append` returns when every record of the batch is on disk (one `fdatasync`), or
//! leaves the file as it was and says why; a torn tail is cut off at start, damage before it is
//! refused. A ledger that could not be restored after a failed write takes no more records.

use std::{
    fs::{File, OpenOptions},
    io::{Read as _, Seek as _, SeekFrom, Write as _},
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result, bail, ensure};
use governor_core::{
    lineage::{self, Entry, HEADER, Head, Kind, MAX_BATCH, MAX_RECORD, Recovered},
    time::ClockReading,
};
use prost::Message as _;

/// An open ledger.
#[derive(Debug)]
pub struct Ledger {
    file: File,
    path: PathBuf,
    head: Head,
    length: u64,
    boot_id: [u8; 16],
    /// A failed write could not be undone; the file's end is unknown.
    poisoned: bool,
}

impl Ledger {
    /// Opens or begins the ledger in `dir`, and says what it tells a restarted daemon.
    pub fn open(dir: &Path, boot_id: [u8; 16]) -> Result<(Self, Recovered)> {
        std::fs::create_dir_all(dir)
            .with_context(|| format!("creating the ledger's directory `{}`", dir.display()))?;
        let path = dir.join("ledger");
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .custom_flags(libc::O_NOFOLLOW | libc::O_CLOEXEC)
            .open(&path)
            .with_context(|| format!("opening the ledger `{}`", path.display()))?;
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes)
            .with_context(|| format!("reading the ledger `{}`", path.display()))?;
        let scanned = lineage::scan(&bytes).with_context(|| {
            format!(
                "reading the ledger `{}`; keep it as evidence, move it away and restart",
                path.display()
            )
        })?;
        let recovered = Recovered::from_entries(&scanned.entries);
        let mut ledger = Self {
            file,
            path,
            head: scanned.head,
            length: scanned.length,
            boot_id,
            poisoned: false,
        };
        if scanned.torn > 0 || scanned.length == 0 {
            ledger.begin_at(scanned.length)?;
        }
        File::open(dir)
            .and_then(|dir| dir.sync_all())
            .with_context(|| format!("making `{}` durable", dir.display()))?;
        Ok((ledger, recovered))
    }

    /// Cuts a torn tail off; writes the header of a new file.
    fn begin_at(&mut self, length: u64) -> Result<()> {
        let context = || format!("preparing the ledger `{}`", self.path.display());
        self.file.set_len(length).with_context(context)?;
        if length == 0 {
            self.file.seek(SeekFrom::Start(0)).with_context(context)?;
            self.file.write_all(HEADER).with_context(context)?;
            self.length = HEADER.len() as u64;
        }
        self.file.sync_all().with_context(context)
    }

    /// Makes `kinds` durable, in order, all or none.
    pub fn append(&mut self, now: ClockReading, kinds: &[Kind]) -> Result<()> {
        ensure!(
            !self.poisoned,
            "the ledger `{}` is in an unknown state after a failed write; restart the daemon",
            self.path.display()
        );
        let mut head = self.head;
        let mut records = Vec::new();
        for kind in kinds {
            let entry = Entry {
                schema: 1,
                sequence: head.size,
                boot_id: self.boot_id.to_vec(),
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
        let frame = lineage::encode(&records);
        ensure!(
            frame.len() <= MAX_BATCH,
            "a batch of {} bytes is too long",
            frame.len()
        );
        if let Err(error) = self.write(&frame) {
            // What is on disk beyond the last good record must not be taken for one later.
            let undone = self
                .file
                .set_len(self.length)
                .and_then(|()| self.file.sync_data());
            if let Err(undo) = undone {
                self.poisoned = true;
                bail!(
                    "writing the ledger `{}`: {error}; undoing it: {undo}",
                    self.path.display()
                );
            }
            return Err(error)
                .with_context(|| format!("writing the ledger `{}`", self.path.display()));
        }
        self.length += frame.len() as u64;
        self.head = head;
        Ok(())
    }

    fn write(&mut self, frame: &[u8]) -> std::io::Result<()> {
        self.file.seek(SeekFrom::Start(self.length))?;
        self.file.write_all(frame)?;
        self.file.sync_data()
    }

    /// Size and digest now.
    pub const fn head(&self) -> Head {
        self.head
    }

    /// Where it lies.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Whether it takes records.
    pub const fn writable(&self) -> bool {
        !self.poisoned
    }
}

#[cfg(test)]
mod tests {
    use governor_core::{
        lineage::Gap,
        time::{BootTime, WallTime},
    };

    use super::*;

    const NOW: ClockReading = ClockReading {
        wall: WallTime(1),
        boot: BootTime(2),
    };

    fn gap(count: u64) -> Kind {
        Kind::Gap(Gap {
            what: "test".into(),
            count,
        })
    }

    #[test]
    fn records_survive_and_torn_tails_do_not() {
        let dir = tempfile::tempdir().unwrap();
        let (mut ledger, _) = Ledger::open(dir.path(), [7; 16]).unwrap();
        ledger.append(NOW, &[gap(1), gap(2)]).unwrap();
        let head = ledger.head();
        let path = ledger.path().to_owned();
        drop(ledger);
        OpenOptions::new()
            .append(true)
            .open(&path)
            .unwrap()
            .write_all(&[9, 0, 0, 0, 1])
            .unwrap();
        let (mut ledger, _) = Ledger::open(dir.path(), [7; 16]).unwrap();
        assert_eq!(ledger.head(), head);
        ledger.append(NOW, &[gap(3)]).unwrap();
        drop(ledger);
        let (ledger, _) = Ledger::open(dir.path(), [7; 16]).unwrap();
        assert_eq!(ledger.head().size, 3);
    }

    #[test]
    fn damage_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let (mut ledger, _) = Ledger::open(dir.path(), [7; 16]).unwrap();
        // Two batches: what is wrong in the last one alone looks like a write that was cut short.
        ledger.append(NOW, &[gap(1)]).unwrap();
        ledger.append(NOW, &[gap(2)]).unwrap();
        let path = ledger.path().to_owned();
        let mut bytes = std::fs::read(&path).unwrap();
        bytes[30] ^= 1;
        std::fs::write(&path, bytes).unwrap();
        let error = Ledger::open(dir.path(), [7; 16]).unwrap_err();
        assert!(format!("{error:#}").contains("checksum"), "{error:#}");
    }

    #[test]
    fn a_full_disk_changes_nothing() {
        // /dev/full fails every write with ENOSPC and is a file like any other until then.
        let dir = tempfile::tempdir().unwrap();
        let (mut ledger, _) = Ledger::open(dir.path(), [7; 16]).unwrap();
        ledger.append(NOW, &[gap(1)]).unwrap();
        let head = ledger.head();
        ledger.file = OpenOptions::new().write(true).open("/dev/full").unwrap();
        assert!(ledger.append(NOW, &[gap(2)]).is_err());
        assert_eq!(ledger.head(), head);
    }
}
