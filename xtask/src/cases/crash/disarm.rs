//! Taking the gate down, ended while it is decided and at its own places. Until the TPM said that registers are
//! others nothing was done; from then on the host is not trusted, whether there is a gate or not. Programs go
//! before maps, so what is left denies, and whoever starts next has a gate again, in which all that was revoked
//! is; no reboot is needed for that, nor to take it down once more.

use super::{
    starting::{Cut, is_down, planned},
    walk::{PLAN, UNLISTED, content},
    *,
};
use crate::kit::TOOLS_SLICE;

const MAPS: usize = 20;
/// The step that will have registers extended, when they were and nobody knows yet, and the step after that, with
/// the last of its points at which everything stands.
const ASKED: &str = "disarm extend-pcrs";
const EXTENDED: &str = "open extended";
const DECIDED: &str = "pcrs-extended take-down";
const LAST: usize = 6;
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
    let mut cuts: Vec<Cut> = vec![
        (ASKED, 0),
        (EXTENDED, 0),
        (DECIDED, 3),
        ("open unguarded", 0),
    ];
    if full() {
        // Before any other that has registers extended.
        cuts.insert(1, (ASKED, 1));
        cuts.extend((0..=LAST).map(|point| (DECIDED, point)));
        cuts.push(("open detached", 0));
    }
    for cut in cuts {
        one(guest, cut)?;
    }
    let (mut point, step) = if full() {
        (0, 1)
    } else {
        (programs(guest)? - 2, MAPS / 2 + 2)
    };
    while point < programs(guest)? + MAPS {
        one(guest, ("open removed", point))?;
        point += step;
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

/// How many programs are pinned now: where a start before was cut short, what judges opens is one of them.
fn programs(guest: &mut Guest) -> Result<usize> {
    let pins = guest
        .sh("cd /sys/fs/bpf/governor && ls maps-* | wc -l && ls links-* | wc -l")?
        .ok()?
        .text();
    let (maps, programs) = pins.split_once('\n').context("two numbers")?;
    ensure!(maps == MAPS.to_string(), "maps that are pinned: {maps}");
    programs.parse().context("programs that are pinned")
}

fn one(guest: &mut Guest, cut: Cut) -> Result<()> {
    cut_at(guest, cut).with_context(|| format!("taking the gate down, cut at `{cut:?}`"))
}

fn cut_at(guest: &mut Guest, cut: Cut) -> Result<()> {
    let programs = programs(guest)?;
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
    let trusted = cut.0 == ASKED;
    ensure!(
        asked == if trusted { 0 } else { 3 },
        "a host that was to lose its gate: {asked}"
    );
    expect(guest, AGENT, trusted, "after another quote")
}

/// The kernel lets go of a program whose last pin went when it comes to it.
fn nothing_judges(guest: &mut Guest) -> Result<()> {
    let allowed = format!("test \"$({PROBE} {AGENTS_SLICE} {UNLISTED})\" = allowed");
    guest
        .wait_until(&allowed)
        .context("waiting for the last program to go")
}
