//! The binary: parse, dispatch, exit code.

use std::process::ExitCode;

use clap::Parser as _;

fn main() -> ExitCode {
    governor::cli::Cli::parse().dispatch()
}
