//! A package whose daemon can be made to end between any two effects. It is built beside the one that
//! is released and is called so; nothing but this suite installs it.

use crate::{compile, dist, paths, tools};
use anyhow::Result;
use std::path::PathBuf;

/// Where it lies once it was built.
pub(crate) fn path() -> PathBuf {
    paths::target().join("faults/governor-for-crash-tests.deb")
}

/// One like it with another layout of what is pinned, to upgrade to.
pub(crate) fn next_layout() -> PathBuf {
    paths::target().join("faults/governor-with-next-layout.deb")
}

/// Builds both. The released binary lies in the same place while this runs, so it must be built again
/// before anything is packed from there; [`compile::governor`] refuses what was left.
pub(crate) fn build() -> Result<()> {
    tools::need(tools::Group::Dist)?;
    let _lock = paths::lock(dist::PACKED)?;
    compile::governor_with_next_layout()?;
    dist::pack(
        "packing a governor with another layout",
        &next_layout(),
        QUICK,
    )?;
    compile::governor_that_kills_itself()?;
    dist::pack("packing a governor that kills itself", &path(), QUICK)
}

/// Nobody fetches these, so they need not be small.
const QUICK: &[&str] = &["--fast"];
