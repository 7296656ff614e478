//! `cargo xtask test`: the pure tests, a bounded run of the fuzz targets, then the guest tests on both
//! kernels side by side. Nothing is
//! skipped in silence: what could not be built or booted counts as failed, and a run of zero tests is
//! a failure. The last line is always `N passed, N failed`.

use crate::cases::{self, Case, Suite};
use crate::guest::Guest;
use crate::image::{self, Kernel, Wanted};
use crate::{compile, dist, ebpf, fuzz, paths, process, tools};
use anyhow::{Context, Result};
use std::collections::VecDeque;
use std::io::{BufRead, BufReader};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::{Command, ExitCode, Stdio};
use std::sync::atomic::Ordering;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Only the pure tests with the fuzz targets, or only the guest tests.
    #[arg(value_enum)]
    part: Option<Part>,
    /// Only this kernel.
    #[arg(long, value_enum)]
    kernel: Option<Kernel>,
    /// Only tests whose name (`suite::case` for guest tests, `fuzz::target` for targets) contains this; of
    /// guest tests, any of several parts with commas between them.
    #[arg(long)]
    filter: Option<String>,
    /// Every point of every decision in the suite `crash`, and its storms at full length; this takes
    /// the better part of an hour.
    #[arg(long)]
    full: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Part {
    Unit,
    Vm,
}

#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Tally {
    pub(crate) passed: usize,
    pub(crate) failed: usize,
}

pub(crate) fn run(args: &Args) -> Result<ExitCode> {
    cases::crash::FULL.store(args.full, Ordering::Relaxed);
    let filter = args.filter.as_deref();
    let kernels = args
        .kernel
        .map_or_else(|| Kernel::ALL.to_vec(), |kernel| vec![kernel]);
    let picked = match args.part {
        Some(Part::Unit) => Vec::new(),
        Some(Part::Vm) | None => pick(filter),
    };
    let mut tally = Tally::default();
    std::thread::scope(|scope| {
        // This waits for networks and disks, and what is built meanwhile for processors.
        let images = (!picked.is_empty()).then(|| scope.spawn(|| images(&kernels)));
        if args.part != Some(Part::Vm) {
            tally.join("pure tests", pure(filter));
            tally.join("fuzz targets", fuzz::bounded(filter));
        }
        if let Some(images) = images {
            let everywhere = args.full || filter.is_some();
            let ready = images.join();
            let ready = ready.unwrap_or_else(|_panic| Err(anyhow::anyhow!("it panicked")));
            let ready = ready.context("making images");
            tally.join(
                "guest tests",
                ready.and_then(|()| guests(everywhere, &kernels, &picked)),
            );
        }
    });
    Ok(tally.end())
}

/// What guests boot from.
fn images(kernels: &[Kernel]) -> Result<()> {
    tools::need(tools::Group::Guest)?;
    for kernel in kernels {
        image::prepare(&Wanted::Debian(*kernel))?;
    }
    Ok(())
}

impl Tally {
    /// The last line, and what it comes to.
    pub(crate) fn end(self) -> ExitCode {
        println!("{} passed, {} failed", self.passed, self.failed);
        if self.failed == 0 && self.passed > 0 {
            ExitCode::SUCCESS
        } else {
            ExitCode::FAILURE
        }
    }

    fn add(&mut self, other: Self) {
        self.passed += other.passed;
        self.failed += other.failed;
    }

    /// What could not be run at all is one failure.
    fn join(&mut self, what: &str, outcome: Result<Self>) {
        match outcome {
            Ok(tally) => self.add(tally),
            Err(error) => {
                println!("FAILED {what}: {error:#}");
                self.failed += 1;
            }
        }
    }
}

