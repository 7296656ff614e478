//! A disk that does not answer: what waits for it, and what does not.

use super::*;
use crate::ledger::{self, LEFT_OUT, LOST, Ledger};

/// More than the ring of denials holds, so that some are lost if nobody takes them.
const DENIED: u64 = 1800;
const DIR: &str = "/var/lib/governor/ledger";

pub(super) fn ledger_frozen(guest: &mut Guest) -> Result<()> {
    let kit = guest.kept::<Kit>()?;
    on_its_own_disk(guest)?;
    let outcome = while_frozen(guest, &kit);
    guest
        .sh(&format!(
            "fsfreeze -u {DIR}; systemctl stop governor && cp {DIR}/ledger /root/ledger && \
             umount {DIR} && cp /root/ledger {DIR}/ledger && rm /root/ledger /root/disk && \
             systemctl start governor"
        ))?
        .ok()
        .context("taking the disk away")?;
    kit.load(guest, &Spec::default())?;
    outcome
}

fn on_its_own_disk(guest: &mut Guest) -> Result<()> {
    guest
        .sh(&format!(
            "systemctl stop governor && cp {DIR}/ledger /root/ledger && truncate -s 64M /root/disk && \
             mkfs.ext4 -q /root/disk && mount -o loop /root/disk {DIR} && chmod 700 {DIR} && \
             cp /root/ledger {DIR}/ledger && chmod 600 {DIR}/ledger && systemctl start governor"
        ))?
        .ok()
        .context("putting the ledger on a disk of its own")?;
    Ok(())
}

fn while_frozen(guest: &mut Guest, kit: &Kit) -> Result<()> {
    // No quote is due meanwhile: its record would be waited for.
    let calm = Spec {
        lease: "30m",
        every: "10m",
        ..Spec::default()
    };
    kit.load(guest, &calm)?;
    kit.trusted(guest)?;
    let told = |ledger: &Ledger| -> Result<(u64, u64)> {
        let kept = ledger.times("/root/denied-while") + ledger.missing(LEFT_OUT)?;
        Ok((kept, ledger.missing(LOST)?))
    };
    let (kept, lost) = told(&ledger::of(guest)?)?;
    let pid = status::of(guest)?.text(&["daemon", "pid"]);
    guest.run(&["fsfreeze", "-f", DIR])?.ok()?;

    denied(guest, "/root/denied-while-verdicts-wait")?;
    let said = status::of(guest)?;
    ensure!(
        said.number(&["losses", "denials"]) == 0 && said.trust() == "trusted",
        "while the disk does not answer: {} lost, {}: {}",
        said.number(&["losses", "denials"]),
        said.trust(),
        said.reasons()
    );
    guest.wait_until("governor status | grep 'its disk has not answered for'")?;
    ensure!(hello(guest)? == 0, "work does not start");

    // The caller waits for the record; what is revoked does not.
    let revoking = guest.spawn(&["governor", "revoke", "--all", "--reason", "test"])?;
    guest
        .wait_until(&format!(
            "systemd-run -q --wait --collect --slice={AGENTS_SLICE} --uid={USER} {AGENT} hello; test $? = 203"
        ))
        .context("waiting for the revocation")?;
    denied(guest, "/root/denied-while-a-record-is-awaited")?;

    guest.run(&["fsfreeze", "-u", DIR])?.ok()?;
    let revoked = guest.wait(revoking, Duration::from_secs(60))?;
    ensure!(revoked.code == 0, "{}", revoked.errors());
    let whole = kept + 2 * DENIED;
    let (kept, lost_now) = ledger::when(guest, told, |(kept, _)| *kept >= whole)?;
    ensure!(
        kept >= whole && lost_now == lost,
        "{kept} of {whole} denials are told, {} are lost",
        lost_now - lost
    );
    let said = status::of(guest)?;
    ensure!(
        said.number(&["losses", "denials"]) == 0 && said.text(&["daemon", "pid"]) == pid,
        "it was ended meanwhile, or lost {}",
        said.number(&["losses", "denials"])
    );
    guest
        .sh("journalctl -u governor -o cat --no-pager | grep \"the ledger's disk took long\"")?
        .ok()
        .context("saying that the disk took long")?;
    Ok(())
}

/// Has a program denied more often than the ring holds.
fn denied(guest: &mut Guest, program: &str) -> Result<()> {
    let leaf = format!("/sys/fs/cgroup/governed.slice/{AGENTS_SLICE}/stalled");
    let ran = guest
        .sh(&format!(
            "cp /usr/bin/true {program} && echo >> {program} && mkdir -p {leaf} && \
             (echo 0 > {leaf}/cgroup.procs; i=0; ran=0; while [ $i -lt {DENIED} ]; do \
             {program} 2> /dev/null && ran=$((ran + 1)); i=$((i + 1)); done; echo $ran)"
        ))?
        .ok()
        .with_context(|| format!("having `{program}` denied"))?
        .text();
    ensure!(ran == "0", "of what is denied, {ran} ran");
    guest.sh(&format!("rm {program}; rmdir {leaf}"))?.ok()?;
    Ok(())
}
