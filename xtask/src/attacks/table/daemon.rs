//! The daemon as a process: signals, tracing, cgroups, memory, time.

use super::{
    Attack, Leaves,
    Row::{Cgroups, Daemon, Memory},
    either, refused,
};

pub(super) const ALL: &[Attack] = &[
    refused(Daemon, "killed", "$R signal $PID 9").guarded(),
    refused(Daemon, "terminated", "$R signal $PID 15").guarded(),
    refused(Daemon, "stopped", "$R signal $PID 19").guarded(),
    refused(Daemon, "thread-killed", "$X tkill $PID 9"),
    refused(Daemon, "killed-through-a-handle", "$X pidfd $PID 9"),
    refused(Daemon, "signal-queued", "$X queue $PID 9"),
    refused(
        Daemon,
        "canary-killed",
        "for p in $(cat $S/cgroup.procs); do test $p = $PID || $R signal $p 9 || exit 1; done",
    ),
    refused(Daemon, "limited", "$R limit $PID").guarded(),
    either(
        Daemon,
        "killed-by-systemd",
        "systemctl kill -s KILL governor",
        "",
    ),
    either(
        Daemon,
        "stopped-by-systemd",
        "systemctl kill --kill-whom=main -s STOP governor",
        "systemctl kill --kill-whom=main -s CONT governor || true",
    ),
    either(Daemon, "ended-by-systemd", "systemctl stop governor", ""),
    either(Daemon, "restarted-by-systemd", "restarted", ""),
    either(
        Daemon,
        "masked-and-killed",
        "systemctl mask --runtime governor && systemctl kill -s KILL governor",
        "systemctl unmask --runtime governor",
    ),
    either(
        Daemon,
        "starved-by-systemd",
        "systemctl set-property --runtime governor CPUQuota=1%",
        "systemctl set-property --runtime governor CPUQuota=",
    ),
    either(
        Daemon,
        "made-idle",
        "chrt -i -p 0 $PID && renice -n 19 -p $PID > /dev/null && ionice -c 3 -p $PID",
        "chrt -o -p 0 $PID; renice -n -10 -p $PID > /dev/null",
    ),
    either(
        Daemon,
        "killed-for-memory",
        "echo 1000 > /proc/$PID/oom_score_adj && echo f > /proc/sysrq-trigger",
        "",
    ),
    refused(Memory, "traced", "$R attach $PID").guarded(),
    refused(Memory, "daemons-memory-opened", "$R memory $PID").guarded(),
    refused(Memory, "daemons-memory-written", "$R write $PID").guarded(),
    refused(Memory, "descriptor-taken", "$R descriptor $PID").guarded(),
    refused(Memory, "first-process-traced", "$R attach 1").guarded(),
    refused(Memory, "first-process-memory-opened", "$R memory 1"),
    refused(Memory, "first-process-descriptor-taken", "$R descriptor 1"),
    refused(
        Memory,
        "followed",
        "timeout 5 strace -f -p $PID -o /dev/null",
    ),
    refused(Cgroups, "cgroup-frozen", "echo 1 > $S/cgroup.freeze").guarded(),
    refused(Cgroups, "cgroup-killed", "echo 1 > $S/cgroup.kill").guarded(),
    refused(Cgroups, "cgroup-without-memory", "echo 0 > $S/memory.max").guarded(),
    refused(
        Cgroups,
        "cgroup-above-frozen",
        "echo 1 > ${S%/*}/cgroup.freeze",
    )
    .guarded(),
    refused(
        Cgroups,
        "cgroup-above-killed",
        "echo 1 > ${S%/*}/cgroup.kill",
    )
    .guarded(),
    refused(
        Cgroups,
        "cgroup-frozen-through-another-mount",
        "unshare -m sh -c 'mkdir -p /tmp/cg && mount -t cgroup2 none /tmp/cg && \
         echo 1 > /tmp/cg/system.slice/governor.service/cgroup.freeze'",
    ),
    refused(Cgroups, "zone-removed", "rmdir $Z").guarded(),
    either(Cgroups, "zone-killed", "echo 1 > $Z/cgroup.kill", ""),
    either(
        Cgroups,
        "zone-stopped-by-systemd",
        "systemctl stop governed-agents.slice",
        "systemctl start governed-agents.slice",
    ),
    either(
        Cgroups,
        "moved-away-and-frozen",
        "mkdir -p $A && echo $PID > $A/cgroup.procs && echo 1 > $A/cgroup.freeze",
        BACK,
    ),
    either(
        Cgroups,
        "moved-away-and-killed",
        "mkdir -p $A && echo $PID > $A/cgroup.procs && echo 1 > $A/cgroup.kill",
        BACK,
    ),
    either(
        Cgroups,
        "moved-away-and-starved",
        "mkdir -p $A && echo +cpu > /sys/fs/cgroup/cgroup.subtree_control && \
         echo '1000 1000000' > $A/cpu.max && echo $PID > $A/cgroup.procs",
        BACK,
    ),
    either(
        Cgroups,
        "moved-away-and-restarted",
        "mkdir -p $A && echo $PID > $A/cgroup.procs && restarted",
        BACK,
    ),
    either(
        Cgroups,
        "moved-into-a-zone",
        "mkdir -p $Z/attack-daemon && echo $PID > $Z/attack-daemon/cgroup.procs",
        "p=$(head -n 1 $Z/attack-daemon/cgroup.procs); test -z \"$p\" || echo $p > $S/cgroup.procs",
    ),
    either(
        Cgroups,
        "frozen-by-the-old-hierarchy",
        "mkdir -p /tmp/f && mount -t cgroup -o freezer none /tmp/f && mkdir -p /tmp/f/a && \
         echo $PID > /tmp/f/a/tasks && echo FROZEN > /tmp/f/a/freezer.state",
        "if test -d /tmp/f/a; then echo THAWED > /tmp/f/a/freezer.state; \
         for t in $(cat /tmp/f/a/tasks); do echo $t > /tmp/f/tasks; done; \
         while ! rmdir /tmp/f/a; do :; done; fi; if mountpoint -q /tmp/f; then umount /tmp/f; fi",
    ),
    either(
        Cgroups,
        "options-changed",
        "mount -o remount,nsdelegate,memory_recursiveprot /sys/fs/cgroup",
        "",
    ),
    either(
        Daemon,
        "everybody-terminated",
        "echo e > /proc/sysrq-trigger",
        "",
    )
    .leaves(Leaves::NoProcess),
    either(
        Daemon,
        "everybody-killed",
        "echo i > /proc/sysrq-trigger",
        "",
    )
    .leaves(Leaves::NoProcess),
];

/// Whoever is still in the attacker's cgroup goes back to where it came from.
const BACK: &str = "if test -d $A; then echo 0 > $A/cgroup.freeze; \
     test ! -e $A/cpu.max || echo max > $A/cpu.max; \
     for p in $(cat $A/cgroup.procs); do echo $p > $S/cgroup.procs; done; \
     while ! rmdir $A; do :; done; fi";
