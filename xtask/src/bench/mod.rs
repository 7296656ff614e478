//! `cargo xtask bench`: how long trust takes to be gone, how long stopping takes, and what the daemon
//! costs while nothing happens. Every figure is measured in a guest, by a program in it, and printed
//! with what was wanted. A figure over its bound is said to be, and is no failure: only one that could
//! not be measured is. Never part of the tests, because a busy machine proves nothing.

mod alarm;
mod cost;
mod figures;
mod idle;
mod many;
mod scene;
mod trust;
mod withheld;

use crate::{
    compile, dist,
    guest::{BootOptions, Guest},
    image::{self, Kernel, Wanted},
    install,
    kit::Kit,
    paths, tools,
};
use anyhow::{Context as _, Result};
use figures::Row;
use std::{process::ExitCode, time::Instant};

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Only this kernel.
    #[arg(long, value_enum)]
    kernel: Option<Kernel>,
    /// How often each thing is done. Crowds of a thousand tasks take a tenth of it.
    #[arg(long, default_value_t = 200, value_parser = clap::value_parser!(u32).range(5..))]
    rounds: u32,
    /// Only this figure.
    #[arg(long, value_enum)]
    only: Option<Figure>,
    /// Of the costs only work whose name contains this, enforced and not: nothing else beside it.
    #[arg(long)]
    work: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Figure {
    /// From a register that was extended to the first exec that is denied.
    Pcr,
    /// From an appraisal that failed to everything that comes of it.
    Appraisal,
    /// From an alarm in the kernel to the next exec, with the daemon stopped.
    Alarm,
    /// A thousand tasks, frozen and killed, beside writing the files by hand.
    Many,
    /// What a TPM that does not answer delays.
    Tpm,
    /// What the daemon takes while nothing happens.
    Idle,
    /// What starting programs, opening files and forking takes, beside the same without the gate.
    Cost,
    /// What the very first exec of a large file takes.
    First,
}

impl Figure {
    const ALL: [Self; 8] = [
        Self::Pcr,
        Self::Appraisal,
        Self::Alarm,
        Self::Many,
        Self::Tpm,
        Self::Idle,
        Self::Cost,
        Self::First,
    ];

    const fn name(self) -> &'static str {
        match self {
            Self::Pcr => "pcr",
            Self::Appraisal => "appraisal",
            Self::Alarm => "alarm",
            Self::Many => "many",
            Self::Tpm => "tpm",
            Self::Idle => "idle",
            Self::Cost => "cost",
            Self::First => "first",
        }
    }

    /// Its lines of the table. Each figure has guests of its own, so that none inherits another's
    /// ledger or leftovers.
    fn measure(self, kernel: Kernel, args: &Args) -> Result<Vec<String>> {
        let rounds = args.rounds;
        let alone = |measure: &dyn Fn(&mut Guest, &Kit) -> Result<Vec<Row>>| {
            let (mut guest, kit) = governed(kernel, false)?;
            Ok(lines(&measure(&mut guest, &kit)?))
        };
        match self {
            Self::Pcr => alone(&|guest, kit| trust::register(guest, kit, rounds)),
            Self::Appraisal => alone(&|guest, kit| trust::appraisal(guest, kit, rounds)),
            Self::Alarm => alone(&|guest, kit| alarm::measure(guest, kit, rounds)),
            Self::Many => alone(&|guest, kit| many::measure(guest, kit, (rounds / 10).max(5))),
            Self::Tpm => alone(&|guest, kit| withheld::measure(guest, kit, rounds)),
            Self::Idle => {
                let mut all = alone(&idle::measure)?;
                let (mut guest, kit) = governed(kernel, true)?;
                all.extend(lines(&idle::counted(&mut guest, &kit)?));
                Ok(all)
            }
            Self::Cost => cost::measure(kernel, rounds, args.work.as_deref()),
            Self::First => cost::first::measure(kernel),
        }
    }
}

pub(crate) fn run(args: &Args) -> Result<ExitCode> {
    tools::need(tools::Group::Guest)?;
    dist::build()?;
    compile::probes()?;
    let kernels = args
        .kernel
        .map_or_else(|| Kernel::ALL.to_vec(), |kernel| vec![kernel]);
    let mut failed = 0;
    for kernel in kernels {
        image::prepare(&Wanted::Debian(kernel))?;
        failed += on_kernel(kernel, args);
    }
    Ok(if failed == 0 {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

/// How many figures could not be measured. One kernel after the other: two guests would measure each
/// other.
fn on_kernel(kernel: Kernel, args: &Args) -> usize {
    println!("{}", figures::heading(kernel.name()));
    let mut failed = 0;
    let wanted = |figure: &Figure| args.only.is_none_or(|only| only == *figure);
    for figure in Figure::ALL.into_iter().filter(wanted) {
        let since = Instant::now();
        match figure.measure(kernel, args) {
            Ok(lines) => {
                for line in lines {
                    println!("{line}");
                }
            }
            Err(error) => {
                println!("not measured: {}: {error:#}", figure.name());
                failed += 1;
            }
        }
        let (name, took) = (figure.name(), since.elapsed().as_secs());
        eprintln!("... {name} on {} took {took} s", kernel.name());
    }
    failed
}

fn lines(rows: &[Row]) -> Vec<String> {
    rows.iter().map(Row::line).collect()
}

/// A guest with the package installed and the service running, and what its policies are made with.
fn governed(kernel: Kernel, counted: bool) -> Result<(Guest, Kit)> {
    let mut guest = Guest::boot(&BootOptions {
        // An emulator that takes turns between processors does so ten times a second: with two of
        // them that is all there would be to see.
        processors: 1,
        counted,
        ..BootOptions::new(kernel)
    })?;
    install::package(&mut guest, &paths::target().join("dist/governor.deb"))
        .context("installing the package")?;
    let kit = Kit::new(&mut guest)?;
    Ok((guest, kit))
}
