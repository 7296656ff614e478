//! The gate's own objects.

use super::*;
use crate::cases::reading;

/// Only before the gate is armed can the switch be turned at all.
pub(super) fn canary(guest: &mut Guest) -> Result<()> {
    ensure!(
        status::of(guest)?.missing().contains(&"guard".to_owned()),
        "the gate is armed already; this case comes first in a boot"
    );
    let spec = Spec {
        guarded: false,
        ..Spec::default()
    };
    let kit = zone::load(guest, &spec)?;
    // Somebody else refuses it too, before any program would be asked.
    let job = guest.spawn(&[WRITER, "refuse", "/usr/lib/governor/canary"])?;
    guest.wait_for_output(job, b"refusing", zone::BOUND)?;
    guest
        .sh("/bin/echo 0 > /proc/sys/kernel/ftrace_enabled")?
        .ok()?;
    let missed = guest.wait_until("governor status --json | grep -q gate-fault");
    guest.kill(job, 9)?;
    guest.wait(job, zone::BOUND)?;
    missed.context("waiting until it is missed that the gate refuses nothing")?;
    let told = "until governor status --json | grep -q 'tampered:canary-passed'; do \
                governor attest now; done > /dev/null";
    let told = guest.sh(&format!("{told}; true"));
    let trust = status::of(guest)?.trust();
    // Nothing else can tell: an unlisted program runs now.
    let code = crate::kit::in_zone(guest, AGENTS_SLICE, &["/usr/bin/id"])?.code;
    guest
        .sh("/bin/echo 1 > /proc/sys/kernel/ftrace_enabled")?
        .ok()?;
    told?.ok().context("waiting for the canary")?;
    ensure!(trust == "locked" && code == 0, "{trust}, {code}");
    // One that was let through is replaced, and an operator's word is not enough while it is.
    crate::kit::unlock(guest)?;
    // What nobody refused is a fault of the gate, which a policy that it takes ends.
    kit.load(guest, &spec)?;
    works(guest)
}

pub(super) fn objects(guest: &mut Guest) -> Result<()> {
    armed(guest)?;
    for what in ["maps", "programs", "links"] {
        refused(guest, &format!("{ROOT} {what}"), Costs::Trust)?;
    }
    // By the numbers of what the daemon holds, pinned or not.
    let pid = daemon(guest)?;
    for (what, least) in [("map", 17), ("program", 37)] {
        let kind = what.trim_end_matches("ram");
        let ids = format!("sed -n 's/^{kind}_id:\t//p' /proc/{pid}/fdinfo/* | sort -nu");
        let held = guest.sh(&ids)?.ok()?.text().lines().count();
        ensure!(held >= least, "the daemon holds {held} of kind {what}");
        let reach = format!("{ROOT} by-number {what} $({ids})");
        refused(guest, &reach, Costs::Trust)?;
    }
    for pin in [
        "maps-*/STATE",
        "maps-*/TABLE",
        "maps-*/LABELS",
        "links-*/sysctl",
        "links-*/labelled_tasks",
    ] {
        let what = format!("{ROOT} pin /sys/fs/bpf/governor/{pin}");
        refused(guest, &what, Costs::Trust)?;
    }
    // A link by its pin is only held: it cannot be detached.
    let held = guest.sh(&format!(
        "{ROOT} pin /sys/fs/bpf/governor/links-*/bprm_check_security"
    ))?;
    let detached = guest.sh(&format!(
        "{ROOT} detach /sys/fs/bpf/governor/links-*/bprm_check_security"
    ))?;
    ensure!(
        held.code == 0 && detached.code != 0,
        "held {}, detached {} {}",
        held.code,
        detached.code,
        detached.text()
    );
    works(guest)
}

pub(super) fn pins(guest: &mut Guest) -> Result<()> {
    armed(guest)?;
    for what in [
        "rm /sys/fs/bpf/governor/maps-*/STATE",
        "rm /sys/fs/bpf/governor/links-*/bprm_check_security",
        "rm -r /sys/fs/bpf/governor",
        "mv /sys/fs/bpf/governor /sys/fs/bpf/elsewhere",
        "mv /sys/fs/bpf/governor/links-* /sys/fs/bpf/governor/links-0",
        "rmdir /sys/fs/bpf/governor/ready",
        "mkdir /sys/fs/bpf/governor/maps-99",
        "ln -s / /sys/fs/bpf/governor/maps-99",
    ] {
        refused(guest, what, Costs::Trust)?;
    }
    // What is not the gate's is nobody's business.
    guest
        .sh("mkdir /sys/fs/bpf/other && mv /sys/fs/bpf/other /sys/fs/bpf/more && rmdir /sys/fs/bpf/more")?
        .ok()
        .map(drop)
}

/// Each end of a renaming and of a link by itself, and a pin that is new.
pub(super) fn moved(guest: &mut Guest) -> Result<()> {
    armed(guest)?;
    guest.run(&["mkdir", "-p", "/sys/fs/bpf/other"])?.ok()?;
    let pins = "/sys/fs/bpf/governor";
    let another =
        "bpftool map create /sys/fs/bpf/other/map type array key 4 value 4 entries 1 name other";
    guest.sh(another)?.ok()?;
    let tries = [
        format!("bpftool map create {pins}/other type array key 4 value 4 entries 1 name other"),
        format!("mv -T /sys/fs/bpf/other {pins}/new"),
        format!("mv {pins}/maps-*/STATE /sys/fs/bpf/STATE"),
        format!("ln /sys/fs/bpf/other/map $(echo {pins}/links-*)/other"),
        format!("ln {pins}/maps-*/STATE /sys/fs/bpf/STATE"),
    ];
    each_refused(guest, &tries, Costs::Trust)?;
    let beside =
        "ln /sys/fs/bpf/other/map /sys/fs/bpf/more && rm -r /sys/fs/bpf/more /sys/fs/bpf/other";
    guest.sh(beside)?.ok().map(drop)
}

