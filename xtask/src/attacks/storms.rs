//! Storms: programs started as fast as the guest can, allowed and denied ones at once, while policies are
//! loaded and the daemon is killed.
//!
//! Promises: not one denied try is started; not one allowed try fails, for the lease holds all the time;
//! each try is counted by who makes it, and the kernel's own counts, as `governor status` shows them, agree
//! to the last one.

use super::scene::{LISTED, STORM, UNLISTED, leaf};
use crate::{
    guest::{Guest, JobId},
    kit::{Kit, Spec},
    status,
};
use anyhow::{Context as _, Result, ensure};
use std::{collections::BTreeMap, time::Duration};

/// Has so many tries of each kind made, and says in a line what came of them.
pub(super) fn rage(guest: &mut Guest, kit: &Kit, tries: u64) -> Result<String> {
    let spec = lasting(guest)?;
    kit.load(guest, &spec)?;
    let of_allowed = counted(guest, LISTED, "allowed")?;
    let of_denied = counted(guest, UNLISTED, "denied")?;
    let before = counts(guest)?;
    let number = tries.to_string();
    let denied = begin(guest, UNLISTED, &number)?;
    let allowed = begin(guest, LISTED, &number)?;
    let mut disturbed = (0, 0);
    for job in [denied, allowed] {
        for step in 1..STEPS {
            // What a storm says now and then; a multiple of how often it does.
            let at = (tries * step / STEPS)
                .next_multiple_of(TOLD_EVERY)
                .min(tries);
            if !at.is_multiple_of(TOLD_EVERY) {
                continue;
            }
            guest.wait_for_output(job, format!("at {at}\n").as_bytes(), BOUND)?;
            if step % 2 == 0 {
                kill_daemon(guest)?;
                // A policy that a daemon loads before it has evidence of its own ends the lease, for
                // nobody can say whether what was appraised is what that policy asks for.
                kit.trusted(guest)?;
                disturbed.1 += 1;
            } else {
                let dir = kit.signed(&spec)?;
                kit.offer(guest, &dir)?
                    .ok()
                    .context("loading a policy in the storm")?;
                disturbed.0 += 1;
            }
        }
    }
    let denied = end(guest, denied)?;
    let allowed = end(guest, allowed)?;
    let after = counts(guest)?;
    let lost = status::of(guest)?.number(&["losses", "denials"]);
    let said = format!(
        "denied: {denied:?}; allowed: {allowed:?}; {} policies loaded and {} daemons killed meanwhile; \
         {lost} denials told by number only; the kernel counted {:?}",
        disturbed.0,
        disturbed.1,
        raised(&before, &after)
    );
    ensure!(
        denied == Counts::of(&[tries, 0, tries, 0]),
        "what no policy lists: {said}"
    );
    ensure!(
        allowed == Counts::of(&[tries, tries, 0, 0]),
        "what policy lists, on a lease that holds: {said}"
    );
    agree(
        &before,
        &after,
        &[(&of_allowed, tries), (&of_denied, tries)],
    )
    .with_context(|| said.clone())?;
    kit.trusted(guest)?;
    Ok(said)
}

/// Has so many start programs at once, and so many make, change and start files, for so long. Whoever gets an
/// answer that is not the right one says so, and the kernel's counts agree with theirs.
pub(super) fn load(guest: &mut Guest, kit: &Kit, load: &Load) -> Result<String> {
    many(guest, kit, load).or_else(|error| {
        let log = "journalctl -u governor -o short-monotonic -p notice --no-pager | tail -n 20";
        let log = guest.sh(log)?.text();
        Err(error.context(log))
    })
}

fn many(guest: &mut Guest, kit: &Kit, load: &Load) -> Result<String> {
    let spec = lasting(guest)?;
    kit.load(guest, &spec)?;
    let of_allowed = counted(guest, LISTED, "allowed")?;
    let of_denied = counted(guest, UNLISTED, "denied")?;
    let turned_away = |guest: &mut Guest| -> Result<u64> {
        Ok(status::of(guest)?.number(&["measurements", "turned_away"]))
    };
    let lost = |guest: &mut Guest| -> Result<u64> {
        Ok(status::of(guest)?.number(&["losses", "denials"]))
    };
    let (before, away, lost_before) = (counts(guest)?, turned_away(guest)?, lost(guest)?);
    let (starters, workers) = (load.starters.to_string(), load.workers.to_string());
    let (seconds, dir) = (load.seconds.to_string(), leaf("load"));
    let argv = [
        STORM,
        "load",
        &dir,
        LISTED,
        UNLISTED,
        &starters,
        &workers,
        &seconds,
        "/opt/agent",
        "/dev/shm",
    ];
    let job = guest.spawn(&argv)?;
    let said = guest
        .wait(job, BOUND + Duration::from_secs(load.seconds))?
        .ok()?;
    let (after, away) = (counts(guest)?, turned_away(guest)? - away);
    let lost = lost(guest)? - lost_before;
    let said = said.text();
    let mut sum = Counts::of(&[0; 4]);
    let mut all = 0;
    for line in said.lines() {
        if line.strip_prefix("told ") == Some(&all.to_string()) {
            break;
        }
        ensure!(!line.contains("failed"), "under load: {line}");
        sum = sum.and(&Counts::read(line)?);
        all += 1;
    }
    ensure!(
        all == load.starters + load.workers,
        "not all of them said what they saw: {said}"
    );
    let told = format!(
        "{} starting and {} working on files: {sum:?}, {away} writers turned away, {lost} denials lost",
        load.starters, load.workers
    );
    ensure!(lost == 0, "{told}");
    ensure!(
        sum.void == 0 && sum.allowed + sum.denied == sum.tries,
        "{told}"
    );
    // Each round of who works on files has one writer that comes too late.
    ensure!(away >= load.workers, "nobody was turned away: {told}");
    agree(
        &before,
        &after,
        &[(&of_allowed, sum.allowed), (&of_denied, sum.denied)],
    )
    .with_context(|| told.clone())?;
    kit.trusted(guest)?;
    Ok(told)
}

