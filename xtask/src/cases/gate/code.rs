//! What may execute, be mapped and be started, and by whom.

use super::{tried::Try, *};

pub(super) fn only_listed_files_are_mapped(guest: &mut Guest) -> Result<()> {
    load(guest, &Spec::default())?;
    expect(guest, &["map", AGENT], 0, "its own file")?;
    expect(
        guest,
        &["map-writable", AGENT],
        REFUSED,
        "its own file, writable",
    )?;
    expect(
        guest,
        &["map", "/usr/bin/id"],
        REFUSED,
        "a file that no set lists",
    )?;
    guest.sh(&format!("cp {AGENT} /opt/agent/gone"))?.ok()?;
    expect(guest, &["map", "/opt/agent/gone"], 0, "a copy, by content")?;
    guest
        .sh("cp /opt/agent/gone /opt/agent/changed && printf x >> /opt/agent/changed")?
        .ok()?;
    expect(
        guest,
        &["map", "/opt/agent/changed"],
        REFUSED,
        "a copy, changed",
    )
}

pub(super) fn children_keep_the_label(guest: &mut Guest) -> Result<()> {
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
    )?;
    ways::load(guest, &Spec::default())?;
    let thread = [ways::PROBE, "by-thread"];
    Try::let_be(&[&thread[..], &[AGENT, "hello"]].concat()).in_zone(guest, AGENTS_SLICE)?;
    Try::refused(&[&thread[..], &["/usr/bin/id"]].concat(), "not-authorized")
        .in_zone(guest, AGENTS_SLICE)?;
    moved(guest)
}

/// The label is the task's, wherever that is.
fn moved(guest: &mut Guest) -> Result<()> {
    let fifo = "/opt/agent/own/moved";
    guest
        .sh(&format!(
            "rm -f {fifo} && mkfifo {fifo} && chown {USER} {fifo}"
        ))?
        .ok()?;
    for (path, expected) in [("/usr/bin/true", REFUSED), (AGENT, 2)] {
        let job = guest.spawn(&[
            "systemd-run",
            "--quiet",
            "--wait",
            "--pipe",
            "--collect",
            "--unit=moved",
            &format!("--slice={AGENTS_SLICE}"),
            &format!("--uid={USER}"),
            "--",
            AGENT,
            "after",
            fifo,
            "exec",
            path,
        ])?;
        guest.wait_for_output(job, b"waiting", BOUND)?;
        guest
            .sh(&format!(
                "pid=$(systemctl show -p MainPID --value moved) && \
                 echo $pid > /sys/fs/cgroup/cgroup.procs && grep -qx 0::/ /proc/$pid/cgroup && \
                 timeout 60 sh -c 'echo > {fifo}'"
            ))?
            .ok()
            .context("moving it out of its zone")?;
        let ended = guest.wait(job, BOUND)?;
        ensure!(
            ended.code == expected,
            "`{path}` outside of its zone: {} {}",
            ended.code,
            ended.text()
        );
    }
    guest.run(&["rm", fifo])?.ok().map(drop)
}

pub(super) fn started_by(guest: &mut Guest) -> Result<()> {
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

pub(super) fn users(guest: &mut Guest) -> Result<()> {
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
