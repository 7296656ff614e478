//! `cargo xtask fuzz`: every parser of bytes from outside, before bytes that nobody chose.
//!
//! The targets are the programs of the crate `fuzz`, linked with LLVM's libFuzzer. It wants coverage
//! counters in the code, which the stable compiler puts there when LLVM is told to, so nothing of
//! another toolchain is needed. A target that was built without them would find nothing and is counted
//! as failed, and so is one that ran nothing. What brings a target down is kept as a file.

use crate::test::Tally;
use crate::{paths, process, tools};
use anyhow::{Context as _, Result, ensure};
use std::path::{Path, PathBuf};
use std::process::{ExitCode, Stdio};
use std::time::Instant;

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Only targets whose name contains this.
    target: Option<String>,
    /// How long each target runs.
    #[arg(long, default_value_t = 60)]
    seconds: u64,
}

pub(crate) fn command(args: &Args) -> Result<ExitCode> {
    run(args.seconds, args.target.as_deref()).map(Tally::end)
}

/// Runs each target for so long, going on from what earlier runs found.
pub(crate) fn run(seconds_each: u64, filter: Option<&str>) -> Result<Tally> {
    each(filter, &Bound::Seconds(seconds_each))
}

/// Runs each target equally often and from the same start, for tests: a run repeats itself.
pub(crate) fn bounded(filter: Option<&str>) -> Result<Tally> {
    each(filter, &Bound::Runs(RUNS))
}

#[derive(Debug)]
enum Bound {
    Seconds(u64),
    Runs(u64),
}

impl Bound {
    /// Where inputs that reached something new are kept; those of a run that repeats itself are not.
    fn corpus(&self, name: &str) -> Result<PathBuf> {
        let (kind, fresh) = match self {
            Self::Seconds(_) => ("corpus", false),
            Self::Runs(_) => ("bounded", true),
        };
        let dir = home().join(kind).join(name);
        if fresh && dir.exists() {
            std::fs::remove_dir_all(&dir)
                .with_context(|| format!("clearing `{}`", dir.display()))?;
        }
        paths::ensure(dir)
    }

    fn flags(&self) -> Vec<String> {
        match self {
            Self::Seconds(seconds) => vec![format!("-max_total_time={seconds}")],
            Self::Runs(runs) => vec![format!("-runs={runs}"), "-seed=1".to_owned()],
        }
    }
}

fn each(filter: Option<&str>, bound: &Bound) -> Result<Tally> {
    let mut names = names()?;
    names.retain(|name| filter.is_none_or(|part| format!("fuzz::{name}").contains(part)));
    let mut tally = Tally::default();
    if names.is_empty() {
        return Ok(tally);
    }
    let _lock = paths::lock("fuzz")?;
    let programs = build(&names)?;
    for name in names {
        let since = Instant::now();
        let outcome = one(&programs, &name, bound);
        let seconds = since.elapsed().as_secs_f32();
        match outcome {
            Ok(runs) => {
                println!("ok fuzz::{name} ({runs} runs, {seconds:.1}s)");
                tally.passed += 1;
            }
            Err(error) => {
                println!("FAILED fuzz::{name} ({seconds:.1}s)\n    {error:#}");
                tally.failed += 1;
            }
        }
    }
    Ok(tally)
}

/// The targets, by the files that they are.
fn names() -> Result<Vec<String>> {
    let dir = paths::root().join("fuzz/targets");
    let listing =
        std::fs::read_dir(&dir).with_context(|| format!("listing `{}`", dir.display()))?;
    let mut names: Vec<String> = listing
        .filter_map(Result::ok)
        .filter_map(|entry| Some(entry.file_name().to_str()?.strip_suffix(".rs")?.to_owned()))
        .collect();
    names.sort();
    Ok(names)
}

/// Builds the targets; returns the directory that they are in. Build scripts and macros are those of the
/// release; what runs has the settings below.
fn build(names: &[String]) -> Result<PathBuf> {
    tools::need(tools::Group::Build)?;
    let host = process::capture(process::command("rustc").args(["--print", "host-tuple"]))?;
    let mut build = process::command("cargo");
    build
        .args(["build", "--package", "governor-fuzz", "--release"])
        // Named, although it is our own: build scripts are not to have the flags.
        .args(["--target", host.trim(), "--target-dir"])
        .arg(paths::target())
        .current_dir(paths::root())
        .env("RUSTFLAGS", FLAGS.join(" "));
    for setting in PROFILE {
        build.args(["--config", &format!("profile.release.{setting}")]);
    }
    for name in names {
        build.args(["--bin", name]);
    }
    process::run("building the fuzz targets", &mut build)?;
    Ok(paths::target().join(host.trim()).join("release"))
}

/// Runs one target to its bound; how often it ran.
fn one(programs: &Path, name: &str, bound: &Bound) -> Result<u64> {
    let seeds = home().join("seeds").join(name);
    let crashes = paths::ensure(home().join("crashes"))?.join(format!("{name}-"));
    let program = programs.join(name);
    let mut run = process::command(&program);
    run.arg(bound.corpus(name)?)
        .arg(paths::ensure(seeds.clone())?)
        .args(bound.flags())
        .args(["-print_final_stats=1", "-timeout=20", "-rss_limit_mb=1024"])
        .arg(format!("-artifact_prefix={}", crashes.display()))
        .env(SEEDS, &seeds)
        // What failed stands before a trace that is longer than what is shown.
        .env("RUST_BACKTRACE", "0")
        .stdin(Stdio::null());
    let output = run
        .output()
        .with_context(|| format!("starting `{}`", program.display()))?;
    let said = String::from_utf8_lossy(&output.stderr);
    if !output.status.success() {
        let input = said
            .lines()
            .find_map(|line| line.split_once("Test unit written to "))
            .map_or("(no input was kept)", |(_, input)| input);
        anyhow::bail!(
            "it came down with {}; the input is `{input}`, and this does it again:\n    {} {input}\n{}",
            output.status,
            program.display(),
            process::tail(&output.stderr, 40)
        );
    }
    ensure!(
        said.contains("inline 8-bit counters"),
        "it was built without coverage counters, so it would find nothing:\n{}",
        process::tail(&output.stderr, 10)
    );
    let runs = said
        .lines()
        .find_map(|line| line.strip_prefix("stat::number_of_executed_units:"))
        .and_then(|number| number.trim().parse().ok())
        .unwrap_or(0);
    ensure!(
        runs > 0,
        "it ran nothing:\n{}",
        process::tail(&output.stderr, 10)
    );
    Ok(runs)
}

fn home() -> PathBuf {
    paths::target().join("fuzz")
}

/// What cargo-fuzz gives to the compiler, without what only a nightly one takes, and without `--cfg
/// fuzzing`: what is looked at is the code that runs.
const FLAGS: &[&str] = &[
    "-Cpasses=sancov-module",
    "-Cllvm-args=-sanitizer-coverage-level=4",
    "-Cllvm-args=-sanitizer-coverage-inline-8bit-counters",
    "-Cllvm-args=-sanitizer-coverage-pc-table",
    "-Cllvm-args=-sanitizer-coverage-trace-compares",
    "-Ccodegen-units=1",
];

/// Every check that there is, names in a crash, and no more optimization than it takes to be quick.
const PROFILE: &[&str] = &[
    "opt-level=1",
    "debug=\"line-tables-only\"",
    "debug-assertions=true",
    "strip=\"none\"",
];

/// As the crate `fuzz` has it.
const SEEDS: &str = "GOVERNOR_FUZZ_SEEDS";
/// Enough to reach every branch that a seed is near, in about a second.
const RUNS: u64 = 20_000;
