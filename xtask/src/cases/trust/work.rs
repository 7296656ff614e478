//! What takes a lease, and what takes a workload and leaves the host alone.

use super::*;
use crate::ledger::{self, LEFT_OUT, LOST, Ledger};

/// Unbinds the TPM's driver, so that every command fails. The kernel gives the number of a TPM that it
/// used itself to no other, so only a reboot brings this one back.
pub(super) fn no_tpm(guest: &mut Guest) -> Result<()> {
    let spec = Spec {
        lease: "6s",
        every: "1s",
        ..Spec::default()
    };
    let kit = loaded(guest, &spec)?;
    guest
        .sh("device=$(readlink -f /sys/class/tpm/tpm0/device) && \
             basename $device > $(readlink -f $device/driver)/unbind")?
        .ok()
        .context("taking the TPM away")?;
    let outcome = (|| {
        reason(guest, "quote-late")?;
        let denied = hello(guest)?;
        ensure!(denied == 203, "attested work without a TPM: {denied}");
        let said = status::of(guest)?;
        ensure!(
            said.reasons().contains("before the lease ran out: "),
            "status does not say what the TPM said: {}",
            said.reasons()
        );
        Ok(())
    })();
    guest.reboot()?;
    guest
        .wait_until("governor attest now")
        .context("waiting for trust to come back")?;
    outcome?;
    ensure!(hello(guest)? == 0, "work does not go on");
    kit.load(guest, &Spec::default())
}

/// It takes commands and answers none. Whoever asks the daemon is answered all the same.
pub(super) fn hung_tpm(guest: &mut Guest) -> Result<()> {
    let spec = Spec {
        lease: "6s",
        every: "1s",
        on_revoke: "deny",
        ..Spec::default()
    };
    let kit = loaded(guest, &spec)?;
    guest.withhold_tpm(true)?;
    let outcome = (|| {
        reason(guest, "quote-late")?;
        let denied = hello(guest)?;
        ensure!(denied == 203, "attested work without evidence: {denied}");
        let tool = in_zone(guest, TOOLS_SLICE, &[AGENT, "hello"])?.code;
        ensure!(tool == 0, "work that needs no evidence: {tool}");
        let digest = "ab".repeat(32);
        let revoke = ["revoke", "--digest", &digest, "--reason", "drill"];
        let argv = [&["timeout", "20", "governor"][..], &revoke].concat();
        guest.run(&argv)?.ok().context("revoking meanwhile")
    })();
    guest.withhold_tpm(false)?;
    outcome?;
    kit.trusted(guest)?;
    ensure!(hello(guest)? == 0, "work does not go on");
    kit.load(guest, &Spec::default())
}

/// One that goes on, and one that tries what it may not: both are the same workload.
pub(super) fn risk(guest: &mut Guest) -> Result<()> {
    let spec = Spec {
        tables: "[risk.probing]\ncount = 5\nof = \"denied-exec\"\nwithin = \"10m\"\naction = \"kill\"",
        on_revoke: "deny",
        ..Spec::default()
    };
    let kit = loaded(guest, &spec)?;
    guest
        .sh(&format!(
            "systemd-run --quiet --unit=holding --slice={AGENTS_SLICE} --uid=agent -- {AGENT} hold"
        ))?
        .ok()?;
    for attempt in 1..=5 {
        let holding = guest.sh("systemctl is-active --quiet holding")?.code;
        ensure!(holding == 0, "stopped before attempt {attempt}");
        let denied = in_zone(guest, AGENTS_SLICE, &[AGENT, "spawn", "/usr/bin/id"])?;
        ensure!(denied.code != 0, "attempt {attempt} was allowed");
    }
    guest
        .wait_until("! systemctl is-active --quiet holding")
        .context("waiting for the workload to be stopped")?;
    let said = status::of(guest)?;
    ensure!(
        said.trust() == "trusted",
        "a workload took the host's trust: {}",
        said.reasons()
    );
    ensure!(hello(guest)? == 0, "it may not be started again");
    kit.load(guest, &Spec::default())
}

