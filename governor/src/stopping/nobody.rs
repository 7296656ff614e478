//! Who carries no label and is meant for that.
//!
//! Promises: a process without a label is stopped only by an order that says so, in the zone that is the
//! deepest it is in, and whoever shares its cgroup and has a label goes on. What has only just
//! begun is meant if somebody in its cgroup was: a service manager makes processes for a program there, and
//! who is to be stopped may make others. What is held already, as strictly, is left alone. A cgroup without
//! others in it in which nobody has a label is killed whole, so that nobody gets away by forking; anything
//! else is reached one by one.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
};

use governor_common::Carrier;
use governor_core::engine::Running;

use super::{
    Action, Order, Stopping,
    finding::{Strays, Task, is_spared},
    mark::Marks,
    process::Process,
    tree,
};
use crate::inventory::Nobody;

/// Whether somebody in this cgroup is held as strictly as that, or more. A mark that cannot be read holds nobody.
pub(crate) fn is_held(marks: &dyn Marks, cgroup: &Path, action: Action) -> bool {
    let wanted = action.mark();
    wanted.is_some_and(|wanted| {
        let mark = marks.get(cgroup).ok().flatten();
        tree::is_frozen(cgroup) && mark.is_some_and(|mark| mark >= wanted)
    })
}

impl Stopping<'_> {
    /// Kills whole cgroups of them, and adds the others to those who left their zones; whether somebody new was
    /// killed.
    pub(super) fn find_nobodies(&mut self, carriers: &[Carrier], strays: &mut Strays) -> bool {
        self.nobodies.clear();
        let mut orders = self.orders.iter();
        if !orders.any(|order| order.running == Running::Unlabelled) {
            return false;
        }
        let found = match (self.scene.nobodies)(carriers) {
            Ok(found) => found,
            Err(error) => {
                let why = format!("listing what runs without a label: {error:#}");
                self.failed.push((None, why));
                return false;
            }
        };
        for one in found.iter().filter(|one| one.is_settled) {
            if self.meant_without(one).is_some() {
                self.shared.insert(one.cgroup.clone());
            }
        }
        let mut meant: BTreeMap<PathBuf, Vec<Nobody>> = BTreeMap::new();
        for one in found {
            if self.shared.contains(&one.cgroup) {
                meant.entry(one.cgroup.clone()).or_default().push(one);
            }
        }
        let labelled: BTreeSet<u64> = carriers.iter().map(|one| one.cgroup).collect();
        let mut new = false;
        for (cgroup, mut all) in meant {
            // Gone by now: then nobody is in it.
            let Ok(place) = tree::id(&cgroup) else {
                continue;
            };
            let may_be_killed =
                !labelled.contains(&place) && all.iter().all(|one| !is_spared(one.pid));
            if may_be_killed && self.kill_whole(&cgroup, &all) {
                self.doomed.cgroups.insert(place);
                for one in &all {
                    new |= self.seen.one(place, Task::first(one.pid, one.began.0));
                }
                self.reached.insert(cgroup.clone(), Action::Kill);
                // See `leaderless`.
                all.retain(|one| one.is_leaderless);
            }
            for one in all.into_iter().filter(|one| !is_spared(one.pid)) {
                let Some((at, order)) = self.meant_without(&one) else {
                    continue;
                };
                if is_held(self.scene.marks, &cgroup, order.action) {
                    continue;
                }
                let task = Task::first(one.pid, one.began.0);
                strays.entry(one.pid).or_default().push((place, task));
                self.nobodies.insert(one.pid, (at, one.cgroup));
            }
        }
        new
    }

    /// Whether it could be: all of them are to be killed, and nobody else is in it or below.
    fn kill_whole(&self, cgroup: &Path, all: &[Nobody]) -> bool {
        let mut orders = all.iter().map(|one| self.meant_without(one));
        let only_these = orders.all(|order| {
            order.is_some_and(|(_, order)| order.action == Action::Kill && order.root != cgroup)
        });
        let below = tree::below(cgroup);
        only_these
            && below.unread.is_none()
            && below.too_deep.is_none()
            && below.cgroups.len() == 1
            && tree::write(&cgroup.join("cgroup.kill"), "1").is_ok()
    }

    /// The strictest order that means it.
    fn meant_without(&self, one: &Nobody) -> Option<(usize, &Order)> {
        let orders = self.orders.iter().enumerate();
        let meant = orders
            .filter(|(_, order)| order.running == Running::Unlabelled && order.zone == one.zone);
        meant.max_by_key(|(_, order)| order.action)
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
        super::{
            Outcome, Scene,
            mark::{Mark, fake::InMemory},
            sockets::fake::Silent,
            stop,
        },
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
            is_leaderless: false,
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

    /// Stops whom `nobodies` finds, where every process has this label.
    fn stopped(
        root: &Path,
        label: Option<governor_common::Label>,
        nobodies: &dyn Fn(&[Carrier]) -> anyhow::Result<Vec<Nobody>>,
        order: Order,
    ) -> Outcome {
        let scene = Scene {
            cgroups: root,
            proc: Path::new("/proc"),
            marks: &InMemory::default(),
            carriers: &|| Ok(Vec::new()),
            label_of: &|_| Ok(label),
            nobodies,
            goes_on: &|| {},
        };
        stop(&scene, &mut Silent, &[order])
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
        let outcome = stopped(root, None, &nobodies, order);
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
    fn a_leaf_where_nobody_has_a_label_is_killed_whole() {
        let root = tempfile::tempdir().unwrap();
        let leaf = root.path().join("leaf");
        fs::create_dir_all(&leaf).unwrap();
        fs::write(leaf.join("cgroup.kill"), "").unwrap();
        fs::write(leaf.join("cgroup.events"), "populated 0\n").unwrap();
        let mut child = sleeper();
        // No process is asked: the kernel has it in hand, whoever forks meanwhile.
        let found = [nobody(&child, ZONE, &leaf, true)];
        let (killed, failed) = run(root.path(), &found, order(root.path(), Action::Kill));
        assert_eq!((killed, failed), (1, vec![]));
        assert_eq!(fs::read_to_string(leaf.join("cgroup.kill")).unwrap(), "1");
        // The zone itself is not, nor is what has others below it.
        for (dir, root) in [
            (&leaf, leaf.as_path()),
            (&root.path().to_owned(), root.path()),
        ] {
            fs::write(dir.join("cgroup.kill"), "").unwrap();
            let found = [nobody(&child, ZONE, dir, true)];
            run(root, &found, order(root, Action::Kill));
            assert_eq!(fs::read_to_string(dir.join("cgroup.kill")).unwrap(), "");
        }
        child.kill().unwrap();
        child.wait().unwrap();
    }

    #[test]
    fn only_what_is_held_as_strictly_is_left_alone() {
        let root = tempfile::tempdir().unwrap();
        let leaf = root.path().join("leaf");
        fs::create_dir_all(&leaf).unwrap();
        let marks = InMemory::default();
        let frozen = |word: &str| fs::write(leaf.join("cgroup.freeze"), word).unwrap();
        frozen("1");
        assert!(!is_held(&marks, &leaf, Action::Pause), "by somebody else");
        marks.raise(&leaf, Mark::Frozen).unwrap();
        assert!(is_held(&marks, &leaf, Action::Freeze));
        assert!(
            !is_held(&marks, &leaf, Action::Pause),
            "trust that returns ends it"
        );
        marks.raise(&leaf, Mark::Paused).unwrap();
        assert!(is_held(&marks, &leaf, Action::Pause));
        assert!(!is_held(&marks, &leaf, Action::Kill));
        frozen("0");
        assert!(!is_held(&marks, &leaf, Action::Pause), "it goes on");
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
        let order = order(root.path(), Action::Kill);
        let outcome = stopped(root.path(), Some(label), &|_| Ok(found.clone()), order);
        assert_eq!((outcome.stopped.killed, outcome.failed), (0, vec![]));
        assert!(!has_ended(&mut child));
        child.kill().unwrap();
        child.wait().unwrap();
    }

    #[test]
    fn a_list_that_cannot_be_had_is_an_error() {
        let root = tempfile::tempdir().unwrap();
        let order = order(root.path(), Action::Kill);
        let outcome = stopped(root.path(), None, &|_| anyhow::bail!("made to fail"), order);
        assert_eq!(outcome.failed.len(), 1);
    }
}
