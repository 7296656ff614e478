//! What the kernel programs refuse, asked by programs that try it. Each case loads a policy of its
//! own, so each can run alone.

mod ahead;
mod code;
mod held;
mod kept;
mod memory;
mod narrow;
mod network;
mod opened;
mod opening;
mod peers;
mod reached;
mod revoking;
mod scripts;
mod tried;
mod ways;
mod written;
mod zones;

use super::{Case, Suite};
use crate::{
    compile,
    guest::{BootOptions, Guest},
    install,
    kit::{AGENT, AGENTS_SLICE, ALLOWED, Kit, Spec, TOOLS_SLICE, USER, in_zone, unlock},
    paths, status,
};
use anyhow::{Context as _, Result, ensure};
use std::{rc::Rc, time::Duration};
pub(super) use tried::counted;
pub(super) use zones::moved_into;

pub(crate) const SUITE: Suite = Suite {
    name: "gate",
    // As hosts are to be booted; the other suites do without.
    options: |kernel| BootOptions {
        append: "lockdown=integrity".into(),
        ..BootOptions::new(kernel)
    },
    kernels: super::Kernels::Every,
    prepare: locked_down,
    cases: &[
        Case {
            name: "memory_without_a_file_does_not_execute",
            run: memory::of_no_file,
        },
        Case {
            name: "nobody_fills_pages_that_were_measured",
            run: memory::filled,
        },
        Case {
            name: "what_is_mapped_does_not_become_code",
            run: memory::of_files,
        },
        Case {
            name: "only_listed_files_are_mapped_executable",
            run: code::only_listed_files_are_mapped,
        },
        Case {
            name: "a_file_is_read_once",
            run: kept::read_once,
        },
        Case {
            name: "the_first_exec_of_a_listed_file_reads_nothing",
            run: ahead::first_exec_reads_nothing,
        },
        Case {
            name: "listed_files_are_measured_again_when_trust_was_lost",
            run: ahead::it_is_done_again_when_trust_was_lost,
        },
        Case {
            name: "changed_files_are_measured_again",
            run: kept::changes_are_noticed,
        },
        Case {
            name: "what_others_may_write_is_read_each_time",
            run: kept::what_others_may_write_is_read_each_time,
        },
        Case {
            name: "what_is_too_long_is_not_read",
            run: kept::what_is_too_long_is_not_read,
        },
        Case {
            name: "overlays_are_read_each_time",
            run: kept::overlays_are_read_each_time,
        },
        Case {
            name: "what_may_change_below_its_file_system_is_read_each_time",
            run: written::below,
        },
        Case {
            name: "content_that_is_not_written_is_noticed",
            run: written::taken,
        },
        Case {
            name: "no_race_with_a_writer_is_won",
            run: kept::no_race_is_won,
        },
        Case {
            name: "no_race_for_a_mapping_is_won",
            run: written::no_mapping_is_raced,
        },
        Case {
            name: "what_the_kernel_cannot_read_is_not_mapped",
            run: written::direct,
        },
        Case {
            name: "a_digest_that_a_file_names_is_not_believed",
            run: written::marked,
        },
        Case {
            name: "what_runs_is_not_written",
            run: held::libraries,
        },
        Case {
            name: "a_hold_outlasts_whatever_is_said",
            run: held::outlasting,
        },
        Case {
            name: "what_runs_is_not_made_to_keep_quotas",
            run: held::quotas,
        },
        Case {
            name: "a_script_stays_what_was_checked",
            run: held::scripts,
        },
        Case {
            name: "an_interpreter_runs_listed_scripts_only",
            run: scripts::interpreters,
        },
        Case {
            name: "an_interpreter_opens_listed_text_only",
            run: opening::scripts,
        },
        Case {
            name: "only_listed_files_are_opened",
            run: opening::listed,
        },
        Case {
            name: "what_was_forgotten_is_opened_when_it_is_known_again",
            run: opening::forgotten,
        },
        Case {
            name: "what_was_opened_is_not_changed_in_a_race",
            run: opening::no_race_is_won,
        },
        Case {
            name: "an_observed_zone_holds_no_file",
            run: held::observed,
        },
        Case {
            name: "what_runs_is_not_written_where_the_kernel_would_let_it",
            run: held::pre_content,
        },
        Case {
            name: "work_is_not_traced",
            run: ways::tracing,
        },
        Case {
            name: "code_is_not_written_through_its_memory_file",
            run: ways::own_memory,
        },
        Case {
            name: "files_without_a_name_do_not_execute",
            run: memory::of_files_without_a_name,
        },
        Case {
            name: "content_decides_however_it_is_reached",
            run: reached::by_any_way,
        },
        Case {
            name: "rings_open_nothing_else",
            run: reached::by_rings,
        },
        Case {
            name: "what_is_mapped_anew_is_measured",
            run: ways::remapped,
        },
        Case {
            name: "file_systems_of_its_own_do_not_execute",
            run: ways::own_file_systems,
        },
        Case {
            name: "file_systems_in_user_space_do_not_execute",
            run: ways::user_space_file_systems,
        },
        Case {
            name: "loaders_load_only_what_is_listed",
            run: ways::loaders,
        },
        Case {
            name: "other_formats_lead_nowhere",
            run: ways::other_formats,
        },
        Case {
            name: "programs_of_32_bits_are_judged_like_any",
            run: ways::of_32_bits,
        },
        Case {
            name: "children_keep_the_label",
            run: code::children_keep_the_label,
        },
        Case {
            name: "a_workload_starts_only_what_may_be_started",
            run: code::started_by,
        },
        Case {
            name: "only_listed_users_run_it",
            run: code::users,
        },
        Case {
            name: "addresses_in_every_form",
            run: network::addresses,
        },
        Case {
            name: "sockets_of_other_kinds",
            run: network::sockets,
        },
        Case {
            name: "nobody_outside_is_asked_to_execute",
            run: peers::nobody_outside_is_asked,
        },
        Case {
            name: "who_is_named_is_reached",
            run: peers::who_is_named_is_reached,
        },
        Case {
            name: "a_slice_made_again_is_governed_at_once",
            run: zones::slice_made_again,
        },
        Case {
            name: "an_unknown_slice_below_the_root_denies",
            run: zones::unknown_slice,
        },
        Case {
            name: "policy_class_work_needs_no_quote",
            run: zones::policy_class,
        },
        Case {
            name: "run_starts_a_leaf_of_its_own",
            run: zones::run_verb,
        },
        Case {
            name: "a_revoked_workload_is_stopped_and_stays_so",
            run: revoking::revoked,
        },
        Case {
            name: "a_revocation_amid_an_exec_is_seen",
            run: revoking::amid_an_exec,
        },
        Case {
            name: "running_work_is_judged_by_what_changed",
            run: revoking::while_it_runs,
        },
        Case {
            name: "a_table_of_many_rows_is_whole",
            run: revoking::many,
        },
        Case {
            name: "frozen_when_policy_says_freeze",
            run: revoking::frozen,
        },
        Case {
            name: "the_alarm_counter_voids_the_lease",
            run: revoking::trips,
        },
        Case {
            name: "what_ran_while_observed_is_nobody",
            run: zones::observed_leftovers,
        },
        Case {
            name: "observing_ends_without_a_daemon",
            run: zones::observing_ends_without_a_daemon,
        },
        Case {
            name: "what_was_moved_in_is_told",
            run: zones::moved_in,
        },
        Case {
            name: "zones_stay_below_the_root",
            run: zones::zones_stay_below_the_root,
        },
        Case {
            name: "the_example_policy_does_what_it_says",
            run: zones::example,
        },
        Case {
            name: "status_says_what_the_kernel_decides",
            run: zones::status_says_what_the_kernel_decides,
        },
        Case {
            name: "explain_agrees_with_the_kernel",
            run: explain,
        },
        Case {
            name: "the_kernel_reported_no_fault",
            run: no_fault,
        },
    ],
};

