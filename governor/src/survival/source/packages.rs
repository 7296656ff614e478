//! What installing and removing packages takes, and the packages that every installation leans on.
//!
//! Which files belong to a package is in dpkg's own lists; nothing is asked of dpkg itself.

use std::path::Path;

use anyhow::Result;

use crate::survival::{
    Why,
    collect::Collection,
    grammar::dpkg::{Package, Status},
};

pub(super) fn vital(all: &mut Collection<'_>) -> Result<()> {
    for name in COMMANDS {
        all.command(name, &Why::Packages)?;
    }
    for dir in TREES {
        all.tree(dir, &Why::Packages)?;
    }
    for package in installed(all)? {
        if package.essential {
            content(all, &package, &Why::Essential(package.name.clone()))?;
        } else if TOOLS.contains(&package.name.as_str()) {
            content(all, &package, &Why::Packages)?;
        } else if LOGIN.contains(&package.name.as_str()) {
            content(all, &package, &Why::Login(package.name.clone()))?;
        } else if SYSTEMD.contains(&package.name.as_str()) {
            content(all, &package, &Why::Systemd)?;
        }
    }
    Ok(())
}

pub(super) fn advisable(all: &mut Collection<'_>) -> Result<()> {
    for package in installed(all)?.iter().filter(|package| package.required) {
        content(all, package, &Why::Required(package.name.clone()))?;
    }
    for path in all.root.list(Path::new(INFO))? {
        let end = path.extension().unwrap_or_default().to_string_lossy();
        if MAINTAINER.contains(&end.as_ref()) {
            all.program(path, &Why::Maintainer)?;
        }
    }
    Ok(())
}

fn installed(all: &Collection<'_>) -> Result<Vec<Package>> {
    let mut status = Status::default();
    let mut found = Vec::new();
    all.root.lines(Path::new(STATUS), |line| {
        found.extend(status.line(line).filter(is_of_interest));
    })?;
    found.extend(status.end().filter(is_of_interest));
    found.truncate(MAX_PACKAGES);
    Ok(found)
}

fn is_of_interest(package: &Package) -> bool {
    let name = package.name.as_str();
    package.essential
        || package.required
        || [TOOLS, LOGIN, SYSTEMD]
            .iter()
            .any(|some| some.contains(&name))
}

/// Everything of a package that can be executed or mapped.
fn content(all: &mut Collection<'_>, package: &Package, why: &Why) -> Result<()> {
    let Package {
        name, architecture, ..
    } = package;
    let mut paths = Vec::new();
    // Where a package may be installed for several machines, each has a list.
    for list in [
        format!("{name}.list"),
        format!("{name}:{architecture}.list"),
    ] {
        all.root.lines(&Path::new(INFO).join(list), |line| {
            let documents = DOCUMENTS.iter().any(|dir| line.starts_with(dir));
            if line.starts_with('/') && !documents && paths.len() < MAX_FILES {
                paths.push(line.to_owned());
            }
        })?;
    }
    for path in paths {
        let name = path.rsplit('/').next().unwrap_or(&path);
        if name.ends_with(".so") || name.contains(".so.") {
            all.library(&path, why)?;
        } else if all.root.is_executable(Path::new(&path)) {
            all.program(&path, why)?;
        }
    }
    Ok(())
}

const STATUS: &str = "/var/lib/dpkg/status";
const INFO: &str = "/var/lib/dpkg/info";
const MAINTAINER: &[&str] = &["preinst", "postinst", "prerm", "postrm", "config"];
const DOCUMENTS: &[&str] = &["/usr/share/doc/", "/usr/share/man/", "/usr/share/locale/"];
const MAX_PACKAGES: usize = 4096;
const MAX_FILES: usize = 32 << 10;

/// dpkg and apt, and what they and their scripts start.
const COMMANDS: &[&str] = &[
    "apt",
    "apt-cache",
    "apt-config",
    "apt-get",
    "apt-mark",
    "bzip2",
    "cat",
    "chmod",
    "chown",
    "cp",
    "deb-systemd-helper",
    "deb-systemd-invoke",
    "diff",
    "dpkg",
    "dpkg-deb",
    "dpkg-divert",
    "dpkg-maintscript-helper",
    "dpkg-preconfigure",
    "dpkg-query",
    "dpkg-realpath",
    "dpkg-reconfigure",
    "dpkg-split",
    "dpkg-statoverride",
    "dpkg-trigger",
    "find",
    "gpgv",
    "grep",
    "gzip",
    "invoke-rc.d",
    "ldconfig",
    "ln",
    "mkdir",
    "mv",
    "perl",
    "rm",
    "run-parts",
    "sed",
    "sqv",
    "start-stop-daemon",
    "tar",
    "ucf",
    "update-alternatives",
    "update-rc.d",
    "xz",
    "zstd",
];

const TREES: &[&str] = &[
    "/usr/lib/apt",
    "/usr/libexec/apt",
    "/usr/lib/dpkg",
    "/usr/libexec/dpkg",
];

/// Not all of them essential: what the scripts of packages ask questions, trigger and restart with.
const TOOLS: &[&str] = &[
    "apt",
    "apt-utils",
    "debconf",
    "dpkg",
    "gpgv",
    "init-system-helpers",
    "libc-bin",
    "libdebconfclient0",
    "liblocale-gettext-perl",
    "libtext-charwidth-perl",
    "libtext-iconv-perl",
    "perl-base",
    "sensible-utils",
    "sqv",
    "ucf",
    "xz-utils",
    "zstd",
];

const LOGIN: &[&str] = &[
    "libpam-modules",
    "libpam-modules-bin",
    "libpam-runtime",
    "libpam-systemd",
    "login",
    "openssh-server",
    "openssh-sftp-server",
    "passwd",
    "sudo",
    "util-linux-extra",
];

const SYSTEMD: &[&str] = &[
    "dbus",
    "dbus-broker",
    "dbus-daemon",
    "kmod",
    "libnss-systemd",
    "mount",
    "systemd",
    "systemd-cryptsetup",
    "systemd-sysv",
    "udev",
];
