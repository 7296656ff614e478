//! A lock that no record could be written of, in a file beside the ledger.
//!
//! Promises: the file is made with room of its own while there is some, so that a lock is kept on a full disk
//! too: it is overwritten in place, and takes no block that it does not have. Whatever was cut short, damaged or
//! taken away passes for a lock, never for none. It is not part of the anchor, which is replaced whole and needs
//! room each time. A file system that copies on write has none to give on a full disk; there this fails.

use std::{
    fs::{self, File, OpenOptions},
    io::{ErrorKind, Read as _, Write as _},
    os::unix::fs::{FileExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result, ensure};
use governor_core::{digest::Digest, lineage::LOCK_UNREADABLE};
use serde::{Deserialize, Serialize};

/// The file in a state directory.
#[derive(Debug)]
pub(crate) struct KeptLock {
    path: PathBuf,
}

/// What follows the first line.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    locked: Vec<String>,
}

/// Bytes of the file, always.
const SIZE: usize = 4096;

impl KeptLock {
    pub(crate) fn of(state: &Path) -> Self {
        Self {
            path: state.join("lock"),
        }
    }

    /// Why the host is locked, as far as the file says; none: it is not. `promised`: the ledger says that there
    /// is a file.
    pub(crate) fn found(&self, promised: bool) -> Vec<String> {
        let missed = |why: String| vec![format!("{LOCK_UNREADABLE}: {why}")];
        match self.read() {
            Ok(Some(reasons)) => reasons,
            Ok(None) if promised => missed(format!("`{}` is gone", self.path.display())),
            Ok(None) => Vec::new(),
            Err(error) => missed(format!("{error:#}")),
        }
    }

    /// Makes the file, with what [`Self::found`] says now, where there is none yet.
    pub(crate) fn make(&self, promised: bool) -> Result<()> {
        match fs::symlink_metadata(&self.path) {
            Ok(_) => Ok(()),
            Err(error) if error.kind() == ErrorKind::NotFound => {
                // One that is missed must not become one that says that nothing is locked.
                self.replace(&page(&self.found(promised))?)
            }
            Err(error) => Err(error).with_context(|| self.at("looking at")),
        }
    }

    /// From here on it says that the host is locked, durably.
    pub(crate) fn keep(&self, reasons: &[String]) -> Result<()> {
        let page = page(reasons)?;
        let Err(error) = self.overwrite(&page) else {
            return Ok(());
        };
        // It is not there, or not as it was made; there may be room for another.
        self.replace(&page)
            .with_context(|| format!("in place it could not be written ({error})"))
    }

    /// From here on it says that nothing is locked. By another file: one that was cut short would lock.
    pub(crate) fn forget(&self) -> Result<()> {
        self.replace(&page(&[])?)
    }

    fn read(&self) -> Result<Option<Vec<String>>> {
        let context = || self.at("reading");
        match fs::symlink_metadata(&self.path) {
            // A pipe would hold us until somebody writes.
            Ok(there) => ensure!(there.is_file(), "`{}` is no file", self.path.display()),
            // There is no such name, or no such directory.
            Err(error)
                if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) =>
            {
                return Ok(None);
            }
            Err(error) => return Err(error).with_context(context),
        }
        let mut bytes = Vec::new();
        File::open(&self.path)
            .and_then(|file| file.take(SIZE as u64 + 1).read_to_end(&mut bytes))
            .with_context(context)?;
        parse(&bytes).map(Some).with_context(context)
    }

    fn overwrite(&self, page: &[u8]) -> std::io::Result<()> {
        let file = OpenOptions::new()
            .write(true)
            .custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK)
            .open(&self.path)?;
        let there = file.metadata()?;
        if !there.is_file() || there.len() != page.len() as u64 {
            return Err(std::io::Error::other("it is not the file that was made"));
        }
        file.write_all_at(page, 0)?;
        file.sync_data()
    }

    fn replace(&self, page: &[u8]) -> Result<()> {
        let context = || self.at("writing");
        let dir = self.path.parent().unwrap_or(Path::new("/"));
        let mut file = tempfile::NamedTempFile::new_in(dir).with_context(context)?;
        // Written and not only promised: some file systems need room to make one of the other.
        file.write_all(page).with_context(context)?;
        file.as_file().sync_all().with_context(context)?;
        file.persist(&self.path).with_context(context)?;
        File::open(dir)
            .and_then(|dir| dir.sync_all())
            .with_context(context)
    }

    fn at(&self, doing: &str) -> String {
        format!(
            "{doing} what is kept of a lock in `{}`",
            self.path.display()
        )
    }
}

/// The whole file: the digest of all that follows it, and lines that fill it up.
fn page(reasons: &[String]) -> Result<Vec<u8>> {
    let text = |locked: Vec<String>| Ok::<_, anyhow::Error>(toml::to_string(&Written { locked })?);
    let mut text_of_all = text(reasons.to_vec())?;
    if text_of_all.len() > ROOM {
        // What locks is what counts; the rest is in the journal.
        let codes = reasons.iter().map(|reason| {
            let (code, _) = reason.split_once(": ").unwrap_or((reason, ""));
            code.to_owned()
        });
        text_of_all = text(codes.collect())?;
    }
    ensure!(text_of_all.len() <= ROOM, "too many reasons");
    // Of bytes: a name may have characters of several.
    let rest = format!("\n{text_of_all}{}", "\n".repeat(ROOM - text_of_all.len()));
    let digest = Digest::of(rest.as_bytes());
    Ok(format!("{digest}{rest}").into_bytes())
}

