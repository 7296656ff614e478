//! How long it takes with many tasks. Printed, for people; nothing here depends on it.

use super::*;

pub(super) fn thousand(guest: &mut Guest) -> Result<()> {
    load(guest, &Spec::default())?;
    // Work that is none of governor's business, but has to be looked at.
    let others = guest.spawn(&[AGENT, "crowd", "1000"])?;
    guest.wait_for_output(others, b"holding", BOUND)?;
    let mut lines = Vec::new();
    let job = start(guest, "crowd", &["crowd", "1000"], "holding")?;
    let dir = cgroup("crowd");
    let count = guest
        .sh(&format!("wc -l < {dir}/cgroup.procs"))?
        .ok()?
        .text();
    ensure!(count == "1000", "{count} tasks");
    let frozen = |wanted: &str| {
        format!(
            "until grep -q '^{wanted}' {dir}/cgroup.events 2> /dev/null || ! [ -d {dir} ]; do :; done"
        )
    };
    let governor = |verb: &str| format!("governor {verb} --workload planner --reason drill");
    for (what, command, state) in [
        (
            "freeze, bare file",
            format!("echo 1 > {dir}/cgroup.freeze"),
            "frozen 1",
        ),
        (
            "thaw, bare file",
            format!("echo 0 > {dir}/cgroup.freeze"),
            "frozen 0",
        ),
        ("governor pause", governor("pause"), "frozen 1"),
        ("governor resume", governor("resume"), "frozen 0"),
        ("governor kill", governor("kill"), "populated 0"),
    ] {
        lines.push(timed(
            guest,
            what,
            &format!("{{ {command}; }} > /dev/null; {}", frozen(state)),
        )?);
    }
    guest.wait(job, BOUND)?;
    let job = start(guest, "crowd", &["crowd", "1000"], "holding")?;
    let bare = format!("echo 1 > {dir}/cgroup.kill; {}", frozen("populated 0"));
    lines.push(timed(guest, "kill, bare file", &bare)?);
    guest.wait(job, BOUND)?;
    // All of them outside of the zone: one by one, by label.
    let job = start(guest, "crowd", &["crowd", "1000"], "holding")?;
    guest
        .sh(&format!(
            "mkdir -p {ELSEWHERE}; for i in $(cat {dir}/cgroup.procs); do \
             echo $i > {ELSEWHERE}/cgroup.procs; done"
        ))?
        .ok()?;
    lines.push(timed(
        guest,
        "governor kill, all moved out",
        &governor("kill"),
    )?);
    guest.wait(job, BOUND)?;
    wait_until(
        guest,
        &format!("grep -q 'populated 0' {ELSEWHERE}/cgroup.events"),
    )?;
    lines.push(timed(
        guest,
        "governor kill, nobody there",
        &governor("kill"),
    )?);
    let inside = "journalctl -u governor -o cat | grep 'stops took' | tail -4";
    let inside = guest.sh(inside)?.ok()?.text();
    guest.kill(others, 9)?;
    guest.wait(others, BOUND)?;
    lines.push(timed(
        guest,
        "any request",
        "governor status > /dev/null || true",
    )?);
    println!(
        "    {}: 1000 tasks, 1000 others: {}\n    the daemon's loop: {}",
        guest.kernel(),
        lines.join(", "),
        inside.replace('\n', "; ")
    );
    Ok(())
}

fn timed(guest: &mut Guest, what: &str, script: &str) -> Result<String> {
    let timing = format!("a=$(date +%s%N); {script}; b=$(date +%s%N); echo $(((b - a) / 1000000))");
    let said = guest.sh(&timing)?.ok()?.text();
    let took = said.lines().last().unwrap_or_default();
    Ok(format!("{what} {took} ms"))
}
