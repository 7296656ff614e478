//! What left its zone's cgroup: found by its label among all processes.
//!
//! Promises: a straggler is killed through its pidfd, or moved into a leaf of its own below the zone,
//! which is frozen once it is certain that it was this process that moved. Moving takes a number: if
//! the process ended meanwhile, whoever had the number by then is put back, and was never frozen.

use std::{
    collections::BTreeSet,
    fs, io,
    path::{Path, PathBuf},
};

use super::{
    Action, Stopping,
    mark::Mark,
    process::{self, Process},
    sockets::{self, Sockets},
    tree,
};

/// How leaves for stragglers are named.
pub(crate) const HELD_PREFIX: &str = "governor-held-";

/// Where a straggler ended up.
enum Caught {
    Held(PathBuf),
    Ended,
}

impl Stopping<'_> {
    /// Every process that is not `covered`; whether somebody new was found.
    pub(super) fn go_after(&mut self, network: &mut dyn Sockets, covered: &BTreeSet<i32>) -> bool {
        let pids = match process::all(self.scene.proc) {
            Ok(pids) => pids,
            Err(error) => {
                self.failed
                    .push((None, format!("listing processes: {error}")));
                return false;
            }
        };
        let (mut found, mut victims) = (false, Vec::new());
        for pid in pids.into_iter().filter(|pid| !covered.contains(pid)) {
            let Some((process, action, zone, root)) = self.straggler(pid) else {
                continue;
            };
            found |= self.seen.insert((PathBuf::new(), pid));
            let Some(mark) = action.mark() else {
                victims.push((process, zone));
                continue;
            };
            match self.hold(&process, &root, mark) {
                Ok(Caught::Held(leaf)) => {
                    if action.closes() {
                        self.doomed.cgroups.extend(tree::id(&leaf).ok());
                    }
                    self.seen.insert((leaf.clone(), pid));
                    self.reached.insert(leaf, action);
                }
                Ok(Caught::Ended) => {}
                Err(error) => {
                    tracing::warn!(pid, "it cannot be frozen, so it is killed: {error}");
                    victims.push((process, zone));
                }
            }
        }
        self.kill(network, victims);
        found
    }

    /// Who left its zone and is meant, with what is to be done and where it belongs.
    fn straggler(&mut self, pid: i32) -> Option<(Process, Action, u32, PathBuf)> {
        if self
            .killed
            .get(&pid)
            .is_some_and(|known| !known.has_ended())
        {
            return None;
        }
        let process = match Process::open(pid) {
            Ok(process) => process?,
            Err(error) => {
                let why = format!("taking hold of process {pid}: {error}");
                self.failed.push((None, why));
                return None;
            }
        };
        let label = self.scene.label(&process);
        if process.has_ended() {
            return None;
        }
        match label {
            Ok(label) => {
                let label = label?;
                let orders = self.orders.iter().filter(|order| order.means(&label));
                let order = orders.max_by_key(|order| order.action)?;
                Some((process, order.action, order.zone, order.root.clone()))
            }
            Err(error) => {
                // Outside of the zone it may be anybody's.
                let why = format!("reading the label of process {pid}: {error:#}");
                self.failed.push((None, why));
                None
            }
        }
    }

    fn kill(&mut self, network: &mut dyn Sockets, victims: Vec<(Process, u32)>) {
        let mut open = BTreeSet::new();
        for (process, _) in &victims {
            // Who cannot be asked any more loses them by ending.
            open.extend(process.sockets(self.scene.proc).unwrap_or_default());
        }
        match sockets::named(network, &open) {
            Ok(sockets) => self.doomed.sockets.extend(sockets),
            Err(error) => self.failed.push((None, format!("{error:#}"))),
        }
        for (process, zone) in victims {
            match process.kill() {
                Ok(()) => drop(self.killed.insert(process.pid, process)),
                Err(error) => {
                    let why = format!("killing process {}: {error}", process.pid);
                    self.failed.push((Some(zone), why));
                }
            }
        }
    }

    /// Moves a process into a leaf of its own and freezes that.
    fn hold(&self, process: &Process, root: &Path, mark: Mark) -> io::Result<Caught> {
        let Some(from) = process.cgroup(self.scene.proc)? else {
            return Ok(Caught::Ended);
        };
        let leaf = new_leaf(root, process.pid)?;
        let moved = tree::write(&leaf.join("cgroup.procs"), &process.pid.to_string());
        if process.has_ended() {
            let from = self.scene.cgroups.join(from).join("cgroup.procs");
            for stranger in tree::pids(&leaf)? {
                tree::write(&from, &stranger.to_string())?;
            }
            fs::remove_dir(&leaf)?;
            return Ok(Caught::Ended);
        }
        if let Err(error) = moved.and_then(|()| self.freeze(&leaf, mark)) {
            // In use by now: then it is found there.
            drop(fs::remove_dir(&leaf));
            return Err(error);
        }
        Ok(Caught::Held(leaf))
    }
}

/// The zone's own cgroup may be gone: systemd removes a slice that is empty.
fn new_leaf(root: &Path, pid: i32) -> io::Result<PathBuf> {
    fs::create_dir_all(root)?;
    for number in 0..=u32::MAX {
        let leaf = root.join(format!("{HELD_PREFIX}{pid}-{number}"));
        match fs::create_dir(&leaf) {
            Ok(()) => return Ok(leaf),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(error),
        }
    }
    Err(io::ErrorKind::AlreadyExists.into())
}
