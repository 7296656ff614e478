//! Other ends of a daemon, and what replaces it, while work is being started all the time.

use super::{walk::UNLISTED, *};
use crate::guest::JobId;
use std::time::Duration;

const BOUND: Duration = Duration::from_secs(120);
const RUNNING: &str = "/run/crash-storm";

/// What a storm counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Counts {
    tries: u64,
    /// Allowed work that was not started.
    failed: u64,
    /// Denied work that was.
    passed: u64,
    /// Tries that the kernel gave no verdict on.
    void: u64,
}

/// A lease that outlasts the start of a daemon in an emulated guest on a busy host.
fn lasting() -> Spec {
    Spec {
        lease: "120s",
        every: "5s",
        ..Spec::default()
    }
}

/// Begins to start work, allowed and denied, one after the other.
pub(super) fn storm(guest: &mut Guest) -> Result<JobId> {
    guest.sh(&format!("touch {RUNNING}"))?.ok()?;
    let job = guest.spawn(&[STORM, AGENTS_SLICE, AGENT, UNLISTED])?;
    guest.wait_for_output(job, b"begun", BOUND)?;
    Ok(job)
}

pub(super) fn calmed(guest: &mut Guest, storm: JobId) -> Result<Counts> {
    guest.sh(&format!("rm -f {RUNNING}"))?.ok()?;
    let said = guest.wait(storm, BOUND)?.ok()?.text();
    let count = |name: &str| -> Result<u64> {
        let found = said
            .split_whitespace()
            .find_map(|word| word.strip_prefix(name)?.strip_prefix('='))
            .with_context(|| format!("no `{name}` in `{said}`"))?;
        found.parse().with_context(|| format!("reading `{said}`"))
    };
    let counts = Counts {
        tries: count("tries")?,
        failed: count("failed")?,
        passed: count("passed")?,
        void: count("void")?,
    };
    println!("    under load: {counts:?}");
    ensure!(counts.passed == 0, "denied work was started: {counts:?}");
    Ok(counts)
}

/// Nothing that is allowed failed either.
pub(super) fn untouched(counts: Counts, least: u64) -> Result<()> {
    ensure!(
        counts.failed == 0 && counts.void == 0,
        "allowed work was not started: {counts:?}"
    );
    ensure!(counts.tries >= least, "hardly a load: {counts:?}");
    Ok(())
}

/// Waits for another process than this one to be the daemon.
fn replaced(guest: &mut Guest, pid: &str) -> Result<()> {
    guest.wait_until(&format!(
        "now=$(systemctl show governor --value -p MainPID); test $now != {pid} && test $now != 0 \
         && systemctl is-active --quiet governor"
    ))
    .context("waiting for another daemon")
}

fn main_pid(guest: &mut Guest) -> Result<String> {
    let shown = guest.run(&["systemctl", "show", "governor", "--value", "-p", "MainPID"])?;
    Ok(shown.ok()?.text())
}

/// PID 1 may stop the daemon; anybody else may not, which the suite `guard` shows.
pub(super) fn stopped(guest: &mut Guest) -> Result<()> {
    let kit = calm(guest)?;
    settings(guest, "WatchdogSec=15")?;
    guest.run(&["systemctl", "restart", "governor"])?.ok()?;
    let spec = Spec {
        lease: "6s",
        every: "2s",
        ..Spec::default()
    };
    kit.load(guest, &spec)?;
    let pid = main_pid(guest)?;
    guest
        .run(&[
            "systemctl",
            "kill",
            "--kill-whom=main",
            "--signal=STOP",
            "governor",
        ])?
        .ok()?;
    expect(guest, UNLISTED, false, "while the daemon is stopped")?;
    expect(guest, AGENT, true, "on the lease that runs")?;
    guest
        .wait_until(&format!("{PROBE} {AGENTS_SLICE} {AGENT} | grep denied"))
        .context("waiting for the lease to run out")?;
    ensure!(
        main_pid(guest)? == pid,
        "it was replaced before its lease was out"
    );
    replaced(guest, &pid)?;
    kit.trusted(guest)?;
    expect(
        guest,
        AGENT,
        true,
        "under the daemon that the watchdog had started",
    )?;
    let said = status::of(guest)?;
    ensure!(
        said.text(&["daemon", "adopted"]) == "true",
        "it did not adopt"
    );
    calm(guest).map(drop)
}