fn pure(filter: Option<&str>) -> Result<Tally> {
    tools::need(tools::Group::Build)?;
    tools::need(tools::Group::Oracles)?;
    let object = ebpf::build(false)?;
    let mut tally = Tally::default();
    // What is packed lies where the daemon for these tests does.
    let lock = paths::lock(dist::PACKED)?;
    for (packages, flags) in CHECKED {
        let mut test = process::command("cargo");
        test.args(["test", "--release"])
            .args(settings())
            .args(packages.iter().flat_map(|name| ["--package", name]))
            .args(flags)
            .env(ebpf::OBJECT_VARIABLE, &object);
        tally.add(cargo_test(test, filter)?);
    }
    drop(lock);
    // This crate was built to get here, and so was what it leans on.
    let mut own = process::command("cargo");
    own.args(["test", "--package", "xtask"]);
    tally.add(cargo_test(own, filter)?);
    Ok(tally)
}

/// Crates whose tests are built together, and how. Of the fuzz targets, what they share; they are run by
/// themselves.
const CHECKED: [(&[&str], &[&str]); 2] = [
    (&["governor", "governor-core", "governor-common"], &[]),
    (&["governor-fuzz"], &["--lib", "--no-default-features"]),
];

/// Has cargo build those for tests, with every check that there is and no optimization, on top of the
/// dependencies of the release: everything is built once less.
fn settings() -> impl Iterator<Item = String> {
    let names = CHECKED.iter().flat_map(|(packages, _flags)| *packages);
    let settings = names.flat_map(|name| {
        ["opt-level=0", "debug-assertions=true"]
            .map(|setting| format!("profile.release.package.{name}.{setting}"))
    });
    settings.flat_map(|setting| ["--config".to_owned(), setting])
}

/// Runs them all, and counts.
fn cargo_test(mut command: Command, filter: Option<&str>) -> Result<Tally> {
    command
        .args(["--no-fail-fast", "--target-dir"])
        .arg(paths::target())
        .args(filter)
        .current_dir(paths::root())
        .stdin(Stdio::null())
        .stdout(Stdio::piped());
    let mut child = command.spawn().context("starting cargo test")?;
    let lines = BufReader::new(child.stdout.take().context("cargo test has no output")?).lines();
    let mut tally = Tally::default();
    for line in lines.map_while(Result::ok) {
        println!("{line}");
        if let Some(result) = line.strip_prefix("test result: ") {
            tally.add(counts(result));
        }
    }
    let status = child.wait().context("waiting for cargo test")?;
    if !status.success() && tally.failed == 0 {
        anyhow::bail!("cargo test ended with {status}");
    }
    Ok(tally)
}

/// From `ok. 3 passed; 1 failed; 0 ignored; …`.
fn counts(result: &str) -> Tally {
    let number = |what: &str| {
        result
            .split([';', '.'])
            .filter_map(|part| part.trim().strip_suffix(what))
            .find_map(|part| part.trim().parse().ok())
            .unwrap_or(0)
    };
    Tally {
        passed: number("passed"),
        failed: number("failed"),
    }
}

fn guests(everywhere: bool, kernels: &[Kernel], picked: &[(Suite, Vec<Case>)]) -> Result<Tally> {
    tools::need(tools::Group::Oracles)?;
    if picked
        .iter()
        .any(|(suite, _)| suite.name == cases::crash::SUITE.name)
    {
        // Before the released package: both are packed from the same place.
        cases::crash::package::build()?;
    }
    dist::build()?;
    compile::probes()?;
    Ok(side_by_side(everywhere, kernels, picked))
}

/// As many guests at once as there are kernels. Who is done takes the next suite, of whichever kernel: on
/// one of them some take far longer.
fn side_by_side(everywhere: bool, kernels: &[Kernel], picked: &[(Suite, Vec<Case>)]) -> Tally {
    let jobs = picked
        .iter()
        .flat_map(|(suite, cases)| kernels.iter().map(move |&kernel| (kernel, suite, cases)));
    let jobs: Mutex<VecDeque<_>> = Mutex::new(jobs.collect());
    let next = || {
        let mut jobs = jobs.lock().unwrap_or_else(PoisonError::into_inner);
        jobs.pop_front()
    };
    let work = || {
        let mut tally = Tally::default();
        while let Some((kernel, suite, cases)) = next() {
            tally.add(whole_suite(kernel, everywhere, suite, cases));
        }
        tally
    };
    let mut tally = Tally::default();
    std::thread::scope(|scope| {
        let running: Vec<_> = kernels.iter().map(|_each| scope.spawn(work)).collect();
        for thread in running {
            let outcome = thread
                .join()
                .map_err(|_panic| anyhow::anyhow!("the runner panicked"));
            tally.join("guest tests", outcome);
        }
    });
    tally
}

