//! The daemon under bad input, without what it needs, and across restarts and reboots.

mod input;
mod lacking;
mod lasting;
mod stalled;
mod starved;
mod survival;

use super::{Case, Suite};
use crate::{
    guest::{BootOptions, Guest},
    image::Kernel,
    install,
    kit::{AGENT, AGENTS_SLICE, Kit, Spec, TOOLS_SLICE, USER, in_zone},
    paths, status,
};
use anyhow::{Context as _, Result, ensure};
use std::{path::Path, rc::Rc, time::Duration};

pub(crate) const SUITE: Suite = Suite {
    name: "daemon",
    options: BootOptions::new,
    kernels: super::Kernels::EveryBut(&[
        "a_journal_that_takes_nothing_keeps_nobody_waiting",
        "without_trusted_keys_nothing_is_accepted",
        "the_control_socket_is_for_root",
        "it_stays_small",
        "a_tpm_that_is_missing_is_named",
        "evidence_verifies_elsewhere",
        "the_package_comes_off",
    ]),
    prepare,
    cases: &[
        Case {
            name: "policies_that_are_not_right_are_refused",
            run: input::bad_policies,
        },
        Case {
            name: "a_policy_with_mistakes_changes_nothing_but_the_record",
            run: input::mistaken,
        },
        Case {
            name: "without_trusted_keys_nothing_is_accepted",
            run: input::no_keys,
        },
        Case {
            name: "the_control_socket_is_for_root",
            run: input::control_socket,
        },
        Case {
            name: "the_unit_grants_no_more_than_it_lists",
            run: unit,
        },
        Case {
            name: "it_stays_small",
            run: memory,
        },
        Case {
            name: "it_stays_in_memory_and_none_of_its_threads_waits_for_others",
            run: keeps_up,
        },
        Case {
            name: "a_revocation_outlasts_what_was_offered_before",
            run: input::offered_before,
        },
        Case {
            name: "what_the_host_needs_is_measured_and_checked",
            run: survival::measured_and_checked,
        },
        Case {
            name: "a_full_disk_stops_grants_and_nothing_else",
            run: lacking::full_disk,
        },
        Case {
            name: "a_file_system_that_was_read_only_takes_records_again",
            run: lacking::read_only,
        },
        Case {
            name: "a_disk_that_does_not_answer_keeps_nothing_but_records",
            run: stalled::ledger_frozen,
        },
        Case {
            name: "who_holds_its_locks_and_gets_no_processor_keeps_it_from_nothing",
            run: starved::by_readers,
        },
        Case {
            name: "work_is_stopped_whoever_holds_the_lock_of_all_cgroups",
            run: starved::by_members,
        },
        Case {
            name: "who_tries_to_trace_the_canary_keeps_it_from_nothing",
            run: starved::by_tracers,
        },
        Case {
            name: "a_journal_that_takes_nothing_keeps_nobody_waiting",
            run: starved::by_a_journal,
        },
        Case {
            name: "a_tpm_that_is_missing_is_named",
            run: lacking::no_tpm,
        },
        Case {
            name: "a_damaged_ledger_locks_until_an_operator_looks",
            run: lacking::damaged_ledger,
        },
        Case {
            name: "names_that_a_damaged_ledger_took_are_given_to_nobody",
            run: lacking::names_lost,
        },
        Case {
            name: "a_restart_adopts_and_a_kill_opens_nothing",
            run: lasting::restart,
        },
        Case {
            name: "a_lease_that_ended_while_nobody_was_there_stops_what_ran_on_it",
            run: lasting::lease_over,
        },
        Case {
            name: "evidence_verifies_elsewhere",
            run: lasting::evidence,
        },
        Case {
            name: "the_package_comes_off",
            run: lasting::reinstall,
        },
        Case {
            name: "an_appraisal_that_fails_is_told_while_a_lease_runs",
            run: lacking::tpm_taken_away,
        },
        Case {
            name: "policy_and_serial_survive_a_reboot",
            run: lasting::reboot,
        },
    ],
};

/// A kernel on which some programs cannot be loaded: those that read kernel memory.
pub(crate) const WITHOUT_A_HOOK: Suite = Suite {
    name: "without-a-hook",
    options: |kernel| BootOptions {
        append: "lockdown=confidentiality".into(),
        ..BootOptions::new(kernel)
    },
    kernels: super::Kernels::Every,
    prepare: only_the_package,
    cases: &[Case {
        name: "it_names_the_hook_and_does_not_start",
        run: lacking::names_the_hook,
    }],
};

/// A kernel whose LSM list lacks `bpf`.
pub(crate) const WITHOUT_BPF: Suite = Suite {
    name: "without-bpf",
    options: |kernel| BootOptions {
        append: "lsm=lockdown,yama,integrity".into(),
        ..BootOptions::new(kernel)
    },
    kernels: super::Kernels::Every,
    prepare: only_the_package,
    cases: &[Case {
        name: "it_refuses_to_pretend",
        run: lacking::refuses_to_pretend,
    }],
};

/// A kernel that keeps digests of what it measured.
pub(crate) const STALE_DIGESTS: Suite = Suite {
    name: "stale-digests",
    options: |kernel| BootOptions {
        append: "ima_policy=tcb".into(),
        ..BootOptions::new(kernel)
    },
    kernels: super::Kernels::Every,
    prepare: only_the_package,
    cases: &[
        Case {
            name: "it_names_the_policy_and_does_not_start",
            run: lacking::names_what_makes_digests_wrong,
        },
        Case {
            name: "it_notices_a_policy_that_is_hidden",
            run: lacking::notices_them_on_a_disk_only,
        },
        // The last one: the kernel follows another policy after it.
        Case {
            name: "it_notices_a_policy_that_is_covered",
            run: lacking::names_what_covers_the_policy,
        },
    ],
};