/// Nobody reads the ring while more is denied than it holds.
pub(super) fn ring_full(guest: &mut Guest) -> Result<()> {
    let kit = loaded(guest, &bounded())?;
    let send = |guest: &mut Guest, name: &str| -> Result<()> {
        let kill = format!("systemctl kill --kill-whom=main --signal={name} governor");
        guest.sh(&kill)?.ok().map(drop)
    };
    send(guest, "STOP")?;
    let flooded = flood(guest);
    send(guest, "CONT")?;
    flooded?;
    reason(guest, "events-lost")?;
    let status = status::of(guest)?;
    let (told, lost) = (
        status.text(&["counts"]),
        status.number(&["losses", "denials"]),
    );
    ensure!(lost > 5, "{lost} were lost, of {told}");
    // A fresh quote is what clears it.
    guest
        .run(&["governor", "attest", "now"])?
        .ok()
        .context("being trusted again")?;
    ensure!(hello(guest)? == 0, "attested work does not go on");
    kit.load(guest, &Spec::default())
}

/// Nobody is there to read it. The daemon that comes tells what is missing, to the last one.
pub(super) fn ring_full_without_a_daemon(guest: &mut Guest) -> Result<()> {
    let kit = loaded(guest, &bounded())?;
    let told = |ledger: &Ledger| -> Result<[u64; 4]> {
        let (left_out, lost) = (ledger.missing(LEFT_OUT)?, ledger.missing(LOST)?);
        let (kept, reasons) = (ledger.times(FLOODS), ledger.times("events-lost"));
        Ok([kept, left_out, lost, reasons])
    };
    let all = |[kept, left_out, lost, _]: &[u64; 4]| kept + left_out + lost;
    let before = told(&ledger::of(guest)?)?;
    guest.run(&["systemctl", "stop", "governor"])?.ok()?;
    let flooded = flood(guest);
    guest.run(&["systemctl", "start", "governor"])?.ok()?;
    flooded?;
    // It asks for a quote by itself, which clears the reason.
    guest
        .run(&["governor", "attest", "now"])?
        .ok()
        .context("being trusted again")?;
    let whole = all(&before) + FLOOD as u64;
    let after = ledger::when(guest, told, |told| all(told) >= whole)?;
    let [kept, left_out, lost, reasons] = std::array::from_fn(|at| after[at] - before[at]);
    ensure!(
        lost > 5 && kept + left_out + lost == FLOOD as u64,
        "of {FLOOD} denials {kept} were kept, {left_out} left out and {lost} lost"
    );
    ensure!(reasons > 0, "it cost the host nothing");
    guest.run(&["systemctl", "restart", "governor"])?.ok()?;
    guest.run(&["governor", "attest", "now"])?.ok()?;
    let again = told(&ledger::of(guest)?)?;
    ensure!(again[1..] == after[1..], "told again: {after:?}, {again:?}");
    ensure!(hello(guest)? == 0, "attested work does not go on");
    kit.load(guest, &Spec::default())
}

/// A bound on losses; the next accepted quote clears what it costs, so none comes before it was seen.
fn bounded() -> Spec {
    Spec {
        tables: "[events]\nlosses = 5\nwithin = \"10m\"",
        lease: "5m",
        every: "4m",
        ..Spec::default()
    }
}

/// Denials, more than the ring has room for, and work that is listed.
fn flood(guest: &mut Guest) -> Result<()> {
    // The shell goes into the zone and has no label there, as an operator's.
    let leaf = format!("/sys/fs/cgroup/governed.slice/{AGENTS_SLICE}/flood");
    let said = guest
        .sh(&format!(
            "mkdir -p {leaf} && echo $$ > {leaf}/cgroup.procs && i=0 && ran=0 && \
             while [ $i -lt {FLOOD} ]; do {FLOODS} 2> /dev/null && ran=$((ran + 1)); i=$((i + 1)); done; \
             {AGENT} hello > /dev/null && echo \"$ran ran\""
        ))?
        .ok()
        .context("work that is listed")?
        .text();
    ensure!(said == "0 ran", "with a full ring: {said}");
    Ok(())
}

/// What floods the ring.
const FLOODS: &str = "/usr/bin/true";
/// More denials than the ring has room for: 1 MiB, some 700 bytes each.
const FLOOD: usize = 2_500;
