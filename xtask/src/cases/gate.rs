//! What the kernel programs refuse, asked by programs that try it. Each case loads a policy of its
//! own, so each can run alone.

use super::{Case, Suite};
use crate::{
    guest::{BootOptions, Guest},
    install,
    kit::{AGENT, AGENTS_SLICE, ALLOWED, Kit, Spec, TOOLS_SLICE, USER, in_zone},
    paths, status,
};
use anyhow::{Context as _, Result, ensure};
use std::{rc::Rc, time::Duration};

pub(crate) const SUITE: Suite = Suite {
    name: "gate",
    options: BootOptions::new,
    prepare,
    cases: &[
        Case {
            name: "memory_without_a_file_does_not_execute",
            run: memory_without_a_file,
        },
        Case {
            name: "only_listed_files_are_mapped_executable",
            run: only_listed_files_are_mapped,
        },
        Case {
            name: "children_keep_the_label",
            run: children_keep_the_label,
        },
        Case {
            name: "a_workload_starts_only_what_may_be_started",
            run: started_by,
        },
        Case {
            name: "only_listed_users_run_it",
            run: users,
        },
        Case {
            name: "addresses_in_every_form",
            run: addresses,
        },
        Case {
            name: "sockets_of_other_kinds",
            run: sockets,
        },
        Case {
            name: "a_slice_made_again_is_governed_at_once",
            run: slice_made_again,
        },
        Case {
            name: "an_unknown_slice_below_the_root_denies",
            run: unknown_slice,
        },
        Case {
            name: "policy_class_work_needs_no_quote",
            run: policy_class,
        },
        Case {
            name: "run_starts_a_leaf_of_its_own",
            run: run_verb,
        },
        Case {
            name: "a_revoked_workload_is_stopped_and_stays_so",
            run: revoked,
        },
        Case {
            name: "frozen_when_policy_says_freeze",
            run: frozen,
        },
        Case {
            name: "the_alarm_counter_voids_the_lease",
            run: trips,
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

fn prepare(guest: &mut Guest) -> Result<()> {
    install::package(guest, &paths::target().join("dist/governor.deb"))?;
    let kit = Kit::new(guest)?;
    guest.keep(Rc::new(kit));
    Ok(())
}

/// Loads a policy of this case's own.
fn load(guest: &mut Guest, spec: &Spec) -> Result<Rc<Kit>> {
    let kit = guest.kept::<Kit>()?;
    kit.load(guest, spec)?;
    Ok(kit)
}

fn agent(guest: &mut Guest, argv: &[&str]) -> Result<i32> {
    let mut command = vec![AGENT];
    command.extend(argv);
    Ok(in_zone(guest, AGENTS_SLICE, &command)?.code)
}

fn memory_without_a_file(guest: &mut Guest) -> Result<()> {
    load(guest, &Spec::default())?;
    expect(guest, &["memfd", AGENT], REFUSED, "a copy in a memfd")?;
    expect(
        guest,
        &["anonymous"],
        REFUSED,
        "an anonymous executable mapping",
    )?;
    expect(
        guest,
        &["protect"],
        REFUSED,
        "written memory made executable",
    )?;
    load(
        guest,
        &Spec {
            memory: "any",
            ..Spec::default()
        },
    )?;
    expect(
        guest,
        &["anonymous"],
        0,
        "anonymous memory where policy allows any",
    )?;
    expect(guest, &["memfd", AGENT], REFUSED, "a memfd even then")
}

fn only_listed_files_are_mapped(guest: &mut Guest) -> Result<()> {
    load(guest, &Spec::default())?;
    expect(guest, &["map", AGENT], 0, "its own file")?;
    expect(
        guest,
        &["map", "/usr/bin/id"],
        REFUSED,
        "a file that no set lists",
    )?;
    guest.sh(&format!("cp {AGENT} /opt/agent/gone"))?.ok()?;
    expect(guest, &["map", "/opt/agent/gone"], 0, "a copy, by content")?;
    guest.sh("printf x >> /opt/agent/gone")?.ok()?;
    expect(
        guest,
        &["map", "/opt/agent/gone"],
        REFUSED,
        "the copy, changed",
    )
}

fn children_keep_the_label(guest: &mut Guest) -> Result<()> {
    load(guest, &Spec::default())?;
    expect(
        guest,
        &["spawn", AGENT, "hello"],
        0,
        "a child of the same workload",
    )?;
    expect(
        guest,
        &["spawn", "/usr/bin/id"],
        REFUSED,
        "a child that is something else",
    )?;
    expect(
        guest,
        &["exec", "/usr/bin/id"],
        REFUSED,
        "becoming something else",
    )
}

fn started_by(guest: &mut Guest) -> Result<()> {
    load(guest, &Spec::default())?;
    let tool = in_zone(guest, TOOLS_SLICE, &[AGENT, "hello"])?.code;
    ensure!(
        tool == 0,
        "the operator may start the tool, it ended with {tool}"
    );
    let again = in_zone(guest, TOOLS_SLICE, &[AGENT, "spawn", AGENT, "hello"])?.code;
    ensure!(
        again == REFUSED,
        "the tool may not start itself, it ended with {again}"
    );
    Ok(())
}

fn users(guest: &mut Guest) -> Result<()> {
    load(guest, &Spec::default())?;
    let slice = format!("--slice={TOOLS_SLICE}");
    let run = [
        "systemd-run",
        "--quiet",
        "--wait",
        "--pipe",
        "--collect",
        &slice,
        "--",
        AGENT,
        "hello",
    ];
    let root = guest.run(&run)?.code;
    ensure!(
        root == NOT_EXECUTED,
        "root is not listed, it ended with {root}"
    );
    Ok(())
}

fn addresses(guest: &mut Guest) -> Result<()> {
    load(guest, &Spec::default())?;
    let job = guest.spawn(&[AGENT, "serve", "0.0.0.0:8443"])?;
    guest.wait_for_output(job, b"listening", BOUND)?;
    let six = guest.spawn(&[AGENT, "serve", "[::1]:8443"])?;
    guest.wait_for_output(six, b"listening", BOUND)?;
    let outcome = (|| {
        expect(guest, &["tcp", ALLOWED], 0, "the listed address")?;
        expect(
            guest,
            &["mapped", ALLOWED],
            0,
            "the same address, v4-mapped",
        )?;
        expect(
            guest,
            &["mapped", "127.0.0.2:8443"],
            REFUSED,
            "another address, v4-mapped",
        )?;
        expect(guest, &["tcp", "127.0.0.1:8444"], REFUSED, "another port")?;
        expect(
            guest,
            &["tcp", "[::1]:8443"],
            REFUSED,
            "IPv6, which no rule lists",
        )?;
        expect(guest, &["udp", "127.0.0.1:5353"], 0, "a listed datagram")?;
        expect(
            guest,
            &["udp", "127.0.0.1:8443"],
            REFUSED,
            "a TCP rule is not for UDP",
        )?;
        expect(
            guest,
            &["udp-connected", "127.0.0.1:5353"],
            0,
            "a listed datagram, connected",
        )?;
        expect(
            guest,
            &["udp-connected", "127.0.0.3:5353"],
            REFUSED,
            "another, connected",
        )?;
        load(
            guest,
            &Spec {
                allowed: "::1/128",
                ..Spec::default()
            },
        )?;
        expect(
            guest,
            &["tcp", "[::1]:8443"],
            0,
            "IPv6, once a rule lists it",
        )
    })();
    guest.kill(job, 9)?;
    guest.kill(six, 9)?;
    outcome
}

fn sockets(guest: &mut Guest) -> Result<()> {
    load(guest, &Spec::default())?;
    let slice = format!("--slice={AGENTS_SLICE}");
    // As root, so that only the gate can refuse it.
    let run = [
        "systemd-run",
        "--quiet",
        "--wait",
        "--pipe",
        "--collect",
        &slice,
        "--",
        AGENT,
        "raw",
    ];
    let raw = guest.run(&run)?.code;
    ensure!(raw == REFUSED, "a raw socket: {raw}");
    let outside = guest.run(&[AGENT, "raw"])?.code;
    ensure!(outside == 0, "a raw socket outside: {outside}");
    Ok(())
}

fn slice_made_again(guest: &mut Guest) -> Result<()> {
    load(guest, &Spec::default())?;
    for _ in 0..3 {
        guest.run(&["systemctl", "stop", AGENTS_SLICE])?.ok()?;
        let gone = guest.sh("! test -d /sys/fs/cgroup/governed.slice/governed-agents.slice")?;
        ensure!(gone.code == 0, "the slice is still there");
        let unknown = in_zone(guest, AGENTS_SLICE, &["/usr/bin/id"])?.code;
        ensure!(
            unknown == NOT_EXECUTED,
            "an unknown program in the new slice: {unknown}"
        );
        expect(guest, &["hello"], 0, "the workload in the new slice")?;
    }
    Ok(())
}

fn unknown_slice(guest: &mut Guest) -> Result<()> {
    load(guest, &Spec::default())?;
    let denied = in_zone(guest, "governed-other.slice", &[AGENT, "hello"])?.code;
    ensure!(
        denied == NOT_EXECUTED,
        "in a slice that no policy names: {denied}"
    );
    let denied = in_zone(guest, "governed.slice", &[AGENT, "hello"])?.code;
    ensure!(denied == NOT_EXECUTED, "in the root slice itself: {denied}");
    Ok(())
}

fn policy_class(guest: &mut Guest) -> Result<()> {
    let kit = load(
        guest,
        &Spec {
            on_revoke: "deny",
            ..Spec::default()
        },
    )?;
    // A reference that nothing can match: the host cannot be trusted under this policy.
    let dir = kit.write(&Spec::default())?;
    let path = dir.join("reference.toml");
    let text = std::fs::read_to_string(&path)?;
    let other = format!("9 = \"{}\"", "ab".repeat(32));
    let changed: Vec<&str> = text
        .lines()
        .map(|line| {
            if line.starts_with("9 =") {
                other.as_str()
            } else {
                line
            }
        })
        .collect();
    std::fs::write(&path, changed.join("\n"))?;
    kit.sign(&dir)?;
    kit.offer(guest, &dir)?.ok()?;
    let code = guest.run(&["governor", "attest", "now"])?.code;
    ensure!(code == 3, "the host must not be trusted: {code}");
    let attested = agent(guest, &["hello"])?;
    ensure!(attested == NOT_EXECUTED, "attested work: {attested}");
    let policy = in_zone(guest, TOOLS_SLICE, &[AGENT, "hello"])?.code;
    ensure!(policy == 0, "policy-class work: {policy}");
    Ok(())
}

fn run_verb(guest: &mut Guest) -> Result<()> {
    load(guest, &Spec::default())?;
    let ran = guest.run(&["governor", "run", "--zone", "agents", "--", AGENT, "hello"])?;
    ensure!(ran.code == 0, "{} {}", ran.text(), ran.errors());
    let denied = guest.run(&["governor", "run", "--zone", "agents", "--", "/usr/bin/id"])?;
    ensure!(
        denied.code == 3,
        "an unknown program: {} {}",
        denied.code,
        denied.errors()
    );
    let nowhere = guest.run(&["governor", "run", "--zone", "nowhere", "--", AGENT, "hello"])?;
    ensure!(nowhere.code != 0, "a zone that does not exist");
    let job = guest.spawn(&["governor", "run", "--zone", "agents", "--", AGENT, "hold"])?;
    guest.wait_for_output(job, b"holding", BOUND)?;
    let cgroup = guest.sh("cat /proc/$(pgrep -x agent)/cgroup")?.ok()?.text();
    guest.kill(job, 9)?;
    ensure!(
        cgroup.contains("governed-agents.slice/governor-run-"),
        "it runs in {cgroup}"
    );
    Ok(())
}

fn revoked(guest: &mut Guest) -> Result<()> {
    // Content of its own, for a revocation is for good.
    guest
        .sh(&format!(
            "cp {AGENT} /opt/agent/doomed; printf x >> /opt/agent/doomed"
        ))?
        .ok()?;
    let planner = guest
        .run(&["governor", "measure", "/opt/agent/doomed"])?
        .ok()?
        .text();
    let digest = planner.split(' ').next().unwrap_or_default().to_owned();
    load(
        guest,
        &Spec {
            planner: format!("{planner}\n"),
            ..Spec::default()
        },
    )?;
    let slice = format!("--slice={AGENTS_SLICE}");
    let user = format!("--uid={USER}");
    let job = guest.spawn(&[
        "systemd-run",
        "--quiet",
        "--wait",
        "--pipe",
        "--collect",
        &slice,
        &user,
        "--",
        "/opt/agent/doomed",
        "hold",
    ])?;
    guest.wait_for_output(job, b"holding", BOUND)?;
    let answer = guest.run(&[
        "governor", "revoke", "--digest", &digest, "--reason", "drill",
    ])?;
    ensure!(answer.code == 0, "{} {}", answer.text(), answer.errors());
    let denied = in_zone(guest, AGENTS_SLICE, &["/opt/agent/doomed", "hello"])?.code;
    ensure!(denied == NOT_EXECUTED, "the very next execution: {denied}");
    let ended = guest.wait(job, BOUND)?;
    ensure!(ended.code != 0, "the running copy goes on");
    guest.run(&["systemctl", "restart", "governor"])?.ok()?;
    load(
        guest,
        &Spec {
            planner: format!("{planner}\n"),
            ..Spec::default()
        },
    )?;
    let denied = in_zone(guest, AGENTS_SLICE, &["/opt/agent/doomed", "hello"])?.code;
    ensure!(denied == NOT_EXECUTED, "after restart and reload: {denied}");
    expect(guest, &["hello"], 0, "the other content")
}

fn frozen(guest: &mut Guest) -> Result<()> {
    let kit = load(
        guest,
        &Spec {
            on_revoke: "freeze",
            ..Spec::default()
        },
    )?;
    let slice = format!("--slice={AGENTS_SLICE}");
    let user = format!("--uid={USER}");
    let job = guest.spawn(&[
        "systemd-run",
        "--quiet",
        "--wait",
        "--pipe",
        "--unit=hold",
        &slice,
        &user,
        "--",
        AGENT,
        "hold",
    ])?;
    guest.wait_for_output(job, b"holding", BOUND)?;
    let dir = kit.write(&Spec {
        on_revoke: "freeze",
        ..Spec::default()
    })?;
    let path = dir.join("reference.toml");
    // A key that is nobody's: a digest of other bytes.
    let text = std::fs::read_to_string(&path)?;
    let at = text.find("000b").context("no key in the reference values")? + 4;
    let (before, after) = text.split_at(at);
    let rest = after.get(64..).context("a short key in the reference values")?;
    std::fs::write(&path, format!("{before}{}{rest}", "cd".repeat(32)))?;
    kit.sign(&dir)?;
    kit.offer(guest, &dir)?.ok()?;
    let code = guest.run(&["governor", "attest", "now"])?.code;
    ensure!(code == 3, "the host must not be trusted: {code}");
    let events = guest
        .sh("cat /sys/fs/cgroup/governed.slice/governed-agents.slice/hold.service/cgroup.events")?
        .ok()?
        .text();
    guest.run(&["systemctl", "kill", "--signal=KILL", "hold"])?;
    guest.sh(
        "echo 0 > /sys/fs/cgroup/governed.slice/governed-agents.slice/hold.service/cgroup.freeze",
    )?;
    guest.wait(job, BOUND)?;
    guest.run(&["systemctl", "reset-failed", "hold"])?;
    ensure!(events.contains("frozen 1"), "{events}");
    Ok(())
}

fn trips(guest: &mut Guest) -> Result<()> {
    let kit = load(
        guest,
        &Spec {
            every: "10s",
            ..Spec::default()
        },
    )?;
    expect(guest, &["hello"], 0, "before")?;
    let raise = "bpftool map update pinned $(ls /sys/fs/bpf/governor/*/TRIPS | head -1) \
                 key 0 0 0 0 value 1 0 0 0 0 0 0 0";
    guest.sh(raise)?.ok().context("raising the counter")?;
    let denied = agent(guest, &["hello"])?;
    kit.trusted(guest)?;
    ensure!(denied == NOT_EXECUTED, "the very next execution: {denied}");
    expect(
        guest,
        &["hello"],
        0,
        "after a quote that binds the new count",
    )
}

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
    ] {
        let code = verdict(guest, &argv)?;
        ensure!(code == expected, "explain {}: {code}", argv.join(" "));
    }
    Ok(())
}

fn no_fault(guest: &mut Guest) -> Result<()> {
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

fn expect(guest: &mut Guest, argv: &[&str], expected: i32, what: &str) -> Result<()> {
    let seen = agent(guest, argv)?;
    ensure!(
        seen == expected,
        "{what}: expected {expected}, it ended with {seen}"
    );
    Ok(())
}

/// The probe's exit code for EPERM.
const REFUSED: i32 = 101;
/// systemd's exit code when the kernel would not execute a service's program.
const NOT_EXECUTED: i32 = 203;
const BOUND: Duration = Duration::from_secs(60);
