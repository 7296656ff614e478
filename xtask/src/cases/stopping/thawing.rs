//! What goes on by itself when trust returns.

use super::*;

pub(super) fn choice(guest: &mut Guest) -> Result<()> {
    for thaw in [false, true] {
        let spec = Spec {
            thaw,
            ..frozen_by_policy()
        };
        let kit = load(guest, &spec)?;
        let paused = start(guest, "paused", &["hold"], "holding")?;
        by_hand(guest, "pause")?.ok()?;
        let job = start(guest, "hold", &["hold"], "holding")?;
        kit.distrust(guest, &spec)?;
        ensure!(is_frozen(guest, &cgroup("hold"))?, "policy says freeze");
        kit.load(guest, &spec)?;
        if thaw {
            let thawed = format!("grep -q 'frozen 0' {}/cgroup.events", cgroup("hold"));
            guest.wait_until(&thawed)?;
            ensure!(
                is_frozen(guest, &cgroup("paused"))?,
                "what was paused by hand went on"
            );
        } else {
            let resumed = by_hand(guest, "resume")?.ok()?.text();
            ensure!(
                resumed.contains("2 go on"),
                "something went on by itself: {resumed}"
            );
        }
        end(guest, vec![job, paused])?;
    }
    Ok(())
}
