//! The ledger file: the only code that writes it.
//!
//! Promises: `append` returns when every record of the batch is on disk (one `fdatasync`), or
//! leaves the file as it was and says why; a torn tail is cut off at start. A ledger that is gone,
//! shorter than it was, changed or contradicting is never written again and never begun anew but by
//! an operator; the old one is kept beside it. A ledger that could not be restored after a failed
//! write takes no more records until it was, and until what is left was read again. One that cannot be
//! looked at takes none until it can, and is not thereby gone.

use std::{
    fs::{self, File, OpenOptions},
    io::{ErrorKind, Seek as _, SeekFrom, Write as _},
    os::unix::fs::{MetadataExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result, bail};
use governor_core::{
    lineage::{Broken, Flaw, HEADER, Head, Kind, MAX_RECORD, Recovered},
    time::ClockReading,
};
use rustix::io::Errno;

mod batch;
mod beside;
mod found;

use crate::{
    anchor::{Anchor, Anchored},
    lock::KeptLock,
};
pub(crate) use beside::{Beside, Written};
use found::Lying;

/// An open ledger, or what is known of one that cannot be used.
#[derive(Debug)]
pub struct Ledger {
    /// None while it is broken, or could not be opened for writing yet.
    file: Option<File>,
    path: PathBuf,
    head: Head,
    length: u64,
    /// When the file was last changed by us: seconds, nanoseconds.
    changed: (i64, i64),
    boot_id: [u8; 16],
    /// A failed write could not be undone yet; the file's end is unknown.
    poisoned: bool,
    /// A record could not be written, and there may still be no room for one.
    full: bool,
    anchor: Anchor,
    lock: KeptLock,
    /// The anchor is behind, because it could not be written.
    owed: bool,
    broken: Option<Broken>,
    /// It was found broken, and nobody was told.
    news: bool,
}

/// What a ledger that was full must have free before it takes records again: more than the longest
/// record there may be.
const ROOM: u64 = 2 * MAX_RECORD as u64;
const WRITTEN_BY_OTHERS: &str = "somebody else wrote to it while the daemon ran";

impl Ledger {
    /// Opens or begins the ledger in the state directory, and says what it tells a restarted daemon.
    /// `kernel`: what the kernel holds of it since this boot. A ledger that cannot be written yet is
    /// opened again with each record.
    pub fn open(state: &Path, boot_id: [u8; 16], kernel: Option<Head>) -> (Self, Recovered) {
        let path = state.join("ledger").join("ledger");
        let anchor = Anchor::of(state);
        let Lying {
            scanned,
            broken,
            for_good,
            anchored,
            keeps_locks,
        } = found::look(state, &path, &anchor, kernel);
        let lock = KeptLock::of(state);
        let mut recovered = scanned
            .as_ref()
            .map(|scanned| Recovered::from_entries(&scanned.entries))
            .unwrap_or_default();
        recovered.broken.clone_from(&broken);
        recovered.locked.extend(lock.found(keeps_locks));
        let mut ledger = Self {
            file: None,
            path,
            head: scanned.as_ref().map_or(Head::EMPTY, |scanned| scanned.head),
            length: scanned.as_ref().map_or(0, |scanned| scanned.length),
            changed: (0, 0),
            boot_id,
            poisoned: false,
            full: false,
            anchor,
            lock,
            owed: false,
            broken: None,
            news: false,
        };
        match broken {
            Some(broken) if for_good => ledger.give_up(broken),
            // Another start may find it good.
            Some(broken) => ledger.refuse(broken),
            None => {
                let torn = scanned.is_none_or(|scanned| scanned.torn > 0);
                if let Err(error) = ledger.prepare(torn, anchored, keeps_locks) {
                    tracing::error!("the ledger takes no records yet: {error:#}");
                    ledger.file = None;
                }
            }
        }
        (ledger, recovered)
    }

    /// Makes a ledger that was read ready to be written.
    fn prepare(&mut self, torn: bool, anchored: bool, keeps_locks: bool) -> Result<()> {
        let context = || format!("opening the ledger `{}`", self.path.display());
        let dir = self.path.parent().with_context(context)?.to_owned();
        fs::create_dir_all(&dir)
            .with_context(|| format!("creating the ledger's directory `{}`", dir.display()))?;
        // Before the first record that says there is one.
        if !anchored {
            self.write_anchor()?;
        }
        self.lock.make(keeps_locks)?;
        let file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .custom_flags(libc::O_NOFOLLOW | libc::O_CLOEXEC)
            .open(&self.path)
            .with_context(context)?;
        self.file = Some(file);
        if torn || self.length == 0 {
            self.begin_at(self.length)?;
        }
        self.note_change()?;
        sync(&dir)
    }

    /// Tries again what could not be done at the start, with the ledger as it lies there now: nobody
    /// held it since it was read.
    fn prepare_again(&mut self) -> Result<()> {
        let lying = self.read_again()?;
        let torn = lying.scanned.is_none_or(|found| found.torn > 0);
        self.prepare(torn, lying.anchored, lying.keeps_locks)
            .inspect_err(|_error| self.file = None)
    }

    /// The ledger as it lies there now, which must end where it is known to.
    fn read_again(&mut self) -> Result<Lying> {
        let state = self.path.ancestors().nth(2).unwrap_or(Path::new("/"));
        let known = Some(self.head).filter(|head| head.size > 0);
        let mut lying = found::look(state, &self.path, &self.anchor, known);
        let size = lying.scanned.as_ref().map_or(0, |found| found.head.size);
        match lying.broken.take() {
            Some(broken) if lying.for_good => bail!(self.lost(broken)),
            Some(broken) => bail!("{}", broken.detail),
            None if size > self.head.size => bail!(self.lost(Broken {
                flaw: Flaw::Contradicting,
                detail: WRITTEN_BY_OTHERS.to_owned(),
                last: self.head,
            })),
            None => Ok(lying),
        }
    }

    /// Undoes what could not be undone when it failed: the file system was read-only then, or gone for a
    /// while. Nobody looked at the file since, so it is read as if the daemon had just started.
    fn mend(&mut self) -> Result<()> {
        if let Some((flaw, detail)) = self.displaced().with_context(|| self.looking())? {
            let last = self.head;
            bail!(self.lost(Broken { flaw, detail, last }));
        }
        self.undo().with_context(|| {
            format!(
                "undoing a failed write to the ledger `{}`",
                self.path.display()
            )
        })?;
        self.read_again()?;
        self.poisoned = false;
        Ok(())
    }

    fn lost(&mut self, broken: Broken) -> String {
        let detail = broken.detail.clone();
        self.give_up(broken);
        self.news = true;
        detail
    }

    /// Cuts a torn tail off; writes the header of a new file.
    fn begin_at(&mut self, length: u64) -> Result<()> {
        let context = || format!("preparing the ledger `{}`", self.path.display());
        let mut file = self.file.as_ref().with_context(context)?;
        file.set_len(length).with_context(context)?;
        if length == 0 {
            file.seek(SeekFrom::Start(0)).with_context(context)?;
            file.write_all(HEADER).with_context(context)?;
            self.length = HEADER.len() as u64;
        }
        file.sync_all().with_context(context)
    }

    /// Makes `kinds` durable, in order, all or none.
    pub fn append(&mut self, now: ClockReading, kinds: &[Kind]) -> Result<()> {
        self.look().with_context(|| self.looking())?;
        if let Some(broken) = &self.broken {
            bail!(
                "the ledger `{}` is {} ({}); `governor unlock --reason R` begins a new one",
                self.path.display(),
                broken.flaw.name(),
                broken.detail
            );
        }
        if self.poisoned {
            self.mend()?;
        }
        if self.file.is_none() {
            self.prepare_again()?;
        }
        if self.owed {
            self.write_anchor()?;
            self.owed = false;
        }
        let (frame, head) = batch::after(self.head, self.boot_id, now, kinds)?;
        let written = self.make_room().and_then(|()| self.write(&frame));
        if let Err(error) = written {
            self.full = true;
            // What is on disk beyond the last good record must not be taken for one later.
            let undone = self.undo();
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
        self.note_change()?;
        let only_verdicts = kinds
            .iter()
            .all(|kind| matches!(kind, Kind::Verdict(_) | Kind::Gap(_)));
        if !only_verdicts && let Err(error) = self.write_anchor() {
            // These records are durable; the next ones wait for the anchor.
            tracing::error!("{error:#}");
            self.owed = true;
        }
        Ok(())
    }

    /// After a record could not be written: a small one may still fit where the next would not, which
    /// says nothing of the ledger. It takes records again when there is room for many.
    fn make_room(&mut self) -> std::io::Result<()> {
        if !self.full {
            return Ok(());
        }
        let keep = rustix::fs::FallocateFlags::KEEP_SIZE;
        match rustix::fs::fallocate(self.opened()?, keep, self.length, ROOM) {
            // Not every file system can promise room; there, trying is the only way to know.
            Ok(()) | Err(Errno::OPNOTSUPP | Errno::NOSYS) => {}
            Err(error) => return Err(error.into()),
        }
        self.full = false;
        Ok(())
    }

    fn write(&self, frame: &[u8]) -> std::io::Result<()> {
        let mut file = self.opened()?;
        file.seek(SeekFrom::Start(self.length))?;
        file.write_all(frame)?;
        file.sync_data()
    }

    fn undo(&mut self) -> std::io::Result<()> {
        self.opened()?.set_len(self.length)?;
        self.opened()?.sync_data()?;
        self.note_change().map_err(std::io::Error::other)
    }

    fn opened(&self) -> std::io::Result<&File> {
        let closed = || std::io::Error::other("the ledger is not open");
        self.file.as_ref().ok_or_else(closed)
    }

    fn note_change(&mut self) -> Result<()> {
        let metadata = self.opened().and_then(File::metadata);
        let metadata = metadata.with_context(|| self.looking())?;
        self.changed = (metadata.mtime(), metadata.mtime_nsec());
        Ok(())
    }

    fn write_anchor(&self) -> Result<()> {
        self.anchor.write(&Anchored {
            head: self.head,
            broken: None,
        })
    }

    /// Looks whether the file is still the one that was written. What is wrong with it, once. One that
    /// cannot be looked at refuses the next record, which is how that is told.
    pub fn check(&mut self) -> Option<&Broken> {
        let _told_by_the_next_record = self.look();
        let news = std::mem::take(&mut self.news);
        self.broken.as_ref().filter(|_| news)
    }

    fn look(&mut self) -> std::io::Result<()> {
        if self.broken.is_some() || self.poisoned || self.file.is_none() {
            return Ok(());
        }
        if let Some((flaw, detail)) = self.flaw()? {
            let last = self.head;
            self.give_up(Broken { flaw, detail, last });
            self.news = true;
        }
        Ok(())
    }

    fn flaw(&self) -> std::io::Result<Option<(Flaw, String)>> {
        if let Some(displaced) = self.displaced()? {
            return Ok(Some(displaced));
        }
        let ours = self.opened()?.metadata()?;
        let changed = (ours.mtime(), ours.mtime_nsec()) != self.changed;
        let others = changed || ours.size() > self.length;
        Ok(others.then(|| (Flaw::Contradicting, WRITTEN_BY_OTHERS.to_owned())))
    }

    /// Whether the file is not where it was, or not as long. An error says neither.
    fn displaced(&self) -> std::io::Result<Option<(Flaw, String)>> {
        let missing = |detail: &str| Ok(Some((Flaw::Missing, detail.to_owned())));
        let ours = self.opened()?.metadata()?;
        if ours.nlink() == 0 {
            return missing("it was removed while the daemon ran");
        }
        match fs::symlink_metadata(&self.path) {
            Ok(there) if (there.dev(), there.ino()) == (ours.dev(), ours.ino()) => {}
            Ok(_) => return missing("another file was put in its place"),
            // There is no such name, or no such directory.
            Err(error)
                if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) =>
            {
                return missing("it was moved away while the daemon ran");
            }
            Err(error) => return Err(error),
        }
        if ours.size() < self.length {
            let detail = format!("it was cut from {} to {} bytes", self.length, ours.size());
            return Ok(Some((Flaw::RolledBack, detail)));
        }
        Ok(None)
    }

    fn looking(&self) -> String {
        format!("looking at the ledger `{}`", self.path.display())
    }

    /// From here on it takes no records, also after a restart.
    fn give_up(&mut self, broken: Broken) {
        let kept = self.anchor.write(&Anchored {
            head: broken.last,
            broken: Some((broken.flaw, broken.detail.clone())),
        });
        if let Err(error) = kept {
            tracing::error!(
                "keeping that the ledger is {}: {error:#}",
                broken.flaw.name()
            );
        }
        self.refuse(broken);
    }

    fn refuse(&mut self, broken: Broken) {
        self.file = None;
        self.head = broken.last;
        self.broken = Some(broken);
    }

    /// Puts the old ledger aside, if there is one, and begins another with `kinds`.
    pub fn begin(&mut self, now: ClockReading, kinds: &[Kind]) -> Result<()> {
        let context = || format!("beginning a new ledger `{}`", self.path.display());
        let (frames, head) = batch::whole(self.boot_id, now, kinds)?;
        let dir = self.path.parent().with_context(context)?.to_owned();
        // Its first record says that there is one.
        self.lock.make(false)?;
        let mut file = tempfile::NamedTempFile::new_in(&dir).with_context(context)?;
        file.write_all(HEADER).with_context(context)?;
        file.write_all(&frames).with_context(context)?;
        file.as_file().sync_all().with_context(context)?;
        let mut names = (1..).map(|n: u32| dir.join(format!("ledger.broken-{n}")));
        let aside = names.find(|path| !path.exists()).with_context(context)?;
        let anchored = self.anchor.read().ok().flatten().and_then(Result::ok);
        let had = match fs::rename(&self.path, &aside) {
            Ok(()) => true,
            Err(error) if error.kind() == ErrorKind::NotFound => false,
            Err(error) => return Err(error).with_context(context),
        };
        let begun = file
            .persist(&self.path)
            .with_context(context)
            .and_then(|file| {
                sync(&dir)?;
                self.anchor.write(&Anchored { head, broken: None })?;
                Ok(file)
            });
        let file = match begun {
            Ok(file) => file,
            Err(error) => {
                // The old one is what the anchor speaks of still, and may be good.
                let back = match had {
                    true => fs::rename(&aside, &self.path),
                    false => fs::remove_file(&self.path),
                };
                let back = back.and_then(|()| File::open(&dir)?.sync_all());
                let back = back.map_err(anyhow::Error::from).and_then(|()| {
                    anchored.map_or(Ok(()), |anchored| self.anchor.write(&anchored))
                });
                return Err(match back {
                    Ok(()) => error,
                    Err(back) => error.context(format!("putting the old one back: {back:#}")),
                });
            }
        };
        self.length = (HEADER.len() + frames.len()) as u64;
        self.head = head;
        self.file = Some(file);
        self.broken = None;
        self.poisoned = false;
        self.owed = false;
        self.note_change()
    }

    /// Size and digest now; of a broken one, what was last known.
    pub const fn head(&self) -> Head {
        self.head
    }

    /// Where it lies.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Why it takes no records, if it does not.
    pub fn refuses(&self) -> Option<String> {
        match &self.broken {
            Some(broken) => Some(format!("{}: {}", broken.flaw.name(), broken.detail)),
            None if self.poisoned => Some("a failed write could not be undone yet".to_owned()),
            None => None,
        }
    }

    /// Whether only an operator can make it take records again.
    pub const fn is_broken(&self) -> bool {
        self.broken.is_some()
    }
}

fn sync(dir: &Path) -> Result<()> {
    File::open(dir)
        .and_then(|dir| dir.sync_all())
        .with_context(|| format!("making `{}` durable", dir.display()))
}

#[cfg(test)]
mod tests;