fn pick(filter: Option<&str>) -> Vec<(Suite, Vec<Case>)> {
    let fits = |suite: &Suite, case: &Case| {
        let name = format!("{}::{}", suite.name, case.name);
        filter.is_none_or(|parts| parts.split(',').any(|part| name.contains(part)))
    };
    cases::suites()
        .into_iter()
        .map(|suite| {
            let cases = suite
                .cases
                .iter()
                .copied()
                .filter(|case| fits(&suite, case))
                .collect::<Vec<_>>();
            (suite, cases)
        })
        .filter(|(_, cases)| !cases.is_empty())
        .collect()
}

/// Its cases, in one guest as long as that lasts.
fn whole_suite(kernel: Kernel, everywhere: bool, suite: &Suite, cases: &[Case]) -> Tally {
    let mut tally = Tally::default();
    let mut guest = None;
    for case in cases {
        let name = format!("{} {}::{}", kernel.name(), suite.name, case.name);
        if !everywhere && kernel != Kernel::NEWEST && !suite.is_for_older(case) {
            println!("left out: {name} (it runs with --full, or by name with --filter)");
            continue;
        }
        let since = Instant::now();
        let outcome = one(kernel, suite, case, &mut guest);
        let seconds = since.elapsed().as_secs_f32();
        match outcome {
            Ok(()) => {
                println!("ok {name} ({seconds:.1}s)");
                tally.passed += 1;
            }
            Err(error) => {
                let evidence = evidence(&mut guest);
                println!("FAILED {name} ({seconds:.1}s)\n    {error:#}\n{evidence}");
                tally.failed += 1;
            }
        }
    }
    tally
}

/// Runs one case, in the suite's guest if it is still there, else in a new one.
fn one(kernel: Kernel, suite: &Suite, case: &Case, slot: &mut Option<Guest>) -> Result<()> {
    let guest = match slot {
        Some(guest) => guest,
        None => {
            let mut guest = Guest::boot(&(suite.options)(kernel))?;
            (suite.prepare)(&mut guest).context("preparing the suite's guest")?;
            slot.insert(guest)
        }
    };
    let outcome = catch_unwind(AssertUnwindSafe(|| (case.run)(guest)));
    let outcome = outcome.unwrap_or_else(|_panic| Err(anyhow::anyhow!("the case panicked")));
    match guest.take_fault() {
        Some(line) => outcome.and(Err(anyhow::anyhow!("the kernel reported `{line}`"))),
        None => outcome,
    }
}

/// The ends of journal and serial log. A guest that no longer answers is given up.
fn evidence(slot: &mut Option<Guest>) -> String {
    let Some(guest) = slot else {
        return String::new();
    };
    let mut text = String::new();
    if let Ok(log) = std::fs::read(guest.serial_log()) {
        text.push_str(&format!(
            "  serial log `{}`:\n{}",
            guest.serial_log().display(),
            process::tail(&log, 15)
        ));
    }
    match guest.run_for(
        &[
            "journalctl",
            "-n",
            "40",
            "--no-pager",
            "-o",
            "short-monotonic",
        ],
        ANSWER_BOUND,
    ) {
        Ok(journal) => text.push_str(&format!(
            "  journal:\n{}",
            process::tail(&journal.stdout, 40)
        )),
        Err(error) => {
            text.push_str(&format!("  the guest no longer answers: {error:#}\n"));
            *slot = None;
        }
    }
    text
}

const ANSWER_BOUND: Duration = Duration::from_secs(30);

#[cfg(test)]
mod tests {
    use super::counts;

    #[test]
    fn counts_come_from_the_result_line() {
        let tally = counts(
            "FAILED. 12 passed; 3 failed; 1 ignored; 0 measured; 0 filtered out; finished in 0.00s",
        );
        assert_eq!((tally.passed, tally.failed), (12, 3));
    }
}
