//! What left its zone's cgroup: found by its label, wherever it is.
//!
//! Promises: a straggler is killed through its pidfd, or moved into a leaf of its own below the zone,
//! which is frozen once it is certain that it was this process that moved. Moving takes a number: if
//! the process ended meanwhile, whoever had the number by then was never frozen, and is put where the
//! process was, or into the root cgroup; where it came from itself nobody knows any more.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use super::{
    Action, Stopping,
    finding::Strays,
    mark::Mark,
    process::Process,
    sockets::{self, Sockets},
    tree,
};

/// How leaves for stragglers are named.
pub(crate) const HELD_PREFIX: &str = "governor-held-";

/// Where a straggler ended up.
enum Caught {
    /// In this leaf, which has this number.
    Held(PathBuf, u64),
    Ended,
}

impl Stopping<'_> {
    /// Every process that carries a label outside of its zone; whether somebody new was found.
    pub(super) fn go_after(&mut self, network: &mut dyn Sockets, strays: &Strays) -> bool {
        let (mut found, mut victims) = (false, Vec::new());
        for (pid, seen) in strays {
            (self.scene.goes_on)();
            let Some((process, action, zone, root)) = self.straggler(*pid) else {
                continue;
            };
            for (place, task) in seen {
                found |= self.seen.one(*place, *task);
            }
            let Some(mark) = action.mark() else {
                victims.push((process, zone));
                continue;
            };
            match self.hold(&process, &root, mark) {
                Ok(Caught::Held(leaf, id)) => {
                    if action.closes() {
                        self.doomed.cgroups.insert(id);
                    }
                    for (_, task) in seen {
                        self.seen.one(id, *task);
                    }
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
                let order = match label {
                    Some(label) => self.wanted(&label)?,
                    None => self.order_of_nobody(&process)?,
                };
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
        if victims.is_empty() {
            return;
        }
        let proc = self.scene.proc;
        let mut processes = victims.iter().map(|(process, _)| process);
        // Who cannot be asked any more loses them by ending.
        let open = |process: &Process| {
            (self.scene.goes_on)();
            process.sockets(proc).unwrap_or_default()
        };
        match sockets::open_in(network, &mut processes.by_ref().map(open)) {
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
        // Some kernels do not tell a path that is too long.
        let from = match process.cgroup(self.scene.proc) {
            Ok(None) => return Ok(Caught::Ended),
            Ok(from) => from,
            Err(error) if tree::is_too_deep(&error) => None,
            Err(error) => return Err(error),
        };
        let leaf = new_leaf(root, process.pid)?;
        let moved = tree::write(&leaf.join("cgroup.procs"), &process.pid.to_string());
        if process.has_ended() {
            let of = |place: &str| self.scene.cgroups.join(place).join("cgroup.procs");
            let (from, root) = (of(from.as_deref().unwrap_or_default()), of(""));
            for stranger in tree::pids(&leaf)? {
                let stranger = stranger.to_string();
                tree::write(&from, &stranger).or_else(|_| tree::write(&root, &stranger))?;
            }
            fs::remove_dir(&leaf)?;
            return Ok(Caught::Ended);
        }
        if let Err(error) = moved.and_then(|()| self.freeze(&leaf, mark)) {
            // In use by now: then it is found there.
            drop(fs::remove_dir(&leaf));
            return Err(error);
        }
        let id = tree::id(&leaf)?;
        Ok(Caught::Held(leaf, id))
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