fn locked_down(guest: &mut Guest) -> Result<()> {
    let mode = guest.get("/sys/kernel/security/lockdown")?;
    ensure!(
        String::from_utf8_lossy(&mode).contains("[integrity]"),
        "the kernel is not locked down"
    );
    // An armed guard refuses modules that no policy lists, and the kernel takes no word of a digest that it
    // could not make.
    guest
        .sh(
            "modprobe -a fuse overlay binfmt_misc loop nbd quota_v1 btrfs xfs sha512_generic && \
             modprobe brd rd_nr=4 rd_size=131072",
        )?
        .ok()?;
    for (probe, path) in [
        ("probe_writer", kept::WRITER),
        ("probe_bypass", ways::PROBE),
        ("probe_code", memory::CODE),
        ("probe_reader", opening::READER),
        ("probe_mapper", written::MAPPER),
    ] {
        guest.put_file(&compile::probe(probe)?, path)?;
        guest.run(&["chmod", "755", path])?.ok()?;
    }
    prepare(guest)?;
    // Before a policy arms the guard: who may break the glass is settled by then.
    super::break_glass::make_key(guest)?;
    // Where the workload's user may write.
    guest
        .sh(&format!(
            "mkdir /opt/agent/own && chown {USER} /opt/agent/own"
        ))?
        .ok()
        .map(drop)
}

