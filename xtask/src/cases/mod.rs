//! The guest tests. A suite is one boot: its cases run in order in that guest, each on its own feet,
//! so that any of them can be picked with `--filter`. A case that breaks the guest costs only itself;
//! the next one gets a fresh boot. To add a suite, write a file beside `platform.rs` and name it in
//! [`suites`].

mod attacks;
mod break_glass;
pub(crate) mod crash;
pub(crate) mod daemon;
mod gate;
mod guard;
mod host;
mod platform;
mod quickstart;
mod reading;
mod stopping;
mod story;
mod trust;

use crate::guest::{BootOptions, Guest};
use crate::image::Kernel;
use anyhow::Result;

/// One check; it passes unless it returns an error, panics, or the kernel reports a fault meanwhile.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Case {
    pub(crate) name: &'static str,
    pub(crate) run: fn(&mut Guest) -> Result<()>,
}

/// Cases that share a boot.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Suite {
    pub(crate) name: &'static str,
    pub(crate) options: fn(Kernel) -> BootOptions,
    pub(crate) kernels: Kernels,
    /// Runs once after each boot; a failure fails every case.
    pub(crate) prepare: fn(&mut Guest) -> Result<()>,
    pub(crate) cases: &'static [Case],
}

/// Where a suite runs, unless it is asked for by name or everything is.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Kernels {
    Every,
    /// One that takes long and judges the daemon: the newest; on every kernel these cases alone.
    Newest(&'static [&'static str]),
    /// Every one; but these cases, which judge what no kernel has a part in, on the newest alone.
    EveryBut(&'static [&'static str]),
}

impl Suite {
    /// Whether this case of it runs on a kernel that is not the newest.
    pub(crate) fn is_for_older(&self, case: &Case) -> bool {
        match self.kernels {
            Kernels::Every => true,
            Kernels::Newest(others) => others.contains(&case.name),
            Kernels::EveryBut(left_out) => !left_out.contains(&case.name),
        }
    }
}

/// What all others lean on first, then what takes long: short ones fill what is left at the end.
pub(crate) fn suites() -> Vec<Suite> {
    vec![
        platform::SUITE,
        story::SUITE,
        crash::SUITE,
        gate::SUITE,
        guard::SUITE,
        attacks::SUITE,
        trust::SUITE,
        daemon::SUITE,
        host::SUITE,
        stopping::SUITE,
        break_glass::SUITE,
        quickstart::SUITE,
        daemon::WITHOUT_BPF,
        daemon::WITHOUT_A_HOOK,
        daemon::STALE_DIGESTS,
        daemon::OTHER_DIGESTS,
    ]
}

/// For suites that need nothing but the bare guest.
pub(crate) fn nothing(_guest: &mut Guest) -> Result<()> {
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every case that a page names is one, and of each row at least one runs on every kernel.
    #[test]
    fn what_happens_when_is_shown() {
        let page = include_str!("../../../docs/trust.md");
        let shown = rows(page, "What happens when").map(is_shown);
        assert_eq!(shown.inspect(|shown| assert!(*shown)).count(), 12);
    }

    /// So is each way around the measurement, or it is said to be open.
    #[test]
    fn ways_around_are_closed_or_said_to_be_open() {
        let page = include_str!("../../../docs/threat-model.md");
        let (mut closed, mut open) = (0, 0);
        for row in rows(page, "Ways around") {
            if is_shown(row) {
                closed += 1;
            } else {
                let said = row.contains("| open: ");
                assert!(said, "neither shown nor said to be open: {row}");
                open += 1;
            }
        }
        assert_eq!((closed, open), WAYS);
    }

    /// The rows of a section's table.
    fn rows(page: &'static str, title: &str) -> impl Iterator<Item = &'static str> {
        let (_, section) = page.split_once(&format!("\n## {title}\n")).unwrap();
        let section = section.split("\n## ").next().unwrap_or_default();
        let lines = section.lines().filter(|line| line.starts_with("| "));
        lines.skip(1)
    }

    /// Whether a case that the row names runs on every kernel. Each that it names is one.
    fn is_shown(row: &str) -> bool {
        let suites = suites();
        let named = row.split('`').filter(|word| word.contains("::"));
        let runs_everywhere = named.map(|name| {
            let (suite, case) = name.split_once("::").unwrap();
            let suite = suites.iter().find(|known| known.name == suite);
            let suite = suite.unwrap_or_else(|| panic!("there is no suite of `{name}`"));
            let case = suite.cases.iter().find(|known| known.name == case);
            suite.is_for_older(case.unwrap_or_else(|| panic!("there is no case `{name}`")))
        });
        runs_everywhere.fold(false, |any, one| any | one)
    }

    /// A name that no case has would leave out nothing, or everything.
    #[test]
    fn what_is_told_apart_by_kernel_is_there() {
        for suite in suites() {
            let (Kernels::Newest(names) | Kernels::EveryBut(names)) = suite.kernels else {
                continue;
            };
            for name in names {
                let mut cases = suite.cases.iter();
                assert!(
                    cases.any(|case| case.name == *name),
                    "{}::{name}",
                    suite.name
                );
            }
        }
    }

    /// How many are closed and how many open.
    const WAYS: (usize, usize) = (57, 21);
}
