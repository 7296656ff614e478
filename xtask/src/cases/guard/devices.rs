//! Block devices below what is mounted or swapped to, and what those lie on.

use super::*;

pub(super) fn mounted(guest: &mut Guest) -> Result<()> {
    armed(guest)?;
    let disk = guest.sh("findmnt -n -o SOURCE /")?.text();
    refused(guest, &opens(&disk), Costs::Nothing)?;
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
    for disk in &disks {
        refused_by_now(guest, disk)?;
    }
    guest.run(&["umount", "/tmp/btrfs"])?.ok()?;
    for disk in &disks {
        let_go(guest, disk)?;
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
        guest
            .sh(&opens(&disk))?
            .ok()
            .context("writing what is not mounted")?;
        let hold = format!("mount {disk} {point} && echo mounted && exec sleep 1000");
        let job = guest.spawn(&["unshare", "--mount", "sh", "-c", &hold])?;
        guest.wait_for_output(job, b"mounted", zone::BOUND)?;
        let seen = guest.sh(&format!("findmnt {disk}"))?;
        ensure!(seen.code != 0, "it is mounted here: {}", seen.text());
        refused_by_now(guest, &disk)?;
        guest.kill(job, 9)?;
        guest.wait(job, zone::BOUND)?;
        let_go(guest, &disk)?;
        let remove = format!("losetup -d {disk} && rm {image}");
        guest.sh(&remove)?.ok()?;
    }
    Ok(())
}

/// The kernel keeps what it swaps to from being written, and not what that lies on.
pub(super) fn swapped(guest: &mut Guest) -> Result<()> {
    let (disk, part) = partitioned(guest, "mkswap")?;
    in_use(guest, &disk, &format!("swapon {part}"))?;
    // It may be opened: `swapoff` does.
    let write = format!("dd if=/dev/zero of={part} bs=4096 count=1 oflag=direct status=none");
    let itself = guest.sh(&write)?;
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
    let_go(guest, &disk)?;
    not_any_more(guest, &disk)
}

/// What a mounted file system lies on is a part of the disk, which is written at another place.
pub(super) fn part_of_a_disk(guest: &mut Guest) -> Result<()> {
    let (disk, part) = partitioned(guest, "mkfs.ext4 -q")?;
    let mount = format!("mkdir -p /run/part && mount {part} /run/part");
    in_use(guest, &disk, &mount)?;
    refused(guest, &opens(&part), Costs::Nothing)?;
    guest.sh("umount /run/part && rmdir /run/part")?.ok()?;
    let_go(guest, &disk)?;
    not_any_more(guest, &disk)
}

/// What a mounted file system lies on by way of other devices: one that maps a copy of two.
pub(super) fn below_others(guest: &mut Guest) -> Result<()> {
    armed(guest)?;
    let made = guest.sh(LAYERS)?.ok().context("making the layers")?.text();
    let layers: Vec<&str> = made.split_whitespace().collect();
    let outcome = between(guest, &layers);
    // Whoever looks at a device has it open for a moment.
    for remove in [
        "! mountpoint -q /run/layer || umount /run/layer",
        "! test -e /dev/mapper/layer || dmsetup remove layer",
        "udevadm settle && echo clear > /sys/block/md99/md/array_state",
        "losetup -j /root/below1 | cut -d : -f 1 | xargs -r losetup -d",
        "losetup -j /root/below2 | cut -d : -f 1 | xargs -r losetup -d",
    ] {
        guest.wait_until(remove)?;
    }
    guest.sh("rm /root/below?")?.ok()?;
    outcome
}

fn between(guest: &mut Guest, layers: &[&str]) -> Result<()> {
    ensure!(layers.len() == 4, "its layers: {layers:?}");
    let (top, below) = layers.split_last().context("no layers")?;
    for device in below {
        guest
            .sh(&opens(device))?
            .ok()
            .context("writing what is not mounted")?;
    }
    let mount = format!("mkfs.ext4 -q {top} && mkdir -p /run/layer && mount {top} /run/layer");
    guest.sh(&mount)?.ok().context("mounting it")?;
    for device in below {
        refused_by_now(guest, device)?;
    }
    guest.run(&["umount", "/run/layer"])?.ok()?;
    for device in below {
        let_go(guest, device)?;
    }
    Ok(())
}

/// Says which they are, from the lowest. The copy by what its driver offers, as its tool would.
const LAYERS: &str = "set -e; set --; for i in 1 2; do \
    truncate -s 64M /root/below$i; set -- $@ $(losetup -f --show /root/below$i); done; \
    echo md99 > /sys/module/md_mod/parameters/new_array; cd /sys/block/md99/md; \
    echo raid1 > level; echo 2 > raid_disks; echo 65000 > component_size; \
    for disk; do cat /sys/class/block/${disk#/dev/}/dev > new_dev; done; slot=0; \
    for disk in dev-*; do echo 65000 > $disk/size; echo $slot > $disk/slot; slot=1; done; \
    echo active > array_state; udevadm settle; \
    dmsetup create layer --table \"0 $(blockdev --getsz /dev/md99) linear /dev/md99 0\"; udevadm settle; \
    echo $@ /dev/md99 /dev/mapper/layer";

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
        (opens(&part), "writing the partition"),
        (opens(&disk), "writing the disk"),
        (format!("{make} {part} >&2"), "making something of it"),
    ] {
        let free = format!("udevadm settle && {doing}");
        guest
            .wait_until(&free)
            .with_context(|| format!("{what}, which is not in use"))?;
    }
    Ok((disk, part))
}

/// From then on the disk is not written.
fn in_use(guest: &mut Guest, disk: &str, begin: &str) -> Result<()> {
    let begin = format!("udevadm settle && {begin}");
    guest
        .wait_until(&begin)
        .context("beginning to use the partition")?;
    refused_by_now(guest, disk)
}

/// The daemon looks once a second.
fn refused_by_now(guest: &mut Guest, disk: &str) -> Result<()> {
    guest
        .wait_until(&format!("! {}", opens(disk)))
        .context("waiting for the guard")?;
    refused(guest, &opens(disk), Costs::Nothing)
}

/// Once nobody uses it.
fn let_go(guest: &mut Guest, disk: &str) -> Result<()> {
    guest
        .wait_until(&opens(disk))
        .context("waiting for it to let go")
}

fn not_any_more(guest: &mut Guest, disk: &str) -> Result<()> {
    guest
        .sh(&format!("losetup -d {disk} && rm {DISK}"))?
        .ok()
        .map(drop)
}

/// Opens it to write. That is what is refused, so nothing need be written.
fn opens(device: &str) -> String {
    format!("dd if=/dev/zero of={device} bs=1 count=0 conv=nocreat,notrunc status=none")
}

const DISK: &str = "/root/disk-in-parts";

/// Where and how long it is, and of which kind, as a table of the oldest form has it.
const PARTITION: &str = r"\000\000\000\000\202\000\000\000\000\010\000\000\000\000\001\000";
