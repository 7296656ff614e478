//! How fast trust goes: by a register that was read and differs, and by an appraisal that fails.

use super::{
    figures::{Row, Wanted},
    scene::{self, at, field},
};
use crate::{
    guest::Guest,
    kit::{Kit, Spec},
};
use anyhow::{Context as _, Result};
use std::time::Duration;

/// The register is read each second; a quote would only come in between by chance.
pub(super) fn register(guest: &mut Guest, kit: &Kit, rounds: u32) -> Result<Vec<Row>> {
    let lost = lose(guest, kit, rounds, "30s", "60s")?;
    let waited = lost.iter().map(|lost| lost.waited).collect();
    Ok(vec![
        Row::new(
            "register extended → exec denied",
            "ms",
            waited,
            Wanted::P99AtMost(1500.0),
        )?,
        after_the_store("register", &lost)?,
    ])
}

/// Quotes come as fast as the readings, so many a round ends with one that is refused.
pub(super) fn appraisal(guest: &mut Guest, kit: &Kit, rounds: u32) -> Result<Vec<Row>> {
    let (mut lost, mut refused) = (Vec::new(), Vec::new());
    for _ in 0..4 {
        lost.extend(lose(guest, kit, rounds, "1s", "60s")?);
        refused = lost.iter().filter(|lost| lost.by_appraisal).collect();
        if refused.len() >= rounds as usize {
            break;
        }
    }
    let of = |value: fn(&Lost) -> f64| refused.iter().map(|lost| value(lost)).collect();
    Ok(vec![
        Row::new(
            "appraisal failed → the kernel denies",
            "ms",
            of(|lost| lost.revoked - lost.decided),
            Wanted::P99AtMost(10.0),
        )?,
        Row::new(
            "bad evidence arrived → the kernel denies",
            "ms",
            of(|lost| lost.revoked),
            Wanted::P99AtMost(10.0),
        )?,
        Row::new(
            "bad evidence arrived → all done and recorded",
            "ms",
            of(|lost| lost.took),
            Wanted::P99AtMost(10.0),
        )?,
        Row::new(
            "of both, appraising it",
            "ms",
            of(|lost| lost.decided),
            Wanted::Shown,
        )?,
        after_the_store("appraisal", &lost)?,
    ])
}

/// One loss of trust. Milliseconds.
struct Lost {
    /// From the extended register to the end of the first denied exec.
    waited: f64,
    by_appraisal: bool,
    /// From the input to the decision, to the last of what takes away, and to the end of the step.
    decided: f64,
    revoked: f64,
    took: f64,
    /// The last exec that was allowed began that long after the kernel had been told.
    late: f64,
}

fn lose(
    guest: &mut Guest,
    kit: &Kit,
    rounds: u32,
    every: &'static str,
    lease: &'static str,
) -> Result<Vec<Lost>> {
    let spec = Spec {
        every,
        lease,
        on_revoke: "deny",
        ..Spec::default()
    };
    scene::prepare(guest, kit, &spec)?;
    guest.sh("systemctl stop answer 2>/dev/null; rm -rf /run/bench; journalctl --rotate --vacuum-time=1s")?;
    scene::start(guest)?;
    let bound = Duration::from_secs(60) + Duration::from_secs(20) * rounds;
    let lines = scene::probe(guest, &["pcr", &rounds.to_string()], bound)?;
    let changes = scene::said(guest, "trust changed")?;
    let mut lost = Vec::new();
    for line in lines {
        // extended, `denied`, began, ended, when the last allowed one began, tries
        let (extended, began, ended, last) =
            (at(&line, 0)?, at(&line, 2)?, at(&line, 3)?, at(&line, 4)?);
        let mut told = None;
        for change in &changes {
            let from = change["F_FROM"].as_str().unwrap_or_default();
            let from_start = field(change, "AT_US")? * 1e3;
            // The one that this denial came of: the last that began before it.
            if from == "trusted" && from_start < ended {
                told = Some((change, from_start));
            }
        }
        let (change, input) = told.with_context(|| {
            format!("the journal has no loss of trust before the denial at {began}")
        })?;
        let reasons = change["F_REASONS"].as_str().unwrap_or_default();
        let revoked = field(change, "REVOKED_US")? * 1e3;
        lost.push(Lost {
            waited: (ended - extended) / 1e6,
            by_appraisal: reasons.contains("evidence-rejected"),
            decided: field(change, "DECIDED_US")? / 1e3,
            revoked: revoked / 1e6,
            took: field(change, "TOOK_US")? / 1e3,
            late: (last - (input + revoked)) / 1e6,
        });
    }
    Ok(lost)
}

fn after_the_store(what: &str, lost: &[Lost]) -> Result<Row> {
    let late = lost.iter().filter(|lost| lost.late > 0.0).count();
    let what = format!("{what}: an exec that began after the store was allowed");
    Row::never(&what, late, lost.len())
}
