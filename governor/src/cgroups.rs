//! Reaching what runs: cgroups as handles for placing, freezing and killing.
//!
//! Promises: a leaf of its own for each instance started by hand; a stop reaches every cgroup below
//! the zone that holds a task of the workload (a shared cgroup takes the action whole), and what it
//! could not reach is an error. Refuses to follow names out of the hierarchy.

use std::{
    collections::BTreeSet,
    fs,
    io::{self, Write as _},
    os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd},
    path::{Path, PathBuf},
    ptr,
};

use anyhow::{Context as _, Result, ensure};
use governor_common::Label;
use governor_core::policy::OnRevoke;
use nix::errno::Errno;

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

/// cgroups that were reached, by what was done to them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stopped {
    pub(crate) frozen: usize,
    pub(crate) quarantined: usize,
    pub(crate) killed: usize,
}

impl std::ops::AddAssign for Stopped {
    fn add_assign(&mut self, other: Self) {
        self.frozen += other.frozen;
        self.quarantined += other.quarantined;
        self.killed += other.killed;
    }
}

/// Applies `action` to every cgroup below `zone` that holds a process for which `matches` is true. One
/// whose label cannot be read counts as matching. Goes over the zone again for what moved meanwhile.
pub fn stop(
    zone: &str,
    action: OnRevoke,
    label_of: &dyn Fn(i32) -> Result<Option<Label>>,
    matches: &dyn Fn(&Label) -> bool,
) -> Result<Stopped> {
    stop_below(&Path::new(ROOT).join(zone), action, &|pid| {
        match label_of(pid) {
            Ok(label) => label.is_some_and(|label| matches(&label)),
            // What cannot be told apart from the workload is treated like it, unless it is gone.
            Err(_) => Path::new("/proc").join(pid.to_string()).exists(),
        }
    })
}

fn stop_below(root: &Path, action: OnRevoke, is_meant: &dyn Fn(i32) -> bool) -> Result<Stopped> {
    let mut reached = BTreeSet::new();
    let mut seen = BTreeSet::new();
    let mut failed = None;
    if action != OnRevoke::Deny {
        for _ in 0..PASSES {
            let (cgroups, unread) = below(root);
            let (before, mut empty) = (seen.len(), true);
            failed = unread;
            for cgroup in cgroups {
                let meant: Vec<i32> = match pids(&cgroup) {
                    Ok(pids) => pids.into_iter().filter(|pid| is_meant(*pid)).collect(),
                    Err(error) => {
                        failed = Some((cgroup, error));
                        continue;
                    }
                };
                if meant.is_empty() {
                    continue;
                }
                empty = false;
                match act(root, &cgroup, action, &meant) {
                    Ok(Some(stopped)) => drop(reached.insert(stopped)),
                    // Gone meanwhile: what was in it has ended or is found elsewhere.
                    Ok(None) => {}
                    // One that will not be reached must not keep the others running.
                    Err(error) => failed = Some((cgroup.clone(), error)),
                }
                seen.extend(meant.into_iter().map(|pid| (cgroup.clone(), pid)));
            }
            if empty || seen.len() == before {
                break;
            }
        }
    }
    if let Some((cgroup, error)) = failed {
        return Err(error).with_context(|| {
            let cgroup = cgroup.display();
            format!("reaching what runs in `{cgroup}`; see what it holds and revoke it again")
        });
    }
    let mut stopped = Stopped::default();
    match action {
        OnRevoke::Deny => {}
        OnRevoke::Freeze => stopped.frozen = reached.len(),
        OnRevoke::Quarantine => stopped.quarantined = reached.len(),
        OnRevoke::Kill => stopped.killed = reached.len(),
    }
    Ok(stopped)
}

/// Stops one cgroup and what is below it; the cgroup that was stopped. `None`: it is gone.
fn act(root: &Path, cgroup: &Path, action: OnRevoke, meant: &[i32]) -> io::Result<Option<PathBuf>> {
    let whole = |()| cgroup.to_owned();
    let result = match action {
        OnRevoke::Deny => return Ok(None),
        OnRevoke::Freeze | OnRevoke::Quarantine => {
            write(&cgroup.join("cgroup.freeze"), "1").map(whole)
        }
        OnRevoke::Kill => match write(&cgroup.join("cgroup.kill"), "1") {
            Err(error) if is(&error, Errno::EOPNOTSUPP) => kill_threaded(root, cgroup, meant),
            result => result.map(whole),
        },
    };
    match result {
        Ok(stopped) => Ok(Some(stopped)),
        Err(error) if has_vanished(&error) => Ok(None),
        Err(error) => Err(error),
    }
}

