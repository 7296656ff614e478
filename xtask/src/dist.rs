//! `cargo xtask dist`: the Debian package, by cargo-deb from the metadata in `governor/Cargo.toml`,
//! as `target/dist/governor.deb`, which is always a whole package. cargo-deb packages what [`crate::compile`] built and never builds
//! by itself, so the package holds the kernel programs that were just compiled.

use crate::{compile, paths, process, tools};
use anyhow::{Context as _, Result};
use std::path::PathBuf;

pub(crate) fn build() -> Result<PathBuf> {
    tools::need(tools::Group::Dist)?;
    let cargo_deb = tools::cargo_deb()?;
    compile::governor()?;
    let dir = paths::ensure(paths::target().join("dist"))?;
    let deb = dir.join("governor.deb");
    // Aside, and renamed: another run may be installing the one that is there.
    let aside = dir.join(format!("governor-{}.deb", std::process::id()));
    let mut pack = process::command(cargo_deb);
    pack.args([
        "--package",
        "governor",
        "--no-build",
        "--no-strip",
        "--output",
    ])
    .arg(&aside)
    .current_dir(paths::root())
    .env("CARGO_TARGET_DIR", paths::target());
    process::run("packing governor.deb", &mut pack)?;
    std::fs::rename(&aside, &deb)
        .with_context(|| format!("putting `{}` in its place", deb.display()))?;
    Ok(deb)
}
