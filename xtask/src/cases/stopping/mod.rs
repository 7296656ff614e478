//! Reaching what runs: by hand and by policy, where it should be and where somebody moved it. Each
//! case loads a policy of its own and ends what it started, so each can run alone.

mod apart;
mod holding;
mod many;
mod numbers;
mod often;
mod reaching;
mod thawing;
mod unlabelled;

use super::{Case, Suite, gate};
use crate::{
    guest::{BootOptions, Guest, JobId, Output},
    kit::{AGENT, AGENTS_SLICE, ALLOWED, Kit, Spec, TOOLS_SLICE, USER},
    ledger, status,
};
use anyhow::{Context as _, Result, ensure};
use std::rc::Rc;

use gate::BOUND;

pub(crate) const SUITE: Suite = Suite {
    name: "stopping",
    options: BootOptions::new,
    kernels: super::Kernels::Every,
    prepare: gate::prepare,
    cases: &[
        Case {
            name: "what_computes_and_its_children_are_stopped",
            run: reaching::computing,
        },
        Case {
            name: "who_has_lost_its_first_thread_is_stopped",
            run: reaching::leaderless,
        },
        Case {
            name: "who_was_moved_out_is_found",
            run: reaching::moved,
        },
        Case {
            name: "who_takes_a_number_over_is_nobody_who_is_meant",
            run: numbers::taken_over,
        },
        Case {
            name: "who_is_too_deep_for_a_path_is_found",
            run: reaching::too_deep,
        },
        Case {
            name: "a_zone_that_moved_is_stopped_where_it_was",
            run: reaching::zone_elsewhere,
        },
        Case {
            name: "a_revocation_finds_who_was_moved_out",
            run: reaching::revoked,
        },
        Case {
            name: "quarantine_closes_connections",
            run: reaching::quarantined,
        },
        Case {
            name: "so_it_does_in_network_namespaces_apart",
            run: reaching::apart,
        },
        Case {
            name: "what_policy_quarantines_stays_so_when_trust_returns",
            run: reaching::quarantined_by_policy,
        },
        Case {
            name: "a_zone_or_a_digest_is_held_and_nothing_else",
            run: apart::held,
        },
        Case {
            name: "a_zone_is_revoked_and_no_other",
            run: apart::revoked,
        },
        Case {
            name: "who_starts_too_much_is_frozen_until_an_operator_looks",
            run: often::started,
        },
        Case {
            name: "who_connects_too_often_is_cut_off",
            run: often::connected,
        },
        Case {
            name: "paused_stays_so_over_a_restart_and_goes_on",
            run: holding::round_trip,
        },
        Case {
            name: "resume_takes_trust",
            run: holding::takes_trust,
        },
        Case {
            name: "resume_lets_nothing_revoked_go_on",
            run: holding::revoked,
        },
        Case {
            name: "thawing_is_policys_choice",
            run: thawing::choice,
        },
        Case {
            name: "what_has_no_label_is_stopped_where_policy_says",
            run: unlabelled::stopped,
        },
        Case {
            name: "a_thousand_tasks",
            run: many::thousand,
        },
        Case {
            name: "labels_are_not_charged_to_the_daemon",
            run: many::uncharged,
        },
        Case {
            name: "the_kernel_reported_no_fault",
            run: gate::no_fault,
        },
    ],
};

/// Work that policy lets go on when trust ends, so that what happens to it is these cases' doing.
fn frozen_by_policy() -> Spec {
    Spec {
        on_revoke: "freeze",
        ..Spec::default()
    }
}

/// Starts the agent as a service of the zone and waits until it says so.
fn start(guest: &mut Guest, unit: &str, argv: &[&str], says: &str) -> Result<JobId> {
    start_with(guest, NO_LIMIT, unit, argv, says)
}

/// The same, with a property of the service.
fn start_with(
    guest: &mut Guest,
    property: &str,
    unit: &str,
    argv: &[&str],
    says: &str,
) -> Result<JobId> {
    let command = [&[AGENT], argv].concat();
    let job = launch(guest, AGENTS_SLICE, property, unit, &command)?;
    guest.wait_for_output(job, says.as_bytes(), BOUND)?;
    Ok(job)
}

/// Starts any program as a service of any zone.
fn launch(
    guest: &mut Guest,
    slice: &str,
    property: &str,
    unit: &str,
    command: &[&str],
) -> Result<JobId> {
    let (property, slice) = (format!("--property={property}"), format!("--slice={slice}"));
    let (user, unit) = (format!("--uid={USER}"), format!("--unit={unit}"));
    let run = ["systemd-run", "--quiet", "--wait", "--pipe", "--collect"];
    let how = [&property, &unit, &slice, &user, "--"];
    guest.spawn(&[&run[..], &how, command].concat())
}

