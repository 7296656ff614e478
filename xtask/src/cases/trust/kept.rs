//! What locks a host: an alarm, and a ledger that is not the one that was left.

use super::*;

const STATE: &str = "/var/lib/governor";
const LEDGER: &str = "/var/lib/governor/ledger/ledger";

/// Somebody reaches for a map of the gate.
const ALARM: &str = "bpftool map update pinned $(ls /sys/fs/bpf/governor/*/SIGNALS | head -1) \
                     key 1 0 0 0 value 3 0 0 0 0 0 0 0";

/// Counted as the kernel counts it, by whoever is not the daemon.
pub(super) fn alarm(guest: &mut Guest) -> Result<()> {
    let kit = loaded(guest, &Spec::default())?;
    guest.sh(ALARM)?;
    locked_over_a_restart(guest, "tampered:map-touched")?;
    unlock(guest)?;
    kit.trusted(guest)?;
    ensure!(hello(guest)? == 0, "the policy in force is not enough");
    guest.run(&["systemctl", "restart", "governor"])?.ok()?;
    kit.trusted(guest)
        .context("what was acknowledged came again")
}

/// Whoever fills the disk first has no record written of what follows.
pub(super) fn alarm_on_a_full_disk(guest: &mut Guest) -> Result<()> {
    let kit = loaded(guest, &Spec::default())?;
    let fill = "mkdir -p /filler; n=0; size=$((1 << 32)); while test $size -ge 4096; do n=$((n + 1)); \
                fallocate -l $size /filler/$n 2> /dev/null || { rm -f /filler/$n; size=$((size / 2)); }; done; \
                dd if=/dev/zero of=/filler/rest bs=4k status=none; sync; true";
    guest.sh(fill)?.ok()?;
    guest.sh(ALARM)?;
    let outcome = (|| {
        locked(guest, "tampered:map-touched")?;
        reason(guest, "ledger-unwritable")?;
        guest.reboot()?;
        locked(guest, "tampered:map-touched").context("after a reboot")
    })();
    guest.sh("rm -rf /filler")?.ok()?;
    outcome?;
    unlocked(guest, &kit)
}

pub(super) fn put_back(guest: &mut Guest) -> Result<()> {
    let kit = loaded(guest, &Spec::default())?;
    guest.run(&["cp", LEDGER, "/root/older"])?.ok()?;
    kit.load(guest, &Spec::default())?;
    guest
        .sh(&format!(
            "systemctl stop governor; rm {STATE}/anchor; cp /root/older {LEDGER}; \
             systemctl start governor"
        ))?
        .ok()?;
    locked_over_a_restart(guest, "ledger-rolled-back").context("by what the kernel holds")?;
    unlocked(guest, &kit)?;
    let kept = guest
        .sh(&format!("cmp /root/older {LEDGER}.broken-1"))?
        .code;
    ensure!(kept == 0, "the old ledger was not kept");
    Ok(())
}

pub(super) fn removed(guest: &mut Guest) -> Result<()> {
    let kit = loaded(guest, &Spec::default())?;
    guest.run(&["rm", LEDGER])?.ok()?;
    locked_over_a_restart(guest, "ledger-missing")?;
    guest.reboot()?;
    locked(guest, "ledger-missing").context("after a reboot")?;
    unlocked(guest, &kit)
}

pub(super) fn put_back_over_a_reboot(guest: &mut Guest) -> Result<()> {
    let kit = loaded(guest, &Spec::default())?;
    guest.run(&["cp", LEDGER, "/root/older"])?.ok()?;
    kit.load(guest, &Spec::default())?;
    guest
        .sh(&format!(
            "systemctl stop governor; cp /root/older {LEDGER}; sync"
        ))?
        .ok()?;
    guest.reboot()?;
    locked(guest, "ledger-rolled-back")?;
    unlocked(guest, &kit)
}

/// Nothing tells such a host, once it was booted again, from one that was never armed.
pub(super) fn never_armed(guest: &mut Guest) -> Result<()> {
    let kit = loaded(guest, &Spec::default())?;
    guest
        .sh(&format!(
            "systemctl stop governor; cp -a {STATE} /root/state && rm -rf {STATE}/* && sync"
        ))?
        .ok()?;
    guest.reboot()?;
    let said = status::of(guest)?;
    guest
        .sh(&format!(
            "systemctl stop governor; rm -rf {STATE}/*; cp -a /root/state/. {STATE}/ && sync"
        ))?
        .ok()?;
    guest.reboot()?;
    ensure!(
        said.trust() == "unattested",
        "{}: {}",
        said.trust(),
        said.reasons()
    );
    kit.load(guest, &Spec::default())
}
