//! Holding by hand, and what it takes to go on.

use super::*;

pub(super) fn round_trip(guest: &mut Guest) -> Result<()> {
    // Even where policy thaws: what was paused by hand is an operator's.
    let spec = Spec {
        thaw: true,
        ..frozen_by_policy()
    };
    let kit = load(guest, &spec)?;
    let job = start(guest, "paused", &["hold"], "holding")?;
    by_hand(guest, "pause")?.ok()?;
    ensure!(is_frozen(guest, &cgroup("paused"))?, "it is not paused");
    gate::expect(guest, &["hello"], 0, "a copy that is started now")?;
    let other = start(guest, "hold", &["hold"], "holding")?;
    kit.distrust(guest, &spec)?;
    ensure!(is_frozen(guest, &cgroup("hold"))?, "policy says freeze");
    guest.run(&["systemctl", "restart", "governor"])?.ok()?;
    kit.load(guest, &spec)?;
    // The daemon that starts again knows which is which.
    let thawed = format!("grep -q 'frozen 0' {}/cgroup.events", cgroup("hold"));
    guest.wait_until(&thawed)?;
    ensure!(
        is_frozen(guest, &cgroup("paused"))?,
        "a restart let it go on"
    );
    let resumed = by_hand(guest, "resume")?.ok()?.text();
    ensure!(resumed.contains("1 go on, 0 stay held"), "{resumed}");
    ensure!(!is_frozen(guest, &cgroup("paused"))?, "it does not go on");
    let pid = main_pid(guest, "paused")?;
    ensure!(pid != "0", "it ended");
    let again = by_hand(guest, "resume")?.ok()?.text();
    ensure!(again.contains("0 go on"), "{again}");
    end(guest, vec![job, other])
}

pub(super) fn takes_trust(guest: &mut Guest) -> Result<()> {
    let kit = load(guest, &frozen_by_policy())?;
    let job = start(guest, "hold", &["hold"], "holding")?;
    by_hand(guest, "pause")?.ok()?;
    kit.distrust(guest, &frozen_by_policy())?;
    let refused = by_hand(guest, "resume")?;
    ensure!(
        refused.code == 3 && refused.errors().contains("requires attestation"),
        "{} {}",
        refused.code,
        refused.errors()
    );
    ensure!(is_frozen(guest, &cgroup("hold"))?, "it goes on untrusted");
    kit.load(guest, &frozen_by_policy())?;
    by_hand(guest, "resume")?.ok()?;
    ensure!(!is_frozen(guest, &cgroup("hold"))?, "it does not go on");
    end(guest, vec![job])
}

pub(super) fn revoked(guest: &mut Guest) -> Result<()> {
    let (path, line) = copy(guest, "gone")?;
    let digest = digest(&line);
    let spec = Spec {
        planner: line,
        ..frozen_by_policy()
    };
    load(guest, &spec)?;
    let job = hold(guest, AGENTS_SLICE, "gone", &[&path, "hold"])?;
    guest
        .run(&[
            "governor", "revoke", "--digest", &digest, "--reason", "drill",
        ])?
        .ok()?;
    ensure!(is_frozen(guest, &cgroup("gone"))?, "policy says freeze");
    let by_digest = [
        "governor", "resume", "--digest", &digest, "--reason", "drill",
    ];
    for argv in [
        &by_digest[..],
        &[
            "governor", "resume", "--zone", "agents", "--reason", "drill",
        ],
    ] {
        let refused = guest.run(argv)?;
        let said = format!("{} {}", refused.text(), refused.errors());
        ensure!(refused.code == 3, "{}: {said}", argv.join(" "));
        ensure!(is_frozen(guest, &cgroup("gone"))?, "it goes on: {said}");
    }
    end(guest, vec![job])
}
