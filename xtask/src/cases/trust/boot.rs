//! A reboot with another kernel command line, as whoever may edit the boot loader's files has it: what the
//! firmware measured tells.

use super::*;

/// It changes nothing but what is measured.
const ANOTHER: &str = "governor.drill=1";

pub(super) fn another_command_line(guest: &mut Guest) -> Result<()> {
    let kit = loaded(guest, &Spec::default())?;
    guest.reboot_with(ANOTHER)?;
    let outcome = differs(guest);
    guest.reboot_with("")?;
    guest
        .wait_until("governor attest now")
        .context("waiting for trust to come back with the command line that policy knows")?;
    outcome?;
    ensure!(hello(guest)? == 0, "attested work does not start again");
    kit.load(guest, &Spec::default())
}

fn differs(guest: &mut Guest) -> Result<()> {
    let booted = guest.run(&["cat", "/proc/cmdline"])?.ok()?.text();
    ensure!(booted.contains(ANOTHER), "it was booted with `{booted}`");
    let asked = guest.run(&["governor", "attest", "now"])?;
    ensure!(asked.code == 3, "a quote was enough: {}", asked.text());
    let said = status::of(guest)?;
    let (trust, reasons) = (said.trust(), said.reasons());
    // Also what is read between quotes differs; whichever comes first names the register.
    ensure!(
        trust == "degraded" && reasons.contains("pcr-differs:9"),
        "it is {trust}: {reasons}"
    );
    let denied = hello(guest)?;
    ensure!(denied == 203, "attested work: {denied}");
    let tool = in_zone(guest, TOOLS_SLICE, &[AGENT, "hello"])?.code;
    ensure!(tool == 0, "what needs no trust: {tool}");
    Ok(())
}
