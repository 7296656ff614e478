//! One daemon at a time: what must be held before the gate or the ledger is touched.
//!
//! Promises: of two daemons that share a directory of pins or a state directory one goes on, for as long
//! as it lives, and the other ends knowing who it was. The directories themselves are locked, so nothing
//! has to be written: a state directory that takes nothing is locked as well, and one that cannot be
//! opened at all leaves the pins.

use std::{
    fs::{self, File},
    io::{self, ErrorKind},
    os::{fd::AsFd as _, unix::fs::MetadataExt as _},
    path::Path,
};

use anyhow::{Context as _, Result, bail};
use rustix::{
    fs::{FlockOperation, flock},
    io::Errno,
};

use crate::config::Config;

/// The locks. They go with whoever holds this, however it ends.
#[derive(Debug)]
#[must_use = "another daemon may start once it is dropped"]
pub(super) struct Alone {
    _pins: File,
    _state: Option<File>,
}

/// Takes both, or says who has one of them. `place` makes the directory of pins where it is missing.
pub(super) fn hold(config: &Config, place: impl Fn(&Path) -> Result<()>) -> Result<Alone> {
    let pins = lock(&config.pins, place)?;
    let state = match lock(&config.state, |_| Ok(())) {
        Ok(state) => Some(state),
        Err(error) if error.is::<Taken>() => return Err(error),
        // It is made with the ledger, or cannot be read, which is the ledger's to say.
        Err(error) => {
            tracing::debug!("the state directory is not locked: {error:#}");
            None
        }
    };
    Ok(Alone {
        _pins: pins,
        _state: state,
    })
}

/// Another process has it.
#[derive(Debug, thiserror::Error)]
#[error(
    "another daemon has `{path}`: {holder}; it goes on, and this one ends having changed nothing; stop it \
     first (`systemctl stop governor`), or reboot where the guard does not let it be stopped"
)]
struct Taken {
    path: String,
    holder: String,
}

fn lock(path: &Path, place: impl Fn(&Path) -> Result<()>) -> Result<File> {
    let context = || format!("locking `{}` for one daemon", path.display());
    loop {
        place(path)?;
        let dir = File::open(path).with_context(context)?;
        match flock(dir.as_fd(), FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(Errno::WOULDBLOCK) => bail!(Taken {
                path: path.display().to_string(),
                holder: holder(&dir),
            }),
            Err(error) => return Err(error).with_context(context),
        }
        if lies_at(&dir, path).with_context(context)? {
            return Ok(dir);
        }
    }
}

/// A start that failed, or a gate that was taken down, removes the pins: whoever waited to lock them has
/// then what lies nowhere any more.
fn lies_at(dir: &File, path: &Path) -> io::Result<bool> {
    let ours = dir.metadata()?;
    match fs::metadata(path) {
        Ok(there) => Ok((there.dev(), there.ino()) == (ours.dev(), ours.ino())),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}

/// Who has the lock, as the kernel lists it.
fn holder(dir: &File) -> String {
    let number = dir.metadata().map(|metadata| metadata.ino());
    let locks = fs::read_to_string("/proc/locks");
    let pid = match (number, locks) {
        (Ok(number), Ok(locks)) => holder_in(&locks, number),
        (Err(_), _) | (_, Err(_)) => None,
    };
    let Some(pid) = pid else {
        return "the kernel does not say which process".to_owned();
    };
    let program = fs::read_link(format!("/proc/{pid}/exe"));
    match program {
        Ok(program) => format!("process {pid}, `{}`", program.display()),
        Err(_) => format!("process {pid}"),
    }
}

/// Of lines like `1: FLOCK  ADVISORY  WRITE 684 00:1c:1234 0 EOF`, the process whose lock is on this
/// inode. The device is not compared: some file systems tell programs another one.
fn holder_in(locks: &str, inode: u64) -> Option<u32> {
    let ours = |place: &&str| place.rsplit(':').next().and_then(|n| n.parse().ok()) == Some(inode);
    locks.lines().find_map(|line| {
        let words: Vec<&str> = line.split_whitespace().collect();
        match words.as_slice() {
            [_, "FLOCK", "ADVISORY", "WRITE", pid, place, ..] if ours(place) => pid.parse().ok(),
            _ => None,
        }
    })
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    fn make(dir: &Path) -> Result<()> {
        Ok(fs::create_dir_all(dir)?)
    }

    #[test]
    fn a_second_one_is_told_who_the_first_is() {
        let dir = tempfile::tempdir().unwrap();
        let config = |pins: &str, state: &str| Config {
            pins: dir.path().join(pins),
            state: dir.path().join(state),
            ..Config::default()
        };
        for state in ["one", "two"] {
            fs::create_dir(dir.path().join(state)).unwrap();
        }
        let hold = |config: &Config| hold(config, make);
        let first = hold(&config("pins", "one")).unwrap();
        for (pins, state, shared) in [
            ("pins", "one", "pins"),
            ("pins", "two", "pins"),
            ("others", "one", "one"),
        ] {
            let error = format!("{:#}", hold(&config(pins, state)).unwrap_err());
            let place = dir.path().join(shared).display().to_string();
            let who = format!("process {}, ", std::process::id());
            assert!(
                error.contains(&format!("has `{place}`")) && error.contains(&who),
                "{error}"
            );
        }
        let _elsewhere = hold(&config("others", "two")).unwrap();
        drop(first);
        let _next = hold(&config("pins", "one")).unwrap();
    }

    #[test]
    fn nothing_has_to_be_written_and_a_missing_state_leaves_the_pins() {
        let dir = tempfile::tempdir().unwrap();
        let config = Config {
            pins: dir.path().join("pins"),
            state: dir.path().join("state"),
            ..Config::default()
        };
        let hold = |config: &Config| hold(config, make);
        let first = hold(&config).unwrap();
        assert!(hold(&config).is_err(), "two without a state directory");
        assert!(!config.state.exists());
        drop(first);
        fs::create_dir(&config.state).unwrap();
        fs::set_permissions(&config.state, fs::Permissions::from_mode(0o500)).unwrap();
        let first = hold(&config).unwrap();
        assert!(first._state.is_some());
        assert!(hold(&config).is_err());
    }

    #[test]
    fn a_directory_that_was_removed_lies_nowhere() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("pins");
        make(&path).unwrap();
        let held = lock(&path, make).unwrap();
        assert!(lies_at(&held, &path).unwrap());
        fs::remove_dir(&path).unwrap();
        assert!(!lies_at(&held, &path).unwrap());
        make(&path).unwrap();
        assert!(!lies_at(&held, &path).unwrap(), "another one");
        // The next one locks what lies there, and not what the first one has.
        let _next = lock(&path, make).unwrap();
    }

    #[test]
    fn the_holder_is_who_has_this_very_inode() {
        let locks = "1: POSIX  ADVISORY  WRITE 10 00:1c:77 0 EOF\n\
                     2: FLOCK  ADVISORY  WRITE 11 00:1c:770 0 EOF\n\
                     2: -> FLOCK  ADVISORY  WRITE 12 00:1c:77 0 EOF\n\
                     3: FLOCK  ADVISORY  READ 13 00:1c:77 0 EOF\n\
                     4: FLOCK  ADVISORY  WRITE 14 fe:01:77 0 EOF\n";
        assert_eq!(holder_in(locks, 77), Some(14));
        assert_eq!(holder_in(locks, 78), None);
        assert_eq!(holder_in("nonsense\n\n", 0), None);
    }
}
