//! The gate's own objects: the switch, links, pins, maps and programs.

use super::{
    Attack,
    Row::{Links, Maps, Pins, Programs, Riders, Switch},
    either, refused,
};

pub(super) const ALL: &[Attack] = &[
    refused(
        Switch,
        "switch-written",
        "/bin/echo 0 > /proc/sys/kernel/ftrace_enabled",
    )
    .guarded(),
    refused(Switch, "switch-opened-before", "held write").guarded(),
    refused(
        Switch,
        "refusal-overridden-by-what-was-loaded-before",
        "held attach",
    )
    .guarded(),
    refused(Switch, "refusal-overridden-by-a-link-to-it", "held link").guarded(),
    refused(
        Riders,
        "return-modified-by-what-was-loaded-before",
        "held ride",
    )
    .guarded(),
    refused(
        Switch,
        "switch-of-another-proc",
        "unshare -m sh -c 'mkdir -p /tmp/p && mount -t proc p /tmp/p && \
         /bin/echo 0 > /tmp/p/sys/kernel/ftrace_enabled'",
    )
    .guarded(),
    refused(
        Switch,
        "switch-from-another-cgroup",
        "mkdir -p /sys/fs/cgroup/attack && echo 0 > /sys/fs/cgroup/attack/cgroup.procs && \
         /bin/echo 0 > /proc/sys/kernel/ftrace_enabled",
    )
    .undone_by(LEFT),
    refused(
        Switch,
        "switch-as-another-namespaces-root",
        "unshare -Ur sh -c '/bin/echo 0 > /proc/sys/kernel/ftrace_enabled'",
    ),
    refused(Switch, "switch-refusal-overridden", "$X override attach"),
    refused(
        Switch,
        "switch-refusal-overridden-by-a-link",
        "$X override link",
    ),
    // Where several may be, the kernel takes off none that is not named by a descriptor.
    refused(Switch, "switch-guard-detached", "$X detach-setting")
        .saying(&["Bad file descriptor", "Invalid argument"]),
    refused(Links, "links-by-number", "$R links").guarded(),
    refused(
        Links,
        "link-detached",
        "$R detach $P/links-*/bprm_check_security",
    )
    .saying(TRACING)
    .guarded(),
    refused(
        Links,
        "link-updated",
        "$X update $P/links-*/bprm_check_security",
    )
    .saying(TRACING),
    refused(Links, "list-updated", "$X update $P/links-*/labelled_tasks"),
    refused(Pins, "pin-removed", "rm $P/links-*/bprm_check_security").guarded(),
    refused(Pins, "pins-removed", "rm -r $P").guarded(),
    refused(Pins, "pins-renamed", "mv $P /sys/fs/bpf/elsewhere").guarded(),
    refused(Pins, "ready-removed", "rmdir $P/ready").guarded(),
    refused(Pins, "pins-added", "mkdir $P/maps-99").guarded(),
    refused(Pins, "pins-linked", "ln -s / $P/maps-99").guarded(),
    refused(
        Pins,
        "pin-held-by-another-name",
        "ln $P/links-*/bprm_check_security /sys/fs/bpf/held",
    )
    .guarded(),
    refused(
        Pins,
        "pin-removed-in-a-namespace",
        "unshare -m sh -c 'rm /sys/fs/bpf/governor/links-*/task_alloc'",
    ),
    refused(Pins, "bpffs-unmounted", "umount /sys/fs/bpf").guarded(),
    refused(Pins, "bpffs-unmounted-lazily", "umount -l /sys/fs/bpf").guarded(),
    refused(Pins, "sys-unmounted-lazily", "umount -l /sys").guarded(),
    refused(
        Pins,
        "bpffs-unmounted-where-it-propagates-from",
        "unshare -m --propagation unchanged umount -l /sys/fs/bpf",
    )
    .guarded(),
    refused(
        Pins,
        "bpffs-unmounted-with-a-tree",
        "mkdir -p /tmp/tree && mount -t tmpfs none /tmp/tree && mkdir /tmp/tree/sys && \
         mount --rbind /sys /tmp/tree/sys && umount -l /tmp/tree",
    )
    .undone_by(
        "while mountpoint -q /tmp/tree; do mount --make-rslave /tmp/tree; umount -l /tmp/tree; done",
    )
    .guarded(),
    refused(
        Pins,
        "directory-below-removed",
        "unshare -m sh -c 'umount -l /sys && rmdir /sys'",
    )
    .guarded(),
    refused(
        Pins,
        "bpffs-mounted-over",
        "mount -t tmpfs none /sys/fs/bpf",
    )
    .guarded(),
    refused(Pins, "pins-mounted-over", "mount -t tmpfs none $P").guarded(),
    refused(Pins, "bpffs-bound-over", "mount --bind /tmp /sys/fs/bpf").guarded(),
    refused(
        Pins,
        "bpffs-mounted-over-by-the-new-calls",
        "$X mount-new /sys/fs/bpf",
    ),
    refused(Pins, "bpffs-cloned-over", "$X mount-clone /tmp /sys/fs/bpf"),
    refused(
        Pins,
        "bpffs-moved",
        "mkdir -p /tmp/moved && mount --make-private /sys && mount --make-private /sys/fs/bpf && \
         mount --move /sys/fs/bpf /tmp/moved",
    )
    .undone_by(
        "if mountpoint -q /tmp/moved; then mount --move /tmp/moved /sys/fs/bpf; fi; \
         mount --make-shared /sys; mount --make-shared /sys/fs/bpf",
    ),
    refused(
        Pins,
        "bpffs-moved-by-the-new-call",
        "mkdir -p /tmp/moved && mount --make-private /sys && mount --make-private /sys/fs/bpf && \
         $X mount-move /sys/fs/bpf /tmp/moved",
    )
    .undone_by(
        "if mountpoint -q /tmp/moved; then mount --move /tmp/moved /sys/fs/bpf; fi; \
         mount --make-shared /sys; mount --make-shared /sys/fs/bpf",
    ),
    refused(
        Pins,
        "root-pivoted",
        "mkdir -p /tmp/root && mount -t tmpfs none /tmp/root && mkdir -p /tmp/root/old && \
         pivot_root /tmp/root /tmp/root/old",
    )
    .undone_by("if mountpoint -q /tmp/root; then umount -l /tmp/root; fi"),
    either(
        Pins,
        "bpffs-made-read-only",
        "mount -o remount,ro /sys/fs/bpf",
        "mount -o remount,rw /sys/fs/bpf",
    ),
    either(
        Pins,
        "bpffs-unmounted-behind-the-daemon",
        "nsenter -t $PID -m umount -l /sys/fs/bpf",
        "restarted",
    ),
    refused(Maps, "maps-by-number", "$R maps").guarded(),
    refused(Maps, "map-by-pin", "$R pin $P/maps-*/STATE").guarded(),
    refused(
        Maps,
        "table-by-pin",
        "bpftool map update pinned $P/maps-*/TABLE key 0 0 0 0 value id 1",
    ),
    refused(
        Maps,
        "map-frozen",
        "bpftool map freeze pinned $P/maps-*/STATE",
    ),
    refused(
        Maps,
        "map-dumped",
        "bpftool map dump pinned $P/maps-*/GUARD | grep -q key",
    ),
    refused(Programs, "programs-by-number", "$R programs").guarded(),
    refused(Programs, "program-by-pin", "$R pin $P/links-*/sysctl").guarded(),
    refused(Programs, "program-extended", "$X extend"),
    // The kernel says that there is no such call.
    refused(Programs, "program-that-writes-loaded", "$X write-user").saying(&["Invalid argument"]),
    refused(
        Riders,
        "return-modified",
        "$X modify-return security_bprm_committed_creds",
    ),
    refused(
        Riders,
        "return-of-a-check-modified",
        "$X modify-return security_bprm_check",
    ),
    refused(Riders, "hook-shared", "$X lsm bpf_lsm_bprm_check_security"),
    refused(Riders, "probe-loaded", "$X kprobe"),
];

/// What went into the attacker's own cgroup is long gone.
const LEFT: &str = "rmdir /sys/fs/cgroup/attack 2> /dev/null || true";
/// Links of tracing programs, which may be held by their pins, are neither detached nor updated by the kernel.
const TRACING: &[&str] = &["not supported", "Invalid argument"];
