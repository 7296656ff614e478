//! Processes whose first thread has ended before the others.
//!
//! Promises: killing a cgroup ends them too. Linux 6.1 sends the signal of `cgroup.kill` to the first thread of
//! each process, and one that has ended takes none; through the pidfd it reaches whoever is left.

use std::{collections::BTreeSet, io};

use super::{Stopping, finding::Task, process::Process};

impl Stopping<'_> {
    /// Kills those of these whose first thread the kernel did not list.
    pub(super) fn kill_leaderless(&self, tasks: &[Task]) -> io::Result<()> {
        let led: BTreeSet<i32> = of(tasks.iter().filter(|task| task.is_first()));
        let all = of(tasks.iter());
        self.kill_each(all.difference(&led).copied().collect())
    }

    /// One by one; whoever has one of the numbers by now and is not meant goes on.
    pub(super) fn kill_each(&self, pids: BTreeSet<i32>) -> io::Result<()> {
        let mut failed = None;
        for pid in pids {
            (self.scene.goes_on)();
            let killed = Process::open(pid).and_then(|process| match process {
                Some(process) if self.is_still_meant(&process) => process.kill(),
                Some(_) | None => Ok(()),
            });
            if let Err(error) = killed {
                failed = Some(error);
            }
        }
        failed.map_or(Ok(()), Err)
    }
}

fn of<'t>(tasks: impl Iterator<Item = &'t Task>) -> BTreeSet<i32> {
    tasks.map(|task| task.process).collect()
}

#[cfg(test)]
mod tests {
    use std::{
        fs,
        os::unix::process::ExitStatusExt as _,
        path::Path,
        process::{Child, Command},
    };

    use governor_common::{Carrier, Label, Line};
    use governor_core::engine::Running;

    use super::super::{
        Action, Order, Scene, mark::fake::InMemory, sockets::fake::Silent, stop, tree,
    };

    const ZONE: u32 = 3;

    fn killed(child: &mut Child) -> bool {
        let ended = child.try_wait().unwrap();
        ended.is_some_and(|status| status.signal() == Some(libc::SIGKILL))
    }

    #[test]
    fn who_has_no_first_thread_is_killed_beside_its_cgroup() {
        let root = tempfile::tempdir().unwrap();
        let leaf = root.path().join("leaf");
        fs::create_dir_all(&leaf).unwrap();
        fs::write(leaf.join("cgroup.kill"), "").unwrap();
        fs::write(leaf.join("cgroup.events"), "populated 0\n").unwrap();
        let sleeper = || Command::new("sleep").arg("60").spawn().unwrap();
        let (mut led, mut leaderless) = (sleeper(), sleeper());
        let label = Label {
            zone: ZONE,
            workload: 1,
            exec_id: 1,
            digest: [9; 32],
        };
        let carrier = |child: &Child, thread: u32| Carrier {
            line: Line::Labelled as u32,
            tgid: child.id(),
            pid: thread,
            cgroup: tree::id(&leaf).unwrap(),
            label,
            ..Carrier::default()
        };
        let carriers = [
            carrier(&led, led.id()),
            carrier(&led, u32::MAX - 1),
            carrier(&leaderless, u32::MAX - 2),
        ];
        let scene = Scene {
            cgroups: root.path(),
            proc: Path::new("/proc"),
            marks: &InMemory::default(),
            carriers: &|| Ok(carriers.to_vec()),
            label_of: &|_| Ok(Some(label)),
            nobodies: &|_| Ok(Vec::new()),
            goes_on: &|| {},
        };
        let order = Order {
            zone: ZONE,
            root: root.path().to_owned(),
            running: Running::All,
            action: Action::Kill,
        };
        let outcome = stop(&scene, &mut Silent, &[order]);
        assert_eq!(outcome.failed, []);
        assert_eq!(fs::read_to_string(leaf.join("cgroup.kill")).unwrap(), "1");
        // The kernel kills the other, whose cgroup is only a directory here.
        leaderless.wait().unwrap();
        assert!(!killed(&mut led));
        led.kill().unwrap();
        led.wait().unwrap();
    }
}
