//! The daemon ended by SIGKILL between any two effects of real decisions, and what else may end it:
//! stopped, out of memory, replaced, its slices made again, all of it while work is being started. Starts
//! are ended too, also those that attach the gate and that take one of another layout over; and so is taking
//! it down, after which there is a gate again.
//!
//! Promises of each round: what is denied stays denied while no daemon is there; what was taken away is
//! away from the moment the kernel was told; another daemon adopts, with the same ledger, unlocked; no
//! lower serial is taken. A part of the points is walked in CI, all of them with `--full`.

/// The workload that decisions are about, to which more lines can be added.
macro_rules! victim {
    () => {
        r#"
[workload.victim]
zone = "agents"
exec = ["victim"]
libraries = ["os-libraries"]
started_by = ["operator"]
user = ["root"]
"#
    };
}

mod decisions;
mod disarm;
mod glass;
mod gone;
mod load;
pub(crate) mod package;
mod starting;
mod taken;
mod thawed;
mod unreached;
mod untold;
mod unwritable;
mod upgrade;
mod walk;

use super::{Case, Suite, break_glass, gate as zone};
use crate::{
    guest::{BootOptions, Guest},
    install,
    kit::{AGENT, AGENTS_SLICE, Kit, Spec},
    status,
};
use anyhow::{Context as _, Result, ensure};
use std::{
    rc::Rc,
    sync::atomic::{AtomicBool, Ordering},
};

/// Whether everything is walked.
pub(crate) static FULL: AtomicBool = AtomicBool::new(false);

pub(crate) const SUITE: Suite = Suite {
    name: "crash",
    options: BootOptions::new,
    // What depends on the kernel: that pins, links and storage of tasks outlive who made them. An upgrade
    // to another layout does too, and takes longer than this.
    kernels: super::Kernels::Newest(&[
        "a_start_that_finishes_a_revocation",
        "reload_that_removes",
        "renewing_a_lease",
        "a_stopped_daemon_loses_the_lease_and_is_replaced",
        "out_of_memory_is_one_more_kill",
        "reloads_under_load",
        "an_upgrade_under_load",
        "slices_made_again_under_load",
    ]),
    prepare,
    cases: &[
        Case {
            name: "a_first_start",
            run: starting::first,
        },
        Case {
            name: "reload_that_adds",
            run: decisions::adds,
        },
        Case {
            name: "reload_that_removes",
            run: decisions::removes,
        },
        Case {
            name: "reload_while_work_runs",
            run: decisions::raises_serial,
        },
        Case {
            name: "reload_that_drops_a_zone_and_a_workload",
            run: gone::drops,
        },
        Case {
            name: "revoke_a_workload",
            run: decisions::revokes_workload,
        },
        Case {
            name: "revoke_everything",
            run: decisions::revokes_all,
        },
        Case {
            name: "a_register_differs",
            run: decisions::register_differs,
        },
        Case {
            name: "renewing_a_lease",
            run: decisions::renews,
        },
        Case {
            name: "trust_is_lost",
            run: taken::trust_is_lost,
        },
        Case {
            name: "an_operator_unlocks",
            run: taken::unlocks,
        },
        Case {
            name: "running_work_is_paused_resumed_and_stopped_for_a_risk",
            run: taken::running_work_is_reached,
        },
        Case {
            name: "what_goes_on_when_trust_returns",
            run: thawed::goes_on,
        },
        Case {
            name: "who_was_not_reached_is_stopped_in_the_end",
            run: unreached::until_reached,
        },
        Case {
            name: "observing_begins_and_ends",
            run: decisions::observes,
        },
        Case {
            name: "a_start_that_finishes_a_revocation",
            run: starting::adopting,
        },
        Case {
            name: "verdicts_that_were_taken_and_not_written_down_are_counted",
            run: untold::counted,
        },
        Case {
            name: "taking_the_gate_down",
            run: disarm::ended,
        },
        Case {
            name: "break_glass_without_a_state_directory",
            run: unwritable::starts,
        },
        Case {
            name: "break_glass_begins_and_ends",
            run: glass::begins_and_ends,
        },
        Case {
            name: "a_stopped_daemon_loses_the_lease_and_is_replaced",
            run: load::stopped,
        },
        Case {
            name: "out_of_memory_is_one_more_kill",
            run: load::out_of_memory,
        },
        Case {
            name: "reloads_under_load",
            run: load::reloads,
        },
        Case {
            name: "an_upgrade_under_load",
            run: load::upgrades,
        },
        Case {
            name: "slices_made_again_under_load",
            run: load::slices,
        },
        Case {
            name: "another_layout_under_load",
            run: upgrade::to_another_layout,
        },
        Case {
            name: "the_kernel_reported_no_fault",
            run: zone::no_fault,
        },
    ],
};