/// A threaded cgroup holds threads, and only a domain can be killed: the nearest one above it that is
/// still inside the zone. The zone itself holds other work too, so there its processes are killed
/// one by one.
fn kill_threaded(root: &Path, cgroup: &Path, meant: &[i32]) -> io::Result<PathBuf> {
    let inside = |dir: &&Path| dir.starts_with(root) && *dir != root;
    for domain in cgroup.ancestors().skip(1).take_while(inside) {
        match write(&domain.join("cgroup.kill"), "1") {
            Err(error) if is(&error, Errno::EOPNOTSUPP) => {}
            result => return result.map(|()| domain.to_owned()),
        }
    }
    let mut failed = None;
    for pid in meant {
        let killed = open_pidfd(*pid).and_then(|fd| kill(&fd));
        match killed {
            Err(error) if !is(&error, Errno::ESRCH) => failed = Some(error),
            Ok(()) | Err(_) => {}
        }
    }
    failed.map_or(Ok(cgroup.to_owned()), Err)
}

fn kill(process: &OwnedFd) -> io::Result<()> {
    // SAFETY: without details (a null pointer is allowed for them) the call takes integers only.
    let result = unsafe {
        libc::syscall(
            libc::SYS_pidfd_send_signal,
            process.as_raw_fd(),
            libc::SIGKILL,
            ptr::null::<libc::siginfo_t>(),
            0,
        )
    };
    if result == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

/// Populated cgroups below `zone`, and how many of them are frozen.
pub fn count(zone: &str) -> (u32, u32) {
    let (mut leaves, mut frozen) = (0, 0);
    for cgroup in below(&Path::new(ROOT).join(zone)).0 {
        if pids(&cgroup).is_ok_and(|pids| pids.is_empty()) {
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
    open_pidfd(pid).ok()
}

/// As [`pidfd`]; the error tells a process that is gone (`ESRCH`) from one that cannot be had.
pub fn open_pidfd(pid: i32) -> io::Result<OwnedFd> {
    // SAFETY: the system call takes two integers and touches no memory of ours.
    let fd = unsafe { libc::syscall(libc::SYS_pidfd_open, pid, 0) };
    match i32::try_from(fd) {
        // SAFETY: the kernel just gave us this descriptor; nobody else owns it.
        Ok(fd) if fd >= 0 => Ok(unsafe { OwnedFd::from_raw_fd(fd) }),
        Ok(_) | Err(_) => Err(io::Error::last_os_error()),
    }
}

/// `root`, everything below it, and a cgroup that exists and cannot be listed.
fn below(root: &Path) -> (Vec<PathBuf>, Option<(PathBuf, io::Error)>) {
    let mut found = vec![root.to_owned()];
    let mut failed = None;
    let mut next = 0;
    while let Some(dir) = found.get(next).cloned() {
        next += 1;
        let children = match fs::read_dir(&dir) {
            Ok(children) => children,
            Err(error) => {
                if !has_vanished(&error) {
                    failed = Some((dir, error));
                }
                continue;
            }
        };
        for child in children.flatten() {
            if child.file_type().is_ok_and(|kind| kind.is_dir()) {
                found.push(child.path());
            }
        }
    }
    (found, failed)
}

/// The processes in a cgroup; none if it does not exist any more. A threaded cgroup does not list
/// processes, so there they are the ones its threads belong to.
fn pids(cgroup: &Path) -> io::Result<Vec<i32>> {
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

fn write(path: &Path, value: &str) -> io::Result<()> {
    fs::OpenOptions::new()
        .write(true)
        .open(path)?
        .write_all(value.as_bytes())
}

/// Whether an error says that the cgroup was removed meanwhile.
fn has_vanished(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::NotFound || is(error, Errno::ENODEV)
}

fn is(error: &io::Error, errno: Errno) -> bool {
    error.raw_os_error() == Some(errno as i32)
}

/// How often a zone is gone over for what moved between its cgroups. Two passes see all that moved
/// once; the rest is for a zone that changes all the time.
const PASSES: usize = 8;

#[cfg(test)]
mod tests {
    use std::cell::RefCell;

    use super::*;

    fn cgroup(root: &Path, name: &str, procs: &str) -> PathBuf {
        let dir = root.join(name);
        fs::create_dir_all(&dir).unwrap();
        for (file, text) in [
            ("cgroup.procs", procs),
            ("cgroup.kill", ""),
            ("cgroup.freeze", ""),
        ] {
            fs::write(dir.join(file), text).unwrap();
        }
        dir
    }

    fn written(dir: &Path, file: &str) -> bool {
        !fs::read_to_string(dir.join(file)).unwrap().is_empty()
    }

    #[test]
    fn a_stop_reaches_what_is_meant_and_counts_by_action() {
        let root = tempfile::tempdir().unwrap();
        let one = cgroup(root.path(), "one", "1\n2\n");
        let two = cgroup(root.path(), "deep/two", "3\n");
        let stopped = stop_below(root.path(), OnRevoke::Freeze, &|pid| pid == 2).unwrap();
        assert_eq!((stopped.frozen, stopped.killed), (1, 0));
        assert!(written(&one, "cgroup.freeze") && !written(&two, "cgroup.freeze"));
        let stopped = stop_below(root.path(), OnRevoke::Kill, &|_| true).unwrap();
        assert_eq!((stopped.frozen, stopped.killed), (0, 2));
        assert!(written(&one, "cgroup.kill") && written(&two, "cgroup.kill"));
        let stopped = stop_below(root.path(), OnRevoke::Deny, &|_| true).unwrap();
        assert_eq!(stopped, Stopped::default());
    }

    #[test]
    fn what_moved_during_a_pass_is_reached_by_the_next() {
        let root = tempfile::tempdir().unwrap();
        let first = cgroup(root.path(), "first", "");
        let second = cgroup(root.path(), "second", "7\n");
        let (from, to) = (second.join("cgroup.procs"), first.join("cgroup.procs"));
        let moved = RefCell::new(false);
        // The process leaves while it is looked at, for the other cgroup whichever came first.
        let stopped = stop_below(root.path(), OnRevoke::Kill, &|_| {
            if !moved.replace(true) {
                fs::write(&from, "").unwrap();
                fs::write(&to, "7\n").unwrap();
            }
            true
        })
        .unwrap();
        assert_eq!(stopped.killed, 2);
        assert!(written(&first, "cgroup.kill"));
    }

    #[test]
    fn a_cgroup_that_is_gone_is_no_error_and_one_that_resists_is() {
        let root = tempfile::tempdir().unwrap();
        let gone = root.path().join("gone");
        assert_eq!(
            stop_below(&gone, OnRevoke::Kill, &|_| true).unwrap(),
            Stopped::default()
        );
        let dir = cgroup(root.path(), "one", "1\n");
        fs::remove_file(dir.join("cgroup.kill")).unwrap();
        fs::create_dir(dir.join("cgroup.kill")).unwrap();
        let other = cgroup(root.path(), "two", "2\n");
        assert!(stop_below(root.path(), OnRevoke::Kill, &|_| true).is_err());
        assert!(
            written(&other, "cgroup.kill"),
            "one failure stopped the rest"
        );
    }

    #[test]
    fn a_label_that_cannot_be_read_counts_unless_the_process_is_gone() {
        let root = tempfile::tempdir().unwrap();
        let own = std::process::id() as i32;
        cgroup(root.path(), "one", &format!("{own}\n{}\n", i32::MAX));
        let zone = root.path().to_str().unwrap();
        let asked = |unreadable: i32| {
            let label_of = move |pid| {
                anyhow::ensure!(pid != unreadable, "no");
                Ok(None)
            };
            stop(zone, OnRevoke::Kill, &label_of, &|_| true).unwrap()
        };
        assert_eq!(asked(own).killed, 1);
        assert_eq!(asked(i32::MAX).killed, 0);
    }

    #[test]
    fn a_threaded_cgroup_is_killed_at_its_domain_or_process_by_process() {
        let root = tempfile::tempdir().unwrap();
        let leaf = cgroup(root.path(), "leaf", "");
        let stopped = kill_threaded(root.path(), &leaf.join("threads"), &[]).unwrap();
        assert_eq!(stopped, leaf);
        // Directly below the zone: its own domain is the zone's, where other work runs too.
        let own = cgroup(root.path(), "", "").join("threads");
        let mut child = std::process::Command::new("sleep")
            .arg("60")
            .spawn()
            .unwrap();
        let pids = [child.id() as i32, i32::MAX];
        assert_eq!(kill_threaded(root.path(), &own, &pids).unwrap(), own);
        let ended = child.wait().unwrap();
        assert_eq!(
            std::os::unix::process::ExitStatusExt::signal(&ended),
            Some(libc::SIGKILL)
        );
        assert!(!written(root.path(), "cgroup.kill"));
    }

    #[test]
    fn a_thread_is_followed_to_its_process() {
        let thread = nix::unistd::gettid().as_raw();
        assert_eq!(process_of(thread), Some(std::process::id() as i32));
        assert_eq!(process_of(i32::MAX), None);
        let gone = open_pidfd(i32::MAX).unwrap_err();
        assert!(is(&gone, Errno::ESRCH), "{gone}");
    }
}
