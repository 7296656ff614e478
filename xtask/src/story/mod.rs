//! `cargo xtask run`: the demonstration. Each step says what was expected and what was seen, and a
//! difference makes the command fail at its end, so the story is told whole and never glossed over.

mod told;

use crate::{
    guest::{BootOptions, Guest},
    image::Kernel,
    install, tools,
};
use anyhow::Result;
use std::{fmt::Display, process::ExitCode};

pub(crate) use told::tell;

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The kernel to boot.
    #[arg(long, value_enum, default_value = "6.12")]
    kernel: Kernel,
}

pub(crate) fn run(args: &Args) -> Result<ExitCode> {
    tools::need(tools::Group::Guest)?;
    let package = crate::dist::build()?;
    crate::compile::probes()?;
    let mut guest = Guest::boot(&BootOptions::new(args.kernel))?;
    install::package(&mut guest, &package)?;
    println!("{LEGEND}");
    let mut story = Story::new(true);
    tell(&mut guest, &mut story)?;
    Ok(story.end())
}

/// Prints steps with a running number and remembers which of them differed.
#[derive(Debug)]
pub(crate) struct Story {
    aloud: bool,
    steps: usize,
    differences: Vec<String>,
}

impl Story {
    /// One that prints as it goes, or only keeps count.
    pub(crate) fn new(aloud: bool) -> Self {
        Self {
            aloud,
            steps: 0,
            differences: Vec::new(),
        }
    }

    pub(crate) fn chapter(&mut self, title: &str) {
        if self.aloud {
            println!("\n== {title}");
        }
    }

    /// One fact: the expected value beside the one that was observed.
    pub(crate) fn step(&mut self, title: &str, expected: impl Display, observed: impl Display) {
        let (expected, observed) = (expected.to_string(), observed.to_string());
        self.judge(title, &expected, &observed, expected == observed);
    }

    /// For what cannot be named exactly beforehand: the expectation in words, judged by the caller.
    pub(crate) fn judge(&mut self, title: &str, expected: &str, observed: &str, fits: bool) {
        self.steps += 1;
        if self.aloud {
            let verdict = if fits { "ok" } else { "DIFFERS" };
            let number = self.steps;
            let (expected, observed) = (shown(expected), shown(observed));
            println!("{verdict:<7} {number:>2}. {title}: expected {expected}, saw {observed}");
        }
        if !fits {
            self.differences.push(format!(
                "{}. {title}: expected {expected}, saw {observed}",
                self.steps
            ));
        }
    }

    /// What differed, one line each.
    pub(crate) fn differences(&self) -> &[String] {
        &self.differences
    }

    /// The summary; success only if there were steps and none differed.
    pub(crate) fn end(self) -> ExitCode {
        println!("\n{} steps, {} differ", self.steps, self.differences.len());
        for difference in &self.differences {
            println!("  {difference}");
        }
        if self.steps > 0 && self.differences.is_empty() {
            ExitCode::SUCCESS
        } else {
            ExitCode::FAILURE
        }
    }
}

/// One line's worth of a text; the differences at the end show it whole.
fn shown(text: &str) -> String {
    const ENOUGH: usize = 60;
    if text.chars().count() <= ENOUGH {
        return text.to_owned();
    }
    text.chars().take(ENOUGH).chain(['…']).collect()
}

const LEGEND: &str = "\nexit codes of programs in the zone: 0 it ran, 203 the kernel would not execute it \
     (as systemd reports it), 101 it ran and the kernel refused its call (EPERM)";
