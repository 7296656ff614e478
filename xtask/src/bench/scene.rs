//! What most figures need in the guest: one in the zone who executes when asked to, a policy that lets
//! it, and what the daemon said in the journal.

use crate::{
    compile,
    guest::{Guest, JobId},
    kit::{AGENTS_SLICE, Kit, Spec, USER},
};
use anyhow::{Context as _, Result};
use serde_json::Value;
use std::time::Duration;

/// The guest's side of the benchmark.
pub(super) const PROBE: &str = "/opt/agent/bench";
/// What it executes: allowed content that the kernel knows no format for.
const PLAIN: &str = "/opt/agent/plain";
/// Where policy lets it send; nobody listens there.
const PEER: &str = "127.0.0.1:5353";
/// What is quoted beside the usual: a register that can be put back without a boot.
const PCRS: &str = "0,1,2,3,4,5,6,7,8,9,14,16";

/// Puts the probe into the guest and loads a policy that lets it run; trust is there afterwards.
pub(super) fn prepare(guest: &mut Guest, kit: &Kit, spec: &Spec) -> Result<()> {
    guest.put_file(&compile::probe("probe_bench")?, PROBE)?;
    guest.put(PLAIN, 0o755, b"the kernel knows no such format\n")?;
    guest.sh(&format!("chmod 755 {PROBE}"))?.ok()?;
    let lines = guest.run(&["governor", "measure", PROBE, PLAIN])?.ok()?;
    kit.baseline_of(guest, PCRS)?;
    kit.load(
        guest,
        &Spec {
            planner: format!("{}\n{}", spec.planner, lines.text()),
            pcrs: PCRS,
            ..spec.clone()
        },
    )
}

/// Starts the one in the zone.
pub(super) fn start(guest: &mut Guest) -> Result<JobId> {
    guest
        .sh(
            "mkdir -p /run/bench && mkfifo /run/bench/ask /run/bench/answer && \
             chmod 666 /run/bench/ask /run/bench/answer",
        )?
        .ok()
        .context("making the pipes")?;
    let (slice, user) = (format!("--slice={AGENTS_SLICE}"), format!("--uid={USER}"));
    let argv = [
        "systemd-run",
        "--quiet",
        "--wait",
        "--pipe",
        "--collect",
        "--unit=answer",
        &slice,
        &user,
        "--",
        PROBE,
        "answer",
        PLAIN,
        PEER,
    ];
    let job = guest.spawn(&argv)?;
    guest.wait_for_output(job, b"ready", Duration::from_secs(60))?;
    Ok(job)
}

/// Runs the probe and returns the numbers and words of each line that it printed.
pub(super) fn probe(guest: &mut Guest, argv: &[&str], bound: Duration) -> Result<Vec<Vec<String>>> {
    let mut command = vec![PROBE];
    command.extend(argv);
    let output = guest.run_for(&command, bound)?.ok()?;
    let words = |line: &str| line.split_whitespace().map(str::to_owned).collect();
    Ok(output.text().lines().map(words).collect())
}

/// A number at a place of such a line.
pub(super) fn at(line: &[String], place: usize) -> Result<f64> {
    line.get(place)
        .and_then(|word| word.parse().ok())
        .with_context(|| format!("reading word {place} of `{}`", line.join(" ")))
}

/// What the daemon said with this message, as fields by name.
pub(super) fn said(guest: &mut Guest, message: &str) -> Result<Vec<Value>> {
    let output = guest
        .sh(&format!(
            "journalctl -u governor -o json --no-pager | grep -F '{message}' || true"
        ))?
        .ok()?;
    let text = output.text();
    let lines = text.lines().map(|line| {
        serde_json::from_str(line).with_context(|| format!("reading the journal's `{line}`"))
    });
    lines.collect()
}

/// A number among the fields of such a line.
pub(super) fn field(line: &Value, name: &str) -> Result<f64> {
    let name = format!("F_{name}");
    line[&name]
        .as_str()
        .and_then(|text| text.parse().ok())
        .with_context(|| format!("the journal's line has no number `{name}`: {line}"))
}
