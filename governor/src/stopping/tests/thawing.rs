//! Letting go, and who is frozen already.

use super::*;

#[test]
fn only_what_may_goes_on_and_only_for_the_right_reason() {
    let root = tempfile::tempdir().unwrap();
    let (one, two) = (Sleeper::new(), Sleeper::new());
    let dir = cgroup(root.path(), "one", &[one.pid()]);
    let child = cgroup(root.path(), "one/child", &[]);
    let unmarked = cgroup(root.path(), "two", &[two.pid()]);
    let mut labels = Labels::from([
        (one.pid(), Some(label(WORKLOAD))),
        (two.pid(), Some(label(WORKLOAD))),
    ]);
    let marks = InMemory::default();
    let allowed = BTreeMap::from([(WORKLOAD, BTreeSet::from([[9; 32]]))]);
    let plan = Thaw {
        zone: ZONE,
        running: Running::All,
        allowed,
        attested: true,
        by_hand: true,
    };
    let by_trust = Thaw {
        by_hand: false,
        ..plan.clone()
    };
    let nothing = Thaw {
        allowed: BTreeMap::new(),
        ..plan.clone()
    };
    let others = Thaw {
        running: Running::Workload(WORKLOAD + 1),
        ..plan.clone()
    };
    let go = |labels: &Labels, plan: &Thaw| {
        let done = with_scene(root.path(), &marks, labels, |scene| {
            thaw(scene, root.path(), plan)
        })
        .unwrap();
        (done.thawed, done.kept)
    };
    for (mark, alone) in [
        (Mark::Frozen, (1, 0)),
        (Mark::Barred, (0, 0)),
        (Mark::Paused, (0, 0)),
        (Mark::Quarantined, (0, 0)),
    ] {
        marks.set(&dir, mark).unwrap();
        assert_eq!(go(&labels, &others), (0, 0));
        assert_eq!(go(&labels, &nothing), (0, 1));
        assert_eq!(read(&dir, "cgroup.freeze"), "");
        assert_eq!(go(&labels, &by_trust), alone, "{mark:?}");
        marks.set(&dir, mark).unwrap();
        assert_eq!(go(&labels, &plan), (1, 0));
        assert_eq!(read(&dir, "cgroup.freeze"), "0");
        assert_eq!(marks.get(&dir).unwrap(), None);
        fs::write(dir.join("cgroup.freeze"), "").unwrap();
    }
    assert_eq!(read(&unmarked, "cgroup.freeze"), "", "nobody here froze it");
    // A label below it that is not on the list, or that cannot be read.
    fs::write(unmarked.join("cgroup.procs"), "").unwrap();
    fs::write(child.join("cgroup.procs"), format!("{}\n", two.pid())).unwrap();
    for unlisted in [
        Some(Label {
            digest: [1; 32],
            ..label(WORKLOAD)
        }),
        None,
    ] {
        labels.insert(two.pid(), unlisted);
        marks.set(&dir, Mark::Paused).unwrap();
        assert_eq!(go(&labels, &plan), (0, 1));
        assert_eq!(read(&dir, "cgroup.freeze"), "");
    }
    with_scene(root.path(), &marks, &labels, |scene| {
        let carriers: &dyn Fn() -> _ = &|| anyhow::bail!("made to fail");
        thaw(&Scene { carriers, ..*scene }, root.path(), &plan).unwrap_err();
        assert_eq!(read(&dir, "cgroup.freeze"), "");
        bar(scene, root.path())
    })
    .unwrap();
    assert_eq!(marks.get(&dir).unwrap(), Some(Mark::Paused));
    assert_eq!(marks.get(&unmarked).unwrap(), None);
}

#[test]
fn what_somebody_else_froze_does_not_go_on_for_trust() {
    let root = tempfile::tempdir().unwrap();
    let one = Sleeper::new();
    let dir = cgroup(root.path(), "one", &[one.pid()]);
    let labels = Labels::from([(one.pid(), Some(label(WORKLOAD)))]);
    let orders = [order(root.path(), Running::All, Action::Freeze)];
    for (before, mark) in [("1\n", Mark::Barred), ("0\n", Mark::Frozen)] {
        fs::write(dir.join("cgroup.freeze"), before).unwrap();
        let marks = InMemory::default();
        with_scene(root.path(), &marks, &labels, |scene| {
            stop(scene, &mut Silent, &orders)
        });
        assert_eq!(marks.get(&dir).unwrap(), Some(mark));
    }
}

#[test]
fn whoever_is_made_in_a_frozen_cgroup_is_nobody_new() {
    let root = tempfile::tempdir().unwrap();
    let dir = cgroup(root.path(), "one", &[]);
    let (place, listed) = (tree::id(&dir).unwrap(), std::cell::Cell::new(0));
    // Each time the list has others, as of one that does nothing but make processes.
    let carriers = || {
        listed.set(listed.get() + 1);
        let carrier = Carrier {
            line: Line::Labelled as u32,
            tgid: 4_194_000 + listed.get(),
            pid: 4_194_000 + listed.get(),
            cgroup: place,
            label: label(WORKLOAD),
            ..Carrier::default()
        };
        Ok(vec![carrier])
    };
    for action in [
        Action::Freeze,
        Action::Bar,
        Action::Pause,
        Action::Quarantine,
    ] {
        listed.set(0);
        let orders = [order(root.path(), Running::All, action)];
        let outcome = with_scene(root.path(), &InMemory::default(), &Labels::new(), |scene| {
            let scene = Scene {
                carriers: &carriers,
                ..*scene
            };
            stop(&scene, &mut Silent, &orders)
        });
        assert!(outcome.failed.is_empty(), "{:?}", outcome.failed);
        assert_eq!(listed.get(), 2, "{action:?}");
    }
    // What is killed is gone over again: it takes a while to end.
    let orders = [order(root.path(), Running::All, Action::Kill)];
    let outcome = with_scene(root.path(), &InMemory::default(), &Labels::new(), |scene| {
        let scene = Scene {
            carriers: &carriers,
            ..*scene
        };
        stop(&scene, &mut Silent, &orders)
    });
    assert!(outcome.failure(&orders[0]).is_some());
}

#[test]
fn only_want_of_trust_is_over_when_trust_returns() {
    let mark = |barred| Action::of_policy(OnRevoke::Freeze, barred).and_then(Action::mark);
    assert_eq!(mark(false), Some(Mark::Frozen));
    assert_eq!(mark(true), Some(Mark::Barred));
    for action in [OnRevoke::Deny, OnRevoke::Quarantine, OnRevoke::Kill] {
        let of = |barred| Action::of_policy(action, barred);
        assert_eq!(of(true), of(false), "{action:?}");
    }
}
