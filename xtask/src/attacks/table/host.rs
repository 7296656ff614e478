//! The host below and beside the gate: modules, kernels, memory, devices, tracing, settings.

use super::{
    Attack, Leaves,
    Row::{Devices, Integrity, Kexec, Machine, Modules, Settings, Tracing},
    either, refused,
};

pub(super) const ALL: &[Attack] = &[
    refused(Modules, "module-from-memory", "$R module").guarded(),
    refused(
        Modules,
        "module-from-a-file",
        "$R module-file $(find /lib/modules -name '*.ko*' | head -n 1)",
    )
    .guarded(),
    refused(Modules, "module-by-name", "modprobe loop"),
    either(
        Modules,
        "module-asked-for",
        "ip link add attack type dummy",
        "ip link del attack 2> /dev/null || true",
    )
    .saying(&["Unknown device type"]),
    refused(Kexec, "kernel-from-memory", "$R kexec").guarded(),
    refused(Kexec, "kernel-from-a-file", "$R kexec-file $R").guarded(),
    refused(
        Machine,
        "memory-written",
        "dd if=/dev/zero of=/dev/mem bs=1 count=1",
    )
    .guarded(),
    refused(Machine, "port-taken", "$R port"),
    refused(Machine, "ports-taken", "$R ports").guarded(),
    refused(
        Machine,
        "bus-configured",
        "printf '\\000' | dd of=/sys/bus/pci/devices/0000:00:00.0/config bs=1 seek=60 conv=notrunc",
    ),
    refused(
        Machine,
        "device-mapped",
        "for bar in /sys/bus/pci/devices/*/resource[0-9]; do \
         set -- $(sed -n $((${bar##*resource} + 1))p ${bar%?}); case $3 in *0200|*0208|*220?) break;; esac; done; \
         $X map-device $bar",
    ),
    refused(
        Machine,
        "register-written",
        "printf '\\0\\0\\0\\0\\0\\0\\0\\0' | dd of=/dev/cpu/0/msr bs=8 count=1",
    ),
    refused(Machine, "hibernated", "/bin/echo disk > /sys/power/state"),
    refused(
        Devices,
        "disk-written",
        "dd if=/dev/zero of=$(findmnt -n -o SOURCE /) bs=1 count=0",
    )
    .guarded(),
    refused(
        Devices,
        "disk-written-by-another-node",
        "disk=$(findmnt -n -o MAJ:MIN / | tr -d ' '); rm -f /root/node; \
         mknod /root/node b ${disk%:*} ${disk#*:} && dd if=/dev/zero of=/root/node bs=1 count=0",
    )
    .undone_by("rm -f /root/node"),
    refused(
        Devices,
        "modules-disk-written",
        "dd if=/dev/zero of=$(findmnt -n -o SOURCE /usr/lib/modules) bs=1 count=0",
    ),
    either(
        Devices,
        "disk-made-read-only",
        "blockdev --setro $(findmnt -n -o SOURCE /)",
        "blockdev --setrw $(findmnt -n -o SOURCE /) && mount -o remount,rw /",
    ),
    either(
        Devices,
        "tpm-taken-away",
        "d=$(readlink -f /sys/class/tpm/tpm0/device) && echo ${d##*/} > $d/driver/unbind",
        "",
    )
    .leaves(Leaves::Traces),
    either(
        Tracing,
        "tracing-switched-off",
        "T=/sys/kernel/tracing; test -e $T/tracing_on || mount -t tracefs none $T; \
         echo 0 > $T/tracing_on; echo $$ > $T/set_ftrace_pid",
        "T=/sys/kernel/tracing; echo > $T/set_ftrace_pid; echo 1 > $T/tracing_on",
    ),
    either(
        Tracing,
        "hooks-traced",
        "T=/sys/kernel/tracing; test -e $T/tracing_on || mount -t tracefs none $T; \
         echo bpf_lsm_bprm_check_security > $T/set_ftrace_filter && echo function > $T/current_tracer && \
         echo nop > $T/current_tracer && echo bpf_lsm_bprm_check_security > $T/set_ftrace_notrace",
        "T=/sys/kernel/tracing; echo nop > $T/current_tracer; echo > $T/set_ftrace_filter; \
         echo > $T/set_ftrace_notrace",
    ),
    either(
        Tracing,
        "probes-put-on-hooks",
        "T=/sys/kernel/tracing; test -e $T/tracing_on || mount -t tracefs none $T; \
         echo 'p:attack/a bpf_lsm_bprm_check_security' >> $T/kprobe_events && \
         echo 'r:attack/b bpf_lsm_file_open' >> $T/kprobe_events && \
         echo 1 > $T/events/attack/enable",
        "T=/sys/kernel/tracing; test -d $T/events/attack || exit 0; echo 0 > $T/events/attack/enable; \
         echo '-:attack/a' >> $T/kprobe_events; echo '-:attack/b' >> $T/kprobe_events",
    ),
    either(
        Tracing,
        "probes-switched-off",
        "test -e /sys/kernel/debug/kprobes || mount -t debugfs none /sys/kernel/debug; \
         echo 0 > /sys/kernel/debug/kprobes/enabled",
        "echo 1 > /sys/kernel/debug/kprobes/enabled || true",
    ),
    refused(
        Integrity,
        "integrity-policy-written",
        "echo 'measure func=BPRM_CHECK' > /sys/kernel/security/ima/policy",
    )
    .guarded(),
    refused(
        Integrity,
        "integrity-policy-read-from-a-file",
        "echo 'measure func=BPRM_CHECK' > /root/ima && echo /root/ima > /sys/kernel/security/ima/policy",
    ),
    either(
        Integrity,
        "locked-down",
        "echo integrity > /sys/kernel/security/lockdown",
        "",
    )
    .leaves(Leaves::Traces),
    either(
        Integrity,
        "locked-down-for-confidentiality",
        "echo confidentiality > /sys/kernel/security/lockdown",
        "",
    )
    .leaves(Leaves::Traces),
    either(
        Settings,
        "compiler-starved",
        "sysctl -n net.core.bpf_jit_limit > /run/attack-limit; sysctl -q -w net.core.bpf_jit_limit=1 && \
         restarted",
        "sysctl -q -w net.core.bpf_jit_limit=$(cat /run/attack-limit)",
    ),
    either(
        Settings,
        "probing-restricted",
        "sysctl -q -w kernel.perf_event_paranoid=3 kernel.kptr_restrict=2 net.core.bpf_jit_harden=2",
        "sysctl -q -w kernel.perf_event_paranoid=2 kernel.kptr_restrict=0 net.core.bpf_jit_harden=0",
    ),
    either(
        Settings,
        "programs-forbidden-to-users",
        "sysctl -q -w kernel.unprivileged_bpf_disabled=2 kernel.bpf_stats_enabled=1",
        "sysctl -q -w kernel.bpf_stats_enabled=0",
    ),
    either(
        Settings,
        "cores-handed-over",
        "sysctl -n kernel.core_pattern > /run/attack-core; \
         sysctl -q -w 'kernel.core_pattern=|/root/probe_root maps' && $X tkill $PID 6",
        "sysctl -q -w \"kernel.core_pattern=$(cat /run/attack-core)\"",
    ),
    either(
        Settings,
        "modules-disabled",
        "sysctl -q -w kernel.modules_disabled=1",
        "",
    )
    .leaves(Leaves::Traces),
];
