//! Who carries no label and is meant for that.
//!
//! Promises: a process without a label is stopped only by an order that says so, in the zone that is the
//! deepest it is in, and one by one: whoever shares its cgroup and has a label goes on. What has only just
//! begun is meant if somebody in its cgroup was: a service manager makes processes for a program there, and
//! who is to be stopped may make others. What is held already is left alone.

use governor_common::Carrier;
use governor_core::engine::Running;

use super::{
    Order, Stopping,
    finding::{Strays, Task, is_spared},
    process::Process,
    tree,
};
use crate::inventory::Nobody;

impl Stopping<'_> {
    /// Adds them to those who left their zones.
    pub(super) fn find_nobodies(&mut self, carriers: &[Carrier], strays: &mut Strays) {
        self.nobodies.clear();
        let mut orders = self.orders.iter();
        if !orders.any(|order| order.running == Running::Unlabelled) {
            return;
        }
        let found = match (self.scene.nobodies)(carriers) {
            Ok(found) => found,
            Err(error) => {
                let why = format!("listing what runs without a label: {error:#}");
                self.failed.push((None, why));
                return;
            }
        };
        for one in found.iter().filter(|one| one.is_settled) {
            if self.meant_without(one).is_some() {
                self.shared.insert(one.cgroup.clone());
            }
        }
        for one in found {
            let Some((at, order)) = self.meant_without(&one) else {
                continue;
            };
            if is_spared(one.pid) || !self.shared.contains(&one.cgroup) || self.is_held(&one, order)
            {
                continue;
            }
            // Gone by now: then nobody is in it.
            if let Ok(place) = tree::id(&one.cgroup) {
                let task = Task::first(one.pid, one.began.0);
                strays.entry(one.pid).or_default().push((place, task));
                self.nobodies.insert(one.pid, (at, one.cgroup));
            }
        }
    }

    /// The strictest order that means it.
    fn meant_without(&self, one: &Nobody) -> Option<(usize, &Order)> {
        let orders = self.orders.iter().enumerate();
        let meant = orders
            .filter(|(_, order)| order.running == Running::Unlabelled && order.zone == one.zone);
        meant.max_by_key(|(_, order)| order.action)
    }

    /// Frozen as the order would have it. A mark that cannot be read holds nobody.
    fn is_held(&self, one: &Nobody, order: &Order) -> bool {
        order.action.mark().is_some()
            && tree::is_frozen(&one.cgroup)
            && matches!(self.scene.marks.get(&one.cgroup), Ok(Some(_)))
    }

    /// The order for a process that was asked for its label and has none: it is still the one that was found
    /// if it is where it was.
    pub(super) fn order_of_nobody(&self, process: &Process) -> Option<&Order> {
        let (at, cgroup) = self.nobodies.get(&process.pid)?;
        let place = process.cgroup(self.scene.proc).ok()??;
        let is_there = self.scene.cgroups.join(place) == *cgroup && !process.has_ended();
        self.orders.get(*at).filter(|_| is_there)
    }
}

#[cfg(test)]
mod tests {
    use std::{
        cell::RefCell,
        fs,
        path::{Path, PathBuf},
        process::{Child, Command},
    };

    use governor_core::time::BootTime;

    use super::{
        super::{Action, Scene, mark::fake::InMemory, sockets::fake::Silent, stop},
        *,
    };

    const ZONE: u32 = 3;

    fn sleeper() -> Child {
        Command::new("sleep").arg("60").spawn().unwrap()
    }

    /// Where processes of this test are, below a directory that stands for the hierarchy.
    fn place(root: &Path) -> PathBuf {
        let process = Process::open(std::process::id().cast_signed()).unwrap();
        let place = process.unwrap().cgroup(Path::new("/proc")).unwrap();
        let dir = root.join(place.unwrap());
        fs::create_dir_all(&dir).unwrap();
        dir
    }

    fn nobody(child: &Child, zone: u32, cgroup: &Path, is_settled: bool) -> Nobody {
        Nobody {
            pid: child.id().cast_signed(),
            zone,
            cgroup: cgroup.to_owned(),
            began: BootTime(7),
            is_settled,
        }
    }

