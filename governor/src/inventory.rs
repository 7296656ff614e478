//! What runs in zones without a label: it was there before the gate was, or somebody moved it in.
//!
//! Promises: each process below the governed slice of which no task carries a label is found, with the
//! deepest zone that it is in. What began within the last second is not listed: a service manager runs its own
//! code in a zone before it executes the program. Nothing is done to any of them here.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

use governor_common::Carrier;
use governor_core::time::{BootTime, Span};

use crate::stopping::tree;

/// A process without a label, and what it runs as far as that can be told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Unlabelled {
    pub(crate) pid: i32,
    pub(crate) program: String,
}

/// A process of which no task carries a label.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Nobody {
    pub(crate) pid: i32,
    pub(crate) zone: u32,
    pub(crate) cgroup: PathBuf,
    /// When it began: with the number, it is no other.
    pub(crate) began: BootTime,
    /// Its first thread has ended, and others have not.
    pub(crate) is_leaderless: bool,
    /// It is not about to execute what a service manager made it for.
    pub(crate) is_settled: bool,
}

/// Where to look, and what is known already.
pub(crate) struct Scene<'a> {
    /// Where the unified hierarchy is mounted.
    pub(crate) cgroups: &'a Path,
    pub(crate) proc: &'a Path,
    /// Paths of zones below the hierarchy's root, by number.
    pub(crate) zones: &'a [(u32, String)],
    /// Who carries a label, read before this.
    pub(crate) carriers: &'a [Carrier],
    pub(crate) now: BootTime,
}

/// What somebody runs, as far as that can be told.
pub(crate) fn program(proc: &Path, one: &Nobody) -> Unlabelled {
    let exe = fs::read_link(proc.join(format!("{}/exe", one.pid)));
    Unlabelled {
        pid: one.pid,
        program: exe.map_or_else(|_| "?".to_owned(), |exe| exe.display().to_string()),
    }
}

/// All of them.
pub(crate) fn nobodies(scene: &Scene<'_>) -> Vec<Nobody> {
    let labelled: BTreeSet<u32> = scene.carriers.iter().map(|one| one.tgid).collect();
    let mut found = Vec::new();
    let mut seen = BTreeSet::new();
    for (_, path) in scene.zones {
        for cgroup in tree::below(&scene.cgroups.join(path)).cgroups {
            let Some(zone) = deepest(scene, &cgroup).filter(|_| seen.insert(cgroup.clone())) else {
                continue;
            };
            for pid in tree::pids(&cgroup).unwrap_or_default() {
                if labelled.contains(&pid.cast_unsigned()) {
                    continue;
                }
                found.extend(began_at(scene, pid).map(|(began, is_leaderless)| Nobody {
                    pid,
                    is_leaderless,
                    zone,
                    cgroup: cgroup.clone(),
                    began,
                    is_settled: began.after(YOUNG) <= scene.now,
                }));
            }
        }
    }
    found
}

fn deepest(scene: &Scene<'_>, cgroup: &Path) -> Option<u32> {
    let path = cgroup.strip_prefix(scene.cgroups).ok()?;
    let above = scene
        .zones
        .iter()
        .filter(|(_, zone)| path.starts_with(zone));
    Some(above.max_by_key(|(_, zone)| zone.len())?.0)
}

/// When it began, and whether its first thread has ended. None: all of it has.
fn began_at(scene: &Scene<'_>, pid: i32) -> Option<(BootTime, bool)> {
    let stat = fs::read_to_string(scene.proc.join(format!("{pid}/stat")));
    began(&stat.unwrap_or_default())
}

/// From `PID (NAME) STATE …`, whose name may hold anything. None: it has ended, or is no such line.
fn began(stat: &str) -> Option<(BootTime, bool)> {
    let (_, after) = stat.rsplit_once(") ")?;
    let fields: Vec<&str> = after.split(' ').collect();
    let (state, threads) = (*fields.first()?, *fields.get(THREADS)?);
    // The first thread of one may have ended before the others.
    if state == "X" || state == "Z" && matches!(threads, "0" | "1") {
        return None;
    }
    let ticks: u64 = fields.get(STARTED)?.trim_end().parse().ok()?;
    let began = BootTime(ticks.saturating_mul(NANOSECONDS_PER_TICK));
    Some((began, state == "Z"))
}

