//! A thousand tasks: what governor takes to freeze them and then to kill them, beside writing the files
//! of the cgroup by hand. Both in each round, so that a busy machine is busy for both. They are killed
//! as they are, frozen: tasks that were just let go are still busy waking up, for one side only.

use super::{
    figures::{Row, Wanted},
    scene::{self, at, field},
};
use crate::{
    guest::{Guest, JobId},
    kit::{AGENT, AGENTS_SLICE, Kit, Spec, USER},
};
use anyhow::{Context as _, Result, ensure};
use std::time::Duration;

pub(super) fn measure(guest: &mut Guest, kit: &Kit, rounds: u32) -> Result<Vec<Row>> {
    scene::prepare(
        guest,
        kit,
        &Spec {
            lease: "60s",
            every: "20s",
            ..Spec::default()
        },
    )?;
    let (mut bare, mut ours) = (Times::default(), Times::default());
    let mut whole = Times::default();
    for _ in 0..rounds {
        by_hand(guest, &mut bare)?;
        by_governor(guest, &mut ours, &mut whole)?;
    }
    let (mut told, mut loops) = (Vec::new(), Vec::new());
    for line in scene::said(guest, "stops took")? {
        told.push(field(&line, "TOLD_US")? / 1e3);
        loops.push(field(&line, "HALTED_US")? / 1e3);
    }
    let ratios = |ours: &[f64], bare: &[f64]| {
        ours.iter()
            .zip(bare)
            .map(|(ours, bare)| ours / bare)
            .collect()
    };
    let sums = |times: &Times| -> Vec<f64> {
        let both = times.frozen.iter().zip(&times.killed);
        both.map(|(frozen, killed)| frozen + killed).collect()
    };
    Ok(vec![
        Row::new(
            "1,000 tasks frozen, then killed, daemon / bare files",
            "ratio",
            ratios(&sums(&ours), &sums(&bare)),
            Wanted::MedianAtMost(1.2),
        )?,
        Row::new(
            "1,000 tasks frozen, bare file",
            "ms",
            bare.frozen.clone(),
            Wanted::Shown,
        )?,
        Row::new(
            "1,000 tasks frozen, in the daemon",
            "ms",
            ours.frozen.clone(),
            Wanted::Shown,
        )?,
        Row::new(
            "1,000 tasks frozen, daemon / bare file",
            "ratio",
            ratios(&ours.frozen, &bare.frozen),
            Wanted::MedianAtMost(1.2),
        )?,
        Row::new(
            "1,000 tasks frozen, whole command",
            "ms",
            whole.frozen,
            Wanted::Shown,
        )?,
        Row::new(
            "1,000 tasks killed, bare file",
            "ms",
            bare.killed.clone(),
            Wanted::Shown,
        )?,
        Row::new(
            "1,000 tasks killed, in the daemon",
            "ms",
            ours.killed.clone(),
            Wanted::Shown,
        )?,
        Row::new(
            "1,000 tasks killed, daemon / bare file",
            "ratio",
            ratios(&ours.killed, &bare.killed),
            Wanted::MedianAtMost(1.2),
        )?,
        Row::new(
            "1,000 tasks killed, whole command",
            "ms",
            whole.killed,
            Wanted::Shown,
        )?,
        Row::new(
            "a stop: looking for everybody and telling them",
            "ms",
            told,
            Wanted::Shown,
        )?,
        Row::new("a stop keeps the daemon's loop", "ms", loops, Wanted::Shown)?,
    ])
}

/// Milliseconds.
#[derive(Default)]
struct Times {
    frozen: Vec<f64>,
    killed: Vec<f64>,
}

/// In a cgroup that governs nothing.
fn by_hand(guest: &mut Guest, times: &mut Times) -> Result<()> {
    let dir = "/sys/fs/cgroup/system.slice/crowd.service";
    let job = crowd(guest, "system.slice")?;
    let write = |guest: &mut Guest, file, value, state| -> Result<f64> {
        let lines = scene::probe(guest, &["written", dir, file, value, state], BOUND)?;
        let line = lines.first().context("the probe said nothing")?;
        Ok((at(line, 1)? - at(line, 0)?) / 1e6)
    };
    times
        .frozen
        .push(write(guest, "cgroup.freeze", "1", "frozen 1")?);
    times
        .killed
        .push(write(guest, "cgroup.kill", "1", "populated 0")?);
    guest.wait(job, BOUND)?;
    Ok(())
}

fn by_governor(guest: &mut Guest, ours: &mut Times, whole: &mut Times) -> Result<()> {
    let dir = format!("/sys/fs/cgroup/governed.slice/{AGENTS_SLICE}/crowd.service");
    let job = crowd(guest, AGENTS_SLICE)?;
    let ask = |guest: &mut Guest, verb, state| -> Result<(f64, f64)> {
        let argv = [
            "reached",
            &dir,
            state,
            "governor",
            verb,
            "--workload",
            "planner",
            "--reason",
            "drill",
        ];
        let lines = scene::probe(guest, &argv, BOUND)?;
        let line = lines.first().context("the probe said nothing")?;
        let (began, event) = (at(line, 0)?, at(line, 1)?);
        let said = scene::said(guest, "stops took")?;
        let asked = said.last().map(|line| field(line, "AT_US")).transpose()?;
        let asked = asked.unwrap_or_default() * 1e3;
        ensure!(
            began < asked && asked < event,
            "the journal says nothing of `{verb}`"
        );
        Ok(((event - asked) / 1e6, (event - began) / 1e6))
    };
    let (frozen, command) = ask(guest, "pause", "frozen 1")?;
    ours.frozen.push(frozen);
    whole.frozen.push(command);
    let (killed, command) = ask(guest, "kill", "populated 0")?;
    ours.killed.push(killed);
    whole.killed.push(command);
    guest.wait(job, BOUND)?;
    Ok(())
}

/// A thousand tasks of the workload in a service of this slice.
fn crowd(guest: &mut Guest, slice: &str) -> Result<JobId> {
    let (slice, user) = (format!("--slice={slice}"), format!("--uid={USER}"));
    let argv = [
        "systemd-run",
        "--quiet",
        "--wait",
        "--pipe",
        "--collect",
        "--property=TasksMax=infinity",
        "--unit=crowd",
        &slice,
        &user,
        "--",
        AGENT,
        "crowd",
        "1000",
    ];
    let job = guest.spawn(&argv)?;
    guest.wait_for_output(job, b"holding", BOUND)?;
    Ok(job)
}

const BOUND: Duration = Duration::from_secs(120);
