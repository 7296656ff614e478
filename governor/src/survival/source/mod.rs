//! Who needs something of a host: each file here is one of them.
//!
//! Promises: the vital reasons are added before the advisable ones, so that a file which is needed for both
//! has the vital one. What a host does not have is left out without a word.

mod hooks;
mod login;
mod packages;
mod processes;
mod systemd;

use anyhow::{Context as _, Result};

use super::collect::Collection;

/// Without which nobody logs in, the first process, packages or governor fail.
pub(super) fn vital(all: &mut Collection<'_>) -> Result<()> {
    processes::vital(all).context("looking at the first process and governor")?;
    systemd::programs(all).context("looking for what systemd needs")?;
    login::all(all).context("looking for what a login needs")?;
    packages::vital(all).context("looking for what packages need")
}

/// What else the host is set up to run.
pub(super) fn advisable(all: &mut Collection<'_>) -> Result<()> {
    packages::advisable(all).context("looking at required packages")?;
    hooks::scripts(all).context("looking for scripts that are run on an occasion")?;
    hooks::units(all).context("looking at units")
}

/// What runs now and is no work of a zone.
pub(super) fn running(all: &mut Collection<'_>, governed: &[String]) -> Result<()> {
    processes::running(all, governed).context("looking at processes")
}
