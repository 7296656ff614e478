//! A start that cannot write its state directory: it reads what lies there and grants nothing, the glass can
//! be broken, and what is owed is written as soon as it can be.

use super::{
    decisions::{VICTIM, spec},
    walk::{UNLISTED, content},
    *,
};
use crate::cases::break_glass::{break_it, mend};

const STATE: &str = "/var/lib/governor";

pub(super) fn starts(guest: &mut Guest) -> Result<()> {
    let kit = calm(guest)?;
    let lines = content(guest, VICTIM)?;
    kit.load(guest, &spec(lines))?;
    let outcome = with_nothing_to_write(guest, &kit);
    guest
        .run(&["chattr", "-R", "-i", STATE])?
        .ok()
        .context("letting the state be written again")?;
    outcome
}

fn with_nothing_to_write(guest: &mut Guest, kit: &Kit) -> Result<()> {
    guest
        .sh(&format!(
            "systemctl stop governor && chattr -R +i {STATE} && systemctl start governor"
        ))?
        .ok()
        .context("starting with a state directory that takes nothing")?;
    let said = status::of(guest)?;
    ensure!(
        said.trust() != "trusted" && said.reasons().contains("ledger-unwritable"),
        "{}: {}",
        said.trust(),
        said.reasons()
    );
    guest.run(&["governor", "attest", "now"])?;
    expect(guest, AGENT, false, "which nothing could be granted to")?;
    let reason = "the disk takes nothing";
    break_it(guest, reason, "10m")?
        .ok()
        .context("breaking the glass")?;
    expect(guest, UNLISTED, true, "while the glass is broken")?;
    guest
        .run(&["chattr", "-R", "-i", STATE])?
        .ok()
        .context("letting it be written again")?;
    guest
        .wait_until(&format!("grep -aq '{reason}' {STATE}/ledger/ledger"))
        .context("waiting for the record that is owed")?;
    mend(guest)?;
    expect(guest, UNLISTED, false, "after its end")?;
    guest
        .wait_until("governor status --json | grep -q '\"serial\": *[1-9]'")
        .context("waiting for the kept policy")?;
    kit.trusted(guest)?;
    expect(guest, AGENT, true, "once records are taken")
}
