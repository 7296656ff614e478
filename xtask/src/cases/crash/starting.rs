//! The start of a daemon, ended at its own places: while it opens the gate, and between the effects of what
//! it makes of what it found. One start after the other is cut, until one goes through.

use super::{
    decisions::{TABLES, VICTIM},
    walk::{PLAN, UNLISTED, content, held, hold, is_cut},
    *,
};
use crate::kit::TOOLS_SLICE;

/// A start to cut: where, and at which point or time there.
pub(super) type Cut = (&'static str, usize);

/// Below the governed slice, and no policy here names it.
const NOWHERE: &str = "governed-nowhere.slice";

/// Cuts one start after the other, and looks at what each leaves.
pub(super) fn cut_starts(
    guest: &mut Guest,
    cuts: &[Cut],
    look: &mut dyn FnMut(&mut Guest) -> Result<()>,
) -> Result<()> {
    for (plan, point) in cuts {
        planned(guest, (plan, *point))?;
        guest.run(&["systemctl", "restart", "governor"])?;
        is_down(guest, (plan, *point))?;
        look(guest).with_context(|| format!("a start that was cut at `{plan} {point}`"))?;
    }
    guest
        .sh(&format!("rm -f {PLAN}; systemctl restart governor"))?
        .ok()
        .context("starting a daemon that nobody ends")
        .map(drop)
}

pub(super) fn planned(guest: &mut Guest, (plan, point): (&str, usize)) -> Result<()> {
    guest.put(PLAN, 0o600, format!("{plan} {point}\n").as_bytes())
}

pub(super) fn is_down(guest: &mut Guest, (plan, point): (&str, usize)) -> Result<()> {
    ensure!(is_cut(guest)?, "no start has `{plan} {point}`");
    Ok(())
}

/// The first start of a boot. Must come before a policy armed the gate, for it takes the pins away.
pub(super) fn first(guest: &mut Guest) -> Result<()> {
    calm(guest)?;
    // A pin alone: what is in force has the map still, and nothing is begun anew beside it.
    let lost = guest.sh(
        "systemctl stop governor && rm /sys/fs/bpf/governor/maps-*/LABELS && systemctl start governor",
    )?;
    let said = guest.sh("journalctl -u governor -o cat -n 20")?.text();
    ensure!(
        lost.code != 0 && said.contains("has lost the pins `LABELS`"),
        "without the pin of a map: {} {said}",
        lost.code
    );
    let seen = allowed(guest, NOWHERE, &[UNLISTED])?;
    ensure!(seen == [false], "without a daemon: {seen:?}");
    guest
        .sh("systemctl stop governor && rm -r /sys/fs/bpf/governor")?
        .ok()
        .context("taking the pins away")?;
    let mut cuts: Vec<Cut> = vec![("open maps", 0), ("open pinned", 0), ("open attached", 5)];
    let some = [
        ("start install-table", 0),
        ("start install-table", 3),
        ("no-policy-kept install-table", 2),
        ("open ready", 0),
    ];
    if full() {
        cuts.extend([("open attached", 0); 15]);
        cuts.extend((0..=3).map(|point| ("start install-table", point)));
        cuts.extend((0..=2).map(|point| ("start append", point)));
        cuts.extend((0..=5).map(|point| ("no-policy-kept install-table", point)));
        cuts.push(("open ready", 0));
    } else {
        cuts.extend(some);
    }
    cut_starts(guest, &cuts, &mut |guest| {
        // Nothing governed starts before it.
        let ready = guest.sh("test -e /sys/fs/bpf/governor/ready")?.code;
        ensure!(ready != 0, "it says that it is ready");
        Ok(())
    })?;
    let pins = guest
        .sh("cd /sys/fs/bpf/governor && ls -d links-* maps-* ready && ls links-* | wc -l")?
        .ok()?
        .text();
    ensure!(pins.lines().count() == 4, "what is pinned: {pins}");
    ensure!(status::of(guest)?.trust() != "locked", "it is locked");
    let seen = allowed(guest, NOWHERE, &[AGENT, UNLISTED])?;
    ensure!(seen == [false, false], "below the governed slice: {seen:?}");
    unpinned(guest)
}

/// A gate of which a program would end with the daemon is not guarded, and the next start pins it again.
fn unpinned(guest: &mut Guest) -> Result<()> {
    let kit = guest.kept::<Kit>()?;
    let dir = kit.signed(&Spec::default())?;
    let pins = "cd /sys/fs/bpf/governor/links-*";
    for (lost, named) in [
        ("rm task_kill", "/task_kill`"),
        ("ln inode_rmdir task_kill", "/task_kill`: it is of program"),
        ("rm sysctl", "/sysctl`"),
    ] {
        guest.sh(&format!("{pins} && {lost}"))?.ok()?;
        let said = kit.offer(guest, &dir)?;
        let errors = said.errors();
        ensure!(
            said.code != 0
                && errors.contains("would end with this process")
                && errors.contains(named),
            "after `{lost}`: {} {errors}",
            said.code
        );
    }
    guest
        .sh(&format!(
            "{pins} && rm task_kill; systemctl restart governor"
        ))?
        .ok()?;
    kit.load(guest, &Spec::default())
}

/// What a daemon left that was ended before it was done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Left {
    /// A tombstone in the kernel, and nothing else.
    Tombstone,
    /// The mark that everything is revoked.
    Mark,
}

