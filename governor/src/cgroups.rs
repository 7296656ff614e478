//! Reaching what runs: cgroups as handles for placing, freezing and killing.
//!
//! Promises: a leaf of its own for each instance started by hand; a stop reaches every cgroup below
//! the zone that holds a task of the workload (a shared cgroup takes the action whole). Refuses to
//! follow names out of the hierarchy.

use std::{
    fs,
    io::Write as _,
    os::fd::{FromRawFd as _, OwnedFd},
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result, ensure};
use governor_common::Label;
use governor_core::policy::OnRevoke;

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
    write(&leaf.join("cgroup.procs"), &pid.to_string())
        .with_context(|| format!("moving process {pid} into `{relative}`"))?;
    Ok(relative)
}

/// Removes leaves made by [`enter`] that nothing runs in any more.
pub fn sweep(zone: &str) {
    let Ok(children) = fs::read_dir(Path::new(ROOT).join(zone)) else {
        return;
    };
    for child in children.flatten() {
        if child.file_name().to_string_lossy().starts_with(LEAF_PREFIX) {
            // A cgroup that is in use cannot be removed: the kernel decides, not a count of ours.
            drop(fs::remove_dir(child.path()));
        }
    }
}

/// How leaves of ours are named. Not `run-`: systemd names transient units so, and a cgroup that it
/// has just made is empty too.
pub const LEAF_PREFIX: &str = "governor-run-";

/// Applies `action` to every cgroup below `zone` that holds a task for which `matches` is true.
/// Returns how many cgroups were reached.
pub fn stop(
    zone: &str,
    action: OnRevoke,
    label_of: &dyn Fn(i32) -> Option<Label>,
    matches: &dyn Fn(&Label) -> bool,
) -> Result<usize> {
    let file = match action {
        OnRevoke::Deny => return Ok(0),
        OnRevoke::Freeze | OnRevoke::Quarantine => "cgroup.freeze",
        OnRevoke::Kill => "cgroup.kill",
    };
    let mut reached = 0;
    let mut failed = None;
    for cgroup in below(&Path::new(ROOT).join(zone)) {
        let pids = pids(&cgroup);
        if !pids
            .iter()
            .any(|pid| label_of(*pid).is_some_and(|label| matches(&label)))
        {
            continue;
        }
        match write(&cgroup.join(file), "1") {
            Ok(()) => reached += 1,
            // One that will not be reached must not keep the others running.
            Err(error) => failed = Some((cgroup, error)),
        }
    }
    match failed {
        None => Ok(reached),
        Some((cgroup, error)) => {
            Err(error).with_context(|| format!("writing `{file}` of `{}`", cgroup.display()))
        }
    }
}

/// Populated cgroups below `zone`, and how many of them are frozen.
pub fn count(zone: &str) -> (u32, u32) {
    let (mut leaves, mut frozen) = (0, 0);
    for cgroup in below(&Path::new(ROOT).join(zone)) {
        if pids(&cgroup).is_empty() {
            continue;
        }
        leaves += 1;
        let events = fs::read_to_string(cgroup.join("cgroup.events")).unwrap_or_default();
        frozen += u32::from(events.lines().any(|line| line == "frozen 1"));
    }
    (leaves, frozen)
}

/// A handle on a process that cannot come to mean another.
pub fn pidfd(pid: i32) -> Option<OwnedFd> {
    // SAFETY: the system call takes two integers and touches no memory of ours.
    let fd = unsafe { libc::syscall(libc::SYS_pidfd_open, pid, 0) };
    let fd = i32::try_from(fd).ok().filter(|fd| *fd >= 0)?;
    // SAFETY: the kernel just gave us this descriptor; nobody else owns it.
    Some(unsafe { OwnedFd::from_raw_fd(fd) })
}

fn below(root: &Path) -> Vec<PathBuf> {
    let mut found = vec![root.to_owned()];
    let mut next = 0;
    while let Some(dir) = found.get(next).cloned() {
        next += 1;
        let Ok(children) = fs::read_dir(&dir) else {
            continue;
        };
        for child in children.flatten() {
            if child.file_type().is_ok_and(|kind| kind.is_dir()) {
                found.push(child.path());
            }
        }
    }
    found
}

fn pids(cgroup: &Path) -> Vec<i32> {
    fs::read_to_string(cgroup.join("cgroup.procs"))
        .unwrap_or_default()
        .lines()
        .filter_map(|line| line.parse().ok())
        .collect()
}

fn write(path: &Path, value: &str) -> std::io::Result<()> {
    fs::OpenOptions::new()
        .write(true)
        .open(path)?
        .write_all(value.as_bytes())
}
