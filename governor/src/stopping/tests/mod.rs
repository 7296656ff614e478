//! Stopping, with directories for cgroups and real processes.

mod thawing;

use std::{
    cell::{Cell, RefCell},
    collections::{BTreeMap, BTreeSet},
    fs,
    os::{fd::AsRawFd as _, unix::process::ExitStatusExt as _},
    process::{Child, Command},
};

use governor_common::Line;
use governor_core::engine::Thaw;

use super::{finding::Task, mark::fake::InMemory, sockets::fake::Silent, *};

const ZONE: u32 = 3;
const WORKLOAD: u32 = 5;

/// A process that a test may have killed.
struct Sleeper(Child);

impl Sleeper {
    fn new() -> Self {
        Self(Command::new("sleep").arg("60").spawn().unwrap())
    }

    fn pid(&self) -> i32 {
        self.0.id() as i32
    }

    fn was_killed(&mut self) -> bool {
        let ended = self.0.try_wait().unwrap();
        ended.is_some_and(|status| status.signal() == Some(libc::SIGKILL))
    }
}

impl Drop for Sleeper {
    fn drop(&mut self) {
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

fn label(workload: u32) -> Label {
    Label {
        zone: ZONE,
        workload,
        exec_id: 1,
        digest: [9; 32],
    }
}

fn cgroup(root: &Path, name: &str, pids: &[i32]) -> PathBuf {
    let dir = root.join(name);
    fs::create_dir_all(&dir).unwrap();
    let procs: String = pids.iter().map(|pid| format!("{pid}\n")).collect();
    for (file, text) in [
        ("cgroup.procs", procs.as_str()),
        ("cgroup.kill", ""),
        ("cgroup.freeze", ""),
    ] {
        fs::write(dir.join(file), text).unwrap();
    }
    dir
}

fn read(dir: &Path, file: &str) -> String {
    fs::read_to_string(dir.join(file)).unwrap()
}

/// Labels by process; `None`: it cannot be read.
type Labels = BTreeMap<i32, Option<Label>>;

/// Which process a pidfd is of.
fn pid_of(fd: BorrowedFd<'_>) -> i32 {
    let info = fs::read_to_string(format!("/proc/self/fdinfo/{}", fd.as_raw_fd())).unwrap();
    let pid = info.lines().find_map(|line| line.strip_prefix("Pid:"));
    pid.unwrap().trim().parse().unwrap()
}

/// What the kernel would list: whoever has a label, where a directory below `root` says that it is.
fn carriers(root: &Path, labels: &Labels) -> Vec<Carrier> {
    let dirs = tree::below(root).cgroups;
    let place = |pid: i32| {
        let holds = |dir: &&PathBuf| tree::pids(dir).is_ok_and(|pids| pids.contains(&pid));
        dirs.iter().find(holds).and_then(|dir| tree::id(dir).ok())
    };
    let line = |(pid, label): (&i32, &Option<Label>)| Carrier {
        line: label.map_or(Line::Unread, |_| Line::Labelled) as u32,
        tgid: pid.cast_unsigned(),
        pid: pid.cast_unsigned(),
        cgroup: place(*pid).unwrap_or_default(),
        label: label.unwrap_or_default(),
        ..Carrier::default()
    };
    labels.iter().map(line).collect()
}

fn with_scene<T>(
    root: &Path,
    marks: &InMemory,
    labels: &Labels,
    act: impl FnOnce(&Scene<'_>) -> T,
) -> T {
    let label_of = |fd: BorrowedFd<'_>| match labels.get(&pid_of(fd)) {
        None => Ok(None),
        Some(Some(label)) => Ok(Some(*label)),
        Some(None) => anyhow::bail!("made to fail"),
    };
    act(&Scene {
        cgroups: Path::new("/nowhere"),
        proc: Path::new("/proc"),
        marks,
        carriers: &|| Ok(carriers(root, labels)),
        label_of: &label_of,
        nobodies: &|_| Ok(Vec::new()),
        goes_on: &|| {},
    })
}

fn order(root: &Path, running: Running, action: Action) -> Order {
    Order {
        zone: ZONE,
        root: root.to_owned(),
        running,
        action,
    }
}

fn stop_all(labels: &Labels, orders: &[Order]) -> Outcome {
    let root = orders
        .first()
        .map_or(Path::new("/nowhere"), |order| &order.root);
    with_scene(root, &InMemory::default(), labels, |scene| {
        stop(scene, &mut Silent, orders)
    })
}

#[test]
fn a_stop_reaches_what_is_meant_and_counts_by_action() {
    let root = tempfile::tempdir().unwrap();
    let (one, two) = (Sleeper::new(), Sleeper::new());
    let first = cgroup(root.path(), "one", &[one.pid()]);
    let second = cgroup(root.path(), "deep/two", &[two.pid()]);
    let labels = Labels::from([
        (one.pid(), Some(label(WORKLOAD))),
        (two.pid(), Some(label(WORKLOAD + 1))),
    ]);
    let freeze = order(root.path(), Running::Workload(WORKLOAD), Action::Freeze);
    let outcome = stop_all(&labels, &[freeze]);
    assert_eq!((outcome.stopped.frozen, outcome.stopped.killed), (1, 0));
    assert_eq!(read(&first, "cgroup.freeze"), "1");
    assert_eq!(read(&second, "cgroup.freeze"), "");
    let digest = order(root.path(), Running::Digest([8; 32]), Action::Kill);
    assert_eq!(stop_all(&labels, &[digest]).stopped, Stopped::default());
    let outcome = stop_all(&labels, &[order(root.path(), Running::All, Action::Kill)]);
    assert_eq!((outcome.stopped.frozen, outcome.stopped.killed), (0, 2));
    assert_eq!(
        read(&first, "cgroup.kill") + &read(&second, "cgroup.kill"),
        "11"
    );
    assert!(outcome.failed.is_empty());
}

#[test]
fn the_first_process_and_we_ourselves_are_stopped_by_nothing() {
    let root = tempfile::tempdir().unwrap();
    let own = std::process::id().cast_signed();
    let mut one = Sleeper::new();
    let labels = [1, own, one.pid()].map(|pid| (pid, Some(label(WORKLOAD))));
    // Nobody is in the zone's cgroup: everybody who is meant has left it.
    cgroup(root.path(), "empty", &[]);
    let outcome = stop_all(
        &Labels::from(labels),
        &[order(root.path(), Running::All, Action::Kill)],
    );
    assert_eq!(outcome.stopped.killed, 1);
    assert!(outcome.failed.is_empty(), "{:?}", outcome.failed);
    assert!(one.0.wait().unwrap().signal() == Some(libc::SIGKILL));
}

#[test]
fn the_strictest_of_all_orders_counts() {
    let root = tempfile::tempdir().unwrap();
    let one = Sleeper::new();
    let dir = cgroup(root.path(), "one", &[one.pid()]);
    let labels = Labels::from([(one.pid(), Some(label(WORKLOAD)))]);
    let outcome = stop_all(
        &labels,
        &[
            order(root.path(), Running::Workload(WORKLOAD), Action::Kill),
            order(root.path(), Running::All, Action::Freeze),
        ],
    );
    assert_eq!((outcome.stopped.frozen, outcome.stopped.killed), (0, 1));
    assert_eq!(
        (read(&dir, "cgroup.freeze"), read(&dir, "cgroup.kill")),
        (String::new(), "1".into())
    );
}

#[test]
fn what_moved_during_a_pass_is_reached_by_the_next() {
    let root = tempfile::tempdir().unwrap();
    let one = Sleeper::new();
    let first = cgroup(root.path(), "first", &[]);
    let second = cgroup(root.path(), "second", &[one.pid()]);
    let labels = Labels::from([(one.pid(), Some(label(WORKLOAD)))]);
    let listed = RefCell::new(0);
    let list = || {
        let carriers = carriers(root.path(), &labels);
        // It leaves while it is looked at.
        if listed.replace_with(|times| *times + 1) == 0 {
            fs::write(second.join("cgroup.procs"), "").unwrap();
            fs::write(first.join("cgroup.procs"), format!("{}\n", one.pid())).unwrap();
        }
        Ok(carriers)
    };
    let label_of = |_: BorrowedFd<'_>| Ok(Some(label(WORKLOAD)));
    let marks = InMemory::default();
    let scene = Scene {
        cgroups: root.path(),
        proc: Path::new("/proc"),
        marks: &marks,
        carriers: &list,
        label_of: &label_of,
        nobodies: &|_| Ok(Vec::new()),
        goes_on: &|| {},
    };
    let orders = [order(root.path(), Running::All, Action::Kill)];
    let outcome = stop(&scene, &mut Silent, &orders);
    assert_eq!(outcome.stopped.killed, 2);
    assert_eq!(read(&first, "cgroup.kill"), "1");
    assert_eq!(listed.take(), 3, "the last pass finds nobody");
}

#[test]
fn without_the_kernels_list_every_process_is_asked() {
    let root = tempfile::tempdir().unwrap();
    let (mut one, mut other, mut unread) = (Sleeper::new(), Sleeper::new(), Sleeper::new());
    let labels = Labels::from([
        (one.pid(), Some(label(WORKLOAD))),
        (other.pid(), Some(label(WORKLOAD + 1))),
        (unread.pid(), None),
    ]);
    let marks = InMemory::default();
    let orders = [order(
        root.path(),
        Running::Workload(WORKLOAD),
        Action::Kill,
    )];
    let goes_on = Cell::new(false);
    let outcome = with_scene(root.path(), &marks, &labels, |scene| {
        let scene = Scene {
            carriers: &|| anyhow::bail!("made to fail"),
            goes_on: &|| goes_on.set(true),
            ..*scene
        };
        stop(&scene, &mut Silent, &orders)
    });
    assert_eq!((outcome.stopped.killed, outcome.failed.len()), (1, 1));
    assert!(one.was_killed() && !other.was_killed() && !unread.was_killed());
    assert!(goes_on.get(), "nobody knows that it does not hang");
}

#[test]
fn a_cgroup_that_is_gone_is_no_error_and_of_one_that_resists_all_are_killed() {
    let root = tempfile::tempdir().unwrap();
    let (mut one, mut two) = (Sleeper::new(), Sleeper::new());
    let labels = Labels::from([
        (one.pid(), Some(label(WORKLOAD))),
        (two.pid(), Some(label(WORKLOAD))),
    ]);
    let gone = order(&root.path().join("gone"), Running::All, Action::Kill);
    assert!(stop_all(&Labels::new(), &[gone]).failed.is_empty());
    let dir = cgroup(root.path(), "one", &[one.pid()]);
    fs::remove_file(dir.join("cgroup.kill")).unwrap();
    fs::create_dir(dir.join("cgroup.kill")).unwrap();
    fs::remove_file(dir.join("cgroup.freeze")).unwrap();
    fs::create_dir(dir.join("cgroup.freeze")).unwrap();
    let other = cgroup(root.path(), "two", &[two.pid()]);
    // As where somebody made the files of cgroups read-only.
    for action in [Action::Kill, Action::Freeze] {
        let orders = [order(root.path(), Running::All, action)];
        let outcome = stop_all(&labels, &orders);
        assert!(outcome.failed.is_empty(), "{:?}", outcome.failed);
        assert_eq!(
            outcome.stopped.killed,
            if action == Action::Kill { 2 } else { 1 }
        );
    }
    // Its end takes a moment.
    assert_eq!(one.0.wait().unwrap().signal(), Some(libc::SIGKILL));
    assert_eq!(
        read(&other, "cgroup.kill"),
        "1",
        "one resists, and so do all"
    );
    assert!(
        !two.was_killed(),
        "it was one by one where there is another way"
    );
}

#[test]
fn a_label_that_cannot_be_read_counts_in_the_zone_and_is_an_error_outside() {
    let root = tempfile::tempdir().unwrap();
    let one = Sleeper::new();
    let dir = cgroup(root.path(), "one", &[one.pid(), i32::MAX]);
    let labels = Labels::from([(one.pid(), None)]);
    let orders = [order(
        root.path(),
        Running::Workload(WORKLOAD),
        Action::Kill,
    )];
    let outcome = stop_all(&labels, &orders);
    assert_eq!((outcome.stopped.killed, outcome.failed.len()), (1, 0));
    fs::write(dir.join("cgroup.procs"), "").unwrap();
    let mut outside = stop_all(&labels, &orders);
    let (zone, why) = outside.failed.remove(0);
    assert!(
        zone.is_none() && why.contains(&one.pid().to_string()),
        "{why}"
    );
    // One that is gone is nobody's.
    fs::write(dir.join("cgroup.procs"), format!("{}\n", i32::MAX)).unwrap();
    assert_eq!(stop_all(&Labels::new(), &orders).stopped.killed, 0);
}

#[test]
fn a_threaded_cgroup_is_killed_at_its_domain_or_process_by_process() {
    let root = tempfile::tempdir().unwrap();
    let leaf = cgroup(root.path(), "leaf", &[]);
    let own = cgroup(root.path(), "", &[]).join("threads");
    let (mut one, mut other) = (Sleeper::new(), Sleeper::new());
    // What was listed may be over by now, and its number another's.
    let labels = Labels::from([(one.pid(), Some(label(WORKLOAD)))]);
    let orders = [order(root.path(), Running::All, Action::Kill)];
    let marks = InMemory::default();
    with_scene(root.path(), &marks, &labels, |scene| {
        let stopping = Stopping::new(scene, &orders);
        let threads = leaf.join("threads");
        let here = |cgroup, pids: &[i32]| Here {
            zone: ZONE,
            root: root.path(),
            cgroup,
            id: 0,
            action: Action::Kill,
            tasks: pids.iter().map(|pid| Task::first(*pid, 0)).collect(),
        };
        let stopped = stopping.kill_threaded(&here(&threads, &[]));
        assert_eq!(stopped.unwrap(), leaf);
        // Directly below the zone: its own domain is the zone's, where other work runs too.
        let here = here(&own, &[one.pid(), other.pid(), i32::MAX]);
        let stopped = stopping.kill_threaded(&here);
        assert_eq!(stopped.unwrap(), own);
    });
    one.0.wait().unwrap();
    assert!(one.was_killed() && !other.was_killed());
    assert_eq!(read(root.path(), "cgroup.kill"), "");
}

#[test]
fn who_left_the_zone_is_killed_and_nobody_else() {
    let root = tempfile::tempdir().unwrap();
    let (mut one, mut other, mut foreign) = (Sleeper::new(), Sleeper::new(), Sleeper::new());
    let elsewhere = Label {
        zone: ZONE + 1,
        ..label(WORKLOAD)
    };
    let labels = Labels::from([
        (one.pid(), Some(label(WORKLOAD))),
        (other.pid(), Some(label(WORKLOAD + 1))),
        (foreign.pid(), Some(elsewhere)),
    ]);
    let orders = [order(
        root.path(),
        Running::Workload(WORKLOAD),
        Action::Kill,
    )];
    let outcome = stop_all(&labels, &orders);
    assert_eq!((outcome.stopped.killed, outcome.failed.len()), (1, 0));
    assert!(one.was_killed() && !other.was_killed() && !foreign.was_killed());
}

#[test]
fn who_left_and_cannot_be_frozen_is_killed() {
    let root = tempfile::tempdir().unwrap();
    let mut one = Sleeper::new();
    let labels = Labels::from([(one.pid(), Some(label(WORKLOAD)))]);
    // A directory is no cgroup: nobody can be moved into it.
    let orders = [order(root.path(), Running::All, Action::Quarantine)];
    let outcome = stop_all(&labels, &orders);
    assert_eq!(
        (outcome.stopped.quarantined, outcome.stopped.killed),
        (0, 1)
    );
    assert!(one.was_killed());
    assert_eq!(
        fs::read_dir(root.path()).unwrap().count(),
        0,
        "a leaf was left"
    );
}

#[test]
fn who_ends_while_its_label_is_read_leaves_nobody_to_be_stopped() {
    for action in [Action::Freeze, Action::Quarantine, Action::Kill] {
        let root = tempfile::tempdir().unwrap();
        let one = RefCell::new(Sleeper::new());
        let labels = Labels::from([(one.borrow().pid(), Some(label(WORKLOAD)))]);
        // From here on its number may be anybody's.
        let ends = |_: BorrowedFd<'_>| {
            one.borrow_mut().0.kill()?;
            one.borrow_mut().0.wait()?;
            Ok(Some(label(WORKLOAD)))
        };
        let outcome = with_scene(root.path(), &InMemory::default(), &labels, |scene| {
            let scene = Scene {
                label_of: &ends,
                ..*scene
            };
            let orders = [order(root.path(), Running::All, action)];
            stop(&scene, &mut Silent, &orders)
        });
        assert_eq!(outcome.stopped, Stopped::default(), "{action:?}");
        assert!(outcome.failed.is_empty(), "{action:?}");
        let left = fs::read_dir(root.path()).unwrap().count();
        assert_eq!(left, 0, "a leaf was made for its number: {action:?}");
    }
}
