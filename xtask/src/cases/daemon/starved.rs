//! Somebody who may do nothing, and keeps whoever he can from the processor.

use super::*;
use crate::{compile, wire};

const PROBE: &str = "/usr/local/bin/probe_storm";
const NOBODY: u32 = 65534;
/// Seconds of a silent canary that cost trust, and some more.
const SILENCE: f64 = 25.0;
const PATIENCE: Duration = Duration::from_secs(60);
/// Who keeps the processors busy, and who reads with the weakest priority. Before the daemon's arguments were
/// forgotten these many kept it from answering at all, and from ending.
const HOGS: &str = "6";
const READERS: &str = "20";

pub(super) fn by_readers(guest: &mut Guest) -> Result<()> {
    let kit = guest.kept::<Kit>()?;
    let lasting = Spec {
        lease: "300s",
        on_revoke: "deny",
        ..Spec::default()
    };
    kit.load(guest, &lasting)?;
    kit.trusted(guest)?;
    guest.put_file(&compile::probe("probe_storm")?, PROBE)?;
    let arguments = guest
        .sh("cd /sys/fs/cgroup/system.slice/governor.service && for process in $(cat cgroup.procs); do cat /proc/$process/cmdline; done")?
        .ok()?
        .stdout;
    ensure!(arguments.is_empty(), "arguments can be read: {arguments:?}");

    let pid = status::of(guest)?.text(&["daemon", "pid"]);
    let arguments = format!("/proc/{pid}/cmdline");
    let readers = [PROBE, "starve", &arguments, HOGS, READERS];
    let outcome = while_nobody(guest, &readers, "begun", |guest| {
        for _ in 0..5 {
            is_still(guest, &pid).context("asking while somebody reads")?;
        }
        guest
            .run(&["governor", "revoke", "--all", "--reason", "test"])?
            .ok()
            .context("revoking while somebody reads")?;
        let denied = hello(guest)?;
        ensure!(denied == 203, "it runs although it is revoked: {denied}");
        Ok(())
    });
    guest.sh(&format!("rm {PROBE}"))?.ok()?;
    kit.load(guest, &Spec::default())?;
    outcome
}

/// Before Linux 6.8 the kernel takes the lock of all cgroups to tell anybody which one he is in. Later it takes it
/// for fewer, and this one only reads.
pub(super) fn by_members(guest: &mut Guest) -> Result<()> {
    let kit = guest.kept::<Kit>()?;
    kit.load(guest, &Spec::default())?;
    kit.trusted(guest)?;
    guest.put_file(&compile::probe("probe_storm")?, PROBE)?;
    let slice = format!("--slice={AGENTS_SLICE}");
    let held = [
        "systemd-run",
        "--quiet",
        "--wait",
        "--pipe",
        "--collect",
        &slice,
        AGENT,
        "hold",
    ];
    let job = guest.spawn(&held)?;
    guest.wait_for_output(job, b"holding", PATIENCE)?;
    let pid = status::of(guest)?.text(&["daemon", "pid"]);
    let readers = [PROBE, "starve", "/proc/self/cgroup", HOGS, READERS];
    let outcome = while_nobody(guest, &readers, "begun", |guest| {
        for what in ["pause", "resume", "kill"] {
            guest
                .run(&["governor", what, "--all", "--reason", "test"])?
                .ok()
                .with_context(|| format!("{what} while somebody reads"))?;
        }
        let ended = guest.wait(job, PATIENCE)?;
        ensure!(ended.code != 0, "it ended by itself");
        is_still(guest, &pid)
    });
    guest.sh(&format!("rm {PROBE}"))?.ok()?;
    outcome
}

