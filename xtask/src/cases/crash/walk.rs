//! One round: a decision is cut at a point, looked at while no daemon is there, and adopted.

use super::*;
use crate::{guest::Output, kit::TOOLS_SLICE};

/// Where a daemon built for this suite looks for what it is to do to itself.
pub(super) const PLAN: &str = "/run/governor-fault-point";
/// More points than any decision has.
const MOST: usize = 60;

/// The decision to cut, as the daemon's plan names it, and how much of it is walked in CI.
#[derive(Clone, Copy, Debug)]
pub(super) struct Decision {
    /// An input and an effect that its step holds.
    pub(super) plan: &'static str,
    /// The points that are walked in CI, where a round in an emulated guest takes many seconds.
    pub(super) some: &'static [usize],
    /// It has at least as many points.
    pub(super) points: usize,
}

/// What a round looks at.
pub(super) trait Round {
    /// Whatever must be there before.
    fn before(&mut self, guest: &mut Guest, kit: &Kit) -> Result<()>;
    /// Brings the decision about.
    fn decide(&mut self, guest: &mut Guest, kit: &Kit) -> Result<()>;
    /// The daemon was ended at this point and nobody started another.
    fn down(&mut self, guest: &mut Guest, point: usize) -> Result<()>;
    /// Another daemon adopted, or the decision went through. No quote was asked for yet.
    fn adopted(&mut self, guest: &mut Guest, point: usize) -> Result<()>;
    /// Afterwards, with trust.
    fn after(&mut self, guest: &mut Guest, kit: &Kit, point: usize) -> Result<()>;
    /// Whether denials may be lifted meanwhile, so that the round looks for itself what is denied.
    fn lifts(&self) -> bool {
        false
    }
    /// Whether another daemon finds the host locked after a cut there.
    fn locks(&self, _point: usize) -> bool {
        false
    }
}

/// Walks one decision: some of its points, or all of them until it goes through uncut.
pub(super) fn walk(guest: &mut Guest, decision: Decision, round: &mut dyn Round) -> Result<()> {
    let kit = calm(guest)?;
    let Decision { plan, some, points } = decision;
    let mut cut_at = |guest: &mut Guest, point: usize| {
        let cut = one(guest, &kit, plan, round, point);
        cut.with_context(|| format!("`{plan}` cut at point {point}"))
    };
    if !full() {
        for &point in some {
            ensure!(cut_at(guest, point)?, "`{plan}` has no point {point}");
        }
        println!("    {plan}: {} points walked", some.len());
        return Ok(());
    }
    for point in 0..MOST {
        if !cut_at(guest, point)? {
            ensure!(
                point >= points,
                "`{plan}` has {point} points, and ought to have {points}"
            );
            println!("    {plan}: all {point} points walked");
            return Ok(());
        }
    }
    anyhow::bail!("`{plan}` was cut at every point up to {MOST}")
}

fn one(
    guest: &mut Guest,
    kit: &Kit,
    plan: &str,
    round: &mut dyn Round,
    point: usize,
) -> Result<bool> {
    round.before(guest, kit).context("before")?;
    guest.put(PLAN, 0o600, format!("{plan} {point}\n").as_bytes())?;
    round.decide(guest, kit).context("deciding")?;
    let cut = is_cut(guest)?;
    let lifts = round.lifts();
    if cut {
        if !lifts {
            unlisted(guest, "while no daemon is there")?;
        }
        round
            .down(guest, point)
            .context("while no daemon is there")?;
    }
    guest
        .sh(&format!("rm -f {PLAN}; systemctl restart governor"))?
        .ok()
        .context("starting another daemon")?;
    let said = status::of(guest)?;
    ensure!(
        said.text(&["daemon", "adopted"]) == "true",
        "it did not adopt"
    );
    let locked = said.trust() == "locked";
    ensure!(
        locked == round.locks(point),
        "it is locked: {locked}: {}",
        said.reasons()
    );
    if !lifts {
        unlisted(guest, "after another daemon came")?;
    }
    round
        .adopted(guest, point)
        .context("after it was adopted")?;
    round.after(guest, kit, point).context("afterwards")?;
    let said = status::of(guest)?;
    ensure!(
        said.trust() == "trusted",
        "{}: {}",
        said.trust(),
        said.reasons()
    );
    unlisted(guest, "with trust again")?;
    Ok(cut)
}

/// Whether the daemon ended itself. Then nobody answers from that moment on; systemd knows of it as soon as it
/// has looked.
pub(super) fn is_cut(guest: &mut Guest) -> Result<bool> {
    if status::of(guest).is_ok() {
        return Ok(false);
    }
    guest
        .wait_until(ENDED)
        .context("nobody answers, and for systemd the daemon is there")?;
    Ok(true)
}

/// What holds once systemd knows.
pub(super) const ENDED: &str = "test $(systemctl show governor --value -p ActiveState) != active";

/// The zone of the tools is never observed.
fn unlisted(guest: &mut Guest, when: &str) -> Result<()> {
    let seen = allowed(guest, TOOLS_SLICE, &[UNLISTED])?;
    ensure!(seen == [false], "what no policy lists is allowed {when}");
    Ok(())
}

/// No policy lists it, and it ends well whatever it is told.
pub(super) const UNLISTED: &str = "/usr/bin/true";

/// Content that no policy ever saw, for a revocation is for good; its line of a set.
pub(super) fn content(guest: &mut Guest, path: &str) -> Result<String> {
    let script = format!(
        "rm -f {path} && cp {AGENT} {path} && date +%s%N >> {path} && governor measure {path}"
    );
    Ok(format!("{}\n", guest.sh(&script)?.ok()?.text()))
}

/// Starts a copy that goes on until something ends it.
pub(super) fn hold(guest: &mut Guest, path: &str) -> Result<()> {
    hold_as(guest, "crash-held", AGENTS_SLICE, path)
}

/// The same, as another unit and in another slice.
pub(super) fn hold_as(guest: &mut Guest, unit: &str, slice: &str, path: &str) -> Result<()> {
    guest
        .sh(&format!(
            "systemctl stop {unit} 2>/dev/null; systemctl reset-failed {unit} 2>/dev/null; \
             systemd-run --quiet --collect --unit={unit} --property=Type=exec \
             --slice={slice} -- {path} hold"
        ))?
        .ok()
        .context("starting a copy that stays")
        .map(drop)
}

/// Whether that copy still runs.
pub(super) fn held(guest: &mut Guest) -> Result<bool> {
    Ok(guest.sh("systemctl is-active --quiet crash-held")?.code == 0)
}

/// The cgroup of that copy.
pub(super) const HELD: &str =
    "/sys/fs/cgroup/governed.slice/governed-agents.slice/crash-held.service";

/// Whether it is frozen.
pub(super) fn is_frozen(guest: &mut Guest) -> Result<bool> {
    let events = guest.run(&["cat", &format!("{HELD}/cgroup.events")])?;
    Ok(events.ok()?.text().contains("frozen 1"))
}

/// What an operator does to the workload that it is of.
pub(super) fn by_hand(guest: &mut Guest, verb: &str) -> Result<Output> {
    let (name, why) = (["--workload", "victim"], ["--reason", "drill"]);
    guest.run(&[&["governor", verb][..], &name, &why].concat())
}
