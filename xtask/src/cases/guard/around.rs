//! What the gate leans on: cgroups, the kernel, the disk. And who asks from inside a zone.

use super::{super::daemon::wait_until, *};

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

pub(super) fn devices(guest: &mut Guest) -> Result<()> {
    armed(guest)?;
    let disk = guest.sh("findmnt -n -o SOURCE /")?.text();
    refused(
        guest,
        &format!("dd if=/dev/zero of={disk} bs=1 count=0"),
        Costs::Nothing,
    )?;
    // Reading is nobody's business.
    guest
        .sh(&format!("dd if={disk} of=/dev/null bs=512 count=1"))?
        .ok()
        .map(drop)
}

/// Its mounts show a number that is no device's, and only one name of those that it lies on.
pub(super) fn btrfs(guest: &mut Guest) -> Result<()> {
    armed(guest)?;
    let made = guest
        .sh(
            "for i in 1 2; do truncate -s 128M /root/btrfs$i && losetup -f --show /root/btrfs$i; done && \
             set -- $(losetup -n -O NAME -j /root/btrfs1) $(losetup -n -O NAME -j /root/btrfs2) && \
             mkfs.btrfs -q -f -d single -m single $1 $2 >&2 && mkdir -p /tmp/btrfs && mount $1 /tmp/btrfs",
        )?
        .ok()
        .context("mounting a btrfs")?
        .text();
    let disks: Vec<&str> = made.split_whitespace().collect();
    ensure!(disks.len() == 2, "its devices: `{made}`");
    let writes = |disk: &&str| format!("dd if=/dev/zero of={disk} bs=1 count=0 status=none");
    for disk in &disks {
        // The daemon looks once a second.
        wait_until(guest, &format!("! {}", writes(disk))).context("waiting for the guard")?;
        refused(guest, &writes(disk), Costs::Nothing)?;
    }
    guest.run(&["umount", "/tmp/btrfs"])?.ok()?;
    for disk in &disks {
        wait_until(guest, &writes(disk)).context("waiting for it to let go")?;
    }
    let disks = disks.join(" ");
    guest
        .sh(&format!("losetup -d {disks} && rm /root/btrfs?"))?
        .ok()
        .map(drop)
}

/// The first process sees nothing of them: their kind has a list.
pub(super) fn elsewhere(guest: &mut Guest) -> Result<()> {
    armed(guest)?;
    let (image, point) = ("/root/elsewhere", "/mnt");
    for make in ["mkfs.ext4 -q", zone::MAKE_XFS] {
        let disk = guest
            .sh(&format!(
                "truncate -s 100M {image} && {make} {image} >&2 && losetup -f --show {image}"
            ))?
            .ok()
            .context("making a file system")?
            .text();
        let writes = format!("dd if=/dev/zero of={disk} bs=1 count=0 status=none");
        guest
            .sh(&writes)?
            .ok()
            .context("writing what is not mounted")?;
        let hold = format!("mount {disk} {point} && echo mounted && exec sleep 1000");
        let job = guest.spawn(&["unshare", "--mount", "sh", "-c", &hold])?;
        guest.wait_for_output(job, b"mounted", zone::BOUND)?;
        let seen = guest.sh(&format!("findmnt {disk}"))?;
        ensure!(seen.code != 0, "it is mounted here: {}", seen.text());
        // The daemon looks once a second.
        wait_until(guest, &format!("! {writes}")).context("waiting for the guard")?;
        refused(guest, &writes, Costs::Nothing)?;
        guest.kill(job, 9)?;
        guest.wait(job, zone::BOUND)?;
        wait_until(guest, &writes).context("waiting for it to let go")?;
        let remove = format!("losetup -d {disk} && rm {image}");
        guest.sh(&remove)?.ok()?;
    }
    Ok(())
}

/// The kernel keeps what it swaps to from being written, and not what that lies on.
pub(super) fn swapped(guest: &mut Guest) -> Result<()> {
    let (disk, part) = partitioned(guest, "mkswap")?;
    in_use(guest, &disk, &format!("swapon {part}"))?;
    let itself = guest.sh(&writes(&part))?;
    ensure!(
        itself.code != 0 && itself.errors().contains("Text file busy"),
        "writing what is swapped to: {} {}",
        itself.code,
        itself.errors()
    );
    guest
        .run(&["swapoff", &part])?
        .ok()
        .context("ending it, for which it is opened to be written")?;
    wait_until(guest, &writes(&disk)).context("waiting for it to let go")?;
    not_any_more(guest, &disk)
}

/// What a mounted file system lies on is a part of the disk, which is written at another place.
pub(super) fn part_of_a_disk(guest: &mut Guest) -> Result<()> {
    let (disk, part) = partitioned(guest, "mkfs.ext4 -q")?;
    let mount = format!("mkdir -p /run/part && mount {part} /run/part");
    in_use(guest, &disk, &mount)?;
    refused(guest, &writes(&part), Costs::Nothing)?;
    guest.sh("umount /run/part && rmdir /run/part")?.ok()?;
    wait_until(guest, &writes(&disk)).context("waiting for it to let go")?;
    not_any_more(guest, &disk)
}

/// A disk with one partition, which was made something of; both are written while nobody uses them.
fn partitioned(guest: &mut Guest, make: &str) -> Result<(String, String)> {
    armed(guest)?;
    // With a table of its own: the partition comes back whenever the disk is looked at again.
    let disk = guest
        .sh(&format!(
            "truncate -s 64M {DISK} && \
             printf '{PARTITION}' | dd of={DISK} bs=1 seek=446 conv=notrunc status=none && \
             printf '\\125\\252' | dd of={DISK} bs=1 seek=510 conv=notrunc status=none && \
             losetup -P -f --show {DISK}"
        ))?
        .ok()?
        .text();
    let part = format!("{disk}p1");
    // Whoever looks at the disk takes the partition away for a moment.
    for (doing, what) in [
        (writes(&part), "writing the partition"),
        (writes(&disk), "writing the disk"),
        (format!("{make} {part} >&2"), "making something of it"),
    ] {
        let free = format!("udevadm settle && {doing}");
        wait_until(guest, &free).with_context(|| format!("{what}, which is not in use"))?;
    }
    Ok((disk, part))
}

/// From then on the disk is not written.
fn in_use(guest: &mut Guest, disk: &str, begin: &str) -> Result<()> {
    let begin = format!("udevadm settle && {begin}");
    wait_until(guest, &begin).context("beginning to use the partition")?;
    // The daemon looks once a second.
    let refuses = format!("! {}", writes(disk));
    wait_until(guest, &refuses).context("waiting for the guard")?;
    refused(guest, &writes(disk), Costs::Nothing)
}

fn not_any_more(guest: &mut Guest, disk: &str) -> Result<()> {
    guest
        .sh(&format!("losetup -d {disk} && rm {DISK}"))?
        .ok()
        .map(drop)
}

fn writes(device: &str) -> String {
    format!(
        "dd if=/dev/zero of={device} bs=4096 seek=4000 count=1 oflag=direct conv=nocreat status=none"
    )
}

const DISK: &str = "/root/disk-in-parts";

/// Where and how long it is, and of which kind, as a table of the oldest form has it.
const PARTITION: &str = r"\000\000\000\000\202\000\000\000\000\010\000\000\000\000\001\000";

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
    Ok(())
}