/// Whatever runs where kernel functions are called may answer in their place, or take all the room there is.
pub(super) fn kinds(guest: &mut Guest) -> Result<()> {
    armed(guest)?;
    let tries = RIDING.map(|kind| format!("{ROOT} load {kind}"));
    each_refused(guest, &tries, Costs::Nothing)?;
    // What filters packets is nobody's business.
    guest.sh(&format!("{ROOT} load 1"))?.ok().map(drop)
}

/// Kprobe, tracepoint, perf event, raw tracepoint, sysctl, raw tracepoint that is written, tracing, struct ops,
/// extension, LSM: the kernel's numbers.
const RIDING: [u32; 10] = [2, 5, 7, 17, 23, 24, 26, 27, 28, 29];

/// Some hooks are asked before the kernel looks at who asks.
pub(super) fn ordinary(guest: &mut Guest) -> Result<()> {
    armed(guest)?;
    guest
        .sh(&format!("cp {ROOT} /opt/agent/probe_root"))?
        .ok()?;
    for what in ["bind-private /tmp /sys/fs/bpf", "guess-links"] {
        let what = format!(
            "setpriv --reuid=65534 --regid=65534 --clear-groups /opt/agent/probe_root {what}"
        );
        refused(guest, &what, Costs::Nothing)?;
    }
    ensure!(hello(guest)? == 0, "an ordinary user ended the lease");
    Ok(())
}

pub(super) fn settings(guest: &mut Guest) -> Result<()> {
    armed(guest)?;
    refused(
        guest,
        "/bin/echo 0 > /proc/sys/kernel/ftrace_enabled",
        Costs::Trust,
    )?;
    refused(guest, "sysctl -w kernel.ftrace_enabled=1", Costs::Trust)?;
    refused(
        guest,
        "unshare -m sh -c 'mkdir -p /tmp/p && mount -t proc p /tmp/p && \
         /bin/echo 0 > /tmp/p/sys/kernel/ftrace_enabled'",
        Costs::Trust,
    )?;
    let value = guest.sh("cat /proc/sys/kernel/ftrace_enabled")?.text();
    ensure!(value == "1", "the switch is `{value}`");
    // Others are not looked at.
    guest.sh("sysctl -w vm.swappiness=61")?.ok().map(drop)
}

pub(super) fn disarm(guest: &mut Guest) -> Result<()> {
    armed(guest)?;
    let kit = guest.kept::<crate::kit::Kit>()?;
    // Its slices are there from here on: the first of them would have the daemon started again.
    ensure!(hello(guest)? == 0, "work does not start");
    // A policy that is being read brings nothing back, and keeps nothing from ending.
    let offering = reading::begun(guest, &kit)?;
    guest
        .run(&["governor", "disarm", "--reason", "the last case"])?
        .ok()?;
    let offered = guest.wait(offering, zone::BOUND)?;
    ensure!(
        offered.code != 0,
        "a policy is in force where there is no gate: {}",
        offered.text()
    );
    // The daemon ends, and stays away.
    let ended = "while systemctl is-active --quiet governor; do :; done; \
                 test ! -e /sys/fs/bpf/governor && systemctl show governor --value -p Result";
    let result = guest.sh(ended)?.ok()?.text();
    let ungoverned = crate::kit::in_zone(guest, AGENTS_SLICE, &["/usr/bin/id"])?.code;
    ensure!(
        result == "success" && ungoverned == 0,
        "{result}, {ungoverned}"
    );
    // Whoever starts it again finds a host that does not attest.
    guest.run(&["systemctl", "start", "governor"])?.ok()?;
    let asked = guest.run(&["governor", "attest", "now"])?.code;
    ensure!(
        asked == 3,
        "a host without its gate was trusted again: {asked}"
    );
    ensure!(hello(guest)? == zone::NOT_EXECUTED, "attested work goes on");
    guest.reboot()?;
    kit.trusted(guest)?;
    ensure!(hello(guest)? == 0, "a reboot does not end it");
    without_its_policy(guest)?;
    guest.reboot()?;
    kit.trusted(guest)
}

/// Who takes the policy away first, and puts it back after the gate is gone.
fn without_its_policy(guest: &mut Guest) -> Result<()> {
    let state = "/var/lib/governor";
    guest
        .sh(&format!(
            "mv {state}/policy /root/policy-aside && systemctl restart governor"
        ))?
        .ok()?;
    let said = guest
        .run(&["governor", "disarm", "--reason", "quietly", "--json"])?
        .ok()?
        .text();
    let said: serde_json::Value = serde_json::from_str(&said).context("reading the answer")?;
    ensure!(
        said["pcrs"].as_array().is_some_and(|pcrs| !pcrs.is_empty()),
        "nothing was extended: {said}"
    );
    guest
        .sh(&format!(
            "while systemctl is-active --quiet governor; do :; done; \
             rm -rf {state}/policy && mv /root/policy-aside {state}/policy && systemctl start governor"
        ))?
        .ok()?;
    let asked = guest.run(&["governor", "attest", "now"])?.code;
    ensure!(
        asked == 3,
        "a host whose gate was gone for a while was trusted: {asked}"
    );
    Ok(())
}
