//! The judge: the same for every attack, and for any of them after any other.
//!
//! Promises: what no policy lists is denied at every look and at every try of the watcher in between;
//! in the end either enforcement, the alarm counter and trust are what they were and listed work runs, or
//! trust is lost, or nobody is there to answer for it, and listed work is denied. Anything else is an
//! error that says what was seen. An attack that must be refused and whose command succeeds is one too, and so
//! is one that was not tried, or that failed for another reason than being refused.

use super::{
    Attack, Ends, Leaves,
    scene::{LISTED, NO_HELPER, PRELUDE, STORM, Scene, UNLISTED, leaf},
};
use crate::{guest::Guest, status};
use anyhow::{Context as _, Result, bail, ensure};
use std::time::{Duration, Instant};

/// How it ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// Everything is as it was.
    Unchanged,
    /// Work that needs trust is denied.
    TrustLost,
}

impl Outcome {
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Unchanged => "unchanged",
            Self::TrustLost => "trust lost",
        }
    }
}

/// What came of one round.
#[derive(Clone, Debug)]
pub(crate) struct Round {
    pub(crate) outcome: Outcome,
    /// Attacks that could not be made, for another was made before them.
    pub(crate) moot: Vec<&'static str>,
}

/// What can be seen from outside.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Seen {
    /// What the kernel made of listed and of unlisted work in the zone.
    pub(super) listed: String,
    unlisted: String,
    /// What the daemon says, or `nobody`.
    pub(super) trust: String,
    trips: String,
    missing: Vec<String>,
}

/// Tries the attacks in their order, judges, and makes the guest what it was.
pub(crate) fn round(guest: &mut Guest, attacks: &[&Attack]) -> Result<Round> {
    let scene = guest.kept::<Scene>()?;
    let names: Vec<&str> = attacks.iter().map(|attack| attack.name).collect();
    scene.helped(guest, attacks)?;
    let before = look(guest)?;
    ensure!(
        before.listed == "allowed" && before.trust == "trusted" && before.missing_nothing_new(),
        "before `{}`: {before:?}",
        names.join("`, `")
    );
    let (mut said, mut moot) = (Vec::new(), Vec::new());
    let judged = attacks
        .iter()
        .enumerate()
        .try_for_each(|(at, attack)| {
            let first = at == 0;
            let (line, made) = attempt(guest, attack, first)?;
            said.push(line);
            moot.extend((!made).then_some(attack.name));
            Ok(())
        })
        .and_then(|()| settle(guest, &scene, &before))
        .with_context(|| format!("after `{}` ({})", names.join("`, `"), said.join("; ")));
    let outcome = judged?;
    let unchanged = (outcome == Outcome::Unchanged).then_some(&before);
    scene
        .restore(guest, attacks, unchanged)
        .with_context(|| format!("cleaning up after `{}`", names.join("`, `")))?;
    Ok(Round { outcome, moot })
}

/// What is to be seen now. Bounded: a daemon that is there and does not answer is nobody.
pub(super) fn look(guest: &mut Guest) -> Result<Seen> {
    let argv = [STORM, "once", &leaf("judge"), UNLISTED, LISTED];
    let tried = guest.run(&argv)?.ok().context("trying work in the zone")?;
    let tried = tried.text();
    let (unlisted, listed) = tried
        .split_once('\n')
        .with_context(|| format!("trying work in the zone: `{tried}`"))?;
    let answer = guest.run(&["timeout", "10", "governor", "status", "--json"])?;
    let said = status::parse(&answer).ok();
    Ok(Seen {
        listed: listed.to_owned(),
        unlisted: unlisted.to_owned(),
        trust: said
            .as_ref()
            .map_or_else(|| "nobody".into(), |said| said.trust()),
        trips: said
            .as_ref()
            .map(|said| said.text(&["epochs", "trips"]))
            .unwrap_or_default(),
        missing: said.map(|said| said.missing()).unwrap_or_default(),
    })
}

impl Seen {
    fn missing_nothing_new(&self) -> bool {
        !self.missing.contains(&"guard".to_owned())
    }

    /// Whether this is an end; nothing: it may still become one.
    fn outcome(&self, before: &Self) -> Option<Outcome> {
        match (self.listed.as_str(), self.trust.as_str()) {
            ("allowed", "trusted") if self == before => Some(Outcome::Unchanged),
            ("denied", "locked" | "degraded" | "nobody") => Some(Outcome::TrustLost),
            _ => None,
        }
    }
}

