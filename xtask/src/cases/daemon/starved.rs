//! Somebody who may do nothing, and keeps whoever he can from the processor.

use super::*;
use crate::{compile, wire};

const PROBE: &str = "/usr/local/bin/probe_storm";
const NOBODY: u32 = 65534;
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
    let readers = [PROBE, "starve", &pid, HOGS, READERS];
    let outcome = while_nobody(guest, &readers, "begun", |guest| {
        for _ in 0..5 {
            let said = status::of(guest).context("asking while somebody reads")?;
            ensure!(
                said.text(&["daemon", "pid"]) == pid,
                "the daemon was ended meanwhile"
            );
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
        let now = status::of(guest)?.text(&["daemon", "pid"]);
        ensure!(now == pid, "the daemon was ended meanwhile");
        Ok(())
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
    wait_until(
        guest,
        &format!("journalctl -u governor -o cat --after-cursor='{cursor}' | grep -q 'in force'"),
    )
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
    let patience = Duration::from_secs(60);
    let outcome = match guest.wait_for_output(probe, begun.as_bytes(), patience) {
        Ok(()) => work(guest),
        Err(error) => Err(error),
    };
    guest.kill(probe, 9)?;
    guest.wait(probe, patience)?;
    outcome
}