/// How many do what, and for how long.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Load {
    pub(crate) starters: u64,
    pub(crate) workers: u64,
    pub(crate) seconds: u64,
}

/// Whether the kernel counted what so many tries of each kind raise.
fn agree(
    before: &BTreeMap<String, u64>,
    after: &BTreeMap<String, u64>,
    tries: &[(&BTreeMap<String, u64>, u64)],
) -> Result<()> {
    let reasons = tries.iter().flat_map(|(each, _)| each.keys());
    for reason in reasons {
        let at = |counts: &BTreeMap<String, u64>| counts.get(reason).copied().unwrap_or(0);
        let expected: u64 = tries.iter().map(|(each, times)| at(each) * times).sum();
        let seen = at(after) - at(before);
        ensure!(
            seen == expected,
            "`{reason}` was counted {seen} times and should be {expected}"
        );
    }
    Ok(())
}

/// What one who makes tries counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Counts {
    tries: u64,
    allowed: u64,
    denied: u64,
    void: u64,
}

impl Counts {
    const fn of(&[tries, allowed, denied, void]: &[u64; 4]) -> Self {
        Self {
            tries,
            allowed,
            denied,
            void,
        }
    }

    /// As whoever counts says it.
    fn read(line: &str) -> Result<Self> {
        let numbers: Vec<u64> = line
            .split_whitespace()
            .filter_map(|word| word.split_once('=')?.1.parse().ok())
            .collect();
        let numbers: Option<&[u64; 4]> = numbers.as_slice().try_into().ok();
        Ok(Self::of(
            numbers.with_context(|| format!("reading `{line}`"))?,
        ))
    }

    const fn and(&self, other: &Self) -> Self {
        Self {
            tries: self.tries + other.tries,
            allowed: self.allowed + other.allowed,
            denied: self.denied + other.denied,
            void: self.void + other.void,
        }
    }
}

fn lasting(guest: &mut Guest) -> Result<Spec> {
    Ok(Spec {
        planner: guest.run(&["governor", "measure", LISTED])?.ok()?.text(),
        lease: "300s",
        every: "5s",
        on_revoke: "deny",
        ..Spec::default()
    })
}

/// By how much one try raises which of the kernel's counts.
fn counted(guest: &mut Guest, program: &str, expected: &str) -> Result<BTreeMap<String, u64>> {
    let before = counts(guest)?;
    let said = guest.run(&[STORM, "once", &leaf("once"), program])?.ok()?;
    ensure!(said.text() == expected, "`{program}`: {}", said.text());
    let raised = raised(&before, &counts(guest)?);
    ensure!(!raised.is_empty(), "nothing counted `{program}`");
    Ok(raised)
}

/// What was counted from one look to the next.
fn raised(before: &BTreeMap<String, u64>, after: &BTreeMap<String, u64>) -> BTreeMap<String, u64> {
    let since = |(reason, count): (&String, &u64)| {
        let earlier = before.get(reason).copied().unwrap_or(0);
        (reason.clone(), count - earlier)
    };
    let raised = after.iter().map(since);
    raised.filter(|(_, raised)| *raised > 0).collect()
}

fn counts(guest: &mut Guest) -> Result<BTreeMap<String, u64>> {
    Ok(status::of(guest)?.counts())
}

fn begin(guest: &mut Guest, program: &str, tries: &str) -> Result<JobId> {
    let job = guest.spawn(&[STORM, "storm", &leaf("storm"), program, tries])?;
    guest.wait_for_output(job, b"at 1\n", BOUND)?;
    Ok(job)
}

fn end(guest: &mut Guest, job: JobId) -> Result<Counts> {
    let said = guest.wait(job, BOUND)?.ok()?.text();
    let over = said
        .lines()
        .find_map(|line| line.strip_prefix("over "))
        .with_context(|| format!("a storm that did not end: {said}"))?;
    Counts::read(over)
}

/// Ends the daemon and waits for another.
fn kill_daemon(guest: &mut Guest) -> Result<()> {
    let show = ["systemctl", "show", "governor", "--value", "-p", "MainPID"];
    let pid = guest.run(&show)?.ok()?.text();
    guest
        .run(&["systemctl", "kill", "-s", "KILL", "governor"])?
        .ok()?;
    guest.wait_until(&format!(
            "now=$(systemctl show governor --value -p MainPID); test $now != {pid} && test $now != 0 \
             && systemctl is-active --quiet governor"
        ),
    )
    .context("waiting for another daemon in the storm")
}

/// How often a storm is disturbed, and one more.
const STEPS: u64 = 6;
/// How often the probe says how far it is.
const TOLD_EVERY: u64 = 500;
/// A whole storm in an emulated guest.
const BOUND: Duration = Duration::from_secs(3600);