/// Longer than a service manager takes from making a process to executing its program.
const YOUNG: Span = Span::seconds(1);
/// The state is the third field, the number of threads the 20th, the start time the 22nd.
const THREADS: usize = 17;
const STARTED: usize = 19;
/// The kernel tells user space a hundred ticks a second, whatever its own are.
const NANOSECONDS_PER_TICK: u64 = 10_000_000;

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000_000;

    fn stat(name: &str, state: char, ticks: u64) -> String {
        stat_of(name, state, 1, ticks)
    }

    fn stat_of(name: &str, state: char, threads: u32, ticks: u64) -> String {
        let zeros = "0 ".repeat(THREADS - 1);
        format!("7 ({name}) {state} {zeros}{threads} 0 {ticks} 1 2 3\n")
    }

    #[test]
    fn who_has_no_label_is_found_in_the_deepest_zone() {
        let dir = tempfile::tempdir().unwrap();
        let (cgroups, proc) = (dir.path().join("cgroup"), dir.path().join("proc"));
        let place = |path: &str, pids: &[i32]| {
            let path = cgroups.join(path);
            fs::create_dir_all(&path).unwrap();
            let lines: String = pids.iter().map(|pid| format!("{pid}\n")).collect();
            fs::write(path.join("cgroup.procs"), lines).unwrap();
        };
        place("g.slice", &[]);
        place("g.slice/a.slice", &[10]);
        place("g.slice/a.slice/leaf", &[11, 12]);
        place("g.slice/elsewhere", &[13, 14, 15]);
        for (pid, state, ticks) in [
            (10, 'S', 100),
            (11, 'S', 100),
            (12, 'S', 100),
            (13, 'S', 100),
            (14, 'Z', 100),
            (15, 'S', 950),
        ] {
            let dir = proc.join(pid.to_string());
            fs::create_dir_all(&dir).unwrap();
            fs::write(dir.join("stat"), stat("a) S 1", state, ticks)).unwrap();
            std::os::unix::fs::symlink(format!("/bin/{pid}"), dir.join("exe")).unwrap();
        }
        let zones = [(9, "g.slice".to_owned()), (1, "g.slice/a.slice".to_owned())];
        let carrier = Carrier {
            tgid: 12,
            ..Carrier::default()
        };
        let found = nobodies(&Scene {
            cgroups: &cgroups,
            proc: &proc,
            zones: &zones,
            carriers: &[carrier],
            now: BootTime(10 * SECOND),
        });
        let brief = |one: &Nobody| (one.zone, one.pid, one.is_settled);
        let mut listed: Vec<_> = found.iter().map(brief).collect();
        listed.sort_unstable();
        // One has ended; one has only just begun.
        assert_eq!(
            listed,
            [(1, 10, true), (1, 11, true), (9, 13, true), (9, 15, false)]
        );
        let thirteen = found.iter().find(|one| one.pid == 13).unwrap();
        assert!(thirteen.cgroup.ends_with("g.slice/elsewhere"));
        assert_eq!(program(&proc, thirteen).program, "/bin/13");
    }

    #[test]
    fn a_line_that_says_nothing_is_nobody() {
        assert_eq!(
            began(&stat("x", 'R', 7)),
            Some((BootTime(70_000_000), false))
        );
        let first_ended = stat_of("x", 'Z', 2, 7);
        assert_eq!(began(&first_ended), Some((BootTime(70_000_000), true)));
        for text in ["", "7 (x) S", "7 (x", &stat("x", 'X', 7)] {
            assert_eq!(began(text), None, "{text}");
        }
    }
}
