//! `cargo xtask dist`: the Debian package, by cargo-deb from the metadata in `governor/Cargo.toml`,
//! as `target/dist/governor.deb`, which is always a whole package. cargo-deb packages what [`crate::compile`] built and never builds
//! by itself, so the package holds the kernel programs that were just compiled.

use crate::{compile, paths, process, tools};
use anyhow::{Context as _, Result};
use std::path::{Path, PathBuf};

pub(crate) fn build() -> Result<PathBuf> {
    tools::need(tools::Group::Dist)?;
    let _lock = paths::lock(PACKED)?;
    compile::governor()?;
    let deb = paths::target().join("dist/governor.deb");
    pack("packing governor.deb", &deb, &[])?;
    Ok(deb)
}

/// Packs what was compiled last, with the manual pages and completions that it writes about itself. Whoever
/// calls holds the lock [`PACKED`] since before it was compiled.
pub(crate) fn pack(what: &str, deb: &Path, flags: &[&str]) -> Result<()> {
    let cargo_deb = tools::cargo_deb()?;
    let generated = paths::target().join("generated");
    // Pages of verbs that are gone would be packed too.
    match std::fs::remove_dir_all(&generated) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            return Err(error).with_context(|| format!("clearing `{}`", generated.display()));
        }
        Ok(()) | Err(_) => {}
    }
    let mut generate = process::command(paths::target().join("release/governor"));
    generate.args(["generate", "--out"]).arg(&generated);
    process::capture(&mut generate).context("writing manual pages")?;
    if let Some(dir) = deb.parent() {
        paths::ensure(dir.to_owned())?;
    }
    // Aside, and renamed: another run may be installing the one that is there.
    let aside = deb.with_extension(format!("{}.deb", std::process::id()));
    let mut pack = process::command(cargo_deb);
    pack.args(["--package", "governor", "--no-build", "--no-strip"])
        .args(flags)
        .arg("--output")
        .arg(&aside)
        .current_dir(paths::root())
        .env("CARGO_TARGET_DIR", paths::target());
    process::run(what, &mut pack)?;
    std::fs::rename(&aside, deb)
        .with_context(|| format!("putting `{}` in its place", deb.display()))
}

/// What is packed lies in one place, and so do the pages about it: from compiling to packing they are one
/// run's.
pub(crate) const PACKED: &str = "packed";