/// The same without a property, and waits until it holds.
fn hold(guest: &mut Guest, slice: &str, unit: &str, command: &[&str]) -> Result<JobId> {
    let job = launch(guest, slice, NO_LIMIT, unit, command)?;
    guest.wait_for_output(job, b"holding", BOUND)?;
    Ok(job)
}

/// Content of its own that does what the agent does: its path, and its line of a set.
fn copy(guest: &mut Guest, name: &str) -> Result<(String, String)> {
    let path = format!("/opt/agent/{name}");
    guest
        .sh(&format!(
            "test -e {path} || {{ cp {AGENT} {path} && printf {name} >> {path}; }}"
        ))?
        .ok()?;
    let measured = guest.run(&["governor", "measure", &path])?.ok()?.text();
    Ok((path, format!("{measured}\n")))
}

/// What a line of a set begins with.
fn digest(line: &str) -> String {
    line.split(' ').next().unwrap_or_default().to_owned()
}

/// Somebody outside who tells how a connection ends.
fn witness(guest: &mut Guest, at: &str) -> Result<JobId> {
    let witness = guest.spawn(&[AGENT, "witness", at])?;
    guest.wait_for_output(witness, b"listening", BOUND)?;
    Ok(witness)
}

/// The peer was cut off, and did not see the other side end.
fn cut_off(guest: &mut Guest, witness: JobId) -> Result<()> {
    let seen = guest.wait(witness, BOUND)?.ok()?.text();
    let reset = seen.lines().any(|line| line == "reset");
    ensure!(reset, "the peer saw `{seen}`");
    Ok(())
}

/// How many connections of work's stand.
fn connections(guest: &mut Guest) -> Result<String> {
    let open = guest.sh("ss -Htn state established 'dport = :8443' | wc -l")?;
    Ok(open.ok()?.text())
}

/// The cgroup of such a service.
fn cgroup(unit: &str) -> String {
    format!("{ZONE}/{unit}.service")
}

fn main_pid(guest: &mut Guest, unit: &str) -> Result<String> {
    let unit = format!("{unit}.service");
    let shown = guest.run(&["systemctl", "show", "--property=MainPID", "--value", &unit])?;
    Ok(shown.ok()?.text())
}

/// Whether the kernel says that a cgroup is frozen.
fn is_frozen(guest: &mut Guest, cgroup: &str) -> Result<bool> {
    let events = guest.sh(&format!("cat {cgroup}/cgroup.events"))?.ok()?;
    Ok(events.text().contains("frozen 1"))
}

/// `governor VERB --workload planner`, whatever comes of it.
fn by_hand(guest: &mut Guest, verb: &str) -> Result<Output> {
    let argv = [
        "governor",
        verb,
        "--workload",
        "planner",
        "--reason",
        "drill",
    ];
    guest.run(&argv)
}

/// Does that while the host is not trusted, and waits until what policy thaws was let go.
fn until_thawed(guest: &mut Guest, regain: impl FnOnce(&mut Guest) -> Result<()>) -> Result<()> {
    let thawed = |ledger: &ledger::Ledger| Ok(ledger.times("trust returned"));
    let before = thawed(&ledger::of(guest)?)?;
    regain(guest)?;
    let after = ledger::when(guest, thawed, |after| *after > before)?;
    ensure!(after > before, "the daemon did not thaw anything");
    Ok(())
}

/// Ends everything that runs in zones, and waits for a service that was one of it.
fn end(guest: &mut Guest, jobs: Vec<JobId>) -> Result<()> {
    guest
        .run(&["governor", "kill", "--all", "--reason", "the case is over"])?
        .ok()
        .context("ending what the case started")?;
    for job in jobs {
        guest.wait(job, BOUND)?;
    }
    Ok(())
}

/// Loads a policy of this case's own, after what an earlier case left behind is gone.
fn load(guest: &mut Guest, spec: &Spec) -> Result<Rc<Kit>> {
    if guest.sh(&format!("test -d {ZONE}"))?.code == 0 {
        let clear = ["governor", "kill", "--all", "--reason", "a new case"];
        guest.run(&clear)?.ok()?;
        guest.wait_until(&format!("! grep -qs 'populated 1' {ZONE}/cgroup.events"))?;
    }
    gate::load(guest, spec)
}

/// A property that changes nothing here: a thousand tasks are not too many.
const NO_LIMIT: &str = "TasksMax=infinity";
/// Where the agents' zone is.
const ZONE: &str = "/sys/fs/cgroup/governed.slice/governed-agents.slice";
/// Another address than the one that policy allows to begin with.
const SECOND: &str = crate::kit::ELSEWHERE;
/// A cgroup that governs nothing.
const ELSEWHERE: &str = "/sys/fs/cgroup/elsewhere";
