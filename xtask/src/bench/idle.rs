//! What the daemon takes while it is trusted and nothing happens.
//!
//! The share of the guest's processor that it takes is inflated as much as the processor is slow, so
//! it is said beside it how much slower that is at a loop of known length. In a guest that counts
//! instructions (one for each nanosecond of its time) the share is a number of instructions, which is
//! the same on every machine.

use super::{
    figures::{Row, Wanted},
    scene::{self, PROBE},
};
use crate::{
    compile,
    guest::Guest,
    kit::{Kit, Spec},
    process,
};
use anyhow::{Context as _, Result};
use std::time::Duration;

pub(super) fn measure(guest: &mut Guest, kit: &Kit) -> Result<Vec<Row>> {
    quiet(guest, kit)?;
    let used = watch(guest)?;
    let slower = slower(guest)?;
    let percent = |used: &[Used], of: fn(&Used) -> f64| used.iter().map(of).collect();
    Ok(vec![
        Row::new(
            "idle: the daemon, of the emulated processor",
            "%",
            percent(&used, |used| used.daemon),
            Wanted::Shown,
        )?,
        Row::new(
            "idle: its service, of the emulated processor",
            "%",
            percent(&used, |used| used.service),
            Wanted::Shown,
        )?,
        Row::new(
            "the emulated processor is slower by",
            "times",
            vec![slower],
            Wanted::Shown,
        )?,
    ])
}

/// In a guest whose time is the count of its instructions.
pub(super) fn counted(guest: &mut Guest, kit: &Kit) -> Result<Vec<Row>> {
    quiet(guest, kit)?;
    let used = watch(guest)?;
    // One percent of a second of such time is ten million instructions; a processor that does a
    // thousand million a second takes that second for them.
    let percent = |of: fn(&Used) -> f64| used.iter().map(of).collect();
    Ok(vec![
        Row::new(
            "idle: the daemon, of 10⁹ instructions a second",
            "%",
            percent(|used| used.daemon),
            Wanted::MedianAtMost(0.5),
        )?,
        Row::new(
            "idle: its service, of 10⁹ instructions a second",
            "%",
            percent(|used| used.service),
            Wanted::MedianAtMost(0.5),
        )?,
    ])
}

fn quiet(guest: &mut Guest, kit: &Kit) -> Result<()> {
    // As often as the example policy asks.
    let spec = Spec {
        every: "10s",
        lease: "30s",
        ..Spec::default()
    };
    scene::prepare(guest, kit, &spec)
}

/// Percent of the time that passed.
struct Used {
    daemon: f64,
    service: f64,
}

/// Windows of ten seconds, two minutes of them.
fn watch(guest: &mut Guest) -> Result<Vec<Used>> {
    let script = "pid=$(systemctl show -p MainPID --value governor); \
         for i in 0 1 2 3 4 5 6 7 8 9 10 11 12; do [ $i = 0 ] || sleep 10; \
         echo $(cut -d ' ' -f 1 /proc/uptime) \
           $(cat /proc/$pid/task/*/schedstat | awk '{ sum += $1 } END { printf \"%.0f\", sum }') \
           $(awk '/^usage_usec/ { print $2 }' /sys/fs/cgroup/system.slice/governor.service/cpu.stat); \
         done";
    let shown = guest
        .run_for(&["sh", "-c", script], Duration::from_secs(3600))?
        .ok()?
        .text();
    let mut readings = Vec::new();
    for line in shown.lines() {
        let numbers: Result<Vec<f64>, _> = line.split_whitespace().map(str::parse).collect();
        let numbers = numbers.with_context(|| format!("reading `{line}`"))?;
        let [uptime, daemon, service] = numbers.as_slice() else {
            anyhow::bail!("reading `{line}`");
        };
        // Seconds, nanoseconds, microseconds.
        readings.push((*uptime, daemon / 1e9, service / 1e6));
    }
    let used = readings.windows(2).filter_map(|pair| {
        let [before, after] = pair else { return None };
        let passed = after.0 - before.0;
        Some(Used {
            daemon: 100.0 * (after.1 - before.1) / passed,
            service: 100.0 * (after.2 - before.2) / passed,
        })
    });
    Ok(used.collect())
}

/// How much longer the guest takes for a loop of the same length than the host does.
fn slower(guest: &mut Guest) -> Result<f64> {
    const ROUNDS: &str = "20000000";
    let took = |text: String| -> Result<f64> {
        let text = text.trim().to_owned();
        text.parse().with_context(|| format!("reading `{text}`"))
    };
    let inside = took(guest.run(&[PROBE, "spin", ROUNDS])?.ok()?.text())?;
    let mut outside = process::command(compile::probe("probe_bench")?);
    outside.args(["spin", ROUNDS]);
    Ok(inside / took(process::capture(&mut outside)?)?)
}
