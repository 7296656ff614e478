//! `cargo xtask soak`: what takes hours. Every attack, every ordered pair of them, storms at their full
//! count, and many at once who start programs and change files, in guests. The parts that fit into minutes
//! are in the suite `attacks`.
//!
//! Rounds are numbered for a part, so that a run can go on where another stopped (`--from`); what a number stands for
//! changes only with the table of attacks. The last line is always `N passed, N failed`.

use crate::{
    attacks::{self, Attack, Load, judge, scene},
    compile, dist,
    guest::{BootOptions, Guest},
    image::{self, Kernel, Wanted},
    tools,
};
use anyhow::{Context as _, Result};
use std::{
    process::ExitCode,
    time::{Duration, Instant},
};

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Only this kernel; otherwise one after the other.
    #[arg(long, value_enum)]
    kernel: Option<Kernel>,
    /// Only the attacks, only the storms, or only the load; or of the attacks each row after each, by one of its own.
    #[arg(long, value_enum)]
    part: Option<Part>,
    /// The round of attacks to begin with.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..))]
    from: u32,
    /// How many rounds of attacks; otherwise all that are left.
    #[arg(long)]
    count: Option<u32>,
    /// Take every so many-th round only: a sample of all of them.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..))]
    every: u32,
    /// How often each kind of work is tried in a storm.
    #[arg(long, default_value_t = 80_000, value_parser = clap::value_parser!(u64).range(500..))]
    tries: u64,
    /// How long programs are started and files changed by many at once.
    #[arg(long, default_value_t = 60, value_parser = clap::value_parser!(u64).range(1..))]
    minutes: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Part {
    Attacks,
    Rows,
    Storms,
    Load,
}

impl Args {
    fn wants(&self, part: Part) -> bool {
        // What the rows are is among the attacks.
        self.part
            .is_none_or(|only| only == part || (only, part) == (Part::Rows, Part::Attacks))
    }
}

#[derive(Clone, Copy, Debug, Default)]
struct Tally {
    passed: usize,
    failed: usize,
}

