//! What a guest boots from: a Debian kernel with its modules, a small initramfs, and one root file
//! system that both kernels share. Each part is cached under `target/vm/` by a hash of its recipe
//! and never modified afterwards: a guest writes to an overlay of its own.

mod initramfs;
pub(crate) mod kernel;
mod rootfs;

use crate::paths;
use anyhow::Result;
use std::path::{Path, PathBuf};
use std::process::Command;

pub(crate) use initramfs::MARKER;
pub(crate) use kernel::{Kernel, Source, Wanted, unpacked};

/// Everything QEMU needs for one kernel.
#[derive(Clone, Debug)]
pub(crate) struct Image {
    pub(crate) source: Source,
    pub(crate) initramfs: PathBuf,
    pub(crate) modules: PathBuf,
    pub(crate) rootfs: PathBuf,
}

/// Makes what is missing and returns the rest from the cache.
pub(crate) fn prepare(source: &kernel::Wanted) -> Result<Image> {
    let _lock = paths::lock("image")?;
    let source = kernel::fetch(source)?;
    Ok(Image {
        initramfs: initramfs::build(&source)?,
        modules: kernel::modules_image(&source)?,
        rootfs: rootfs::build()?,
        source,
    })
}

/// An ext4 image of a directory, without mounting anything; `size` in MiB, sparse.
fn ext4(from: &Path, to: &Path, label: &str, size: u64) -> Command {
    let uuid = match label {
        "rootfs" => "00000000-0000-4000-8000-000000000000",
        _ => "00000000-0000-4000-8000-000000000001",
    };
    let mut command = crate::process::command("mke2fs");
    command
        .args([
            "-q", "-F", "-t", "ext4", "-b", "4096", "-m", "0", "-L", label,
        ])
        .args([
            "-O",
            "verity",
            "-E",
            "hash_seed=00000000-0000-4000-8000-000000000000",
        ])
        .args(["-U", uuid])
        .arg("-d")
        .arg(from)
        .arg(to)
        .arg(format!("{size}M"))
        .env("PATH", crate::tools::admin_path());
    command
}
