//! Taking the gate down, ended at its own places. Whatever is left denies, and whoever starts next finishes
//! it: no reboot is needed to have the gate down, nor to have one again.

use super::{
    starting::{Cut, is_down, planned},
    walk::{PLAN, UNLISTED},
    *,
};

/// Pins of maps, which go before those of programs.
const MAPS: usize = 18;
/// Pins of programs.
const PROGRAMS: usize = 37;
/// Nothing is left but directories.
const LAST: usize = MAPS + PROGRAMS - 1;

pub(super) fn ended(guest: &mut Guest) -> Result<()> {
    let kit = calm(guest)?;
    kit.load(guest, &Spec::default())?;
    let pins = guest
        .sh("cd /sys/fs/bpf/governor && ls maps-* | wc -l && ls links-* | wc -l")?
        .ok()?
        .text();
    ensure!(
        pins == format!("{MAPS}\n{PROGRAMS}"),
        "another number of maps and programs is pinned: {pins}"
    );
    let mut cuts: Vec<Cut> = vec![
        ("open going", 0),
        ("open unguarded", 0),
        ("open removed", MAPS - 1),
        ("open detached", 0),
        ("open removed", LAST - 1),
        ("open removed", LAST),
    ];
    if full() {
        cuts.extend((0..LAST).map(|point| ("open removed", point)));
    }
    for cut in cuts {
        one(guest, cut).with_context(|| format!("taking the gate down, cut at `{cut:?}`"))?;
    }
    guest.reboot()?;
    kit.trusted(guest)
}

fn one(guest: &mut Guest, cut: Cut) -> Result<()> {
    expect(guest, UNLISTED, false, "before the gate is taken down")?;
    planned(guest, cut)?;
    let asked = guest.run(&["governor", "disarm", "--reason", "drill"])?;
    ensure!(asked.code != 0, "it was done: {}", asked.text());
    is_down(guest, cut)?;
    if cut == ("open removed", LAST) {
        nothing_judges(guest)?;
    } else {
        expect(guest, UNLISTED, false, "while no daemon is there")?;
    }
    // Another start goes on with it, and ends as the first would have.
    guest
        .sh(&format!("rm -f {PLAN}; systemctl restart governor"))?
        .ok()
        .context("starting the daemon that finishes it")?;
    let ended = "while systemctl is-active --quiet governor; do :; done; \
                 ls -d /sys/fs/bpf/governor 2>&1; \
                 systemctl show governor --value -p Result -p ExecMainStatus";
    let ended = guest.sh(ended)?.text();
    ensure!(
        ended.contains("No such file") && ended.contains("success") && ended.contains("42"),
        "it was not finished: {ended}"
    );
    nothing_judges(guest)?;
    guest
        .sh("systemctl restart governor")?
        .ok()
        .context("having a gate again")?;
    let said = status::of(guest)?;
    ensure!(said.trust() != "locked", "it is locked: {}", said.reasons());
    let asked = guest.run(&["governor", "attest", "now"])?.code;
    ensure!(asked == 3, "a host without its gate was trusted: {asked}");
    Ok(())
}

/// The kernel lets go of a program whose last pin went when it comes to it.
fn nothing_judges(guest: &mut Guest) -> Result<()> {
    let allowed = format!("test \"$({PROBE} {AGENTS_SLICE} {UNLISTED})\" = allowed");
    daemon::wait_until(guest, &allowed).context("waiting for the last program to go")
}