pub(super) fn prepare(guest: &mut Guest) -> Result<()> {
    install::package(guest, &paths::target().join("dist/governor.deb"))?;
    let kit = Kit::new(guest)?;
    guest.keep(Rc::new(kit));
    Ok(())
}

/// Loads a policy of this case's own.
pub(super) fn load(guest: &mut Guest, spec: &Spec) -> Result<Rc<Kit>> {
    let kit = guest.kept::<Kit>()?;
    kit.load(guest, spec)?;
    Ok(kit)
}

pub(super) fn agent(guest: &mut Guest, argv: &[&str]) -> Result<i32> {
    let mut command = vec![AGENT];
    command.extend(argv);
    Ok(in_zone(guest, AGENTS_SLICE, &command)?.code)
}

pub(super) fn expect(guest: &mut Guest, argv: &[&str], expected: i32, what: &str) -> Result<()> {
    let seen = agent(guest, argv)?;
    ensure!(
        seen == expected,
        "{what}: expected {expected}, it ended with {seen}"
    );
    Ok(())
}

/// The probe's exit code for EPERM.
pub(super) const REFUSED: i32 = 101;
/// systemd's exit code when the kernel would not execute a service's program.
pub(super) const NOT_EXECUTED: i32 = 203;
/// Smaller than it would have one be.
pub(super) const MAKE_XFS: &str = "mkfs.xfs -q --unsupported -d size=100m";
pub(super) const BOUND: Duration = Duration::from_secs(60);

fn explain(guest: &mut Guest) -> Result<()> {
    load(guest, &Spec::default())?;
    let verdict = |guest: &mut Guest, argv: &[&str]| -> Result<i32> {
        let mut command = vec!["governor", "explain"];
        command.extend(argv);
        Ok(guest.run(&command)?.code)
    };
    for (argv, expected) in [
        (vec![AGENT, "--zone", "agents"], 0),
        (vec!["/usr/bin/id", "--zone", "agents"], 3),
        (vec!["--connect", ALLOWED, "--workload", "planner"], 0),
        (
            vec!["--connect", "127.0.0.2:8443", "--workload", "planner"],
            3,
        ),
        // Any address: the rule covers no such thing, and the kernel refuses it.
        (
            vec!["--connect", "0.0.0.0:8443", "--workload", "planner"],
            3,
        ),
    ] {
        let code = verdict(guest, &argv)?;
        ensure!(code == expected, "explain {}: {code}", argv.join(" "));
    }
    Ok(())
}

pub(super) fn no_fault(guest: &mut Guest) -> Result<()> {
    let log = guest
        .sh("dmesg | grep -E 'BUG:|Oops|WARNING:|general protection' || true")?
        .text();
    ensure!(log.is_empty(), "{log}");
    let said = status::of(guest)?;
    ensure!(
        said.number(&["losses", "denials"]) == 0,
        "denials were lost"
    );
    Ok(())
}
