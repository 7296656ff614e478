//! The files of a cgroup.
//!
//! Promises: what was removed meanwhile is no error; what exists and cannot be read or written is.
//! Waiting for a cgroup ends when the kernel says so, or at the deadline. Names are never followed
//! out of the hierarchy: they come from listing it.

use std::{
    collections::BTreeSet,
    fs,
    io::{self, Read as _, Seek as _, Write as _},
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    time::Instant,
};

use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    io::Errno,
};

/// How long a path may be of whose files all can be named too that are read or written here.
const LONGEST: usize = 4095 - "/cgroup.threads".len();

/// A cgroup and what is below it.
#[derive(Debug)]
pub(crate) struct Below {
    /// Itself first.
    pub(crate) cgroups: Vec<PathBuf>,
    /// One that exists and cannot be listed.
    pub(crate) unread: Option<(PathBuf, io::Error)>,
    /// One that no path is long enough for. Whoever is there is found by label, like who left the zone, and
    /// nothing was ever written there.
    pub(crate) too_deep: Option<PathBuf>,
}

/// `root`, and everything below it.
pub(crate) fn below(root: &Path) -> Below {
    let mut below = Below {
        cgroups: vec![root.to_owned()],
        unread: None,
        too_deep: None,
    };
    let mut next = 0;
    while let Some(dir) = below.cgroups.get(next).cloned() {
        next += 1;
        let children = match fs::read_dir(&dir) {
            Ok(children) => children,
            Err(error) => {
                if !has_vanished(&error) {
                    below.unread = Some((dir, error));
                }
                continue;
            }
        };
        for child in children.flatten() {
            if child.file_type().is_ok_and(|kind| kind.is_dir()) {
                let path = child.path();
                if path.as_os_str().len() <= LONGEST {
                    below.cgroups.push(path);
                } else {
                    below.too_deep = Some(path);
                }
            }
        }
    }
    below
}

/// Whether an error says that no path is long enough.
pub(super) fn is_too_deep(error: &io::Error) -> bool {
    is(error, Errno::NAMETOOLONG)
}

/// The processes in a cgroup; none if it does not exist any more. A threaded cgroup does not list
/// processes, so there they are the ones its threads belong to.
pub(crate) fn pids(cgroup: &Path) -> io::Result<Vec<i32>> {
    let numbers = |text: String| text.lines().filter_map(|line| line.parse().ok()).collect();
    match fs::read_to_string(cgroup.join("cgroup.procs")) {
        Ok(text) => Ok(numbers(text)),
        Err(error) if has_vanished(&error) => Ok(Vec::new()),
        Err(_) => match fs::read_to_string(cgroup.join("cgroup.threads")) {
            Ok(text) => {
                let threads: Vec<i32> = numbers(text);
                let processes: BTreeSet<i32> = threads.into_iter().filter_map(process_of).collect();
                Ok(processes.into_iter().collect())
            }
            Err(error) if has_vanished(&error) => Ok(Vec::new()),
            Err(error) => Err(error),
        },
    }
}

/// The process that a thread belongs to; `None`: it has ended.
fn process_of(thread: i32) -> Option<i32> {
    let status = fs::read_to_string(format!("/proc/{thread}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("Tgid:"))?;
    line.trim().parse().ok()
}

/// The number by which sockets remember the cgroup they were made in.
pub(crate) fn id(cgroup: &Path) -> io::Result<u64> {
    fs::metadata(cgroup).map(|metadata| metadata.ino())
}

/// Whether somebody has asked for it to be frozen.
pub(crate) fn is_frozen(cgroup: &Path) -> bool {
    fs::read_to_string(cgroup.join("cgroup.freeze")).is_ok_and(|text| text.trim() == "1")
}

pub(crate) fn write(path: &Path, value: &str) -> io::Result<()> {
    fs::OpenOptions::new()
        .write(true)
        .open(path)?
        .write_all(value.as_bytes())
}

/// A line of `cgroup.events`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum State {
    Frozen,
    Empty,
}

impl State {
    const fn line(self) -> &'static str {
        match self {
            Self::Frozen => "frozen 1",
            Self::Empty => "populated 0",
        }
    }
}

