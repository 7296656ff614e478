//! The command line: what can be said, and which file does it.
//!
//! Promises: every verb reaches the daemon through the control protocol only, or needs none; exit
//! codes are those of [`Failure`]; what others wrote is stripped before it is printed.

mod attest;
mod break_glass;
mod daemon;
mod disarm;
mod doctor;
mod events;
mod explain;
#[cfg(feature = "fuzzing")]
pub(crate) mod fuzzing;
mod generate;
mod hold;
mod journal;
mod measure;
mod observe;
mod output;
mod policy;
mod render;
mod revoke;
mod run;
mod status;
mod survival;
mod unlock;

use std::{path::PathBuf, process::ExitCode};

use clap::{Parser, Subcommand};

use crate::{
    config::Config,
    control::{Failure, client::Client, proto::Grip},
    text,
};

/// An execution gate for autonomous workloads: nothing runs in a governed zone unless the kernel
/// holds a live authorization for exactly that content.
#[derive(Debug, Parser)]
#[command(version, max_term_width = 100, after_help = EXIT_CODES)]
pub struct Cli {
    /// Print JSON
    #[arg(long, global = true)]
    json: bool,
    /// The daemon's socket [default: as configured]
    #[arg(long, global = true, value_name = "PATH")]
    socket: Option<PathBuf>,
    /// The configuration [default: /etc/governor/governor.toml]
    #[arg(long, global = true, value_name = "PATH")]
    config: Option<PathBuf>,
    #[command(subcommand)]
    verb: Verb,
}

const EXIT_CODES: &str = "Exit codes: 0 done, 1 failed, 2 usage, 3 the verdict is deny, untrusted \
                          or stale, 4 daemon unreachable, 5 verification failed";

#[derive(Debug, Subcommand)]
enum Verb {
    /// Run the daemon (what systemd starts)
    Daemon,
    /// Try to execute what must be refused (what the daemon starts)
    #[command(hide = true)]
    Canary,
    /// Make the gate's maps where nobody is charged for them (what the daemon starts)
    #[command(hide = true)]
    Maps {
        /// Where they are pinned
        dir: PathBuf,
    },
    /// Whether governed work may run, and why not
    Status,
    /// Whether this host can enforce, and what to do if not
    Doctor,
    /// Check, sign, show and load policies
    #[command(subcommand)]
    Policy(policy::Verb),
    /// The verdict now on a file, process, event or connection, and why
    Explain(explain::Args),
    /// Measure files, as a set for a policy
    Measure(measure::Args),
    /// Start a command inside a zone
    Run(run::Args),
    /// Let a zone report instead of deny for a while, if its policy allows that
    Observe(observe::Args),
    /// Take authorizations away
    Revoke(revoke::Args),
    /// Take the gate down; the host is not trusted again before it reboots
    Disarm(disarm::Args),
    /// Say that what locked the host was looked at
    Unlock(unlock::Args),
    /// Have denials lifted for a while on a host that lost TPM, policy or ledger
    BreakGlass(break_glass::Args),
    /// Freeze running copies; nothing is revoked, and new copies may start
    Pause(hold::Args),
    /// Let held copies go on, if they are authorized now
    Resume(hold::Args),
    /// Freeze running copies and close their connections
    Quarantine(hold::Args),
    /// Kill running copies; nothing is revoked, and new copies may start
    Kill(hold::Args),
    /// Evidence about this host
    #[command(subcommand)]
    Attest(attest::Verb),
    /// What the gate reported
    Events(events::Args),
    /// Write manual pages and completions (what packaging calls)
    #[command(hide = true)]
    Generate(generate::Args),
}