impl Left {
    fn plan(self) -> (&'static str, &'static [&'static str]) {
        match self {
            Self::Tombstone => ("revoke add-tombstone", &["--workload", "victim"]),
            Self::Mark => ("revoke mark-revoked-all", &["--all"]),
        }
    }

    /// Starts that are cut one after the other before one finishes what was left.
    fn cuts(self) -> Vec<Vec<Cut>> {
        let (start, first): (&str, usize) = match self {
            Self::Tombstone => ("start append", 2),
            Self::Mark => ("start mark-revoked-all", 6),
        };
        let resumed = "policy-resumed install-table";
        if full() {
            let of_start = (0..=first).map(|point| vec![(start, point)]);
            let of_policy = (0..=11).map(|point| vec![(resumed, point)]);
            return of_start.chain(of_policy).collect();
        }
        vec![vec![(start, 0), (start, 1), (resumed, 2), (resumed, 9)]]
    }
}

/// A daemon that adopts, and finishes what another began to take away.
pub(super) fn adopting(guest: &mut Guest) -> Result<()> {
    for left in [Left::Tombstone, Left::Mark] {
        for cuts in left.cuts() {
            adopt(guest, left, &cuts).with_context(|| format!("{left:?} {cuts:?}"))?;
        }
    }
    Ok(())
}

fn adopt(guest: &mut Guest, left: Left, cuts: &[Cut]) -> Result<()> {
    let kit = calm(guest)?;
    let spec = Spec {
        lease: "10m",
        every: "30s",
        tables: TABLES,
        sets: vec![("victim", content(guest, VICTIM)?)],
        ..Spec::default()
    };
    kit.load(guest, &spec)?;
    hold(guest, VICTIM)?;
    let (plan, target) = left.plan();
    planned(guest, (plan, 1))?;
    let revoke = [&["governor", "revoke", "--reason", "drill"], target].concat();
    guest.run(&revoke)?;
    is_down(guest, (plan, 1))?;
    cut_starts(guest, cuts, &mut |guest| {
        let seen = allowed(guest, TOOLS_SLICE, &[UNLISTED])?;
        ensure!(seen == [false], "what no policy lists is allowed");
        if left == Left::Tombstone {
            expect(guest, AGENT, true, "which nobody revoked")?;
            expect(guest, VICTIM, false, "which is revoked")?;
        }
        Ok(())
    })?;
    let said = status::of(guest)?;
    ensure!(said.trust() != "locked", "it is locked: {}", said.reasons());
    ensure!(!held(guest)?, "a running copy of what was revoked goes on");
    expect(guest, VICTIM, false, "which is revoked")?;
    if left == Left::Mark {
        expect(guest, AGENT, false, "which is revoked like everything")?;
    }
    kit.load(guest, &spec)?;
    expect(guest, AGENT, true, "in the end")
}