/// Waits for a state; whether it came. A cgroup that is gone is in any state.
pub(crate) fn reaches(cgroup: &Path, state: State, deadline: Instant) -> io::Result<bool> {
    let mut file = match fs::File::open(cgroup.join("cgroup.events")) {
        Ok(file) => file,
        Err(error) if has_vanished(&error) => return Ok(true),
        Err(error) => return Err(error),
    };
    loop {
        let mut text = String::new();
        let read = file.rewind().and_then(|()| file.read_to_string(&mut text));
        match read {
            Ok(_) if text.lines().any(|line| line == state.line()) => return Ok(true),
            Ok(_) => {}
            Err(error) if has_vanished(&error) => return Ok(true),
            Err(error) => return Err(error),
        }
        let left = deadline.saturating_duration_since(Instant::now());
        let Some(left) = Timespec::try_from(left).ok().filter(|_| !left.is_zero()) else {
            return Ok(false);
        };
        // The kernel reports a change since the file was read last, so none is missed.
        let mut changed = [PollFd::new(&file, PollFlags::PRI)];
        match poll(&mut changed, Some(&left)) {
            Ok(0) => return Ok(false),
            Ok(_) | Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
}

/// Whether an error says that the cgroup was removed meanwhile.
pub(crate) fn has_vanished(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::NotFound || is(error, Errno::NODEV)
}

pub(crate) fn is(error: &io::Error, errno: Errno) -> bool {
    error.raw_os_error() == Some(errno.raw_os_error())
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn what_no_path_names_is_told_from_what_cannot_be_listed() {
        use rustix::fs::{CWD, Mode, OFlags, mkdirat, openat};
        let root = tempfile::tempdir().unwrap();
        let name = "d".repeat(10);
        let flags = OFlags::DIRECTORY | OFlags::RDONLY;
        let mut dir = openat(CWD, root.path(), flags, Mode::empty()).unwrap();
        for _ in 0..400 {
            mkdirat(&dir, &name, Mode::RWXU).unwrap();
            dir = openat(&dir, &name, flags, Mode::empty()).unwrap();
        }
        let found = below(root.path());
        assert!(found.unread.is_none() && found.too_deep.is_some());
        assert!(found.cgroups.len() < 401, "all of them have names");
        let longest = found.cgroups.iter().map(|dir| dir.as_os_str().len()).max();
        assert!(longest > Some(4095 - 15 - 11), "one more has one");
        for dir in found.cgroups {
            assert!(fs::File::create(dir.join("cgroup.threads")).is_ok());
        }
    }

    #[test]
    fn a_thread_is_followed_to_its_process() {
        let thread = nix::unistd::gettid().as_raw();
        assert_eq!(process_of(thread), Some(std::process::id() as i32));
        assert_eq!(process_of(i32::MAX), None);
    }

    #[test]
    fn a_state_is_waited_for_and_not_for_ever() {
        let dir = tempfile::tempdir().unwrap();
        let soon = || Instant::now() + Duration::from_millis(20);
        assert!(reaches(&dir.path().join("gone"), State::Empty, soon()).unwrap());
        fs::write(dir.path().join("cgroup.events"), "populated 1\nfrozen 0\n").unwrap();
        let past = Instant::now();
        assert!(!reaches(dir.path(), State::Frozen, past).unwrap());
        fs::write(dir.path().join("cgroup.events"), "populated 1\nfrozen 1\n").unwrap();
        assert!(reaches(dir.path(), State::Frozen, soon()).unwrap());
        assert!(!reaches(dir.path(), State::Empty, past).unwrap());
    }
}
