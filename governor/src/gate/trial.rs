//! Before the gate is believed: what it leans on is tried.
//!
//! Promises: a daemon that starts has seen the kernel measure a file of known content, and the same file
//! once more while somebody wrote it, and both were right. What the command line and the policy of IMA say
//! is looked at besides; but they can be hidden, and this cannot. Policies of IMA leave out what is in memory,
//! so a trial there says little: it lets a daemon start whose disk takes nothing, and is made again on a disk
//! before anything is recorded. Nothing is left behind.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Write as _},
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
};

use governor_core::digest::Digest;
use nix::sys::statfs::{FsType, TMPFS_MAGIC, fstatfs};

use super::{
    GateError,
    asked::{Answer, Asker, How},
};

/// Where a trial was made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Tried {
    OnDisk,
    /// It is to be made once more.
    InMemory,
}

/// Tries the kernel's measuring on a file in the first of `dirs` on a disk that takes one; where none does, in
/// the first of the others.
pub(super) fn of_measuring(asker: &mut Asker, dirs: &[PathBuf]) -> Result<Tried, GateError> {
    let place = Place::find(dirs)?;
    let tried = place.tried;
    place.measured_right(asker)?;
    Ok(tried)
}

/// The same, on a disk or not at all.
pub(super) fn on_a_disk(asker: &mut Asker, dirs: &[PathBuf]) -> Result<(), GateError> {
    let place = Place::find(dirs)?;
    match (place.tried, &place.instead_of) {
        (Tried::OnDisk, _) => place.measured_right(asker),
        (Tried::InMemory, why) => {
            let why = why.as_ref().map(|why| format!(" ({why})"));
            let why = why.unwrap_or_default();
            place.remove()?;
            Err(GateError::Measuring(format!(
                "no directory on a disk takes a file for that{why}, and what is in memory tells nothing: nothing \
                 is recorded or granted until the state directory does"
            )))
        }
    }
}

/// A file of ours that holds what it holds first, and is still open to be written.
struct Place {
    path: PathBuf,
    writer: File,
    tried: Tried,
    /// Why it is not in a directory that comes before.
    instead_of: Option<GateError>,
}

impl Place {
    fn find(dirs: &[PathBuf]) -> Result<Self, GateError> {
        let (mut in_memory, mut why) = (None::<Self>, None);
        for dir in dirs {
            let path = dir.join("trial");
            let place = match make(&path) {
                Ok((writer, tried)) => Self {
                    path,
                    writer,
                    tried,
                    instead_of: None,
                },
                Err(error) => {
                    why = Some(GateError::Read { path, error });
                    continue;
                }
            };
            if place.tried == Tried::OnDisk {
                if let Some(other) = in_memory {
                    other.remove()?;
                }
                return Ok(place);
            }
            match &in_memory {
                None => in_memory = Some(place),
                Some(_) => place.remove()?,
            }
        }
        match in_memory {
            Some(place) => Ok(Self {
                instead_of: why,
                ..place
            }),
            None => {
                Err(why
                    .unwrap_or_else(|| GateError::Measuring("there is no place for it".to_owned())))
            }
        }
    }

    fn measured_right(self, asker: &mut Asker) -> Result<(), GateError> {
        let outcome = measured_right(asker, &self.path);
        self.remove()?;
        outcome
    }

    fn remove(self) -> Result<(), GateError> {
        drop(self.writer);
        let path = self.path;
        fs::remove_file(&path).map_err(|error| GateError::Read { path, error })
    }
}

fn measured_right(asker: &mut Asker, path: &Path) -> Result<(), GateError> {
    let failed = |error: io::Error| GateError::Read {
        path: path.to_owned(),
        error,
    };
    let mut asking = asker.begin()?;
    // Whoever keeps digests has this one from here on.
    let reader = File::open(path).map_err(failed)?;
    let known = asking.measure(&reader, How::Again)?;
    is(&known, FIRST, "of known content")?;
    let mut second = OpenOptions::new().write(true).open(path).map_err(failed)?;
    second.write_all(SECOND).map_err(failed)?;
    let changed = asking.measure(&reader, How::Again)?;
    is(&changed, SECOND, "that was just changed")
}

