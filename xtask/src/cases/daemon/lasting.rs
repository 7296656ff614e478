//! What outlives the daemon, the package and the boot, and evidence that leaves the host.

use super::*;
use crate::ledger;

/// The daemon that runs now says since when nobody may have watched, in a later record than this one.
fn gap_is_named(guest: &mut Guest, after: u64, rebooted: bool) -> Result<u64> {
    let start = ledger::of(guest)?.last_start();
    let start = start.context("the ledger has no record of a start")?;
    ensure!(start.sequence > after, "no other start: {start:?}");
    ensure!(start.names_the_gap(rebooted), "no gap is named: {start:?}");
    Ok(start.sequence)
}

fn last_start(guest: &mut Guest) -> Result<u64> {
    let start = ledger::of(guest)?.last_start();
    Ok(start.map_or(0, |start| start.sequence))
}

pub(super) fn restart(guest: &mut Guest) -> Result<()> {
    let kit = loaded(guest)?;
    let mut started = last_start(guest)?;
    for signal in ["KILL", "TERM"] {
        guest
            .run(&[
                "systemctl",
                "kill",
                &format!("--signal={signal}"),
                "governor",
            ])?
            .ok()?;
        let denied = in_zone(guest, AGENTS_SLICE, &["/usr/bin/id"])?.code;
        ensure!(denied == 203, "right after SIG{signal}: {denied}");
        guest.wait_until("governor status --json > /dev/null; test $? != 4")?;
        kit.trusted(guest)?;
        let said = status::of(guest)?;
        ensure!(
            said.text(&["daemon", "adopted"]) == "true",
            "it did not adopt"
        );
        ensure!(hello(guest)? == 0, "work does not go on after SIG{signal}");
        started = gap_is_named(guest, started, false)?;
    }
    Ok(())
}

pub(super) fn lease_over(guest: &mut Guest) -> Result<()> {
    let kit = guest.kept::<Kit>()?;
    let short = Spec {
        lease: "6s",
        every: "2s",
        ..Spec::default()
    };
    kit.load(guest, &short)?;
    let slice = format!("--slice={AGENTS_SLICE}");
    let user = format!("--uid={}", crate::kit::USER);
    let job = guest.spawn(&[
        "systemd-run",
        "--quiet",
        "--wait",
        "--pipe",
        "--collect",
        "--unit=over",
        &slice,
        &user,
        "--",
        AGENT,
        "hold",
    ])?;
    guest.wait_for_output(job, b"holding", std::time::Duration::from_secs(60))?;
    guest
        .sh(
            "systemctl stop governor && sleep 7 && systemctl is-active over && \
             systemctl start governor",
        )?
        .ok()
        .context("keeping the daemon away for longer than a lease")?;
    let ended = guest.wait(job, std::time::Duration::from_secs(60))?;
    ensure!(ended.code != 0, "it goes on: {}", ended.text());
    kit.load(guest, &Spec::default())
}

pub(super) fn evidence(guest: &mut Guest) -> Result<()> {
    let kit = loaded(guest)?;
    let nonce = "5a".repeat(32);
    guest
        .sh(&format!(
            "rm -rf /root/evidence; governor attest quote --out /root/evidence --nonce {nonce}"
        ))?
        .ok()?;
    let verify = |guest: &mut Guest, nonce: &str| -> Result<i32> {
        Ok(guest
            .run(&[
                "governor",
                "attest",
                "verify",
                "/root/evidence",
                "--reference",
                "/root/policy/reference.toml",
                "--pcrs",
                crate::kit::PCRS,
                "--nonce",
                nonce,
            ])?
            .code)
    };
    let code = verify(guest, &nonce)?;
    ensure!(code == 0, "genuine evidence: {code}");
    let code = verify(guest, &"a5".repeat(32))?;
    ensure!(code == 5, "another nonce: {code}");
    guest.sh("printf x >> /root/evidence/quote.bin")?.ok()?;
    let code = verify(guest, &nonce)?;
    ensure!(code != 0, "a changed quote: {code}");
    drop(kit);
    Ok(())
}

pub(super) fn reinstall(guest: &mut Guest) -> Result<()> {
    let kit = loaded(guest)?;
    guest
        .run(&["dpkg", "-i", "/root/governor.deb"])?
        .ok()
        .context("installing it again")?;
    kit.trusted(guest)?;
    ensure!(hello(guest)? == 0, "work does not go on after an upgrade");
    Ok(())
}

pub(super) fn reboot(guest: &mut Guest) -> Result<()> {
    let kit = loaded(guest)?;
    let lower = kit.signed(&Spec::default())?;
    kit.load(guest, &Spec::default())?;
    let serial = status::of(guest)?.text(&["policy", "serial"]);
    // At the end the first process would go on from another root, where the host has one for that. An armed
    // guard refuses it; the host goes down all the same, and nobody takes it for an attack afterwards.
    guest
        .sh(
            "mkdir -p /run/initramfs/etc && touch /run/initramfs/etc/os-release && \
             cp /bin/true /run/initramfs/shutdown",
        )?
        .ok()?;
    let before = console(guest)?.len();
    let started = last_start(guest)?;
    guest.reboot()?;
    let refused = console(guest)?
        .split_off(before)
        .contains("Failed to switch root");
    ensure!(refused, "the first process did not try, or may");
    kit.trusted(guest)?;
    gap_is_named(guest, started, true)?;
    let said = status::of(guest)?;
    ensure!(
        said.text(&["policy", "serial"]) == serial,
        "the policy is {}",
        said.policy()
    );
    ensure!(
        hello(guest)? == 0,
        "the workload does not run after a reboot"
    );
    let answer = kit.offer(guest, &lower)?;
    ensure!(
        answer.code == 3,
        "a lower serial after a reboot: {} {}",
        answer.code,
        answer.text()
    );
    Ok(())
}

fn console(guest: &Guest) -> Result<String> {
    let log = std::fs::read(guest.serial_log()).context("reading what the console said")?;
    Ok(String::from_utf8_lossy(&log).into_owned())
}