    fn order(root: &Path, action: Action) -> Order {
        Order {
            zone: ZONE,
            root: root.to_owned(),
            running: Running::Unlabelled,
            action,
        }
    }

    /// Stops until nobody is found who is not ended; what failed.
    fn run(root: &Path, found: &[Nobody], order: Order) -> (usize, Vec<(Option<u32>, String)>) {
        let left = RefCell::new(found.to_vec());
        let nobodies = |_: &[Carrier]| {
            left.borrow_mut().retain(|one| {
                let process = Process::open(one.pid).unwrap();
                process.is_some_and(|process| !process.has_ended())
            });
            Ok(left.borrow().clone())
        };
        let outcome = stop(
            &Scene {
                cgroups: root,
                proc: Path::new("/proc"),
                marks: &InMemory::default(),
                carriers: &|| Ok(Vec::new()),
                label_of: &|_| Ok(None),
                nobodies: &nobodies,
                goes_on: &|| {},
            },
            &mut Silent,
            &[order],
        );
        (outcome.stopped.killed, outcome.failed)
    }

    fn has_ended(child: &mut Child) -> bool {
        child.try_wait().unwrap().is_some()
    }

    #[test]
    fn only_who_is_in_the_zone_is_meant_and_what_has_just_begun_beside_it() {
        let root = tempfile::tempdir().unwrap();
        let here = place(root.path());
        let elsewhere = root.path().join("elsewhere");
        fs::create_dir_all(&elsewhere).unwrap();
        let mut children = [(); 5].map(|()| sleeper());
        let [old, young, other, alone, moved] = &children;
        let found = [
            nobody(old, ZONE, &here, true),
            nobody(young, ZONE, &here, false),
            nobody(other, ZONE + 1, &here, true),
            // A service manager is about to execute something there.
            nobody(alone, ZONE, &elsewhere, false),
            // Another has its number by now, or it went elsewhere.
            nobody(moved, ZONE, &root.path().join("elsewhere/below"), true),
        ];
        fs::create_dir_all(elsewhere.join("below")).unwrap();
        let (killed, failed) = run(root.path(), &found, order(root.path(), Action::Kill));
        assert_eq!((killed, failed), (2, vec![]));
        for child in &mut children[..2] {
            child.wait().unwrap();
        }
        let goes_on = children[2..].iter_mut().map(|child| !has_ended(child));
        assert_eq!(goes_on.collect::<Vec<_>>(), [true; 3]);
        for mut child in children {
            drop(child.kill());
            child.wait().unwrap();
        }
    }

    #[test]
    fn whoever_has_a_label_by_now_goes_on() {
        let root = tempfile::tempdir().unwrap();
        let here = place(root.path());
        let mut child = sleeper();
        let found = vec![nobody(&child, ZONE, &here, true)];
        let label = governor_common::Label {
            zone: ZONE,
            ..governor_common::Label::default()
        };
        let outcome = stop(
            &Scene {
                cgroups: root.path(),
                proc: Path::new("/proc"),
                marks: &InMemory::default(),
                carriers: &|| Ok(Vec::new()),
                label_of: &|_| Ok(Some(label)),
                nobodies: &|_| Ok(found.clone()),
                goes_on: &|| {},
            },
            &mut Silent,
            &[order(root.path(), Action::Kill)],
        );
        assert_eq!((outcome.stopped.killed, outcome.failed), (0, vec![]));
        assert!(!has_ended(&mut child));
        child.kill().unwrap();
        child.wait().unwrap();
    }

    #[test]
    fn a_list_that_cannot_be_had_is_an_error() {
        let root = tempfile::tempdir().unwrap();
        let outcome = stop(
            &Scene {
                cgroups: root.path(),
                proc: Path::new("/proc"),
                marks: &InMemory::default(),
                carriers: &|| Ok(Vec::new()),
                label_of: &|_| Ok(None),
                nobodies: &|_| anyhow::bail!("made to fail"),
                goes_on: &|| {},
            },
            &mut Silent,
            &[order(root.path(), Action::Kill)],
        );
        assert_eq!(outcome.failed.len(), 1);
    }
}