pub(crate) fn run(args: &Args) -> Result<ExitCode> {
    tools::need(tools::Group::Guest)?;
    dist::build()?;
    compile::probes()?;
    let kernels = args
        .kernel
        .map_or_else(|| Kernel::ALL.to_vec(), |kernel| vec![kernel]);
    let mut tally = Tally::default();
    for kernel in kernels {
        image::prepare(&Wanted::Debian(kernel))?;
        if args.wants(Part::Attacks) {
            walk(kernel, args, &mut tally);
        }
        if args.wants(Part::Storms) {
            let name = format!("{} storms of {}", kernel.name(), args.tries);
            tally.add(&name, || {
                let mut guest = patient(kernel)?;
                scene::set(&mut guest)?.storm(&mut guest, args.tries)
            });
        }
        if args.wants(Part::Load) {
            let name = format!("{} load of {} min", kernel.name(), args.minutes);
            tally.add(&name, || {
                let mut guest = patient(kernel)?;
                let load = Load {
                    seconds: args.minutes * 60,
                    ..LOAD
                };
                scene::set(&mut guest)?.load(&mut guest, &load)
            });
        }
    }
    println!("{} passed, {} failed", tally.passed, tally.failed);
    let good = tally.failed == 0 && tally.passed > 0;
    Ok(if good {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

/// Each attack alone, then each after each; or only each row after each.
fn rounds(args: &Args) -> Vec<Vec<&'static Attack>> {
    if args.part == Some(Part::Rows) {
        let pairs = attacks::pairs_of_rows().into_iter();
        return pairs.map(|pair| pair.to_vec()).collect();
    }
    let alone = attacks::all().into_iter().map(|attack| vec![attack]);
    let pairs = attacks::pairs().into_iter().map(|pair| pair.to_vec());
    alone.chain(pairs).collect()
}

fn walk(kernel: Kernel, args: &Args, tally: &mut Tally) {
    let rounds = rounds(args);
    let all = rounds.len();
    let wanted = rounds
        .iter()
        .zip(1..)
        .skip(args.from.saturating_sub(1) as usize)
        .step_by(args.every as usize)
        .take(args.count.map_or(all, |count| count as usize));
    let wanted: Vec<(&Vec<&Attack>, usize)> = wanted.collect();
    let since = Instant::now();
    let mut slot = None;
    for (done, (round, number)) in wanted.iter().enumerate() {
        if done % ROUNDS_PER_GUEST == 0 {
            slot = None;
        }
        let name = format!("{} {number}/{all}", kernel.name());
        let mut made = told(kernel, &name, round, &mut slot, tally);
        if let (Some(Part::Rows), &[first, second]) = (args.part, round.as_slice()) {
            // A row is tried if one of its attacks could be made.
            for other in attacks::others_of_row(second) {
                if !made {
                    made = told(kernel, &name, &[first, other], &mut slot, tally);
                }
            }
        }
        let left = wanted.len() - done - 1;
        if left > 0 && (done + 1) % TOLD_EVERY == 0 {
            let each = since.elapsed() / u32::try_from(done + 1).unwrap_or(u32::MAX);
            let rest = each * u32::try_from(left).unwrap_or(u32::MAX);
            eprintln!(
                "... {left} rounds left on {}, about {} min; of this part, go on with --from {}",
                kernel.name(),
                rest.as_secs() / 60,
                number + args.every as usize
            );
        }
    }
}

/// One round, told and counted; whether each of its attacks was made, or failed to end well.
fn told(
    kernel: Kernel,
    name: &str,
    round: &[&Attack],
    slot: &mut Option<Guest>,
    tally: &mut Tally,
) -> bool {
    let began = Instant::now();
    let names: Vec<&str> = round.iter().map(|attack| attack.name).collect();
    let outcome = one(kernel, round, slot);
    let name = format!("{name} {}", names.join(", "));
    let took = began.elapsed().as_secs_f32();
    match outcome {
        Ok(judge::Round { outcome, moot }) => {
            let not = if moot.is_empty() {
                String::new()
            } else {
                format!("; not made after the other: {}", moot.join(", "))
            };
            println!("ok {name}: {}{not} ({took:.1}s)", outcome.name());
            tally.passed += 1;
            moot.is_empty()
        }
        Err(error) => {
            println!("FAILED {name} ({took:.1}s)\n    {error:#}");
            tally.failed += 1;
            // The next round is not to suffer for it.
            *slot = None;
            true
        }
    }
}

/// One round, in the guest of those before it if it is still good.
fn one(kernel: Kernel, round: &[&Attack], slot: &mut Option<Guest>) -> Result<judge::Round> {
    let guest = match slot {
        Some(guest) => guest,
        None => {
            let mut guest = Guest::boot(&BootOptions::new(kernel))?;
            scene::set(&mut guest).context("preparing a guest")?;
            slot.insert(guest)
        }
    };
    let judged = judge::round(guest, round)?;
    match guest.take_fault() {
        Some(line) => Err(anyhow::anyhow!("the kernel reported `{line}`")),
        None => Ok(judged),
    }
}

impl Tally {
    fn add(&mut self, name: &str, run: impl FnOnce() -> Result<String>) {
        let since = Instant::now();
        let outcome = run();
        let took = since.elapsed().as_secs();
        match outcome {
            Ok(said) => {
                println!("ok {name} ({took} s)\n    {said}");
                self.passed += 1;
            }
            Err(error) => {
                println!("FAILED {name} ({took} s)\n    {error:#}");
                self.failed += 1;
            }
        }
    }
}

/// A guest whose processors have other things to do than to answer.
fn patient(kernel: Kernel) -> Result<Guest> {
    let mut options = BootOptions::new(kernel);
    options.timeout = STORM_BOUND;
    Guest::boot(&options)
}

/// How many start programs and work on files in full.
const LOAD: Load = Load {
    starters: 64,
    workers: 10,
    seconds: 0,
};
/// A ledger only grows, and a daemon reads all of it when it starts.
const ROUNDS_PER_GUEST: usize = 150;
/// How often is said how much is left.
const TOLD_EVERY: usize = 20;
/// For commands while a storm takes the processors.
const STORM_BOUND: Duration = Duration::from_secs(300);