pub(super) fn out_of_memory(guest: &mut Guest) -> Result<()> {
    let kit = calm(guest)?;
    // As the unit has it, the kernel would rather let it wait for memory for ever.
    settings(guest, "OOMScoreAdjust=0")?;
    guest.run(&["systemctl", "restart", "governor"])?.ok()?;
    kit.load(guest, &lasting())?;
    let pid = main_pid(guest)?;
    let job = storm(guest)?;
    let newer = kit.signed(&lasting())?;
    // What it has is more than it may have from now on; the next page that it asks for is its last.
    let limit = "systemctl set-property --runtime governor MemorySwapMax=0 MemoryMax=";
    guest.sh(&format!("{limit}1M"))?.ok()?;
    let answer = kit.offer(guest, &newer)?;
    let killed =
        guest.sh("dmesg | grep -q 'Memory cgroup out of memory: Killed process .*governor'")?;
    guest.sh(&format!("{limit}infinity"))?.ok()?;
    ensure!(
        killed.code == 0,
        "the kernel did not kill it; the reload said {}",
        answer.code
    );
    replaced(guest, &pid)?;
    kit.trusted(guest)?;
    untouched(calmed(guest, job)?, 5)?;
    let said = status::of(guest)?;
    ensure!(
        said.text(&["daemon", "adopted"]) == "true",
        "it did not adopt"
    );
    kit.load(guest, &lasting())?;
    expect(guest, AGENT, true, "in the end")?;
    Ok(())
}

pub(super) fn reloads(guest: &mut Guest) -> Result<()> {
    let kit = calm(guest)?;
    kit.load(guest, &lasting())?;
    let job = storm(guest)?;
    for _ in 0..if full() { 200 } else { 20 } {
        let dir = kit.signed(&lasting())?;
        kit.offer(guest, &dir)?
            .ok()
            .context("reloading under load")?;
    }
    untouched(calmed(guest, job)?, 20)?;
    kit.trusted(guest)
}

pub(super) fn upgrades(guest: &mut Guest) -> Result<()> {
    let kit = calm(guest)?;
    kit.load(guest, &lasting())?;
    let job = storm(guest)?;
    for _ in 0..if full() { 20 } else { 1 } {
        let pid = main_pid(guest)?;
        guest
            .run(&["dpkg", "-i", "/root/governor.deb"])?
            .ok()
            .context("installing the package under load")?;
        ensure!(main_pid(guest)? != pid, "the daemon was not replaced");
        kit.trusted(guest)?;
    }
    untouched(calmed(guest, job)?, 20)
}

/// What runs in a slice ends with it, so allowed work may fail here; denied work may not pass.
pub(super) fn slices(guest: &mut Guest) -> Result<()> {
    let kit = calm(guest)?;
    kit.load(guest, &lasting())?;
    let job = storm(guest)?;
    for _ in 0..if full() { 100 } else { 10 } {
        guest
            .run(&["systemctl", "stop", AGENTS_SLICE])?
            .ok()
            .context("stopping the slice under load")?;
        guest
            .run(&["systemctl", "start", AGENTS_SLICE])?
            .ok()
            .context("starting the slice under load")?;
    }
    let counts = calmed(guest, job)?;
    ensure!(counts.tries >= 5, "hardly a load: {counts:?}");
    kit.trusted(guest)?;
    expect(guest, AGENT, true, "in the slice that came last")
}
