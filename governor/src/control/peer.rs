//! Who is at the other end of a connection, as the kernel says.
//!
//! Promises: nothing here is taken from what the peer sends. A caller that cannot be identified is
//! refused, and so is one inside a governed zone, whatever its uid: governed work does not govern.

use std::{fmt, fs, io, path::Path};

use tokio::net::UnixStream;

/// The process that connected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Caller {
    pub pid: i32,
    pub uid: u32,
    pub gid: u32,
}

impl Caller {
    /// The peer of `stream`.
    pub(crate) fn of(stream: &UnixStream) -> io::Result<Self> {
        let cred = stream.peer_cred()?;
        match cred.pid() {
            Some(pid) if pid > 0 => Ok(Self {
                pid,
                uid: cred.uid(),
                gid: cred.gid(),
            }),
            Some(_) | None => Err(io::Error::other("the peer's pid is not visible from here")),
        }
    }

    /// Whether this caller may ask anything at all. `governed` is the cgroup below which
    /// everything is governed, with or without the mount point before it.
    pub(crate) fn admit(&self, governed: &Path) -> Result<(), NotAdmitted> {
        if self.uid != 0 {
            return Err(NotAdmitted::Uid);
        }
        let path = format!("/proc/{}/cgroup", self.pid);
        match fs::read_to_string(path) {
            Ok(text) if in_subtree(&text, governed) => Err(NotAdmitted::Governed),
            Ok(_) => Ok(()),
            Err(error) => Err(NotAdmitted::Unknown(error)),
        }
    }
}

impl fmt::Display for Caller {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "pid {} (uid {}, gid {})", self.pid, self.uid, self.gid)
    }
}

/// Why a connection was closed before a byte was read.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NotAdmitted {
    #[error("only root may ask")]
    Uid,
    #[error("it runs inside a governed zone")]
    Governed,
    #[error("its cgroup could not be read")]
    Unknown(#[source] io::Error),
}

/// Whether the unified hierarchy's line of `/proc/PID/cgroup` lies in `governed`. A process without
/// that line is in no cgroup that could be governed.
fn in_subtree(cgroup: &str, governed: &Path) -> bool {
    let governed = governed.strip_prefix(MOUNT).unwrap_or(governed);
    let governed = governed.strip_prefix("/").unwrap_or(governed);
    cgroup
        .lines()
        .filter_map(|line| line.strip_prefix("0::/"))
        .any(|path| Path::new(path).starts_with(governed))
}

/// Where the unified hierarchy is mounted; `/proc/PID/cgroup` leaves it out.
const MOUNT: &str = "/sys/fs/cgroup";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_governed_subtree_is_recognised() {
        let governed = Path::new("governed.slice");
        assert!(in_subtree("0::/governed.slice\n", governed));
        assert!(in_subtree(
            "3:cpu:/\n0::/governed.slice/governed-agents.slice/x\n",
            governed
        ));
        assert!(in_subtree(
            "0::/governed.slice/a\n",
            Path::new("/governed.slice")
        ));
        assert!(!in_subtree("0::/system.slice/governed.slice\n", governed));
        assert!(!in_subtree("0::/governed.slice.d\n", governed));
        assert!(!in_subtree("0::/\n", governed));
        assert!(!in_subtree("1:name=systemd:/governed.slice\n", governed));
    }

    #[test]
    fn only_root_is_admitted() {
        let caller = Caller {
            pid: i32::MAX,
            uid: 1000,
            gid: 0,
        };
        assert!(matches!(
            caller.admit(Path::new("governed.slice")),
            Err(NotAdmitted::Uid)
        ));
        let gone = Caller {
            pid: i32::MAX,
            uid: 0,
            gid: 0,
        };
        assert!(matches!(
            gone.admit(Path::new("governed.slice")),
            Err(NotAdmitted::Unknown(_))
        ));
    }
}
