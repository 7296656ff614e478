//! What may execute, be mapped and be started, and by whom.

use super::*;

pub(super) fn memory_without_a_file(guest: &mut Guest) -> Result<()> {
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
    )
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
