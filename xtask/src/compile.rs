//! Everything that is compiled for the guests: the kernel programs, the daemon that embeds them, the
//! agent and the test probes. Guest programs that must run in any root are linked statically.

use crate::{dist, ebpf, paths, process, tools};
use anyhow::{Context, Result, ensure};
use std::path::{Path, PathBuf};

/// Kernel programs, daemon and probes.
pub(crate) fn everything(logs: bool) -> Result<()> {
    let lock = paths::lock(dist::PACKED)?;
    governor_with(logs)?;
    drop(lock);
    probes().map(drop)
}

/// The release build of `governor` with the kernel programs inside it, and nothing meant for tests.
pub(crate) fn governor() -> Result<PathBuf> {
    let built = governor_with(false)?;
    ensure!(
        !kills_itself(&built)?,
        "`{}` was built with the feature `{FAULTS}`, which kills the daemon on demand: remove it and \
         build again",
        built.display()
    );
    Ok(built)
}

/// The same daemon, which can be made to end between any two effects. It lies where [`governor`]'s
/// does, until that is built again.
pub(crate) fn governor_that_kills_itself() -> Result<PathBuf> {
    for_tests(&ebpf::build(false)?, FAULTS)
}

/// The same, with another layout of what is pinned.
pub(crate) fn governor_with_next_layout() -> Result<PathBuf> {
    for_tests(&ebpf::build_with_next_layout()?, NEXT_LAYOUT)
}

fn for_tests(object: &Path, feature: &str) -> Result<PathBuf> {
    let built = release(object, &["--features", feature, "--config", SOONER])?;
    ensure!(
        kills_itself(&built)?,
        "`{}` was built without the feature `{feature}`, so no test with it says anything",
        built.display()
    );
    Ok(built)
}

fn governor_with(logs: bool) -> Result<PathBuf> {
    release(&ebpf::build(logs)?, if logs { LOGS } else { &[] })
}

fn kills_itself(binary: &Path) -> Result<bool> {
    let bytes = std::fs::read(binary).with_context(|| format!("reading `{}`", binary.display()))?;
    Ok(contains(&bytes, b"built with fault-points"))
}

fn contains(bytes: &[u8], wanted: &[u8]) -> bool {
    bytes.windows(wanted.len()).any(|window| window == wanted)
}

fn release(object: &Path, features: &[&str]) -> Result<PathBuf> {
    tools::need(tools::Group::Build)?;
    let mut build = process::command("cargo");
    build
        .args([
            "build",
            "--release",
            "--package",
            "governor",
            "--target-dir",
        ])
        .arg(paths::target())
        .args(features)
        .current_dir(paths::root())
        .env(ebpf::OBJECT_VARIABLE, object);
    process::run("building governor", &mut build)?;
    Ok(paths::target().join("release/governor"))
}

/// The directory with every `probe_*` program of this crate, built for the guest.
pub(crate) fn probes() -> Result<PathBuf> {
    let mut build = process::command("cargo");
    build
        .args(["build", "--package", "xtask", "--target-dir"])
        .arg(paths::target())
        .current_dir(paths::root());
    for name in probe_names()? {
        build.args(["--bin", &name]);
    }
    process::run("building the guest probes", &mut build)?;
    Ok(paths::target().join("debug"))
}

/// One probe, built by [`probes`] earlier in this run.
pub(crate) fn probe(name: &str) -> Result<PathBuf> {
    let file = paths::target().join("debug").join(name);
    ensure!(file.is_file(), "no probe `{name}` has been built");
    Ok(file)
}

fn probe_names() -> Result<Vec<String>> {
    let dir = paths::root().join("xtask/src/bin");
    let listing =
        std::fs::read_dir(&dir).with_context(|| format!("listing `{}`", dir.display()))?;
    let mut names: Vec<String> = listing
        .filter_map(Result::ok)
        .filter_map(|entry| {
            entry
                .file_name()
                .to_str()?
                .strip_suffix(".rs")
                .map(str::to_owned)
        })
        .filter(|name| name.starts_with("probe_"))
        .collect();
    names.sort();
    Ok(names)
}

/// The guest agent; compiled alone, for it leans on nothing but the standard library.
pub(crate) fn agent() -> Result<PathBuf> {
    let sources = paths::root().join("xtask/src");
    let (agent, wire) = (sources.join("bin/guest_agent.rs"), sources.join("wire.rs"));
    let read =
        |path: &Path| std::fs::read(path).with_context(|| format!("reading `{}`", path.display()));
    let key = paths::key(&[&read(&agent)?, &read(&wire)?]);
    let dir = paths::ensure(paths::vm().join("agent"))?;
    let built = dir.join(format!("guest_agent-{}", key.get(..12).unwrap_or(&key)));
    if built.is_file() {
        return Ok(built);
    }
    tools::need(tools::Group::Build)?;
    let aside = dir.join("guest_agent.new");
    let mut rustc = process::command("rustc");
    rustc
        .args([
            "--edition",
            "2024",
            "--crate-name",
            "guest_agent",
            "-C",
            "opt-level=2",
        ])
        .args([
            "-C",
            "target-feature=+crt-static",
            "-C",
            "strip=symbols",
            "-C",
            "panic=abort",
        ])
        .arg("-o")
        .arg(&aside)
        .arg(&agent);
    process::run("building the guest agent", &mut rustc)?;
    std::fs::rename(&aside, &built).context("renaming the guest agent")?;
    Ok(built)
}

const LOGS: &[&str] = &["--features", "bpf-log"];
/// Nothing measures what is built for tests, and this takes half the time.
const SOONER: &str = "profile.release.package.governor.opt-level=1";
/// The daemon's feature of the same name.
const FAULTS: &str = "fault-points";
/// Another, which brings that one with it.
const NEXT_LAYOUT: &str = "next-layout";
