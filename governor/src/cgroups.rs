//! Placing work in cgroups, and counting what is there.
//!
//! Promises: a leaf of its own for each instance started by hand; leaves that nothing runs in any more
//! go. Stopping what runs is `stopping`. Refuses to follow names out of the hierarchy.

use std::{fs, io, os::fd::OwnedFd, path::Path};

use anyhow::{Context as _, Result, ensure};
use rustix::process::{Pid, PidfdFlags, pidfd_open};

use crate::stopping::{HELD_PREFIX, tree};

/// Where the unified hierarchy is mounted.
pub const ROOT: &str = "/sys/fs/cgroup";

/// Makes a leaf below `zone` (a path like `governed.slice/governed-agents.slice`) and moves `pid`
/// into it. Returns the leaf's path below the root.
pub fn enter(zone: &str, name: &str, pid: i32) -> Result<String> {
    ensure!(
        !zone
            .split('/')
            .any(|part| part.is_empty() || part == "." || part == ".."),
        "`{zone}` is not a cgroup path"
    );
    let relative = format!("{zone}/{name}");
    let leaf = Path::new(ROOT).join(&relative);
    // The zone's own cgroup may not exist yet: systemd makes a slice when its first unit starts.
    fs::create_dir_all(&leaf).with_context(|| format!("making the cgroup `{}`", leaf.display()))?;
    tree::write(&leaf.join("cgroup.procs"), &pid.to_string())
        .with_context(|| format!("moving process {pid} into `{relative}`"))?;
    Ok(relative)
}

/// Removes leaves of ours that nothing runs in any more.
pub fn sweep(zone: &str) {
    let Ok(children) = fs::read_dir(Path::new(ROOT).join(zone)) else {
        return;
    };
    for child in children.flatten() {
        let name = child.file_name();
        let name = name.to_string_lossy();
        if name.starts_with(LEAF_PREFIX) || name.starts_with(HELD_PREFIX) {
            // For what it removes the kernel takes the lock of all cgroups, so it is not asked for nothing.
            if says(&child.path(), "populated 1") {
                continue;
            }
            // A cgroup that is in use cannot be removed: the kernel decides, not a count of ours.
            drop(fs::remove_dir(child.path()));
        }
    }
}

/// How leaves of ours are named. Not `run-`: systemd names transient units so, and a cgroup that it
/// has just made is empty too.
pub const LEAF_PREFIX: &str = "governor-run-";

/// Populated cgroups below `zone`, and how many of them are frozen.
pub fn count(zone: &str) -> (u32, u32) {
    let (mut leaves, mut frozen) = (0, 0);
    for cgroup in tree::below(&Path::new(ROOT).join(zone)).cgroups {
        if tree::pids(&cgroup).is_ok_and(|pids| pids.is_empty()) {
            continue;
        }
        leaves += 1;
        frozen += u32::from(says(&cgroup, "frozen 1"));
    }
    (leaves, frozen)
}

/// Whether this is a line of its `cgroup.events`, as far as can be told.
fn says(cgroup: &Path, line: &str) -> bool {
    let events = fs::read_to_string(cgroup.join("cgroup.events"));
    events.is_ok_and(|events| events.lines().any(|said| said == line))
}

/// A handle on a process that cannot come to mean another.
pub fn pidfd(pid: i32) -> Option<OwnedFd> {
    open_pidfd(pid).ok()
}

/// As [`pidfd`]; the error tells a process that is gone (`ESRCH`) from one that cannot be had.
pub fn open_pidfd(pid: i32) -> io::Result<OwnedFd> {
    let pid = Pid::from_raw(pid).ok_or(io::ErrorKind::InvalidInput)?;
    Ok(pidfd_open(pid, PidfdFlags::empty())?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_gone_is_told_from_what_cannot_be_had() {
        let gone = open_pidfd(i32::MAX).unwrap_err();
        assert_eq!(gone.raw_os_error(), Some(libc::ESRCH), "{gone}");
        assert!(pidfd(std::process::id() as i32).is_some());
    }
}
