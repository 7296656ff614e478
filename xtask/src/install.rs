//! What turns a bare guest into one that governor protects: the package, then policy and trust.

use crate::{guest::Guest, kit::Kit};
use anyhow::{Context as _, Result, bail};
use std::path::Path;

/// Installs the package with dpkg, as an administrator would, and starts the service.
pub(crate) fn package(guest: &mut Guest, package: &Path) -> Result<()> {
    guest.put_file(package, "/root/governor.deb")?;
    guest
        .run(&["dpkg", "-i", "/root/governor.deb"])?
        .ok()
        .context("installing the governor package in the guest")?;
    let started = guest.run(&["systemctl", "enable", "--now", "governor"])?;
    if started.code != 0 {
        let journal = ["journalctl", "-u", "governor", "-o", "cat", "-n", "20"];
        let why = guest.run(&journal)?.text();
        bail!("starting governor.service in the guest: {why}");
    }
    Ok(())
}

/// The package, a policy signed for this guest with a key it is told to trust, and trust: the
/// example policy adapted to the guest, or the directory given, with the guest's reference values.
pub(crate) fn everything(guest: &mut Guest, deb: &Path, policy: Option<&Path>) -> Result<Kit> {
    package(guest, deb)?;
    let kit = Kit::new(guest)?;
    match policy {
        None => {
            let dir = kit.example(guest)?;
            kit.offer(guest, &dir)?
                .ok()
                .context("loading the example policy")?;
            kit.trusted(guest)?;
        }
        Some(dir) => {
            let copy = kit.copy(dir)?;
            kit.sign(&copy)?;
            kit.offer(guest, &copy)?
                .ok()
                .context("loading the policy")?;
        }
    }
    Ok(kit)
}