impl Cli {
    /// Does what was said. The exit code is the contract.
    pub fn dispatch(self) -> ExitCode {
        let Self {
            json,
            socket,
            config,
            verb,
        } = self;
        let globals = Globals {
            json,
            socket,
            config,
        };
        let outcome = match verb {
            Verb::Daemon => daemon::daemon(&globals),
            Verb::Canary => Ok(crate::canary::run()),
            Verb::Maps { dir } => crate::gate::make_maps(&dir)
                .map(|()| ExitCode::SUCCESS)
                .map_err(|error| Failure::Failed(format!("{error:#}"))),
            Verb::Status => status::status(&globals),
            Verb::Doctor => doctor::doctor(&globals),
            Verb::Policy(verb) => policy::policy(&globals, verb),
            Verb::Explain(args) => explain::explain(&globals, args),
            Verb::Measure(args) => measure::measure(&globals, args),
            Verb::Run(args) => run::run(&globals, args),
            Verb::Observe(args) => observe::observe(&globals, args),
            Verb::Revoke(args) => revoke::revoke(&globals, args),
            Verb::Disarm(args) => disarm::disarm(&globals, args),
            Verb::Unlock(args) => unlock::unlock(&globals, args),
            Verb::BreakGlass(args) => break_glass::break_glass(&globals, args),
            Verb::Pause(args) => hold::hold(&globals, Grip::Pause, args),
            Verb::Resume(args) => hold::resume(&globals, args),
            Verb::Quarantine(args) => hold::hold(&globals, Grip::Quarantine, args),
            Verb::Kill(args) => hold::hold(&globals, Grip::Kill, args),
            Verb::Attest(verb) => attest::attest(&globals, verb),
            Verb::Events(args) => events::events(&globals, args),
            Verb::Generate(args) => generate::generate(&args),
        };
        outcome.unwrap_or_else(|failure| {
            output::complain(&format!(
                "governor: {}",
                text::strip_lines(&failure.to_string())
            ));
            failure.into()
        })
    }
}

/// What every verb can be told.
#[derive(Debug)]
struct Globals {
    json: bool,
    socket: Option<PathBuf>,
    config: Option<PathBuf>,
}

type Done = Result<ExitCode, Failure>;

impl Globals {
    fn config(&self) -> Result<Config, Failure> {
        Ok(Config::load(self.config.as_deref())?)
    }

    /// Connects to the daemon and lets `ask` talk to it. One thread, gone when this returns.
    fn ask<T>(
        &self,
        ask: impl AsyncFnOnce(&mut Client) -> Result<T, Failure>,
    ) -> Result<T, Failure> {
        let socket = match &self.socket {
            Some(socket) => socket.clone(),
            None => self.config()?.control.socket,
        };
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(|error| Failure::Failed(format!("starting: {error}")))?;
        runtime.block_on(async { ask(&mut Client::connect(&socket).await?).await })
    }
}

/// A duration as people write it: `30m`, `1h 30m`, `90s`; in whole seconds.
fn seconds(text: &str) -> Result<u64, String> {
    let span = text
        .parse::<jiff::SignedDuration>()
        .ok()
        // Half a second is not none: `observe` would end at once, which is another order.
        .filter(|span| span.subsec_nanos() == 0)
        .and_then(|span| u64::try_from(span.as_secs()).ok());
    span.ok_or_else(|| "not a duration in whole seconds such as `30m` or `1h 30m`".into())
}

