//! Root against the gate: every reach for it ends refused, and where it is an alarm the lease is void.

mod around;
mod before;
mod devices;
mod gate;
mod listed;
mod mounts;
mod process;

use super::{Case, Suite, gate as zone};
use crate::{
    compile,
    guest::{BootOptions, Guest},
    kit::{AGENT, AGENTS_SLICE, Spec},
    status,
};
use anyhow::{Context as _, Result, ensure};

pub(crate) const SUITE: Suite = Suite {
    name: "guard",
    options: BootOptions::new,
    kernels: super::Kernels::Every,
    prepare,
    cases: &[
        Case {
            name: "the_canary_tells_when_programs_are_switched_off",
            run: gate::canary,
        },
        Case {
            name: "the_kernel_tells_when_its_canary_executes",
            run: before::canary_executes,
        },
        Case {
            name: "doctor_says_where_the_daemons_files_must_be",
            run: own_files,
        },
        Case {
            name: "what_was_taken_before_it_was_armed_is_of_no_use",
            run: before::of_no_use,
        },
        Case {
            name: "nobody_else_gets_its_maps_programs_and_links",
            run: gate::objects,
        },
        Case {
            name: "pins_come_and_go_by_the_daemon_alone",
            run: gate::pins,
        },
        Case {
            name: "no_pin_is_put_in_or_moved_out",
            run: gate::moved,
        },
        Case {
            name: "no_program_of_any_kind_rides_beside_its_own",
            run: gate::kinds,
        },
        Case {
            name: "nothing_is_mounted_over_or_off_the_pins",
            run: mounts::over_and_off,
        },
        Case {
            name: "nor_by_way_of_copies_and_other_namespaces",
            run: mounts::propagated,
        },
        Case {
            name: "the_directory_below_the_way_is_not_removed_elsewhere",
            run: mounts::directory,
        },
        Case {
            name: "mounts_that_are_not_the_gates_are_nobodys_business",
            run: mounts::others,
        },
        Case {
            name: "the_first_process_mounts_nothing_over_it_either",
            run: mounts::first_process,
        },
        Case {
            name: "what_an_ordinary_user_asks_for_alarms_nobody",
            run: gate::ordinary,
        },
        Case {
            name: "tracing_programs_stay_switched_on",
            run: gate::settings,
        },
        Case {
            name: "the_daemon_is_not_traced_signalled_or_limited",
            run: process::touched,
        },
        Case {
            name: "nor_is_what_it_is_just_making",
            run: process::offspring,
        },
        Case {
            name: "a_restarted_daemon_is_itself_and_others_are_not",
            run: process::restarted,
        },
        Case {
            name: "a_first_process_with_something_in_it_may_no_more_than_others",
            run: process::first_process,
        },
        Case {
            name: "two_daemons_never_meet_at_one_ledger",
            run: process::two_daemons,
        },
        Case {
            name: "memory_that_it_makes_executable_is_something_in_it",
            run: process::first_process_without_a_file,
        },
        Case {
            name: "a_library_that_is_replaced_keeps_nobody_from_loading",
            run: process::library_replaced,
        },
        Case {
            name: "a_policy_cannot_leave_the_daemon_out",
            run: process::left_out,
        },
        Case {
            name: "editing_its_configuration_changes_nothing",
            run: process::configured,
        },
        Case {
            name: "nobody_freezes_or_removes_behind_its_back",
            run: around::cgroups,
        },
        Case {
            name: "modules_and_kernels_are_judged_by_content",
            run: around::kernel,
        },
        Case {
            name: "modules_and_kernels_that_policy_lists_are_loaded",
            run: listed::loaded,
        },
        Case {
            name: "no_module_is_fetched_for_governed_work",
            run: around::fetched,
        },
        Case {
            name: "devices_below_mounted_file_systems_are_not_written",
            run: devices::mounted,
        },
        Case {
            name: "nor_is_any_device_of_a_btrfs",
            run: devices::btrfs,
        },
        Case {
            name: "nor_are_those_that_are_mounted_elsewhere_only",
            run: devices::elsewhere,
        },
        Case {
            name: "nor_is_what_swap_lies_on",
            run: devices::swapped,
        },
        Case {
            name: "nor_is_the_disk_of_a_partition",
            run: devices::part_of_a_disk,
        },
        Case {
            name: "nor_is_what_other_devices_lie_on",
            run: devices::below_others,
        },
        Case {
            name: "a_governed_root_is_refused_and_alarms_nobody",
            run: around::governed_root,
        },
        Case {
            name: "a_first_process_that_was_moved_costs_trust",
            run: process::first_process_moved,
        },
        Case {
            name: "taking_the_gate_down_costs_trust_until_a_reboot",
            run: gate::disarm,
        },
    ],
};

/// The attacker.
const ROOT: &str = "/root/probe_root";
/// Who meets others when they open files.
const WRITER: &str = "/root/probe_writer";

