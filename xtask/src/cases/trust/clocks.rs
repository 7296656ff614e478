//! Time: a policy that ends, a wall clock that is set back, a host that slept.

use super::*;
use crate::ledger;

pub(super) fn policy_ends(guest: &mut Guest) -> Result<()> {
    let until = guest
        .run(&["date", "-u", "-d", "+25 seconds", "+%Y-%m-%dT%H:%M:%SZ"])?
        .ok()?
        .text();
    let spec = Spec {
        until,
        ..Spec::default()
    };
    let kit = loaded(guest, &spec)?;
    reason(guest, "policy-expired")?;
    let denied = hello(guest)?;
    ensure!(denied == 203, "after the policy's end: {denied}");
    let asked = guest.run(&["governor", "attest", "now"])?.code;
    ensure!(asked != 0, "a quote was enough");
    kit.load(guest, &Spec::default())?;
    ensure!(hello(guest)? == 0, "a policy that is valid was not enough");
    Ok(())
}

/// As on a host that starts with a clock that is late, until somebody corrects it.
pub(super) fn set_forward(guest: &mut Guest) -> Result<()> {
    let until = guest
        .run(&["date", "-u", "-d", "+5 minutes", "+%Y-%m-%dT%H:%M:%SZ"])?
        .ok()?
        .text();
    let kit = loaded(
        guest,
        &Spec {
            until,
            ..Spec::default()
        },
    )?;
    let tool = |guest: &mut Guest| in_zone(guest, TOOLS_SLICE, &[AGENT, "hello"]);
    ensure!(tool(guest)?.code == 0, "a tool does not start");
    guest.sh("date -s \"$(date -d '+10 minutes')\"")?.ok()?;
    let outcome = (|| {
        reason(guest, "policy-expired")?;
        // One zone asks for trust, the other for a policy alone.
        let (agent, tool) = (hello(guest)?, tool(guest)?.code);
        ensure!(
            (agent, tool) == (203, 203),
            "after the policy's end: {agent}, {tool}"
        );
        Ok(())
    })();
    guest.sh("date -s \"$(date -d '-10 minutes')\"")?.ok()?;
    outcome?;
    locked(guest, "clock-stepped")?;
    crate::kit::unlock(guest)?;
    kit.load(guest, &Spec::default())?;
    ensure!(
        hello(guest)? == 0 && tool(guest)?.code == 0,
        "a policy that is valid was not enough"
    );
    Ok(())
}

pub(super) fn set_back(guest: &mut Guest) -> Result<()> {
    let until = guest
        .run(&["date", "-u", "-d", "+20 seconds", "+%Y-%m-%dT%H:%M:%SZ"])?
        .ok()?
        .text();
    let kit = loaded(guest, &Spec::default())?;
    guest
        .sh("date -s \"$(date -d '-10 minutes')\" && hwclock --systohc 2>/dev/null; true")?
        .ok()?;
    let outcome = (|| {
        locked_over_a_restart(guest, "clock-stepped")?;
        // By the clock that was set it has ten minutes; by the latest that was seen, none.
        guest.wait_until(&format!(
            "test $(( $(date +%s) + 600 )) -gt $(date -d {until} +%s)"
        ))?;
        let over = kit.signed(&Spec {
            until,
            ..Spec::default()
        })?;
        let answer = kit.offer(guest, &over)?;
        ensure!(
            answer.code != 0,
            "a policy that was over was revived: {}",
            answer.text()
        );
        Ok(())
    })();
    guest
        .sh("date -s \"$(date -d '+10 minutes')\" && hwclock --systohc 2>/dev/null; true")?
        .ok()?;
    outcome?;
    locked(guest, "clock-stepped").context("with the clock set right again")?;
    unlocked(guest, &kit)
}

/// To memory, through the firmware, with the real-time clock to wake it.
pub(super) fn sleep(guest: &mut Guest) -> Result<()> {
    let kit = loaded(
        guest,
        &Spec {
            every: "10s",
            lease: "30s",
            ..Spec::default()
        },
    )?;
    let epoch = |guest: &mut Guest| -> Result<u64> {
        Ok(status::of(guest)?.number(&["epochs", "attested"]))
    };
    let before = epoch(guest)?;
    let slept = ledger::of(guest)?.times(SLEPT);
    guest
        .sh(
            "echo deep > /sys/power/mem_sleep && echo 0 > /sys/class/rtc/rtc0/wakealarm; \
             echo +5 > /sys/class/rtc/rtc0/wakealarm && echo mem > /sys/power/state",
        )?
        .ok()
        .context("putting the guest to sleep")?;
    guest
        .wait_until(&format!(
            "test $(governor status --json | sed -n 's/.*\"attested\": \"*\\([0-9]*\\).*/\\1/p') -gt {before}"
        ))
        .context("waiting for the epoch to be raised")?;
    kit.trusted(guest)?;
    ensure!(
        ledger::of(guest)?.times(SLEPT) > slept,
        "the ledger does not say that trust was lost for it"
    );
    ensure!(hello(guest)? == 0, "work does not go on after a quote");
    Ok(())
}

/// The reason, as records have it.
const SLEPT: &str = "suspended";
