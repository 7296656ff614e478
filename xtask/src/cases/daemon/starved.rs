//! Somebody who may do nothing, and keeps whoever he can from the processor.

use super::*;
use crate::{compile, image::Kernel, wire};

const PROBE: &str = "/usr/local/bin/probe_starve";
const NOBODY: u32 = 65534;
/// Seconds of a silent canary that cost trust, and some more.
const SILENCE: f64 = 25.0;
const PATIENCE: Duration = Duration::from_secs(60);
/// Who keeps the processors busy, and who takes a lock with the weakest priority. Before the daemon's arguments were
/// forgotten these many readers of them kept it from answering at all, and from ending.
const HOGS: &str = "6";
const HOLDERS: &str = "20";

pub(super) fn by_readers(guest: &mut Guest) -> Result<()> {
    let kit = guest.kept::<Kit>()?;
    lasting(guest, &kit)?;
    let arguments = guest
        .sh("cd /sys/fs/cgroup/system.slice/governor.service && for process in $(cat cgroup.procs); do cat /proc/$process/cmdline; done")?
        .ok()?
        .stdout;
    ensure!(arguments.is_empty(), "arguments can be read: {arguments:?}");

    let pid = status::of(guest)?.text(&["daemon", "pid"]);
    let arguments = format!("/proc/{pid}/cmdline");
    let readers = [PROBE, "reading", &arguments, HOGS, HOLDERS];
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

/// Before Linux 6.8 the kernel takes the lock of all cgroups to tell anybody which one he is in.
pub(super) fn by_members(guest: &mut Guest) -> Result<()> {
    if guest.kernel() == Kernel::V6_12.name() {
        guest.leaves_out("holding the lock of all cgroups", "Linux before 6.8");
        return Ok(());
    }
    let kit = guest.kept::<Kit>()?;
    lasting(guest, &kit)?;
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
    let readers = [PROBE, "reading", "/proc/self/cgroup", HOGS, HOLDERS];
    let outcome = while_nobody(guest, &readers, "begun", |guest| {
        for (what, done) in [
            ("pause", "frozen"),
            ("resume", "thawed"),
            ("kill", "killed"),
        ] {
            let argv = ["governor", what, "--all", "--reason", "test", "--json"];
            let said = guest.run(&argv)?.ok().context(what)?;
            let said: serde_json::Value = serde_json::from_slice(&said.stdout)?;
            ensure!(
                said[done].as_u64() == Some(1),
                "{what} while somebody reads: {said}"
            );
        }
        is_still(guest, &pid)
    });
    if outcome.is_err() {
        guest.kill(job, 9)?;
    }
    guest.wait(job, PATIENCE)?;
    guest.sh(&format!("rm {PROBE}"))?.ok()?;
    kit.load(guest, &Spec::default())?;
    outcome
}

/// Who may not trace a process takes the lock all the same that its execution needs.
pub(super) fn by_tracers(guest: &mut Guest) -> Result<()> {
    let kit = guest.kept::<Kit>()?;
    lasting(guest, &kit)?;
    let pid = status::of(guest)?.text(&["daemon", "pid"]);
    let canary = guest.run(&["pgrep", "-P", &pid])?.ok()?.text();
    let tracers = [PROBE, "tracing", &canary, HOGS, HOLDERS];
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
        let still = guest.run(&["pgrep", "-P", &pid])?.ok()?.text();
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

/// Trusted for longer than anything here takes, with the probe in place.
fn lasting(guest: &mut Guest, kit: &Kit) -> Result<()> {
    let spec = Spec {
        lease: "300s",
        on_revoke: "deny",
        ..Spec::default()
    };
    kit.load(guest, &spec)?;
    kit.trusted(guest)?;
    guest.put_file(&compile::probe("probe_starve")?, PROBE)
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
    guest.put_file(&compile::probe("probe_starve")?, PROBE)?;
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
