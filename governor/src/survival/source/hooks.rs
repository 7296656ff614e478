//! Scripts that something runs all of, and what units start.

use std::path::Path;

use anyhow::Result;

use crate::survival::{Why, collect::Collection, grammar::unit};

pub(super) fn scripts(all: &mut Collection<'_>) -> Result<()> {
    for dir in HOOKS {
        all.tree(dir, &Why::Hook((*dir).to_owned()))?;
    }
    for dir in BOOT {
        all.tree(dir, &Why::Boot)?;
    }
    for name in BOOT_COMMANDS {
        all.command(name, &Why::Boot)?;
    }
    Ok(())
}

pub(super) fn units(all: &mut Collection<'_>) -> Result<()> {
    for dir in UNITS {
        for path in all.root.tree(Path::new(dir))? {
            // What is added to a unit lies in a directory of its name.
            let dir = path.parent().and_then(Path::file_name).unwrap_or_default();
            let drop_in = dir.to_string_lossy();
            let name = match drop_in.strip_suffix(".d") {
                Some(unit) => unit.to_owned(),
                None => path
                    .file_name()
                    .unwrap_or_default()
                    .to_string_lossy()
                    .into_owned(),
            };
            if !KINDS.iter().any(|kind| name.ends_with(kind)) {
                continue;
            }
            let mut programs = Vec::new();
            all.root.lines(&path, |line| {
                let program = unit::program(line).filter(|_| programs.len() < MAX_PROGRAMS);
                programs.extend(program.map(str::to_owned));
            })?;
            let why = Why::Unit(name);
            for program in programs {
                all.command(&program, &why)?;
            }
        }
    }
    Ok(())
}

const HOOKS: &[&str] = &[
    "/etc/update-motd.d",
    "/etc/network/if-pre-up.d",
    "/etc/network/if-up.d",
    "/etc/network/if-down.d",
    "/etc/network/if-post-down.d",
    "/etc/kernel",
    "/etc/cron.hourly",
    "/etc/cron.daily",
    "/etc/cron.weekly",
    "/etc/cron.monthly",
];

const BOOT: &[&str] = &[
    "/etc/grub.d",
    "/etc/initramfs-tools",
    "/usr/lib/initramfs-tools",
    "/usr/share/initramfs-tools",
];

const BOOT_COMMANDS: &[&str] = &[
    "cpio",
    "depmod",
    "grub-install",
    "grub-mkconfig",
    "grub-probe",
    "linux-update-symlinks",
    "lsinitramfs",
    "mkinitramfs",
    "unmkinitramfs",
    "update-grub",
    "update-initramfs",
];

const UNITS: &[&str] = &[
    "/etc/systemd/system",
    "/usr/lib/systemd/system",
    "/lib/systemd/system",
];

const KINDS: &[&str] = &[".service", ".socket", ".mount", ".swap"];

/// Of one unit.
const MAX_PROGRAMS: usize = 256;