/// A SHA-256 digest as 64 hexadecimal digits.
fn digest(text: &str) -> Result<governor_core::digest::Digest, String> {
    governor_core::digest::Digest::from_hex(text)
        .ok_or_else(|| "not a SHA-256 digest of 64 hexadecimal digits".into())
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_grammar_is_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn every_verb_and_argument_is_explained() {
        fn silent(command: &clap::Command, found: &mut Vec<String>) {
            let name = command.get_name();
            if command.get_about().is_none() {
                found.push(name.to_owned());
            }
            let arguments = command
                .get_arguments()
                .filter(|one| one.get_help().is_none());
            found.extend(arguments.map(|one| format!("{name} {}", one.get_id())));
            command.get_subcommands().for_each(|one| silent(one, found));
        }
        let mut found = Vec::new();
        silent(&Cli::command(), &mut found);
        assert_eq!(found, [""; 0]);
    }

    #[test]
    fn the_contract_parses() {
        for line in [
            "daemon",
            "status --json",
            "--socket /tmp/x status",
            "doctor",
            "policy lint policies/agent-host",
            "policy sign policies/agent-host --key /tmp/key",
            "policy verify policies/agent-host --keys /tmp/keys --threshold 2",
            "policy check-survival policies/agent-host",
            "policy show",
            "policy reload policies/agent-host",
            "explain /usr/bin/planner --zone agents",
            "explain 4711",
            "explain e17",
            "explain --connect 10.20.0.1:443 --workload planner --protocol udp",
            "explain --connect [fd00::1]:443 --workload planner",
            "measure /bin/ls /bin/cat",
            "measure --tree /opt/agent --package coreutils",
            "measure --survival",
            "measure --survival --out /tmp/sets --json",
            "run --zone agents -- planner --zone x -v",
            "observe --zone agents --for 30m",
            "revoke --workload planner --reason drill",
            "revoke --zone agents --reason drill",
            "revoke --all --reason drill",
            "unlock --reason looked",
            "disarm --reason moving",
            "break-glass --reason tpm --for 30m --key /root/key",
            "break-glass --reason tpm --for 30m --challenge-out /tmp/challenge",
            "break-glass --reason tpm --for 30m --signature /tmp/challenge.sig",
            "break-glass --end --reason repaired",
            "pause --workload planner --reason drill",
            "resume --workload planner --reason drill --json",
            "quarantine --zone agents --reason drill",
            "kill --all --reason drill",
            "attest baseline",
            "attest baseline --pcrs 0,7",
            "attest now",
            "attest quote --out /tmp/evidence",
            "attest verify /tmp/evidence --reference /tmp/reference.toml",
            "events",
            "events -f --denials",
            "events --follow --json",
        ] {
            assert!(parse(line).is_ok(), "{line}");
        }
        let revoke = format!("revoke --digest {} --reason drill", "ab".repeat(32));
        assert!(parse(&revoke).is_ok());
    }

    #[test]
    fn nonsense_is_a_usage_error() {
        for line in [
            "",
            "enforce",
            "explain",
            "explain /bin/ls --connect 10.0.0.1:1 --workload x",
            "explain --connect 10.0.0.1:1",
            "explain --connect 10.0.0.1 --workload x",
            "explain /bin/ls --workload x",
            "measure",
            "measure --survival /bin/ls",
            "measure --survival --package coreutils",
            "measure /bin/ls --out /tmp/sets",
            "policy check-survival",
            "run --zone agents",
            "run -- ls",
            "observe --zone agents",
            "observe --zone agents --for soon",
            "observe --zone agents --for -1s",
            "revoke --reason drill",
            "revoke --all",
            "unlock",
            "revoke --all --zone agents --reason drill",
            "revoke --digest abc --reason drill",
            "break-glass --reason tpm --key /root/key",
            "break-glass --for 30m --key /root/key",
            "break-glass --reason tpm --for 30m",
            "break-glass --reason tpm --for soon --key /root/key",
            "break-glass --reason tpm --for 30m --key /a --signature /b",
            "break-glass --reason tpm --end --for 30m",
            "break-glass --reason tpm --end --key /root/key",
            "break-glass --end",
            "pause --reason drill",
            "pause --all",
            "resume --all --zone agents --reason drill",
            "quarantine --digest abc --reason drill",
            "kill planner --reason drill",
        ] {
            let error = parse(line).expect_err(line);
            assert_eq!(error.exit_code(), 2, "{line}");
        }
    }

    #[test]
    fn durations_are_seconds() {
        assert_eq!(seconds("30m"), Ok(1800));
        assert_eq!(seconds("1h 30m"), Ok(5400));
        assert_eq!(seconds("0s"), Ok(0));
        for wrong in ["30", "", "-1s", "500ms", "-500ms", "1s 3ms", "1.5s"] {
            assert!(seconds(wrong).is_err(), "{wrong}");
        }
    }

    fn parse(line: &str) -> Result<Cli, clap::Error> {
        Cli::try_parse_from(std::iter::once("governor").chain(line.split_whitespace()))
    }
}
