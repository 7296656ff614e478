//! Trust is lost at once, and each reason names what clears it: the real thing done to a real host.
//!
//! Each case takes the host's trust in one way, sees that attested work is denied and that status
//! names the reason, and gets trust back in the one way that is named.

mod boot;
mod clocks;
mod kept;
mod tpm;
mod work;

use super::{Case, Suite};
use crate::{
    guest::{BootOptions, Guest},
    kit::{AGENT, AGENTS_SLICE, Kit, Spec, TOOLS_SLICE, in_zone},
    status,
};
use anyhow::{Context as _, Result, ensure};
use std::rc::Rc;

pub(crate) const SUITE: Suite = Suite {
    name: "trust",
    options: BootOptions::new,
    kernels: super::Kernels::EveryBut(&[
        "an_alarm_that_no_record_could_be_written_of_locks_over_a_reboot",
        "a_state_directory_that_is_gone_whole_starts_clean",
        "a_boot_with_another_command_line_is_not_trusted",
    ]),
    prepare: super::daemon::prepare,
    cases: &[
        Case {
            name: "an_alarm_locks_until_an_operator_looks",
            run: kept::alarm,
        },
        Case {
            name: "an_alarm_that_no_record_could_be_written_of_locks_over_a_reboot",
            run: kept::alarm_on_a_full_disk,
        },
        Case {
            name: "a_ledger_put_back_between_two_daemons_locks",
            run: kept::put_back,
        },
        Case {
            name: "a_state_directory_that_is_gone_whole_starts_clean",
            run: kept::never_armed,
        },
        Case {
            name: "a_workload_that_probes_is_stopped_and_the_host_is_trusted",
            run: work::risk,
        },
        Case {
            name: "a_full_ring_changes_no_verdict_and_costs_what_policy_says",
            run: work::ring_full,
        },
        Case {
            name: "a_ring_that_was_full_while_no_daemon_ran_costs_the_same",
            run: work::ring_full_without_a_daemon,
        },
        Case {
            name: "a_policy_ends_while_it_is_in_force",
            run: clocks::policy_ends,
        },
        Case {
            name: "a_wall_clock_set_forward_ends_what_is_over",
            run: clocks::set_forward,
        },
        Case {
            name: "a_wall_clock_set_back_locks",
            run: clocks::set_back,
        },
        Case {
            name: "a_tpm_that_hangs_takes_the_lease_with_it_and_gives_it_back",
            run: work::hung_tpm,
        },
        Case {
            name: "a_tpm_that_goes_away_takes_the_lease_with_it",
            run: work::no_tpm,
        },
        Case {
            name: "a_ledger_removed_under_the_daemon_locks_over_restart_and_reboot",
            run: kept::removed,
        },
        Case {
            name: "a_ledger_put_back_over_a_reboot_locks",
            run: kept::put_back_over_a_reboot,
        },
        Case {
            name: "a_tpm_that_was_reset_and_told_good_measurements_locks",
            run: tpm::reset,
        },
        Case {
            name: "a_boot_with_another_command_line_is_not_trusted",
            run: boot::another_command_line,
        },
        Case {
            name: "sleep_ends_the_lease_and_a_quote_brings_it_back",
            run: clocks::sleep,
        },
    ],
};

/// A policy of this case's own, and trust.
fn loaded(guest: &mut Guest, spec: &Spec) -> Result<Rc<Kit>> {
    let kit = guest.kept::<Kit>()?;
    // What a case that failed before left behind; mostly there is nothing, which is refused.
    guest.run(&["governor", "unlock", "--reason", "another case"])?;
    kit.load(guest, spec)?;
    ensure!(
        hello(guest)? == 0,
        "the workload does not run to begin with"
    );
    Ok(kit)
}

fn hello(guest: &mut Guest) -> Result<i32> {
    Ok(in_zone(guest, AGENTS_SLICE, &[AGENT, "hello"])?.code)
}

/// Waits until status names a reason.
fn reason(guest: &mut Guest, code: &str) -> Result<()> {
    let shown = format!("governor status --json | grep -q '\"code\": \"{code}'");
    guest
        .wait_until(&shown)
        .with_context(|| format!("waiting for the reason `{code}`"))
}

/// The host is locked for this reason, says how to clear it, and denies; a quote changes nothing.
fn locked(guest: &mut Guest, code: &str) -> Result<()> {
    reason(guest, code)?;
    let asked = guest.run(&["governor", "attest", "now"])?.code;
    let said = status::of(guest)?;
    ensure!(
        said.trust() == "locked",
        "trust is {}: {}",
        said.trust(),
        said.reasons()
    );
    ensure!(
        said.remedies().contains("governor unlock"),
        "it does not say how: {}",
        said.remedies()
    );
    ensure!(asked != 0, "a quote was enough");
    let denied = hello(guest)?;
    ensure!(denied == 203, "attested work on a locked host: {denied}");
    Ok(())
}

/// Locked now, after a restart, and until an operator unlocks.
fn locked_over_a_restart(guest: &mut Guest, code: &str) -> Result<()> {
    locked(guest, code)?;
    guest.run(&["systemctl", "restart", "governor"])?.ok()?;
    locked(guest, code).context("after a restart")
}

fn unlock(guest: &mut Guest) -> Result<()> {
    guest
        .run(&["governor", "unlock", "--reason", "drill"])?
        .ok()
        .context("unlocking")
        .map(drop)
}

/// Unlocked, and trusted under a policy that is loaded by hand.
fn unlocked(guest: &mut Guest, kit: &Kit) -> Result<()> {
    unlock(guest)?;
    kit.load(guest, &Spec::default())?;
    let said = status::of(guest)?;
    ensure!(said.reasons().is_empty(), "{}", said.reasons());
    ensure!(hello(guest)? == 0, "the workload does not run again");
    let again = guest.run(&["governor", "unlock", "--reason", "drill"])?;
    ensure!(again.code != 0, "there was something left to unlock");
    Ok(())
}
