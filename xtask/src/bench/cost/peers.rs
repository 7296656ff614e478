//! What others take for deciding about the same work: fapolicyd as Debian has it, which asks a process
//! in user space before a file is executed or opened.

use crate::{guest::Guest, image, paths, process};
use anyhow::{Context as _, Result, ensure};
use std::time::Duration;

/// Unpacks fapolicyd into the guest and lists every program and library there as trusted.
pub(super) fn install(guest: &mut Guest) -> Result<()> {
    let dir = paths::target().join("bench/fapolicyd");
    let _not_there_yet = std::fs::remove_dir_all(&dir);
    paths::ensure(dir.clone())?;
    for package in PACKAGES {
        image::unpacked(package, &dir)?;
    }
    let packed = paths::target().join("bench/fapolicyd.tar");
    let mut pack = process::command("tar");
    pack.arg("-C").arg(&dir).arg("-cf").arg(&packed).arg(".");
    process::capture(&mut pack).context("packing fapolicyd")?;
    guest.put_file(&packed, "/root/fapolicyd.tar")?;
    guest
        .sh(
            "tar -C / --keep-directory-symlink -xf /root/fapolicyd.tar && ldconfig && \
             install -d /var/lib/fapolicyd /run/fapolicyd && systemctl daemon-reload",
        )?
        .ok()
        .context("unpacking fapolicyd")?;
    guest.put("/etc/fapolicyd/rules.d/10-all.rules", 0o644, RULES)?;
    guest
        .run_for(&["sh", "-ec", TRUSTED], Duration::from_secs(1800))?
        .ok()
        .context("listing what fapolicyd trusts")
        .map(drop)
}

/// Starts it with one way of looking at files, and waits until it decides.
pub(super) fn start(guest: &mut Guest, integrity: &str) -> Result<()> {
    let script = format!(
        "systemctl stop fapolicyd; rm -rf /var/lib/fapolicyd/*; \
         sed -i -e 's/^uid = .*/uid = root/' -e 's/^gid = .*/gid = root/' \
           -e 's/^trust = .*/trust = file/' -e 's/^integrity = .*/integrity = {integrity}/' \
           /etc/fapolicyd/fapolicyd.conf && \
         since=$(date '+%F %T') && systemctl start fapolicyd && \
         journalctl --unit fapolicyd --since \"$since\" --follow --lines all | \
           grep -m 1 'Starting to listen'"
    );
    let said = guest.run_for(&["sh", "-c", &script], Duration::from_secs(1800))?;
    let said = said.ok().context("starting fapolicyd")?.text();
    ensure!(!said.is_empty(), "fapolicyd does not listen");
    Ok(())
}

const PACKAGES: [&str; 6] = [
    "fapolicyd",
    "liblmdb0",
    "libmagic1",
    "libmagic-mgc",
    "libcap-ng0",
    "libseccomp2",
];

/// What is trusted runs and is opened; the guest's own agent is not listed and must go on.
const RULES: &[u8] = b"allow perm=execute all : trust=1\n\
    allow perm=open all : ftype=application/x-sharedlib trust=1\n\
    allow perm=any all : all\n";

const TRUSTED: &str = "find /usr/bin /usr/sbin /usr/lib /opt/cost -xdev -type f \
      '(' -perm /111 -o -name '*.so*' ')' -exec sha256sum {} + | \
    while read -r sum path; do echo \"$path $(stat -c %s \"$path\") $sum\"; done \
    > /etc/fapolicyd/fapolicyd.trust";
