//! How long it takes with many tasks. Printed, for people; nothing here depends on it.

use super::*;
use crate::status;

pub(super) fn thousand(guest: &mut Guest) -> Result<()> {
    load(guest, &Spec::default())?;
    // Work that is none of governor's business, but has to be looked at.
    // And whose control files anybody may write: those of a zone are the daemon's.
    guest
        .sh(&format!(
            "systemd-run --quiet --unit=plain {AGENT} crowd 1000; \
             until [ \"$(wc -l < {PLAIN}/cgroup.procs)\" = 1000 ]; do :; done"
        ))?
        .ok()?;
    let mut lines = Vec::new();
    let job = start(guest, "crowd", &["crowd", "1000"], "holding")?;
    let dir = cgroup("crowd");
    let count = guest
        .sh(&format!("wc -l < {dir}/cgroup.procs"))?
        .ok()?
        .text();
    ensure!(count == "1000", "{count} tasks");
    let reached = |dir: &str, wanted: &str| {
        format!(
            "until grep -q '^{wanted}' {dir}/cgroup.events 2> /dev/null || ! [ -d {dir} ]; do :; done"
        )
    };
    let governor = |verb: &str| format!("governor {verb} --workload planner --reason drill");
    for (what, command, at, state) in [
        (
            "freeze, bare file",
            format!("echo 1 > {PLAIN}/cgroup.freeze"),
            PLAIN,
            "frozen 1",
        ),
        (
            "thaw, bare file",
            format!("echo 0 > {PLAIN}/cgroup.freeze"),
            PLAIN,
            "frozen 0",
        ),
        (
            "governor pause",
            governor("pause"),
            dir.as_str(),
            "frozen 1",
        ),
        ("governor resume", governor("resume"), &dir, "frozen 0"),
        ("governor kill", governor("kill"), &dir, "populated 0"),
    ] {
        lines.push(timed(
            guest,
            what,
            &format!("{{ {command}; }} > /dev/null; {}", reached(at, state)),
        )?);
    }
    guest.wait(job, BOUND)?;
    let job = start(guest, "crowd", &["crowd", "1000"], "holding")?;
    let bare = format!(
        "echo 1 > {dir}/cgroup.kill; {}",
        reached(&dir, "populated 0")
    );
    lines.push(timed(guest, "kill, bare file", &bare)?);
    guest.wait(job, BOUND)?;
    // All of them outside of the zone: one by one, by label.
    let job = start(guest, "crowd", &["crowd", "1000"], "holding")?;
    guest
        .sh(&format!(
            "mkdir -p {ELSEWHERE}; for i in $(cat {dir}/cgroup.procs); do \
             echo $i > {ELSEWHERE}/cgroup.procs; done"
        ))?
        .ok()?;
    lines.push(timed(
        guest,
        "governor kill, all moved out",
        &governor("kill"),
    )?);
    guest.wait(job, BOUND)?;
    guest.wait_until(&format!("grep -q 'populated 0' {ELSEWHERE}/cgroup.events"))?;
    lines.push(timed(
        guest,
        "governor kill, nobody there",
        &governor("kill"),
    )?);
    let inside = "journalctl -u governor -o cat | grep 'stops took' | tail -4";
    let inside = guest.sh(inside)?.ok()?.text();
    guest
        .run(&["systemctl", "kill", "--signal=KILL", "plain"])?
        .ok()?;
    lines.push(timed(
        guest,
        "any request",
        "governor status > /dev/null || true",
    )?);
    println!(
        "    {}: 1000 tasks, 1000 others: {}\n    the daemon's loop: {}",
        guest.kernel(),
        lines.join(", "),
        inside.replace('\n', "; ")
    );
    Ok(())
}

/// Labels of work are no memory of the daemon's, nor of who inherits what was its service's when it was started
/// again. And it is in its own cgroup, whoever made its maps.
pub(super) fn uncharged(guest: &mut Guest) -> Result<()> {
    load(guest, &Spec::default())?;
    let pid = status::of(guest)?.text(&["daemon", "pid"]);
    guest
        .run(&[
            "grep",
            "-qx",
            &pid,
            &format!("{SERVICES}/governor.service/cgroup.procs"),
        ])?
        .ok()
        .context("the daemon is not in its service's cgroup")?;
    let before = charged(guest)?;
    let job = start(guest, "crowd", &["crowd", "1000"], "holding")?;
    let after = charged(guest)?;
    guest
        .sh("governor kill --workload planner --reason drill")?
        .ok()?;
    guest.wait(job, BOUND)?;
    ensure!(
        after < before + 1000 * HALF_A_LABEL,
        "{before} bytes of the kernel's were charged to services, then {after}"
    );
    Ok(())
}

/// What the kernel keeps for all services, also for those that have ended.
fn charged(guest: &mut Guest) -> Result<u64> {
    let slab = format!("sed -n 's/^slab //p' {SERVICES}/memory.stat");
    let said = guest.sh(&slab)?.ok()?.text();
    said.parse().with_context(|| format!("reading `{said}`"))
}

const SERVICES: &str = "/sys/fs/cgroup/system.slice";
/// Of what the kernel needs for one: 1232 bytes.
const HALF_A_LABEL: u64 = 600;
const PLAIN: &str = "/sys/fs/cgroup/system.slice/plain.service";

fn timed(guest: &mut Guest, what: &str, script: &str) -> Result<String> {
    let timing = format!("a=$(date +%s%N); {script}; b=$(date +%s%N); echo $(((b - a) / 1000000))");
    let said = guest.sh(&timing)?.ok()?.text();
    let took = said.lines().last().unwrap_or_default();
    Ok(format!("{what} {took} ms"))
}
