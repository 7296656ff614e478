//! A stop that reaches nobody: it is owed, no evidence speaks for what runs, and no end of a daemon forgets it.

use super::{
    decisions::{VICTIM, spec},
    walk::{HELD, PLAN, by_hand, content, hold, is_frozen},
    *,
};

/// As long as this is the plan.
const NOBODY: &[u8] = b"stops fail 0\n";

pub(super) fn until_reached(guest: &mut Guest) -> Result<()> {
    let kit = calm(guest)?;
    // Where an earlier case took the ledger away there are zones without a name, and each start stops those.
    disarm::anew(guest, &kit)?;
    let spec = spec(content(guest, VICTIM)?);
    kit.load(guest, &spec)?;
    hold(guest, VICTIM)?;
    guest.put(PLAN, 0o600, NOBODY)?;
    ordered(guest, "pause")?;
    is_owed(guest)?;
    // Evidence is as good as ever.
    let asked = guest.run(&["governor", "attest", "now"])?;
    ensure!(asked.code == 3, "{}: {}", asked.code, asked.text());
    is_owed(guest).context("after an appraisal")?;
    guest
        .sh("systemctl kill --signal=KILL governor; systemctl restart governor")?
        .ok()?;
    is_owed(guest).context("by another daemon")?;
    // An operator takes it back, and it does not come again.
    ordered(guest, "resume")?;
    is_over(guest)?;
    kit.trusted(guest)?;
    ordered(guest, "pause")?;
    is_owed(guest).context("ordered anew")?;
    guest
        .sh("systemctl kill --signal=KILL governor")?
        .ok()
        .context("ending the daemon")?;
    guest
        .sh(&format!("rm {PLAN}; systemctl restart governor"))?
        .ok()?;
    let frozen = format!("grep -q 'frozen 1' {HELD}/cgroup.events");
    guest.wait_until(&frozen).context("trying it again")?;
    is_over(guest)?;
    kit.trusted(guest)?;
    ordered(guest, "resume")?;
    ensure!(!is_frozen(guest)?, "it does not go on");
    expect(guest, VICTIM, true, "which is not revoked")
}

fn ordered(guest: &mut Guest, verb: &str) -> Result<()> {
    let said = by_hand(guest, verb)?;
    // That it failed is said as well, and what is looked at is what came of it.
    ensure!(said.code != 4, "nobody answers: {}", said.errors());
    Ok(())
}

fn is_owed(guest: &mut Guest) -> Result<()> {
    guest.wait_until("governor status --json | grep -q stop-failed")?;
    let said = status::of(guest)?;
    let (trust, reasons) = (said.trust(), said.reasons());
    ensure!(trust == "degraded" || trust == "unattested", "{reasons}");
    let shown = guest.run(&["governor", "status"])?.text();
    ensure!(
        said.number(&["unreached_count"]) == 1
            && shown.contains("freeze workload `victim` in zone `agents`"),
        "{shown}"
    );
    ensure!(!is_frozen(guest)?, "it was reached: {reasons}");
    Ok(())
}

fn is_over(guest: &mut Guest) -> Result<()> {
    guest.wait_until("! governor status --json | grep -q stop-failed")?;
    let said = status::of(guest)?;
    let left = said.text(&["unreached"]);
    ensure!(said.number(&["unreached_count"]) == 0, "{left}");
    Ok(())
}
