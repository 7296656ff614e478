//! Developer commands for governor: `cargo xtask VERB`.
//!
//! Every verb sets up what it needs on Debian and Ubuntu, or names exactly what to install, and
//! caches under `target/`. The other crates are driven as processes and never imported, so a
//! broken tree still has working tools. Exit codes: a verb's own, else 1 with the error's chain.

mod attacks;
mod bench;
mod cases;
mod check;
mod compile;
mod dist;
mod ebpf;
mod fuzz;
mod guest;
mod image;
mod install;
mod kit;
mod ledger;
mod paths;
mod process;
mod progress;
mod soak;
mod status;
mod story;
mod test;
mod tools;
mod vm;
mod wire;

use clap::{Parser, Subcommand};
use std::process::ExitCode;

#[derive(Parser)]
#[command(name = "cargo xtask", about = "developer commands for governor")]
struct Cli {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    /// Run the demonstration on a real kernel with a software TPM.
    Run(story::Args),
    /// Run everything that fits in CI: pure tests, then guest tests on both kernels.
    Test(test::Args),
    /// Run what takes hours: every attack after every other, and storms at their full count.
    Soak(soak::Args),
    /// Boot a guest and run one command in it.
    Vm(vm::Args),
    /// Measure how fast trust goes, what stopping takes and what the daemon costs.
    Bench(bench::Args),
    /// Put bytes that nobody chose before every parser of bytes from outside.
    Fuzz(fuzz::Args),
    /// Check format, lints, import direction and file shape.
    Check,
    /// Build the Debian package.
    Dist,
    /// Build the kernel programs, the daemon and the guest probes.
    Build {
        /// With the programs' own logs, which the daemon passes on; for development.
        #[arg(long)]
        bpf_log: bool,
    },
}

fn main() -> ExitCode {
    let outcome = match Cli::parse().verb {
        Verb::Run(args) => story::run(&args),
        Verb::Test(args) => test::run(&args),
        Verb::Soak(args) => soak::run(&args),
        Verb::Vm(args) => vm::run(&args),
        Verb::Bench(args) => bench::run(&args),
        Verb::Fuzz(args) => fuzz::command(&args),
        Verb::Check => check::run(),
        Verb::Dist => dist::build().map(|deb| {
            println!("{}", deb.display());
            ExitCode::SUCCESS
        }),
        Verb::Build { bpf_log } => compile::everything(bpf_log).map(|()| ExitCode::SUCCESS),
    };
    outcome.unwrap_or_else(|error| {
        eprintln!("error: {error:#}");
        ExitCode::FAILURE
    })
}
