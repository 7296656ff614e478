//! `cargo xtask dist`: the Debian package, by cargo-deb from the metadata in `governor/Cargo.toml`,
//! as `target/dist/governor.deb`. cargo-deb packages what [`crate::compile`] built and never builds
//! by itself, so the package holds the kernel programs that were just compiled.

use crate::{compile, paths, process, tools};
use anyhow::Result;
use std::path::PathBuf;

pub(crate) fn build() -> Result<PathBuf> {
    tools::need(tools::Group::Dist)?;
    let cargo_deb = tools::cargo_deb()?;
    compile::governor()?;
    let deb = paths::ensure(paths::target().join("dist"))?.join("governor.deb");
    let mut pack = process::command(cargo_deb);
    pack.args([
        "--package",
        "governor",
        "--no-build",
        "--no-strip",
        "--output",
    ])
    .arg(&deb)
    .current_dir(paths::root())
    .env("CARGO_TARGET_DIR", paths::target());
    process::run("packing governor.deb", &mut pack)?;
    Ok(deb)
}
