//! What the gate is found by: mounts over it and off it, here, elsewhere and by the first process.

use super::*;

pub(super) fn over_and_off(guest: &mut Guest) -> Result<()> {
    armed(guest)?;
    for what in [
        "umount /sys/fs/bpf",
        "umount -l /sys/fs/bpf",
        "umount -l /sys",
        "mount -t tmpfs none /sys/fs/bpf",
        "mount -t tmpfs none /sys/fs/bpf/governor",
        "mount -t tmpfs none /sys/fs",
        "mount -t tmpfs none /sys",
        "mount --bind /tmp /sys/fs/bpf",
    ] {
        refused(guest, what, Costs::Trust)?;
    }
    let both = format!("{ROOT} bind-private /tmp /sys/fs/bpf");
    refused(guest, &both, Costs::Trust)?;
    works(guest)
}

/// The kernel asks about the mount that is named, and does the same wherever it propagates to.
pub(super) fn propagated(guest: &mut Guest) -> Result<()> {
    armed(guest)?;
    for what in [
        "unshare -m --propagation unchanged umount -l /sys/fs/bpf",
        "unshare -m --propagation unchanged umount -l /",
        "unshare -m --propagation unchanged mount -t tmpfs none /sys/fs",
    ] {
        refused(guest, what, Costs::Trust)?;
    }
    // What the first process sees follows the copy from then on, and is followed by nothing.
    let master = "unshare -m --propagation unchanged sh -c \
                  'nsenter -t 1 -m mount --make-slave /sys && umount -l /sys/fs/bpf'";
    let followed = refused(guest, master, Costs::Trust);
    guest.sh("mount --make-shared /sys")?.ok()?;
    followed?;
    // A mount that took no part is made to, once it was judged.
    let joined = format!("unshare -m {ROOT} join-group /proc/1/root/sys /sys");
    refused(guest, &joined, Costs::Trust)?;
    // Copies in a tree that goes as a whole, of which its root is nothing of the gate's.
    guest
        .sh(
            "mkdir -p /tmp/tree && mount -t tmpfs none /tmp/tree && mkdir /tmp/tree/sys && \
             mount --rbind /sys /tmp/tree/sys",
        )?
        .ok()?;
    let whole = refused(guest, "umount -l /tmp/tree", Costs::Nothing);
    let one = refused(guest, "umount /tmp/tree/sys/fs/bpf", Costs::Trust);
    let over = "mkdir -p /tmp/over && mount --bind /tmp/over /tmp/tree/sys/fs/cgroup/system.slice";
    let over = refused(guest, over, Costs::Nothing);
    // Copies that take no part are anybody's.
    guest
        .sh("mount --make-rslave /tmp/tree && umount -l /tmp/tree")?
        .ok()?;
    whole.and(one).and(over)?;
    guest
        .sh("mountpoint -q /sys/fs/bpf && test -e /sys/fs/bpf/governor/ready")?
        .ok()
        .context("the pins are gone")?;
    works(guest)
}

/// Whoever sees nothing mounted on a directory may remove it, and takes away what others see there.
pub(super) fn directory(guest: &mut Guest) -> Result<()> {
    armed(guest)?;
    for what in [
        "rmdir /sys",
        "mv /sys /sys.away",
        "mkdir -p /sys.new && mv -T /sys.new /sys",
    ] {
        let what = format!("unshare -m sh -c 'umount -l /sys && {what}'");
        refused(guest, &what, Costs::Trust)?;
    }
    guest
        .sh(
            "rmdir /sys.new && mountpoint -q /sys/fs/bpf && mkdir -p /tmp/a/sys && \
             mv /tmp/a/sys /tmp/a/other && rm -r /tmp/a",
        )?
        .ok()
        .context("what else is called like it")?;
    works(guest)
}

/// People mount as they like, elsewhere and in namespaces of their own, and services start in theirs.
pub(super) fn others(guest: &mut Guest) -> Result<()> {
    armed(guest)?;
    let before = trips(guest)?;
    let unit = "systemd-run --quiet --wait --pipe --collect -p PrivateMounts=yes -p PrivateTmp=yes \
                -p ProtectSystem=strict -p ProtectControlGroups=yes -p ProtectKernelTunables=yes";
    for what in [
        "mkdir -p /tmp/m && mount -t tmpfs none /tmp/m && umount /tmp/m",
        "mount -t sysfs none /tmp/m && umount /tmp/m",
        "mount -t bpf none /tmp/m && umount /tmp/m",
        "mount --bind / /tmp/m && umount /tmp/m",
        "mount --bind /sys/fs/bpf /tmp/m && umount /tmp/m",
        "mount -t cgroup2 none /tmp/m && mount -t tmpfs none /tmp/m/system.slice && umount -l /tmp/m",
        "unshare -m sh -c 'umount /sys/fs/bpf && mount -t tmpfs none /sys/fs/bpf'",
        "unshare -m --propagation slave sh -c 'umount -l /sys && mount -t tmpfs none /sys'",
        "mount -o remount,rw /",
        &format!("{unit} umount -l /sys/fs/bpf"),
        &format!("{unit} umount -l /sys"),
    ] {
        guest.sh(what)?.ok().with_context(|| what.to_owned())?;
    }
    ensure!(trips(guest)? == before, "somebody else's mounts alarmed");
    works(guest)
}

/// Whoever is root may ask the first process for a mount that it makes itself.
pub(super) fn first_process(guest: &mut Guest) -> Result<()> {
    armed(guest)?;
    guest
        .sh(
            "cd /run/systemd/system && printf '[Automount]\\nWhere=/sys/fs\\n' > sys-fs.automount && \
             printf '[Mount]\\nWhat=none\\nType=tmpfs\\nWhere=/sys/fs\\n' > sys-fs.mount && \
             systemctl daemon-reload",
        )?
        .ok()?;
    let asked = "systemctl start sys-fs.automount || \
                 { journalctl -u sys-fs.automount --no-pager -n 5; false; }";
    let asked = refused(guest, asked, Costs::Trust);
    guest
        .sh("rm /run/systemd/system/sys-fs.*mount && systemctl daemon-reload")?
        .ok()?;
    asked
}
