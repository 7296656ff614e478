//! What the gate leans on: cgroups and the kernel. And who asks from inside a zone.

use super::*;

const SERVICE: &str = "/sys/fs/cgroup/system.slice/governor.service";

pub(super) fn cgroups(guest: &mut Guest) -> Result<()> {
    armed(guest)?;
    let zone = "/sys/fs/cgroup/governed.slice/governed-agents.slice";
    ensure!(hello(guest)? == 0, "the zone is not there");
    guest.sh("systemctl start governed-agents.slice")?.ok()?;
    for what in [
        format!("echo 1 > {SERVICE}/cgroup.freeze"),
        format!("echo 1 > {SERVICE}/cgroup.kill"),
        format!("echo 0 > {SERVICE}/memory.max"),
        "echo 1 > /sys/fs/cgroup/system.slice/cgroup.freeze".to_owned(),
        "echo 1 > /sys/fs/cgroup/system.slice/cgroup.kill".to_owned(),
        format!("echo 0 > {zone}/cgroup.freeze"),
        format!("mkdir -p {zone}/leaf; echo 1 > {zone}/leaf/cgroup.freeze"),
        format!("rmdir {zone}"),
    ] {
        refused(guest, &what, Costs::Nothing)?;
    }
    // What is nobody's zone is frozen as ever.
    guest
        .sh(
            "mkdir /sys/fs/cgroup/mine && echo 1 > /sys/fs/cgroup/mine/cgroup.freeze && \
             rmdir /sys/fs/cgroup/mine",
        )?
        .ok()
        .map(drop)
}

pub(super) fn kernel(guest: &mut Guest) -> Result<()> {
    armed(guest)?;
    let module = guest
        .sh("find /lib/modules -name 'dummy.ko*' -o -name 'loop.ko*' -o -name '*.ko' | head -1")?
        .text();
    ensure!(!module.is_empty(), "the guest has no module to try");
    for what in [
        format!("{ROOT} module"),
        format!("{ROOT} module-file {module}"),
        format!("{ROOT} kexec"),
        format!("{ROOT} kexec-file {ROOT}"),
        format!("{ROOT} ports"),
        format!("{ROOT} port"),
        "dd if=/dev/zero of=/dev/mem bs=1 count=1".to_owned(),
    ] {
        refused(guest, &what, Costs::Nothing)?;
    }
    let policy = "/sys/kernel/security/ima/policy";
    if guest.sh(&format!("test -w {policy}"))?.code == 0 {
        let what = format!("echo 'measure func=BPRM_CHECK' > {policy}");
        refused(guest, &what, Costs::Trust)?;
    } else {
        guest.leaves_out("loading an IMA policy", "CONFIG_IMA_WRITE_POLICY");
    }
    Ok(())
}

/// The kernel fetches a module for whoever asks for something; for governed work nobody is even called.
pub(super) fn fetched(guest: &mut Guest) -> Result<()> {
    armed(guest)?;
    let zone = "/sys/fs/cgroup/governed.slice/governed-agents.slice";
    guest.sh("systemctl start governed-agents.slice")?.ok()?;
    let script = b"#!/bin/sh\necho \"$@\" >> /run/fetched\nexit 1\n";
    guest.put("/root/fetch", 0o755, script)?;
    let setting = "/proc/sys/kernel/modprobe";
    let before = guest.sh(&format!("cat {setting}"))?.ok()?.text();
    guest
        .sh(&format!("rm -f /run/fetched; echo /root/fetch > {setting}"))?
        .ok()?;
    // A family that nobody has a module loaded for.
    let free = guest.sh(&format!(
        "{ROOT} family 9; cat /run/fetched; rm -f /run/fetched"
    ));
    let governed = guest.sh(&format!(
        "mkdir -p {zone}/fetch && {ROOT} family 9 {zone}/fetch; cat /run/fetched; rmdir {zone}/fetch"
    ));
    guest.sh(&format!("echo {before} > {setting}"))?.ok()?;
    let (free, governed) = (free?, governed?);
    ensure!(
        free.text().contains("net-pf-9"),
        "nobody is called for anybody: {} {}",
        free.text(),
        free.errors()
    );
    ensure!(
        !governed.text().contains("net-pf-9") && governed.text().contains("not supported"),
        "for governed work: {} {}",
        governed.text(),
        governed.errors()
    );
    works(guest)
}

pub(super) fn governed_root(guest: &mut Guest) -> Result<()> {
    let kit = guest.kept::<crate::kit::Kit>()?;
    let probe = guest.run(&["governor", "measure", ROOT])?.ok()?.text();
    let spec = Spec {
        planner: probe,
        on_revoke: "deny",
        ..Spec::default()
    };
    guest
        .sh(&format!("cp {ROOT} /opt/agent/probe_root"))?
        .ok()?;
    kit.load(guest, &spec)?;
    let before = trips(guest)?;
    let pid = daemon(guest)?;
    for argument in [
        "maps",
        "programs",
        "links",
        "module",
        "ports",
        &format!("attach {pid}"),
    ] {
        let argv = format!(
            "systemd-run --quiet --wait --pipe --collect --slice={AGENTS_SLICE} -- \
             /opt/agent/probe_root {argument}"
        );
        let code = guest.sh(&argv)?.code;
        ensure!(code == zone::REFUSED, "`{argument}` from a zone: {code}");
    }
    let asked = guest.run(&["governor", "attest", "now"])?.code;
    ensure!(
        asked == 0 && trips(guest)? == before,
        "a workload raised the alarm: {asked}"
    );
    ensure!(hello(guest)? == 0, "a workload cost the host its trust");
    // It is held against the workload, each copy of it.
    let counted = Spec {
        tables: "[risk.reaching]\ncount = 3\nof = \"denied-guard\"\nwithin = \"10m\"\naction = \"kill\"",
        ..spec
    };
    kit.load(guest, &counted)?;
    guest
        .sh(&format!(
            "systemd-run --quiet --unit=reaching --slice={AGENTS_SLICE} --uid=agent -- {AGENT} hold"
        ))?
        .ok()?;
    let reach = format!(
        "for try in 1 2 3; do systemd-run --quiet --wait --collect --slice={AGENTS_SLICE} -- \
         /opt/agent/probe_root maps; done; true"
    );
    guest.sh(&reach)?.ok()?;
    guest
        .wait_until("! systemctl is-active --quiet reaching")
        .context("waiting for the workload to be stopped")?;
    ensure!(
        trips(guest)? == before && hello(guest)? == 0,
        "a workload that was stopped cost the host its trust"
    );
    kit.load(guest, &Spec::default())
}
