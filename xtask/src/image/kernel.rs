//! Kernels out of Debian's own archive: the cloud flavours of 6.1 and 6.12, downloaded and unpacked
//! with nothing installed on the host, or a kernel that the caller names. The exact package version
//! and the hash of the kernel are printed once, so that a run can be repeated elsewhere.

use crate::{paths, process};
use anyhow::{Context, Result, bail};
use clap::ValueEnum;
use std::path::{Path, PathBuf};

/// The kernels that every guest test runs on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
pub(crate) enum Kernel {
    #[value(name = "6.1")]
    V6_1,
    #[value(name = "6.12")]
    V6_12,
}

impl Kernel {
    pub(crate) const ALL: [Self; 2] = [Self::V6_1, Self::V6_12];
    pub(crate) const NEWEST: Self = Self::V6_12;

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::V6_1 => "6.1",
            Self::V6_12 => "6.12",
        }
    }

    fn package(self) -> &'static str {
        match self {
            Self::V6_1 => "linux-image-cloud-amd64",
            Self::V6_12 => "linux-image-6.12-cloud-amd64",
        }
    }
}

/// Which kernel the caller asks for.
#[derive(Clone, Debug)]
pub(crate) enum Wanted {
    Debian(Kernel),
    /// A kernel file and its module directory (the one that holds `modules.dep` or `kernel/`).
    Files {
        vmlinuz: PathBuf,
        modules: PathBuf,
    },
}

/// A kernel on disk.
#[derive(Clone, Debug)]
pub(crate) struct Source {
    /// Short name for logs and cache directories.
    pub(crate) name: String,
    pub(crate) vmlinuz: PathBuf,
    /// The release directory below `lib/modules`, with `modules.dep`.
    pub(crate) tree: PathBuf,
    /// Where things derived from this kernel are cached.
    pub(crate) cache: PathBuf,
}

pub(crate) fn fetch(wanted: &Wanted) -> Result<Source> {
    match wanted {
        Wanted::Debian(kernel) => debian(*kernel),
        Wanted::Files { vmlinuz, modules } => files(vmlinuz, modules),
    }
}

/// An ext4 image with `RELEASE/…` at its top, mounted over `/usr/lib/modules` in the guest.
pub(crate) fn modules_image(source: &Source) -> Result<PathBuf> {
    let image = source.cache.join("modules.img");
    if image.is_file() {
        return Ok(image);
    }
    let above = source
        .tree
        .parent()
        .context("the module directory has no parent")?;
    let kib = process::capture(process::command("du").args(["-sk"]).arg(&source.tree))?;
    let kib: u64 = kib
        .split_whitespace()
        .next()
        .unwrap_or("")
        .parse()
        .context("reading `du`")?;
    let aside = source.cache.join("modules.img.new");
    let what = format!("packing the modules of {}", source.name);
    process::run(
        &what,
        &mut super::ext4(above, &aside, "modules", kib / 1024 * 5 / 4 + 16),
    )?;
    std::fs::rename(&aside, &image).context("renaming the module image")?;
    Ok(image)
}

fn debian(kernel: Kernel) -> Result<Source> {
    let dir = paths::ensure(paths::vm())?.join(format!("kernel-{}", kernel.name()));
    if !dir.join("complete").is_file() {
        let _ignored = std::fs::remove_dir_all(&dir);
        download(kernel, &paths::ensure(dir.clone())?)?;
    }
    let vmlinuz = only(&dir.join("boot"), |name| name.starts_with("vmlinuz-"))?;
    let tree = only(&dir.join("lib/modules"), |_| true)?;
    Ok(Source {
        name: kernel.name().to_owned(),
        vmlinuz,
        tree,
        cache: dir,
    })
}

fn download(kernel: Kernel, dir: &Path) -> Result<()> {
    let origin = unpacked(kernel.package(), dir)?;
    let tree = only(&dir.join("lib/modules"), |_| true)?;
    index(dir, &tree)?;
    let vmlinuz = only(&dir.join("boot"), |name| name.starts_with("vmlinuz-"))?;
    let origin = format!("{origin} sha256:{}", paths::sha256_file(&vmlinuz)?);
    eprintln!("kernel {}: {origin}", kernel.name());
    paths::write_whole(&dir.join("complete"), origin.as_bytes())
}

