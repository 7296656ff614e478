//! What goes on when trust, daemon or policy are gone.

use super::*;
use crate::kit::{AGENTS_SLICE, in_zone};

/// What somebody does who comes to find out.
const RECOVERING: &[&str] = &[
    "su - root -c id",
    "id",
    "dpkg --list > /dev/null",
    "apt-cache policy > /dev/null",
    "systemctl --no-pager status > /dev/null",
    "journalctl --no-pager --lines=1 > /dev/null",
    "bash -lc 'ls / | sort | head -1'",
];

pub(super) fn without_trust(guest: &mut Guest) -> Result<()> {
    let host = load(guest)?;
    guest
        .run(&["governor", "revoke", "--all", "--reason", "drill"])?
        .ok()?;
    recover(guest, "everything revoked")?;
    guest
        .run(&["systemctl", "kill", "--signal=SIGSTOP", "governor.service"])?
        .ok()?;
    recover(guest, "the daemon stopped")?;
    guest
        .run(&["systemctl", "kill", "--signal=SIGCONT", "governor.service"])?
        .ok()?;
    guest
        .run(&["systemctl", "restart", "governor.service"])?
        .ok()?;
    recover(guest, "the daemon restarted")?;
    host.free(guest)
}

pub(super) fn without_a_policy(guest: &mut Guest) -> Result<()> {
    let host = load(guest)?;
    guest
        .run(&["systemctl", "stop", "governor.service"])?
        .ok()?;
    recover(guest, "no daemon")?;
    guest
        .sh("mv /var/lib/governor/policy /root/policy-kept")?
        .ok()?;
    guest
        .run(&["systemctl", "start", "governor.service"])?
        .ok()?;
    recover(guest, "no policy")?;
    host.free(guest)
}

pub(super) fn glass(guest: &mut Guest) -> Result<()> {
    let host = load(guest)?;
    let key = ["--key", GLASS_KEY, "--for", "10m", "--reason", "drill"];
    guest
        .run(&[&["governor", "break-glass"][..], &key].concat())?
        .ok()?;
    let start = [
        "--quiet",
        "--collect",
        "--unit=glass",
        "--property=Type=exec",
    ];
    guest
        .run(&[&["systemd-run"][..], &start, &[AGENT, "hold"]].concat())?
        .ok()
        .context("an unlisted program, while the glass is broken")?;
    let active = "systemctl is-active glass.service";
    ensure!(guest.sh(active)?.code == 0, "it does not run");
    let mend = ["governor", "break-glass", "--end", "--reason", "done"];
    guest.run(&mend)?.ok()?;
    ensure!(guest.sh(active)?.code != 0, "it goes on after the end");
    expect(guest, "/bin/true", 0, "what survives")?;
    expect(
        guest,
        &format!("{AGENT} hello"),
        NOT_EXECUTED,
        "an unlisted program, after the end",
    )?;
    host.free(guest)
}

pub(super) fn shut_out(guest: &mut Guest) -> Result<()> {
    let host = guest.kept::<Host>()?;
    let mut spec = host.spec();
    for (_, lines) in &mut spec.sets {
        let kept = lines.lines().filter(|line| !line.contains("/libc.so.6"));
        *lines = kept.collect::<Vec<_>>().join("\n");
    }
    let dir = host.kit.signed(&spec)?;
    let refused = host.kit.offer(guest, &dir)?;
    let said = refused.errors();
    ensure!(refused.code == 3, "{}: {said}", refused.code);
    ensure!(
        said.contains("libc.so.6"),
        "it names what is missing: {said}"
    );
    expect(guest, &format!("{AGENT} hello"), 0, "nothing changed")
}

pub(super) fn shut_out_later(guest: &mut Guest) -> Result<()> {
    let host = load(guest)?;
    // What an upgrade of systemd that nobody listed beforehand leaves.
    let later = "/usr/lib/systemd/systemd-later";
    guest
        .sh(&format!(
            "printf '#!/bin/sh\\nexit 0\\n' > {later} && chmod 755 {later} && sync"
        ))?
        .ok()?;
    expect(guest, later, NOT_EXECUTED, "an unlisted script")?;
    guest.reboot()?;
    host.kit.trusted(guest)?;
    expect(guest, later, 0, "after a boot the host is observed")?;
    let other = in_zone(guest, AGENTS_SLICE, &["/usr/bin/id"])?.code;
    ensure!(
        other == gate::NOT_EXECUTED,
        "the other zones are as policy says: {other}"
    );
    let dir = host.kit.signed(&host.spec())?;
    let refused = host.kit.offer(guest, &dir)?;
    ensure!(
        refused.code == 3 && refused.errors().contains(later),
        "loaded by hand: {} {}",
        refused.code,
        refused.errors()
    );
    guest.run(&["rm", later])?.ok()?;
    let host = load(guest)?;
    let unlisted = format!("{AGENT} hello");
    expect(guest, &unlisted, NOT_EXECUTED, "once nothing is missing")?;
    host.free(guest)
}

fn recover(guest: &mut Guest, when: &str) -> Result<()> {
    for command in RECOVERING {
        expect(guest, command, 0, &format!("{when}: `{command}`"))?;
    }
    expect(
        guest,
        "cp /bin/true /root/other && echo >> /root/other && /root/other",
        NOT_EXECUTED,
        &format!("{when}: an unlisted program"),
    )
}