/// A kernel that hashes otherwise. Debian's 6.1 has SHA-512 in a module, so at its boot it takes SHA-256 instead.
pub(crate) const OTHER_DIGESTS: Suite = Suite {
    name: "other-digests",
    options: |kernel| BootOptions {
        append: match kernel {
            Kernel::V6_1 => "ima_hash=sha1".into(),
            Kernel::V6_12 => "ima_hash=sha512".into(),
        },
        ..BootOptions::new(kernel)
    },
    kernels: super::Kernels::Every,
    prepare: only_the_package,
    cases: &[
        Case {
            name: "it_names_the_hash_and_does_not_start",
            run: lacking::names_what_makes_digests_wrong,
        },
        Case {
            name: "it_notices_a_hash_that_is_hidden",
            run: lacking::notices_wrong_digests,
        },
        Case {
            name: "it_believes_no_policy_that_is_not_shown",
            run: lacking::names_a_policy_that_is_not_shown,
        },
    ],
};

/// Installed, and not started.
fn only_the_package(guest: &mut Guest) -> Result<()> {
    let package = paths::target().join("dist/governor.deb");
    guest.put_file(&package, "/root/governor.deb")?;
    guest
        .run(&["dpkg", "-i", "/root/governor.deb"])?
        .ok()
        .map(drop)
}

pub(crate) fn prepare(guest: &mut Guest) -> Result<()> {
    install::package(guest, &paths::target().join("dist/governor.deb"))?;
    // Once armed the gate takes no module that is not listed.
    guest.run(&["modprobe", "loop"])?.ok()?;
    let kit = Kit::new(guest)?;
    guest.keep(Rc::new(kit));
    Ok(())
}

pub(super) fn loaded(guest: &mut Guest) -> Result<Rc<Kit>> {
    let kit = guest.kept::<Kit>()?;
    kit.load(guest, &Spec::default())?;
    Ok(kit)
}

pub(super) fn hello(guest: &mut Guest) -> Result<i32> {
    Ok(in_zone(guest, AGENTS_SLICE, &[AGENT, "hello"])?.code)
}

/// What the kernel says of the daemon's process, by name.
fn process(guest: &mut Guest) -> Result<impl Fn(&str) -> String + use<>> {
    let status = guest
        .sh("cat /proc/$(systemctl show -p MainPID --value governor)/status")?
        .ok()?;
    let text = status.text();
    Ok(move |name: &str| {
        text.lines()
            .find_map(|line| line.strip_prefix(name))
            .map(str::trim)
            .unwrap_or_default()
            .to_owned()
    })
}

fn unit(guest: &mut Guest) -> Result<()> {
    let field = process(guest)?;
    ensure!(
        field("Seccomp:") == "2",
        "no system call filter: {}",
        field("Seccomp:")
    );
    ensure!(field("NoNewPrivs:") == "1", "new privileges may be had");
    let swap = guest.get("/sys/fs/cgroup/system.slice/governor.service/memory.swap.max")?;
    ensure!(swap == b"0\n", "its memory may be swapped out: {swap:?}");
    let names = guest
        .run(&["capsh", &format!("--decode={}", field("CapBnd:"))])?
        .ok()?
        .text();
    let mut held: Vec<&str> = names
        .rsplit('=')
        .next()
        .unwrap_or_default()
        .split(',')
        .collect();
    held.sort_unstable();
    let mut listed = [
        "cap_bpf",
        "cap_perfmon",
        "cap_sys_admin",
        "cap_net_admin",
        "cap_kill",
        "cap_sys_ptrace",
        "cap_dac_override",
    ];
    listed.sort_unstable();
    ensure!(held == listed, "it may hold {names}");
    Ok(())
}

/// The program is the daemon's, so where it lies the daemon lies.
fn memory(guest: &mut Guest) -> Result<()> {
    loaded(guest)?;
    let kib = resident(guest)?;
    ensure!(kib <= 30 * 1024, "{kib} KiB are resident");
    Ok(())
}

/// Where memory is short, and whatever its threads do.
fn keeps_up(guest: &mut Guest) -> Result<()> {
    loaded(guest)?;
    let before = resident(guest)?;
    // Of the slice that the daemon is in: its own cgroup's files are guarded. It ends with an error where less
    // than so much was there to take.
    guest.sh("for i in 1 2 3 4; do echo 50M; done | while read much; do echo $much > /sys/fs/cgroup/system.slice/memory.reclaim; done")?;
    let after = resident(guest)?;
    ensure!(
        after * 10 >= before * 9,
        "of {before} KiB {after} are left where memory is short"
    );
    let field = process(guest)?;
    let (kept, program) = (kib(&field("VmLck:"))?, kib(&field("VmExe:"))?);
    ensure!(
        kept > program,
        "{kept} KiB are kept of a program of {program} and its libraries"
    );
    let huge = field("THP_enabled:");
    ensure!(
        huge == "0",
        "khugepaged may hold the lock of its memory: {huge}"
    );
    let priorities = guest
        .sh("awk '{sub(/.*\\) /, \"\"); print $17}' /proc/$(systemctl show -p MainPID --value governor)/task/*/stat | sort -u")?
        .ok()?
        .text();
    ensure!(
        priorities == "-10",
        "a thread that waits for a processor keeps those who share its memory waiting: {priorities}"
    );
    Ok(())
}

fn resident(guest: &mut Guest) -> Result<u64> {
    kib(&process(guest)?("VmRSS:"))
}

fn kib(said: &str) -> Result<u64> {
    let number = said.strip_suffix(" kB").map(str::parse);
    let number = number.with_context(|| format!("reading `{said}`"))?;
    number.with_context(|| format!("reading `{said}`"))
}
