//! Taking authorizations back: by hand, with what runs, and by the kernel's own alarm.

use super::*;

pub(super) fn revoked(guest: &mut Guest) -> Result<()> {
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

pub(super) fn frozen(guest: &mut Guest) -> Result<()> {
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
    kit.distrust(
        guest,
        &Spec {
            on_revoke: "freeze",
            ..Spec::default()
        },
    )?;
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

pub(super) fn trips(guest: &mut Guest) -> Result<()> {
    let kit = load(
        guest,
        &Spec {
            every: "10s",
            ..Spec::default()
        },
    )?;
    expect(guest, &["hello"], 0, "before")?;
    // Refused, and an alarm: the kernel raises the counter itself.
    let reach = "bpftool map dump pinned $(ls /sys/fs/bpf/governor/*/TRIPS | head -1)";
    let refused = guest.sh(reach)?.code;
    let denied = agent(guest, &["hello"])?;
    crate::kit::unlock(guest)?;
    kit.trusted(guest)?;
    ensure!(refused != 0, "a stranger read a map of the gate");
    ensure!(denied == NOT_EXECUTED, "the very next execution: {denied}");
    expect(
        guest,
        &["hello"],
        0,
        "after a quote that binds the new count",
    )
}
