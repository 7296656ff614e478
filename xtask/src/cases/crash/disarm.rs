//! Taking the gate down, ended at its own places. Programs go before maps, so what is left denies, and whoever
//! starts next has a gate again, in which all that was revoked is; no reboot is needed for that, nor to take
//! it down once more.

use super::{
    starting::{Cut, is_down, planned},
    walk::{PLAN, UNLISTED, content},
    *,
};
use crate::kit::TOOLS_SLICE;

const MAPS: usize = 20;
/// What is listed and executed; and what was, and is revoked.
const KEPT: &str = "/opt/agent/kept";
const BURIED: &str = "/opt/agent/buried";
const WORK: &str = r#"
[workload.work]
zone = "tools"
exec = ["work"]
libraries = ["os-libraries"]
started_by = ["operator"]
user = ["root"]
"#;

pub(super) fn ended(guest: &mut Guest) -> Result<()> {
    let kit = calm(guest)?;
    let buried = content(guest, BURIED)?;
    let lines = format!("{}{buried}", content(guest, KEPT)?);
    let spec = Spec {
        tables: WORK,
        sets: vec![("work", lines)],
        ..Spec::default()
    };
    kit.load(guest, &spec)?;
    let digest = buried.split(' ').next().context("a digest")?;
    guest
        .run(&[
            "governor", "revoke", "--digest", digest, "--reason", "drill",
        ])?
        .ok()?;
    let pins = guest
        .sh("cd /sys/fs/bpf/governor && ls maps-* | wc -l && ls links-* | wc -l")?
        .ok()?
        .text();
    // What judges opens is among the programs where a start before was cut short.
    let (maps, programs) = pins.split_once('\n').context("two numbers")?;
    ensure!(maps == MAPS.to_string(), "maps that are pinned: {maps}");
    let programs: usize = programs.parse().context("programs that are pinned")?;
    let mut cuts: Vec<Cut> = vec![
        ("open unguarded", 0),
        ("open removed", programs - 2),
        ("open removed", programs + MAPS / 2),
    ];
    if full() {
        cuts.push(("open detached", 0));
        cuts.extend((0..programs + MAPS).map(|point| ("open removed", point)));
    }
    for cut in cuts {
        one(guest, cut, programs)
            .with_context(|| format!("taking the gate down, cut at `{cut:?}`"))?;
    }
    // Nobody ends this one. For whoever comes next: a gate again.
    anew(guest, &kit)
}

/// Has another gate, which knows nothing of what ran under the last one.
pub(super) fn anew(guest: &mut Guest, kit: &Kit) -> Result<()> {
    let done = guest.run(&["governor", "disarm", "--reason", "drill"])?;
    done.ok().context("taking the gate down")?;
    let ended =
        "while systemctl is-active --quiet governor; do :; done; ls -d /sys/fs/bpf/governor";
    ensure!(guest.sh(ended)?.code != 0, "pins are left");
    nothing_judges(guest)?;
    guest.run(&["systemctl", "restart", "governor"])?.ok()?;
    // The register of what is loaded is another by now.
    kit.baseline(guest)?;
    kit.load(guest, &Spec::default())
}

fn one(guest: &mut Guest, cut: Cut, programs: usize) -> Result<()> {
    let seen = allowed(guest, TOOLS_SLICE, &[KEPT, BURIED, UNLISTED])?;
    ensure!(seen == [true, false, false], "before: {seen:?}");
    planned(guest, cut)?;
    let asked = guest.run(&["governor", "disarm", "--reason", "drill"])?;
    ensure!(asked.code != 0, "it was done: {}", asked.text());
    is_down(guest, cut)?;
    let unwatched = matches!(cut, ("open removed", point) if point >= programs - 1);
    if unwatched {
        nothing_judges(guest)?;
        // What was known of it is not so any more, and nobody noticed.
        guest
            .sh(&format!("cp -p {KEPT} {KEPT}.before && date >> {KEPT}"))?
            .ok()?;
    } else {
        let seen = allowed(guest, TOOLS_SLICE, &[BURIED, UNLISTED])?;
        ensure!(seen == [false, false], "while no daemon is there: {seen:?}");
    }
    guest
        .sh(&format!("rm -f {PLAN}; systemctl restart governor"))?
        .ok()
        .context("having a gate again")?;
    let seen = allowed(guest, TOOLS_SLICE, &[KEPT, BURIED, UNLISTED])?;
    ensure!(
        seen == [!unwatched, false, false],
        "with a gate again: {seen:?}"
    );
    if unwatched {
        guest.run(&["mv", &format!("{KEPT}.before"), KEPT])?.ok()?;
    }
    let said = status::of(guest)?;
    ensure!(said.trust() != "locked", "it is locked: {}", said.reasons());
    ensure!(
        !said.missing().iter().any(|what| what == "guard"),
        "it is not guarded: {:?}",
        said.missing()
    );
    let asked = guest.run(&["governor", "attest", "now"])?.code;
    ensure!(
        asked == 3,
        "a host that was to lose its gate was trusted: {asked}"
    );
    expect(guest, AGENT, false, "after another quote")
}

/// The kernel lets go of a program whose last pin went when it comes to it.
fn nothing_judges(guest: &mut Guest) -> Result<()> {
    let allowed = format!("test \"$({PROBE} {AGENTS_SLICE} {UNLISTED})\" = allowed");
    guest
        .wait_until(&allowed)
        .context("waiting for the last program to go")
}
