//! Block devices below what is mounted or swapped to, and what those lie on.

use super::*;

pub(super) fn mounted(guest: &mut Guest) -> Result<()> {
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
        guest
            .wait_until(&format!("! {}", writes(disk)))
            .context("waiting for the guard")?;
        refused(guest, &writes(disk), Costs::Nothing)?;
    }
    guest.run(&["umount", "/tmp/btrfs"])?.ok()?;
    for disk in &disks {
        guest
            .wait_until(&writes(disk))
            .context("waiting for it to let go")?;
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
        guest
            .wait_until(&format!("! {writes}"))
            .context("waiting for the guard")?;
        refused(guest, &writes, Costs::Nothing)?;
        guest.kill(job, 9)?;
        guest.wait(job, zone::BOUND)?;
        guest
            .wait_until(&writes)
            .context("waiting for it to let go")?;
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
    guest
        .wait_until(&writes(&disk))
        .context("waiting for it to let go")?;
    not_any_more(guest, &disk)
}

/// What a mounted file system lies on is a part of the disk, which is written at another place.
pub(super) fn part_of_a_disk(guest: &mut Guest) -> Result<()> {
    let (disk, part) = partitioned(guest, "mkfs.ext4 -q")?;
    let mount = format!("mkdir -p /run/part && mount {part} /run/part");
    in_use(guest, &disk, &mount)?;
    refused(guest, &writes(&part), Costs::Nothing)?;
    guest.sh("umount /run/part && rmdir /run/part")?.ok()?;
    guest
        .wait_until(&writes(&disk))
        .context("waiting for it to let go")?;
    not_any_more(guest, &disk)
}

/// What a mounted file system lies on by way of another device: one that maps it, and one of which it is a copy.
pub(super) fn below_another(guest: &mut Guest) -> Result<()> {
    for layer in &LAYERS {
        armed(guest)?;
        let disks = guest
            .sh(
                "for i in 1 2; do truncate -s 64M /root/below$i && losetup -f --show /root/below$i; done",
            )?
            .ok()?
            .text();
        let disks: Vec<&str> = disks.split_whitespace().collect();
        let below = disks.get(..layer.lies_on).context("making its disks")?;
        let set = format!("set -- {}", disks.join(" "));
        guest
            .sh(&format!("{set} && {}", layer.make))?
            .ok()
            .context(layer.make)?;
        for disk in below {
            guest
                .sh(&writes(disk))?
                .ok()
                .context("nothing is mounted")?;
        }
        let mount = format!(
            "mkfs.ext4 -q {0} && mkdir -p /run/layer && mount {0} /run/layer",
            layer.name
        );
        guest.sh(&mount)?.ok().context(layer.name)?;
        for disk in below {
            refused_by_now(guest, disk)?;
        }
        guest.run(&["umount", "/run/layer"])?.ok()?;
        for disk in below {
            guest
                .wait_until(&writes(disk))
                .context("waiting for it to let go")?;
        }
        let remove = format!(
            "{set} && {} && losetup -d $1 $2 && rm /root/below?",
            layer.remove
        );
        guest.sh(&remove)?.ok().context(layer.remove)?;
    }
    Ok(())
}

/// A device that lies on others, which are `$1` and `$2`.
struct Layer {
    name: &'static str,
    lies_on: usize,
    make: &'static str,
    remove: &'static str,
}

const LAYERS: [Layer; 2] = [
    Layer {
        name: "/dev/mapper/layer",
        lies_on: 1,
        make: "dmsetup create layer --table \"0 $(blockdev --getsz $1) linear $1 0\" && udevadm settle",
        remove: "dmsetup remove layer",
    },
    // By what its driver offers, as its tool would.
    Layer {
        name: "/dev/md99",
        lies_on: 2,
        make: "echo md99 > /sys/module/md_mod/parameters/new_array && cd /sys/block/md99/md && \
               echo raid1 > level && echo 2 > raid_disks && echo 65000 > component_size && \
               for disk; do cat /sys/class/block/${disk#/dev/}/dev > new_dev; done && slot=0 && \
               for disk in dev-*; do echo 65000 > $disk/size && echo $slot > $disk/slot && slot=1; done && \
               echo active > array_state && udevadm settle",
        remove: "echo clear > /sys/block/md99/md/array_state && udevadm settle",
    },
];

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
    let refuses = format!("! {}", writes(disk));
    guest
        .wait_until(&refuses)
        .context("waiting for the guard")?;
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