/// Who may not trace a process takes the lock all the same that its execution needs.
pub(super) fn by_tracers(guest: &mut Guest) -> Result<()> {
    let kit = guest.kept::<Kit>()?;
    let lasting = Spec {
        lease: "300s",
        ..Spec::default()
    };
    kit.load(guest, &lasting)?;
    kit.trusted(guest)?;
    guest.put_file(&compile::probe("probe_storm")?, PROBE)?;
    let pid = status::of(guest)?.text(&["daemon", "pid"]);
    let canary = guest
        .sh(&format!("cat /proc/{pid}/task/*/children"))?
        .ok()?
        .text();
    let tracers = [PROBE, "starve-tracing", &canary, HOGS, READERS];
    let outcome = while_nobody(guest, &tracers, "begun", |guest| {
        let begun = uptime(guest)?;
        while uptime(guest)? - begun < SILENCE {
            let said = status::of(guest)?;
            ensure!(
                said.trust() == "trusted",
                "{}: {}",
                said.trust(),
                said.reasons()
            );
        }
        let still = guest
            .sh(&format!("cat /proc/{pid}/task/*/children"))?
            .text();
        ensure!(
            still == canary,
            "the canary was another: {canary}, then {still}"
        );
        is_still(guest, &pid)
    });
    guest.sh(&format!("rm {PROBE}"))?.ok()?;
    kit.load(guest, &Spec::default())?;
    outcome
}

fn is_still(guest: &mut Guest, pid: &str) -> Result<()> {
    let now = status::of(guest)?.text(&["daemon", "pid"]);
    ensure!(now == pid, "the daemon was ended meanwhile");
    Ok(())
}

/// Seconds.
fn uptime(guest: &mut Guest) -> Result<f64> {
    let text = guest.sh("cut -d ' ' -f 1 /proc/uptime")?.ok()?.text();
    text.parse().context("reading how long the guest is up")
}

/// The journal's queue is full and nobody empties it; the daemon has something to say.
pub(super) fn by_a_journal(guest: &mut Guest) -> Result<()> {
    let kit = guest.kept::<Kit>()?;
    kit.load(guest, &Spec::default())?;
    guest.put_file(&compile::probe("probe_storm")?, PROBE)?;
    let pid = status::of(guest)?.text(&["daemon", "pid"]);
    let journal = "$(systemctl show systemd-journald --value -p MainPID)";
    guest.sh(&format!("kill -STOP {journal}"))?.ok()?;
    let filler = [PROBE, "fill", "/run/systemd/journal/socket"];
    let outcome = while_nobody(guest, &filler, "full of ", |guest| {
        kit.load(guest, &Spec::default())
            .context("loading a policy while the journal is full")?;
        is_still(guest, &pid)
    });
    guest
        .sh(&format!("kill -CONT {journal}; rm {PROBE}"))?
        .ok()?;
    outcome?;
    // It goes on to say what it does once there is room.
    let cursor = guest
        .sh("journalctl -n 1 -o cat --show-cursor | sed -n 's/^-- cursor: //p'")?
        .ok()?
        .text();
    kit.load(guest, &Spec::default())?;
    guest.wait_until(&format!(
        "journalctl -u governor -o cat --after-cursor='{cursor}' | grep -q 'in force'"
    ))
}

/// Does something while an ordinary user runs the probe, once it said that all is in place.
fn while_nobody(
    guest: &mut Guest,
    argv: &[&str],
    begun: &str,
    work: impl FnOnce(&mut Guest) -> Result<()>,
) -> Result<()> {
    let spec = wire::Spec {
        argv: argv.iter().map(|&arg| arg.to_owned()).collect(),
        cwd: "/".to_owned(),
        user: Some(NOBODY),
        ..wire::Spec::default()
    };
    let probe = guest.spawn_spec(&spec, &[])?;
    let outcome = match guest.wait_for_output(probe, begun.as_bytes(), PATIENCE) {
        Ok(()) => work(guest),
        Err(error) => Err(error),
    };
    guest.kill(probe, 9)?;
    guest.wait(probe, PATIENCE)?;
    outcome
}
