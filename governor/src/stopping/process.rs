//! Processes and their threads, by handles that cannot come to mean another.
//!
//! Promises: a label is read and a signal is sent through a pidfd; what was read from /proc by number
//! counts only if the process behind the pidfd was still alive afterwards, for until then nobody else
//! can have had the number. On kernels before 6.9 there are no handles on threads: there the label of
//! a process is its first thread's, which is every thread's (only an exec sets labels, and an exec
//! leaves one thread; the others inherit).

use std::{
    collections::BTreeSet,
    fs, io,
    os::{
        fd::{AsFd as _, BorrowedFd, OwnedFd},
        unix::fs::MetadataExt as _,
    },
    path::Path,
    sync::OnceLock,
    time::Instant,
};

use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    io::Errno,
    process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal},
};

/// A process, dead or alive.
#[derive(Debug)]
pub(crate) struct Process {
    pub(crate) pid: i32,
    fd: OwnedFd,
}

impl Process {
    /// `None`: there is no such process (any more).
    pub(crate) fn open(pid: i32) -> io::Result<Option<Self>> {
        let opened = open(pid, PidfdFlags::empty())?;
        Ok(opened.map(|fd| Self { pid, fd }))
    }

    pub(crate) fn fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }

    /// Whether nothing of it runs any more, be it reaped or not.
    pub(crate) fn has_ended(&self) -> bool {
        self.ends(Instant::now())
    }

    /// Waits for its end; whether it came.
    pub(crate) fn ends(&self, deadline: Instant) -> bool {
        let left = deadline.saturating_duration_since(Instant::now());
        let left = Timespec::try_from(left).unwrap_or_default();
        let mut ended = [PollFd::new(&self.fd, PollFlags::IN)];
        poll(&mut ended, Some(&left)).is_ok_and(|ready| ready > 0)
    }

    pub(crate) fn kill(&self) -> io::Result<()> {
        match pidfd_send_signal(&self.fd, Signal::KILL) {
            Ok(()) | Err(Errno::SRCH) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// Inode numbers of the sockets that any of its threads has open.
    pub(crate) fn sockets(&self, proc: &Path) -> io::Result<BTreeSet<u32>> {
        let mut found = BTreeSet::new();
        let dir = proc.join(self.pid.to_string());
        let threads = if self.has_threads(proc)? {
            let numbers = numbers(&dir.join("task"))?.into_iter();
            numbers
                .map(|thread| dir.join(format!("task/{thread}/fd")))
                .collect()
        } else {
            vec![dir.join("fd")]
        };
        for fds in threads {
            let Some(fds) = unless_gone(fs::read_dir(fds))? else {
                continue;
            };
            for fd in fds.flatten() {
                let inode: Option<u32> = fs::read_link(fd.path()).ok().and_then(|target| {
                    let name = target.to_str()?.strip_prefix("socket:[")?;
                    name.strip_suffix(']')?.parse().ok()
                });
                found.extend(inode);
            }
        }
        Ok(if self.has_ended() {
            BTreeSet::new()
        } else {
            found
        })
    }

    /// Handles on the threads besides the first, where the kernel has them.
    pub(crate) fn other_threads(&self, proc: &Path) -> io::Result<Vec<OwnedFd>> {
        if !threads_have_handles() || !self.has_threads(proc)? {
            return Ok(Vec::new());
        }
        let dir = proc.join(format!("{}/task", self.pid));
        let mut threads = Vec::new();
        for thread in numbers(&dir)?.into_iter().filter(|tid| *tid != self.pid) {
            threads.extend(open(thread, PidfdFlags::from_bits_retain(PIDFD_THREAD))?);
        }
        Ok(if self.has_ended() {
            Vec::new()
        } else {
            threads
        })
    }

    /// Whether there are threads besides the first.
    fn has_threads(&self, proc: &Path) -> io::Result<bool> {
        let dir = proc.join(format!("{}/task", self.pid));
        // A directory's own two links, and one for each thread.
        Ok(unless_gone(fs::metadata(dir))?.is_some_and(|metadata| metadata.nlink() > 3))
    }

    /// The cgroup it is in, below the hierarchy's root.
    pub(crate) fn cgroup(&self, proc: &Path) -> io::Result<Option<String>> {
        let Some(text) = unless_gone(fs::read_to_string(
            proc.join(format!("{}/cgroup", self.pid)),
        ))?
        else {
            return Ok(None);
        };
        let unified = text.lines().find_map(|line| line.strip_prefix("0::/"));
        Ok(unified.filter(|_| !self.has_ended()).map(str::to_owned))
    }
}

/// Every process there is.
pub(crate) fn all(proc: &Path) -> io::Result<Vec<i32>> {
    numbers(proc)
}

fn numbers(dir: &Path) -> io::Result<Vec<i32>> {
    let Some(entries) = unless_gone(fs::read_dir(dir))? else {
        return Ok(Vec::new());
    };
    let mut found = Vec::new();
    for entry in entries {
        match unless_gone(entry)? {
            Some(entry) => {
                let number: Option<i32> = entry.file_name().to_str().and_then(|n| n.parse().ok());
                found.extend(number);
            }
            None => break,
        }
    }
    Ok(found)
}

fn open(number: i32, flags: PidfdFlags) -> io::Result<Option<OwnedFd>> {
    let Some(pid) = Pid::from_raw(number) else {
        return Ok(None);
    };
    match pidfd_open(pid, flags) {
        Ok(fd) => Ok(Some(fd)),
        // The number is nobody's, or is only kept as that of a group or session whose first process
        // is gone (pidfd_prepare in kernel/fork.c).
        Err(Errno::SRCH | Errno::INVAL) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// Whether this kernel knows the flag, asked about a thread that certainly runs.
fn threads_have_handles() -> bool {
    static KNOWN: OnceLock<bool> = OnceLock::new();
    *KNOWN.get_or_init(|| {
        let flags = PidfdFlags::from_bits_retain(PIDFD_THREAD);
        pidfd_open(rustix::thread::gettid(), flags).is_ok()
    })
}

pub(super) fn unless_gone<T>(result: io::Result<T>) -> io::Result<Option<T>> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(error)
            if error.kind() == io::ErrorKind::NotFound
                || error.raw_os_error() == Some(Errno::SRCH.raw_os_error()) =>
        {
            Ok(None)
        }
        Err(error) => Err(error),
    }
}

/// A handle on one thread, from 6.9 on.
const PIDFD_THREAD: u32 = libc::O_EXCL as u32;

#[cfg(test)]
mod tests {
    use std::{
        io::Read as _,
        net::UdpSocket,
        os::{fd::AsRawFd as _, unix::process::CommandExt as _},
        process::{Command, Stdio},
        sync::mpsc,
        time::Duration,
    };

    use super::*;

    const PROC: &str = "/proc";

    #[test]
    fn a_process_is_killed_through_its_handle_and_the_end_is_seen_before_it_is_reaped() {
        let mut child = Command::new("sleep").arg("60").spawn().unwrap();
        let process = Process::open(child.id() as i32).unwrap().unwrap();
        assert!(!process.has_ended());
        assert!(process.cgroup(Path::new(PROC)).unwrap().is_some());
        process.kill().unwrap();
        assert!(process.ends(Instant::now() + Duration::from_secs(10)));
        // What the number says now is not believed any more.
        assert_eq!(process.cgroup(Path::new(PROC)).unwrap(), None);
        assert!(process.sockets(Path::new(PROC)).unwrap().is_empty());
        child.wait().unwrap();
        process.kill().unwrap();
        assert!(Process::open(i32::MAX).unwrap().is_none());
    }

    #[test]
    fn a_number_that_only_a_group_still_has_is_no_process() {
        // The shell leads a group of its own, leaves one member behind, and names it.
        let mut leader = Command::new("sh")
            .args(["-c", "sleep 60 >&- & echo $!"])
            .process_group(0)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let number = leader.id() as i32;
        let mut member = String::new();
        leader
            .stdout
            .take()
            .unwrap()
            .read_to_string(&mut member)
            .unwrap();
        leader.wait().unwrap();
        let member = Process::open(member.trim().parse().unwrap())
            .unwrap()
            .unwrap();
        assert!(!member.has_ended());
        assert!(Process::open(number).unwrap().is_none());
        member.kill().unwrap();
    }

    #[test]
    fn sockets_and_threads_of_a_process_are_found() {
        let own = Process::open(std::process::id() as i32).unwrap().unwrap();
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        let link = fs::read_link(format!("/proc/self/fd/{}", socket.as_raw_fd())).unwrap();
        let found = own.sockets(Path::new(PROC)).unwrap();
        let named = format!("socket:[{}]", found.iter().next_back().unwrap());
        assert!(
            found
                .iter()
                .any(|inode| link.to_str() == Some(&format!("socket:[{inode}]"))),
            "{named} {link:?}"
        );
        let (go, wait) = mpsc::channel::<()>();
        let thread = std::thread::spawn(move || wait.recv().is_err());
        let threads = own.other_threads(Path::new(PROC));
        drop(go);
        assert!(thread.join().unwrap());
        // On a kernel without handles on threads there are none; everywhere else at least this one.
        assert_eq!(threads.unwrap().is_empty(), !threads_have_handles());
    }
}
