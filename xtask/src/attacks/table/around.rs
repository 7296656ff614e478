//! What the daemon is made from and what starts it: files, units, mounts, the first process.

use super::{
    Attack, Leaves,
    Row::{Cgroups, Files, Memory},
    either, refused,
};

pub(super) const ALL: &[Attack] = &[
    either(
        Files,
        "program-bound-over",
        "mount --bind $R /usr/bin/governor && restarted",
        "while mountpoint -q /usr/bin/governor; do umount /usr/bin/governor; done; \
         restarted",
    ),
    either(
        Files,
        "program-replaced",
        "cp /usr/bin/governor /root/other && echo >> /root/other && \
         mount --bind /root/other /usr/bin/governor && systemctl kill -s KILL governor",
        "while mountpoint -q /usr/bin/governor; do umount /usr/bin/governor; done; \
         restarted",
    ),
    either(
        Files,
        "unit-changed",
        "mkdir -p $D && printf '[Service]\\nExecStart=\\nExecStart=/bin/sh -c \"exec sleep 3600\"\\nType=exec\\n' \
         > $D/attack.conf && systemctl daemon-reload && restarted",
        UNIT,
    ),
    either(
        Files,
        "environment-changed",
        "mkdir -p $D && printf '[Service]\\nEnvironment=LD_PRELOAD=/usr/lib/x86_64-linux-gnu/libutil.so.1\\n' \
         > $D/attack.conf && systemctl daemon-reload && restarted",
        UNIT,
    ),
    either(
        Files,
        "loader-told-to-preload",
        "echo /usr/lib/x86_64-linux-gnu/libutil.so.1 > /etc/ld.so.preload && restarted",
        "rm -f /etc/ld.so.preload; restarted",
    ),
    either(
        Files,
        "configuration-changed",
        "cp /etc/governor/governor.toml /root/toml 2> /dev/null; \
         printf 'governed = \"other.slice\"\\n' > /etc/governor/governor.toml && restarted",
        "if test -e /root/toml; then cat /root/toml > /etc/governor/governor.toml; \
         else rm -f /etc/governor/governor.toml; fi; restarted",
    ),
    either(
        Files,
        "keys-emptied",
        "cp -p /etc/governor/trusted_keys /root/keys && : > /etc/governor/trusted_keys && \
         restarted",
        "if test -e /root/keys; then cat /root/keys > /etc/governor/trusted_keys; fi; \
         restarted",
    ),
    either(
        Files,
        "state-hidden",
        "mount -t tmpfs -o mode=700 none /var/lib/governor && restarted",
        "while mountpoint -q /var/lib/governor; do umount -l /var/lib/governor; done; \
         restarted",
    ),
    either(
        Files,
        "state-hidden-behind-the-daemon",
        "nsenter -t $PID -m mount -t tmpfs none /var/lib/governor",
        "restarted",
    ),
    either(
        Files,
        "socket-replaced",
        "mv /run/governor /run/governor.away && mkdir /run/governor && restarted",
        "rm -rf /run/governor.away; restarted",
    ),
    refused(
        Cgroups,
        "cgroups-bound-over",
        "mkdir -p $A/governed.slice/governed-agents.slice $A/system.slice && \
         mount --bind $A /sys/fs/cgroup",
    )
    .undone_by(FAKE),
    refused(
        Cgroups,
        "governed-slice-bound-over",
        "mkdir -p $A/governed-agents.slice && mount --bind $A /sys/fs/cgroup/governed.slice",
    )
    .undone_by(FAKE),
    refused(
        Cgroups,
        "cgroups-mounted-over",
        "mount -t tmpfs none /sys/fs/cgroup",
    )
    .undone_by(FAKE),
    refused(
        Cgroups,
        "governed-slice-cloned-over",
        "mkdir -p $A/governed-agents.slice && $X mount-clone $A /sys/fs/cgroup/governed.slice",
    )
    .undone_by(FAKE),
    refused(
        Cgroups,
        "cgroups-moved-by-the-new-call",
        "mkdir -p /tmp/moved && mount --make-private /sys && mount --make-private /sys/fs/cgroup && \
         $X mount-move /sys/fs/cgroup /tmp/moved",
    )
    .undone_by(
        "if mountpoint -q /tmp/moved; then $X mount-move /tmp/moved /sys/fs/cgroup; fi; \
         mount --make-shared /sys; mount --make-shared /sys/fs/cgroup",
    ),
    refused(
        Cgroups,
        "cgroups-unmounted-lazily",
        "umount -l /sys/fs/cgroup",
    )
    .undone_by("mountpoint -q /sys/fs/cgroup || mount -t cgroup2 cgroup2 /sys/fs/cgroup"),
    either(
        Cgroups,
        "governed-slice-bound-over-behind-the-daemon",
        "mkdir -p $A/governed-agents.slice && \
         nsenter -t $PID -m mount --bind $A /sys/fs/cgroup/governed.slice && \
         reloaded",
        "restarted; rmdir $A/governed-agents.slice $A",
    ),
    either(
        Cgroups,
        "cgroups-bound-over-behind-the-daemon",
        "mkdir -p $A/governed.slice/governed-agents.slice && \
         nsenter -t $PID -m mount --bind $A /sys/fs/cgroup && reloaded",
        "restarted; find $A -depth -type d -delete",
    ),
    either(
        Memory,
        "first-process-replaced",
        "cp /usr/lib/systemd/systemd /root/systemd.real && echo $PID > /run/attack-daemon && \
         rm -f /run/attack-first && mount --bind $X /usr/lib/systemd/systemd && systemctl daemon-reexec; \
         test -e /run/attack-first",
        REEXEC,
    ),
    either(
        Memory,
        "first-process-with-something-preloaded",
        "echo /usr/lib/x86_64-linux-gnu/libutil.so.1 > /etc/ld.so.preload && systemctl daemon-reexec; \
         rm -f /etc/ld.so.preload; systemctl kill -s KILL governor",
        REEXEC,
    )
    .saying(&["Access denied"]),
    either(
        Files,
        "register-extended",
        "tpm2_pcrextend 14:sha256=$(printf %064d 1)",
        "",
    )
    .leaves(Leaves::Traces),
];

const UNIT: &str =
    "rm -rf $D && systemctl daemon-reload && systemctl reset-failed governor; restarted";
const FAKE: &str = "while test $(stat -c %i /sys/fs/cgroup) != 1; do umount -l /sys/fs/cgroup; done; \
     while mountpoint -q /sys/fs/cgroup/governed.slice; do umount -l /sys/fs/cgroup/governed.slice; done; \
     find $A -depth -type d -delete 2> /dev/null || true";
const REEXEC: &str = "rm -f /etc/ld.so.preload; while mountpoint -q /usr/lib/systemd/systemd; do \
     umount /usr/lib/systemd/systemd; done; systemctl daemon-reexec";