fn prepare(guest: &mut Guest) -> Result<()> {
    zone::prepare(guest)?;
    // Once armed it takes no module that is not listed.
    guest
        .run(&[
            "modprobe", "-a", "loop", "overlay", "btrfs", "xfs", "dm_mod", "raid1",
        ])?
        .ok()?;
    guest.put_file(&compile::probe("probe_root")?, ROOT)?;
    guest.put_file(&compile::probe("probe_writer")?, WRITER)?;
    guest.run(&["chmod", "755", ROOT, WRITER])?.ok().map(drop)
}

fn own_files(guest: &mut Guest) -> Result<()> {
    let at = "/run/overlaid";
    guest
        .sh(&format!(
            "mkdir -p {at} /run/empty; \
             mount -t overlay -o lowerdir=/usr/bin:/run/empty overlay {at}"
        ))?
        .ok()?;
    let there = guest.run(&[&format!("{at}/governor"), "doctor"]);
    guest.run(&["umount", at])?.ok()?;
    let (there, here) = (there?, guest.run(&["governor", "doctor"])?.ok()?);
    let line = |said: &str, state: &str| {
        let mut lines = said.lines();
        lines.any(|line| line.starts_with(&format!("{state}  own-files: ")))
    };
    ensure!(line(&here.text(), "ok     "), "{}", here.text());
    ensure!(
        there.code == 1 && line(&there.text(), "MISSING"),
        "from an overlay: {}\n{}",
        there.code,
        there.text()
    );
    Ok(())
}

/// Trusted, armed, and with a policy of this case's own.
fn armed(guest: &mut Guest) -> Result<()> {
    zone::load(guest, &Spec::default())?;
    let said = status::of(guest)?;
    ensure!(
        !said.missing().contains(&"guard".to_owned()),
        "the guard is not armed: {:?}",
        said.missing()
    );
    Ok(())
}

/// What a refused reach costs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Costs {
    Nothing,
    Trust,
}

/// Does something in a shell that must be refused.
fn refused(guest: &mut Guest, what: &str, costs: Costs) -> Result<()> {
    let before = trips(guest)?;
    let output = guest.sh(what)?;
    let said = format!("{} {}", output.text(), output.errors());
    ensure!(output.code != 0, "`{what}` was done: {said}");
    ensure!(
        ["not permitted", "denied", "must be superuser"]
            .iter()
            .any(|word| said.contains(word)),
        "`{what}` failed for another reason: {} {said}",
        output.code
    );
    let after = trips(guest)?;
    match costs {
        Costs::Nothing => ensure!(before == after, "`{what}` raised the alarm"),
        Costs::Trust => {
            ensure!(after > before, "`{what}` raised no alarm");
            locked(guest).with_context(|| format!("after `{what}`"))?;
        }
    }
    works(guest)
}

/// Does each of these; whatever was not refused as it must be is told together.
fn each_refused(guest: &mut Guest, what: &[String], costs: Costs) -> Result<()> {
    let failed = what
        .iter()
        .filter_map(|one| refused(guest, one, costs).err());
    let failed: Vec<String> = failed.map(|error| format!("{error:#}")).collect();
    ensure!(failed.is_empty(), "{}", failed.join("; "));
    Ok(())
}

/// No quote brings trust back, and what needs it is denied.
fn locked(guest: &mut Guest) -> Result<()> {
    let code = hello(guest)?;
    ensure!(code == zone::NOT_EXECUTED, "attested work goes on: {code}");
    // The daemon hears of it when it looks next; asking for a quote waits until then.
    let asked = guest.run(&["governor", "attest", "now"])?.code;
    let said = status::of(guest)?;
    ensure!(
        asked == 3 && said.trust() == "locked" && said.reasons().contains("tampered:"),
        "asked {asked}: {} {}",
        said.trust(),
        said.reasons()
    );
    Ok(())
}

/// The gate still refuses what it refused, and the daemon answers.
fn works(guest: &mut Guest) -> Result<()> {
    let code = crate::kit::in_zone(guest, AGENTS_SLICE, &["/usr/bin/id"])?.code;
    ensure!(code == zone::NOT_EXECUTED, "an unlisted program: {code}");
    Ok(())
}

fn trips(guest: &mut Guest) -> Result<u64> {
    status::of(guest)?
        .text(&["epochs", "trips"])
        .parse()
        .context("reading the alarm counter")
}

/// The daemon's process.
fn daemon(guest: &mut Guest) -> Result<String> {
    let shown = guest
        .run(&["systemctl", "show", "governor", "--value", "-p", "MainPID"])?
        .ok()?;
    Ok(shown.text())
}

fn hello(guest: &mut Guest) -> Result<i32> {
    Ok(crate::kit::in_zone(guest, AGENTS_SLICE, &[AGENT, "hello"])?.code)
}
