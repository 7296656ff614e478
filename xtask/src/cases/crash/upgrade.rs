//! An upgrade to a build with changed programs and another layout of what is pinned, by `dpkg -i`, with the
//! guard armed, while work is started all the time and each start is ended at another place.

use super::{
    decisions::{TABLES, VICTIM},
    load::{calmed, storm, untouched},
    starting::{Cut, cut_starts, is_down, planned},
    walk::{PLAN, UNLISTED, content, held, hold},
    *,
};

const NEXT: &str = "/root/governor-next.deb";

/// The first is met by the daemon that `dpkg` starts.
const SOME: &[Cut] = &[
    ("open taken-over", 0),
    ("open maps", 0),
    ("open pinned", 0),
    ("open attached", 8),
    ("policy-resumed install-table", 1),
    ("policy-resumed install-table", 7),
    ("open release", 0),
    ("open removed", 4),
    ("open ready", 0),
];

/// Every program beside the old, every effect of the start, and pin by pin of what goes.
fn all() -> Vec<Cut> {
    let mut cuts = vec![("open taken-over", 0), ("open maps", 0), ("open pinned", 0)];
    cuts.extend([("open attached", 0); 20]);
    cuts.extend((0..=2).map(|point| ("start append", point)));
    cuts.extend((0..=10).map(|point| ("policy-resumed install-table", point)));
    cuts.extend([("open release", 0), ("open detached", 0)]);
    cuts.extend([("open removed", 0); 8]);
    cuts.extend([("open release", 1), ("open ready", 0)]);
    cuts
}

pub(super) fn to_another_layout(guest: &mut Guest) -> Result<()> {
    let kit = calm(guest)?;
    guest.put_file(&package::next_layout(), NEXT)?;
    let daemon = guest
        .sh(&format!(
            "rm -rf /root/next && dpkg-deb -x {NEXT} /root/next && \
             governor measure /root/next/usr/bin/governor"
        ))?
        .ok()
        .context("measuring the next daemon")?
        .text();
    kit.baseline(guest)?;
    let spec = Spec {
        lease: "30m",
        every: "5s",
        tables: TABLES,
        sets: vec![("victim", content(guest, VICTIM)?)],
        daemons: format!("{daemon}\n"),
        ..Spec::default()
    };
    kit.load(guest, &spec)?;
    hold(guest, VICTIM)?;
    let before = layouts(guest)?;
    let cuts = if full() { all() } else { SOME.to_vec() };
    let job = storm(guest)?;
    let (first, others) = cuts.split_first().context("nothing to cut")?;
    planned(guest, *first)?;
    guest
        .run(&["dpkg", "-i", NEXT])?
        .ok()
        .context("upgrading")?;
    is_down(guest, *first)?;
    cut_starts(guest, others, &mut |guest| {
        ensure!(held(guest)?, "work that runs was stopped");
        Ok(())
    })?;
    untouched(calmed(guest, job)?, 20)?;
    let (now, pins) = (layouts(guest)?, guest.sh(PINS)?.ok()?.text());
    ensure!(
        now.len() == 1 && now != before && pins.lines().count() == 3,
        "what is pinned: {pins}"
    );
    let said = status::of(guest)?;
    ensure!(said.trust() != "locked", "it is locked: {}", said.reasons());
    kit.trusted(guest)?;
    keeps_labels(guest, &kit, &spec)?;
    not_back(guest, &kit)
}

const PINS: &str = "ls /sys/fs/bpf/governor";

/// Those that have maps.
fn layouts(guest: &mut Guest) -> Result<Vec<String>> {
    let pins = guest.sh(PINS)?.ok()?.text();
    let maps = pins.lines().filter(|pin| pin.starts_with("maps-"));
    Ok(maps.map(str::to_owned).collect())
}

/// What was started under the layout before is found under this one.
fn keeps_labels(guest: &mut Guest, kit: &Kit, spec: &Spec) -> Result<()> {
    ensure!(held(guest)?, "work that runs was stopped");
    let revoke = [
        "governor",
        "revoke",
        "--workload",
        "victim",
        "--reason",
        "drill",
    ];
    guest.run(&revoke)?.ok()?;
    ensure!(!held(guest)?, "what was started before is not found");
    expect(guest, VICTIM, false, "which is revoked")?;
    let newer = Spec {
        sets: vec![("victim", content(guest, VICTIM)?)],
        ..spec.clone()
    };
    kit.load(guest, &newer)?;
    expect(guest, VICTIM, true, "which is listed again")
}

/// The version before does not know this layout: it does not start, and what is in force stays.
fn not_back(guest: &mut Guest, kit: &Kit) -> Result<()> {
    guest
        .run(&["dpkg", "-i", "/root/governor.deb"])?
        .ok()
        .context("going back")?;
    let state = "systemctl show governor --value -p ActiveState";
    let state = guest.sh(state)?.ok()?.text();
    ensure!(state != "active", "it took over what it does not know");
    let said = guest
        .sh("journalctl -u governor -o cat -n 20")?
        .ok()?
        .text();
    ensure!(
        said.contains("does not know how to take over"),
        "it does not say why it does not start: {said}"
    );
    expect(guest, UNLISTED, false, "without a daemon")?;
    expect(guest, AGENT, true, "on the lease that runs")?;
    guest
        .sh(&format!(
            "rm -f {PLAN}; dpkg -i {NEXT} && systemctl restart governor"
        ))?
        .ok()
        .context("coming back")?;
    ensure!(
        status::of(guest)?.text(&["daemon", "adopted"]) == "true",
        "it did not adopt"
    );
    kit.trusted(guest)
}
