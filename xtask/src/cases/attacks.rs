//! What root tries against an armed gate, one after the other and in pairs, under the one judge of
//! [`crate::attacks`]. Those that the suite `guard` tries alone come here only in pairs. What is left out
//! here for the time it takes is tried with `--full`; what only a reboot takes back, and all pairs, by `cargo
//! xtask soak`.

use super::{Case, Suite};
use crate::{
    attacks::{self, Attack, Ends, Leaves, Load, judge, scene},
    guest::{BootOptions, Guest},
    image::Kernel,
};
use anyhow::{Context as _, Result, bail, ensure};
use std::sync::atomic::Ordering;

pub(crate) const SUITE: Suite = Suite {
    name: "attacks",
    options: BootOptions::new,
    kernels: super::Kernels::Every,
    prepare: |guest| scene::set(guest).map(drop),
    cases: &[
        Case {
            name: "each_alone_ends_refused_or_costs_trust",
            run: |guest| {
                let rounds = alone(guest);
                each(guest, &rounds)
            },
        },
        Case {
            name: "so_do_pairs_of_them",
            run: |guest| {
                let count = if full() { MANY_PAIRS } else { PAIRS };
                let pairs = attacks::slice_of_pairs(turn(guest) * count, count);
                let rounds: Vec<Vec<&Attack>> = pairs.iter().map(|pair| pair.to_vec()).collect();
                each(guest, &rounds)
            },
        },
        Case {
            name: "so_do_those_that_end_every_process",
            run: |guest| each(guest, &severing()),
        },
        Case {
            name: "storms_are_counted_to_the_last_try",
            run: |guest| {
                let scene = guest.kept::<scene::Scene>()?;
                println!("    {}", scene.storm(guest, TRIES)?);
                Ok(())
            },
        },
        Case {
            name: "under_load_every_verdict_is_the_right_one",
            run: |guest| {
                let scene = guest.kept::<scene::Scene>()?;
                println!("    {}", scene.load(guest, &LOAD)?);
                Ok(())
            },
        },
        Case {
            name: "the_kernel_reported_no_fault",
            run: no_fault,
        },
    ],
};

/// Of those that must be refused, which is soon seen, one in three; of those that may be done, which mostly end
/// with a lease, one in twelve; and others on the other kernel.
fn alone(guest: &Guest) -> Vec<Vec<&'static Attack>> {
    let fits = |attack: &&Attack| !attack.guarded && attack.leaves == Leaves::Nothing;
    let (refused, either): (Vec<_>, Vec<_>) = attacks::all()
        .into_iter()
        .filter(fits)
        .partition(|attack| attack.ends == Ends::Refused);
    let first = turn(guest);
    let some = |all: Vec<&'static Attack>, one_in: usize| {
        let (first, step) = if full() { (0, 1) } else { (first, one_in) };
        all.into_iter().skip(first).step_by(step)
    };
    let rounds = some(refused, 3).chain(some(either, 12));
    rounds.map(|attack| vec![attack]).collect()
}

/// Each kernel takes a part of its own.
fn turn(guest: &Guest) -> usize {
    usize::from(guest.kernel() != Kernel::NEWEST.name())
}

fn full() -> bool {
    super::crash::FULL.load(Ordering::Relaxed)
}

fn severing() -> Vec<Vec<&'static Attack>> {
    let fits = |attack: &&Attack| attack.leaves == Leaves::NoProcess;
    let all = attacks::all().into_iter().filter(fits);
    all.map(|attack| vec![attack]).collect()
}

/// Goes on after one that failed as long as the guest can be made what it was, so that one run names them
/// all.
fn each(guest: &mut Guest, rounds: &[Vec<&Attack>]) -> Result<()> {
    let mut failed = Vec::new();
    let mut ends = std::collections::BTreeMap::<&str, usize>::new();
    for round in rounds {
        match judge::round(guest, round) {
            Ok(judged) => *ends.entry(judged.outcome.name()).or_default() += 1,
            Err(error) => {
                let whole = format!("{error:#}");
                println!("    {whole}");
                failed.push(whole);
                let scene = guest.kept::<scene::Scene>()?;
                // Whatever it left, a boot takes back what undoing cannot.
                if scene.restore(guest, round, None).is_err() {
                    scene.again(guest).context("rebooting after it")?;
                }
            }
        }
    }
    println!("    {} rounds: {ends:?}", rounds.len());
    if failed.is_empty() {
        return Ok(());
    }
    bail!("{} failed:\n    {}", failed.len(), failed.join("\n    "))
}

/// Denials may be lost here: the watcher makes more of them than fit while no daemon reads.
fn no_fault(guest: &mut Guest) -> Result<()> {
    let log = guest
        .sh("dmesg | grep -E 'BUG:|Oops|WARNING:|general protection' || true")?
        .text();
    ensure!(log.is_empty(), "{log}");
    Ok(())
}

/// How many tries of each kind make a storm here.
const TRIES: u64 = 3_000;
/// How many start programs and work on files here.
const LOAD: Load = Load {
    starters: 16,
    workers: 6,
    seconds: 10,
};
/// How many pairs fit.
const PAIRS: usize = 6;
const MANY_PAIRS: usize = 60;