fn parse(bytes: &[u8]) -> Result<Vec<String>> {
    let text = str::from_utf8(bytes).context("it is not text")?;
    let (digest, rest) = text.split_at_checked(DIGEST).context("it is cut short")?;
    let whole = bytes.len() == SIZE && Digest::of(rest.as_bytes()).to_string() == digest;
    ensure!(whole, "it says nothing that was ever written");
    let written: Written = toml::from_str(rest)?;
    Ok(written.locked)
}

/// Characters of the digest.
const DIGEST: usize = 64;
/// What is left for the text.
const ROOM: usize = SIZE - DIGEST - 1;

#[cfg(test)]
mod tests {
    use super::*;

    fn lock() -> (KeptLock, tempfile::TempDir) {
        let dir = tempfile::tempdir().unwrap();
        (KeptLock::of(dir.path()), dir)
    }

    fn of(reasons: &[&str]) -> Vec<String> {
        reasons.iter().map(|reason| (*reason).to_owned()).collect()
    }

    #[test]
    fn what_is_kept_is_found_until_it_is_forgotten() {
        let (lock, _dir) = lock();
        assert!(lock.found(false).is_empty(), "an earlier version made none");
        lock.make(false).unwrap();
        assert!(lock.found(true).is_empty());
        let reasons = of(&[
            "tampered:map-touched: 3 \"times\"\n",
            "ledger-missing: « ü »",
        ]);
        lock.keep(&reasons).unwrap();
        lock.make(true).unwrap();
        assert_eq!(lock.found(true), reasons);
        lock.forget().unwrap();
        assert!(lock.found(true).is_empty());
    }

    #[test]
    fn it_is_kept_in_the_blocks_that_the_file_has() {
        use std::os::unix::fs::MetadataExt as _;
        let (lock, dir) = lock();
        lock.make(false).unwrap();
        let before = fs::metadata(&lock.path).unwrap();
        // Nothing can be made beside it, as on a full disk.
        let page = page(&of(&["clock-stepped"])).unwrap();
        lock.overwrite(&page).unwrap();
        let after = fs::metadata(&lock.path).unwrap();
        assert_eq!(before.ino(), after.ino());
        assert_eq!(
            (before.len(), before.blocks()),
            (after.len(), after.blocks())
        );
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
        assert_eq!(lock.found(true), ["clock-stepped"]);
    }

    #[test]
    fn reasons_that_are_too_long_are_kept_by_their_names() {
        let (lock, _dir) = lock();
        let long = format!("clock-stepped: {}", "\u{1}".repeat(SIZE));
        lock.keep(&of(&[&long, "tpm-reset"])).unwrap();
        assert_eq!(lock.found(true), ["clock-stepped", "tpm-reset"]);
        assert_eq!(fs::metadata(&lock.path).unwrap().len(), SIZE as u64);
    }

    fn is_missed(lock: &KeptLock) -> bool {
        let found = lock.found(true);
        found.len() == 1 && found[0].starts_with("lock-unreadable: ")
    }

    #[test]
    fn whatever_was_cut_short_or_damaged_locks() {
        let (lock, _dir) = lock();
        let (free, locked) = (
            page(&[]).unwrap(),
            page(&of(&["ledger-missing: gone"])).unwrap(),
        );
        for at in [1, DIGEST - 1, DIGEST, DIGEST + 12, DIGEST + 20] {
            // Overwritten as far as that.
            let torn = [&locked[..at], &free[at..]].concat();
            fs::write(&lock.path, torn).unwrap();
            assert!(is_missed(&lock), "torn at {at}");
            fs::write(&lock.path, &free[..at]).unwrap();
            assert!(is_missed(&lock), "cut at {at}");
        }
        for bytes in [
            vec![],
            vec![0; SIZE],
            vec![0xff; SIZE],
            [free, vec![b'\n']].concat(),
        ] {
            fs::write(&lock.path, bytes).unwrap();
            assert!(is_missed(&lock));
        }
        // What is kept after that is found, whatever lay there.
        lock.keep(&of(&["tpm-reset"])).unwrap();
        assert_eq!(lock.found(true), ["tpm-reset"]);
    }

    #[test]
    fn one_that_is_gone_or_no_file_is_missed_and_stays_so() {
        let (lock, _dir) = lock();
        assert!(is_missed(&lock));
        lock.make(true).unwrap();
        assert!(is_missed(&lock), "another start finds it made anew");
        lock.forget().unwrap();
        assert!(lock.found(true).is_empty());
        fs::remove_file(&lock.path).unwrap();
        nix::unistd::mkfifo(&lock.path, nix::sys::stat::Mode::S_IRWXU).unwrap();
        assert!(is_missed(&lock) && lock.make(true).is_ok());
        fs::remove_file(&lock.path).unwrap();
        std::os::unix::fs::symlink(&lock.path, &lock.path).unwrap();
        assert!(is_missed(&lock));
    }
}
