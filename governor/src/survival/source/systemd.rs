//! The first process's own programs, and what the kernel starts by itself.

use std::path::Path;

use anyhow::Result;

use crate::survival::{Why, collect::Collection};

pub(super) fn programs(all: &mut Collection<'_>) -> Result<()> {
    all.program("/sbin/init", &Why::Init)?;
    for dir in TREES {
        all.tree(dir, &Why::Systemd)?;
    }
    for name in COMMANDS {
        all.command(name, &Why::Systemd)?;
    }
    // Libraries that are loaded by name for name service and logins are named where they are named.
    let mut modprobe = None;
    all.root
        .lines(Path::new("/proc/sys/kernel/modprobe"), |line| {
            modprobe.get_or_insert(line.trim().to_owned());
        })?;
    all.command("modprobe", &Why::Kernel)?;
    match modprobe.filter(|path| path.starts_with('/')) {
        Some(path) => all.program(path, &Why::Kernel),
        None => Ok(()),
    }
}

/// Executors, generators, and what runs at shutdown and sleep among them.
const TREES: &[&str] = &[
    "/usr/lib/systemd",
    "/lib/systemd",
    "/usr/local/lib/systemd",
    "/etc/systemd",
    "/usr/lib/udev",
    "/lib/udev",
];

const COMMANDS: &[&str] = &[
    "systemctl",
    "systemd",
    "systemd-ask-password",
    "systemd-cgls",
    "systemd-detect-virt",
    "systemd-escape",
    "systemd-machine-id-setup",
    "systemd-notify",
    "systemd-run",
    "systemd-sysusers",
    "systemd-tmpfiles",
    "systemd-tty-ask-password-agent",
    "journalctl",
    "loginctl",
    "udevadm",
    "dbus-broker",
    "dbus-broker-launch",
    "dbus-daemon",
    "dbus-send",
    "mount",
    "umount",
    "swapon",
    "swapoff",
    "fsck",
    "kmod",
    "halt",
    "poweroff",
    "reboot",
    "shutdown",
    "telinit",
    "runlevel",
];