fn prepare(guest: &mut Guest) -> Result<()> {
    install::package(guest, &package::path())?;
    let kit = Kit::new(guest)?;
    // Keys count that are there when the guard is armed.
    break_glass::make_key(guest)?;
    guest.put(PROBE, 0o755, include_bytes!("probe.sh"))?;
    guest.put(STORM, 0o755, include_bytes!("storm.sh"))?;
    guest.keep(Rc::new(kit));
    Ok(())
}

fn full() -> bool {
    FULL.load(Ordering::Relaxed)
}

/// Tries programs in a zone, as an operator's shell that went into it.
const PROBE: &str = "/root/probe";
/// Does that in a loop.
const STORM: &str = "/root/storm";
const DROPIN: &str = "/run/systemd/system/governor.service.d";

/// Nobody starts a daemon that was killed but the case itself.
const HELD_BACK: &str = "RestartSec=1h";

/// As if no case had run before: no plan, no settings of another case, a daemon that answers.
fn calm(guest: &mut Guest) -> Result<Rc<Kit>> {
    guest
        .sh(&format!(
            "rm -f {} /run/crash-storm; systemctl reset-failed",
            walk::PLAN
        ))?
        .ok()?;
    settings(guest, HELD_BACK)?;
    guest
        .sh(
            "{ systemctl is-active --quiet governor || systemctl restart governor; } && \
             { governor break-glass --end --reason 'another case' 2>/dev/null || true; }",
        )?
        .ok()
        .context("bringing the daemon back after another case")?;
    guest.kept::<Kit>()
}

/// Settings of the service, beside those of its unit; telling the service manager takes a while.
fn settings(guest: &mut Guest, lines: &str) -> Result<()> {
    let script = format!(
        "mkdir -p {DROPIN}; printf '[Service]\\n%s\\n' '{lines}' > {DROPIN}/new; \
         if cmp -s {DROPIN}/new {DROPIN}/crash.conf; then rm {DROPIN}/new; \
         else mv {DROPIN}/new {DROPIN}/crash.conf && systemctl daemon-reload; fi"
    );
    guest
        .sh(&script)?
        .ok()
        .context("setting up the service")
        .map(drop)
}

/// Which of these programs the kernel starts in the zone's slice, in their order.
fn allowed(guest: &mut Guest, slice: &str, programs: &[&str]) -> Result<Vec<bool>> {
    let mut argv = vec![PROBE, slice];
    argv.extend(programs);
    let said = guest.run(&argv)?.ok()?.text();
    let verdicts: Vec<bool> = said.lines().map(|line| line == "allowed").collect();
    ensure!(
        verdicts.len() == programs.len() && said.lines().all(|l| l == "allowed" || l == "denied"),
        "trying {programs:?}: {said}"
    );
    Ok(verdicts)
}

/// Expects one verdict.
fn expect(guest: &mut Guest, program: &str, expected: bool, when: &str) -> Result<()> {
    let seen = allowed(guest, AGENTS_SLICE, &[program])?;
    ensure!(
        seen == [expected],
        "`{program}` {when}: expected it to be {}",
        if expected { "allowed" } else { "denied" }
    );
    Ok(())
}