/// One attack; says how its command ended, and whether it was made at all. `first`: no other was tried in this scene
/// before it.
fn attempt(guest: &mut Guest, attack: &Attack, first: bool) -> Result<(String, bool)> {
    let script = format!("{PRELUDE}{}", attack.does);
    if attack.leaves == Leaves::NoProcess {
        // It ends whoever would answer.
        drop(guest.sh(&script));
        guest.agent_again()?;
        return Ok((format!("`{}` ended every process", attack.name), true));
    }
    let output = guest.run(&["timeout", "-k", "5", ATTACK_BOUND, "sh", "-c", &script])?;
    let said = format!("{} {}", output.text(), output.errors());
    let line = format!(
        "`{}` ({:?}) ended with {} {said}",
        attack.name, attack.row, output.code
    );
    let how = Ending::of(output.code, &said, attack.said);
    let made = matches!(how, Ending::Done | Ending::Refused);
    match attack.ends {
        Ends::Refused => {
            // What another attack left, or whom it ended, may be in the way of this one.
            let moot = !first && (how == Ending::Failed || output.code == NO_HELPER);
            ensure!(how == Ending::Refused || moot, "{how:?}: {line}");
        }
        Ends::Either => ensure!(!first || made, "{how:?}: {line}"),
    }
    Ok((line, made))
}

/// What became of something that must be refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ending {
    Refused,
    Done,
    /// Its time was over, or a tool or the helper that it needs is not there.
    NotTried,
    /// Nobody refused it: it could not be done for another reason.
    Failed,
}

impl Ending {
    fn of(code: i32, said: &str, refused: &[&str]) -> Self {
        match code {
            0 => Self::Done,
            NO_HELPER | TIME_OVER | NOT_EXECUTED | NOT_FOUND | KILLED => Self::NotTried,
            _ if refused.iter().any(|text| said.contains(text)) => Self::Refused,
            _ => Self::Failed,
        }
    }
}

/// Looks until it has come to an end.
fn settle(guest: &mut Guest, scene: &Scene, before: &Seen) -> Result<Outcome> {
    let end = Instant::now() + BOUND;
    loop {
        let seen = look(guest)?;
        let passed = scene.passed(guest)?;
        ensure!(
            seen.unlisted == "denied" && passed == 0,
            "what no policy lists was started, {passed} times by the watcher: {seen:?}"
        );
        if let Some(outcome) = seen.outcome(before) {
            return Ok(outcome);
        }
        if Instant::now() > end {
            bail!("neither as it was nor trust lost: {seen:?}, before it {before:?}");
        }
        // An appraisal ends when the daemon has heard of everything up to then. Without a daemon there is
        // nothing to wait on but its return and the end of the lease.
        guest.sh("timeout 10 governor attest now > /dev/null 2>&1 || sleep 0.5")?;
    }
}

/// As `timeout` and the shell end; a helper that is missing is [`PRELUDE`]'s to say.
const TIME_OVER: i32 = 124;
const NOT_EXECUTED: i32 = 126;
const NOT_FOUND: i32 = 127;
const KILLED: i32 = 137;
/// Seconds that one attack's command may take.
const ATTACK_BOUND: &str = "60";
/// A lease, a daemon that is started again, an appraisal, in an emulated guest on a busy host.
const BOUND: Duration = Duration::from_secs(120);

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(listed: &str, trust: &str, trips: &str) -> Seen {
        Seen {
            listed: listed.into(),
            unlisted: "denied".into(),
            trust: trust.into(),
            trips: trips.into(),
            missing: Vec::new(),
        }
    }

    #[test]
    fn what_was_not_tried_was_not_refused() {
        let of = |code, said| Ending::of(code, said, &["not permitted"]);
        assert_eq!(of(0, "Operation not permitted"), Ending::Done);
        assert_eq!(of(1, "rm: Operation not permitted"), Ending::Refused);
        assert_eq!(
            of(101, "Operation not permitted (os error 1)"),
            Ending::Refused
        );
        assert_eq!(of(103, "No such process (os error 3)"), Ending::Failed);
        for code in [NO_HELPER, 124, 126, 127, 137] {
            assert_eq!(of(code, "Operation not permitted"), Ending::NotTried);
        }
    }

    #[test]
    fn two_ends_and_no_third() {
        let before = seen("allowed", "trusted", "3");
        let outcome = |listed, trust, trips| seen(listed, trust, trips).outcome(&before);
        assert_eq!(outcome("allowed", "trusted", "3"), Some(Outcome::Unchanged));
        for trust in ["locked", "degraded", "nobody"] {
            assert_eq!(outcome("denied", trust, "4"), Some(Outcome::TrustLost));
            assert_eq!(outcome("allowed", trust, "3"), None);
        }
        // An alarm that costs nothing, and work that is denied while all is said to be well.
        assert_eq!(outcome("allowed", "trusted", "4"), None);
        assert_eq!(outcome("denied", "trusted", "3"), None);
        assert_eq!(outcome("no such file", "locked", "3"), None);
        let mut other = seen("allowed", "trusted", "3");
        other.missing.push("guard".into());
        assert_eq!(other.outcome(&before), None);
    }
}