/// Whether that is SHA-256 of the content.
fn is(answer: &Answer, content: &[u8], what: &str) -> Result<(), GateError> {
    let Some(digest) = answer.sha256() else {
        return Err(GateError::Measuring(format!(
            "asked for the digest of a file {what}, the kernel answers {}, which is not SHA-256",
            answer.result.cast_signed()
        )));
    };
    if digest != Digest::of(content) {
        return Err(GateError::Measuring(format!(
            "the digest of a file {what} is not the one of what it holds"
        )));
    }
    Ok(())
}

/// Makes the file, and says where it is. Its names are ours to take; whatever is left is overwritten by the next
/// daemon.
fn make(path: &Path) -> io::Result<(File, Tried)> {
    let mut options = OpenOptions::new();
    options.write(true).create(true).truncate(true).mode(0o600);
    let mut file = options.open(path)?;
    // A disk that is full may take a name and no content.
    let made = file.write_all(FIRST).and_then(|()| Ok(fstatfs(&file)?));
    match made {
        Ok(found) => {
            let tried = if MEMORY.contains(&found.filesystem_type()) {
                Tried::InMemory
            } else {
                Tried::OnDisk
            };
            Ok((file, tried))
        }
        Err(error) => {
            fs::remove_file(path)?;
            Err(error)
        }
    }
}

/// What is on no disk: tmpfs, and ramfs.
const MEMORY: [FsType; 2] = [TMPFS_MAGIC, FsType(0x8584_58f6)];

const FIRST: &[u8] = b"what a file of governor's trial holds first\n";
const SECOND: &[u8] = b"what a file of governor's trial holds later\n";
const _: () = assert!(FIRST.len() == SECOND.len(), "one is written over the other");

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_disk_comes_before_memory_and_what_takes_nothing_is_passed_over() {
        let memory = tempfile::tempdir_in("/dev/shm").unwrap();
        let disk = tempfile::tempdir_in(env!("CARGO_MANIFEST_DIR")).unwrap();
        if make(&disk.path().join("trial")).unwrap().1 == Tried::InMemory {
            // Where everything is in memory there is nothing to tell apart.
            return;
        }
        let none = disk.path().join("none");
        let find = |dirs: &[&Path]| {
            let dirs: Vec<PathBuf> = dirs.iter().map(|dir| (*dir).to_owned()).collect();
            Place::find(&dirs)
        };
        let place = find(&[&none, memory.path(), disk.path()]).unwrap();
        assert_eq!(place.tried, Tried::OnDisk);
        assert_eq!(fs::read(&place.path).unwrap(), FIRST);
        place.remove().unwrap();
        let place = find(&[&none, memory.path()]).unwrap();
        assert_eq!(place.tried, Tried::InMemory);
        assert!(place.instead_of.is_some());
        place.remove().unwrap();
        assert!(find(&[&none]).is_err());
        for dir in [memory.path(), disk.path()] {
            assert_eq!(fs::read_dir(dir).unwrap().count(), 0, "something is left");
        }
    }

    #[test]
    fn only_the_right_digest_of_the_right_kind_passes() {
        let answer = |result| Answer {
            result,
            digest: Digest::of(FIRST),
            known: false,
        };
        assert!(is(&answer(4), FIRST, "x").is_ok());
        assert!(is(&answer(4), SECOND, "x").is_err());
        for result in [0, 2, 6, (-95_i64).cast_unsigned()] {
            let error = is(&answer(result), FIRST, "x").unwrap_err().to_string();
            assert!(error.contains("not SHA-256"), "{error}");
        }
    }
}