/// Unpacks a package of the guests' release into the directory and says which version it was. On a
/// host whose apt does not know the package (another distribution), mmdebstrap fetches it.
pub(crate) fn unpacked(package: &str, dir: &Path) -> Result<String> {
    let Some(real) = known_to_apt(package) else {
        let tree = dir.join("tree");
        super::rootfs::extract(package, &tree)?;
        for (from, to) in [
            ("boot", ""),
            ("lib/modules", "lib/"),
            ("bin/busybox", "bin/"),
        ] {
            if tree.join(from).exists() {
                let to = paths::ensure(dir.join(to))?;
                let mut copy = process::command("cp");
                copy.arg("-rL").arg(tree.join(from)).arg(to);
                process::run("copying what was fetched", &mut copy)?;
            }
        }
        let mut sweep = process::command("rm");
        sweep.args(["-rf", "--one-file-system"]).arg(&tree);
        process::run("removing the rest", &mut crate::tools::privileged(sweep))?;
        return Ok(package.to_owned());
    };
    let what = format!("downloading {real}");
    process::run(
        &what,
        process::command("apt-get")
            .args(["download", &real])
            .current_dir(dir),
    )?;
    let deb = only(dir, |name| name.ends_with(".deb"))?;
    process::run(
        "unpacking",
        process::command("dpkg").arg("-x").arg(&deb).arg(dir),
    )?;
    std::fs::remove_file(&deb).context("removing an unpacked package")?;
    let name = deb.file_name().unwrap_or_default();
    Ok(name.to_string_lossy().into_owned())
}

/// The package itself, or the versioned kernel behind its meta package.
fn known_to_apt(package: &str) -> Option<String> {
    let depends =
        process::capture(process::command("apt-cache").args(["depends", package])).ok()?;
    let behind = depends
        .lines()
        .filter_map(|line| line.trim().strip_prefix("Depends: "))
        .find(|name| name.starts_with("linux-image-"));
    Some(behind.unwrap_or(package).to_owned())
}

fn index(base: &Path, tree: &Path) -> Result<()> {
    let release = tree
        .file_name()
        .context("the module directory has no name")?;
    let mut depmod = process::command("depmod");
    depmod
        .arg("-b")
        .arg(base)
        .arg(release)
        .env("PATH", crate::tools::admin_path());
    process::run("indexing kernel modules", &mut depmod).map(drop)
}

fn files(vmlinuz: &Path, modules: &Path) -> Result<Source> {
    let hash = paths::sha256_file(vmlinuz)?;
    let short = hash.get(..12).unwrap_or(&hash).to_owned();
    if !modules.join("modules.dep").is_file() {
        bail!(
            "`{}` holds no modules.dep: name the directory `lib/modules/RELEASE`",
            modules.display()
        );
    }
    let cache = paths::ensure(paths::vm().join(format!("kernel-{short}")))?;
    let release = modules
        .file_name()
        .context("the module directory has no name")?;
    let tree = paths::ensure(cache.join("modules"))?.join(release);
    if !tree.exists() {
        let mut copy = process::command("cp");
        process::run(
            "copying kernel modules",
            copy.arg("-rL").arg(modules).arg(&tree),
        )?;
    }
    Ok(Source {
        name: short,
        vmlinuz: vmlinuz.to_path_buf(),
        tree,
        cache,
    })
}

/// The one entry of a directory that fits.
fn only(dir: &Path, fits: impl Fn(&str) -> bool) -> Result<PathBuf> {
    let listing = std::fs::read_dir(dir).with_context(|| format!("listing `{}`", dir.display()))?;
    let mut found = listing
        .filter_map(Result::ok)
        .filter(|entry| entry.file_name().to_str().is_some_and(&fits))
        .map(|entry| entry.path());
    match (found.next(), found.next()) {
        (Some(path), None) => Ok(path),
        (None, _) => bail!("nothing fitting in `{}`", dir.display()),
        (Some(_), Some(_)) => bail!("more than one candidate in `{}`", dir.display()),
    }
}
