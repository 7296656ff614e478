//! A TPM that is reset under the running host and told good measurements again: its registers are as they
//! were, and what it signs beside them is not.

use super::*;

/// What the firmware and the kernel's loader measured, as `tpm2_pcrextend` takes it.
const MEASURED: &str = r#"tpm2_eventlog /sys/kernel/security/tpm0/binary_bios_measurements | awk '
    /PCRIndex:/ { register = $2 }
    /EventType:/ { real = $2 != "EV_NO_ACTION" }
    /AlgorithmId:/ { wanted = $3 == "sha256" || $2 == "sha256" }
    / Digest:/ && wanted && real { gsub("\"", "", $2); print register ":sha256=" $2; wanted = 0 }'"#;
const REGISTERS: &str = "tpm2_pcrread sha256:0,1,2,3,4,5,6,7,8,9,14";

pub(super) fn reset(guest: &mut Guest) -> Result<()> {
    let kit = loaded(guest, &Spec::default())?;
    let before = guest.sh(REGISTERS)?.ok()?.text();
    guest.reset_tpm()?;
    let outcome = told_again(guest, &before);
    guest.reboot()?;
    outcome?;
    locked(guest, "tpm-reset").context("after a reboot, before anybody unlocked it")?;
    unlock(guest)?;
    kit.trusted(guest).context("of the next boot")?;
    ensure!(hello(guest)? == 0, "attested work does not start again");
    kit.load(guest, &Spec::default())
}

fn told_again(guest: &mut Guest, before: &str) -> Result<()> {
    guest
        .sh(&format!("tpm2_startup -c; tpm2_pcrextend $({MEASURED})"))?
        .ok()
        .context("telling the TPM what was measured")?;
    let now = guest.sh(REGISTERS)?.ok()?.text();
    ensure!(
        now == before,
        "the registers were\n{before}\nand are\n{now}"
    );
    locked_over_a_restart(guest, "tpm-reset")?;
    unlock(guest)?;
    locked(guest, "tpm-reset").context("by the next quote, in the same boot")
}
