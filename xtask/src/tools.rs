//! What each verb needs on the host, and how it gets there: missing Debian packages are installed
//! with apt where that is allowed (root, or sudo that asks nothing), and otherwise the error is the
//! exact command to run. Nothing is installed that the verb at hand does not need.

use crate::{paths, process};
use anyhow::{Context, Result, bail};
use std::path::PathBuf;
use std::process::Command;

/// A reason to need packages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Group {
    Guest,
    Build,
    EbpfDebian,
    BpfLinker,
    Oracles,
    Dist,
}

impl Group {
    fn packages(self) -> &'static [&'static str] {
        match self {
            Self::Guest => &[
                "qemu-system-x86",
                "qemu-utils",
                "ovmf",
                "swtpm",
                "swtpm-tools",
                "mmdebstrap",
                "e2fsprogs",
                "kmod",
                // Policies for guests are signed on the host.
                "openssh-client",
                "xz-utils",
                "zstd",
            ],
            // g++ for the fuzzer that the fuzz targets are linked with.
            Self::Build => &["libtss2-dev", "pkg-config", "gcc", "g++", "libc6-dev"],
            Self::EbpfDebian => &["rustc-web", "cargo-web", "libstd-rust-web-dev-bpf"],
            Self::BpfLinker => &[
                "llvm-22-dev",
                "libpolly-22-dev",
                "libzstd-dev",
                "zlib1g-dev",
                "g++",
            ],
            // A software TPM for the tests of the attester.
            Self::Oracles => &["openssh-client", "tpm2-tools", "openssl", "swtpm"],
            Self::Dist => &["dpkg-dev"],
        }
    }
}

/// Makes sure that the group's packages are installed.
pub(crate) fn need(group: Group) -> Result<()> {
    let _lock = paths::lock("apt")?;
    let missing: Vec<&str> = group
        .packages()
        .iter()
        .copied()
        .filter(|name| !installed(name))
        .collect();
    if missing.is_empty() {
        return Ok(());
    }
    if !process::on_path("apt-get") {
        bail!(
            "not a Debian or Ubuntu host: install what these packages hold: {}",
            missing.join(" ")
        );
    }
    if !may_install() {
        bail!(
            "missing packages; run: sudo apt-get install -y --no-install-recommends {}",
            missing.join(" ")
        );
    }
    // One third-party source that cannot be reached is no reason to give up.
    if let Err(error) = process::run("refreshing package lists", &mut apt(&["update"])) {
        eprintln!("warning: {error:#}");
    }
    let what = format!("installing {}", missing.join(" "));
    let plain = process::run(&what, apt(&INSTALL).args(&missing));
    let Err(error) = plain else { return Ok(()) };
    if group != Group::Guest {
        return Err(error);
    }
    // A qemu-utils from backports that are no longer configured blocks the archive's own QEMU, or
    // would be removed for it: take it from the release too.
    let release = release().ok_or(error)?;
    let what = format!("installing with qemu-utils from {release}");
    let mut pinned = apt(&INSTALL);
    pinned
        .arg("--allow-downgrades")
        .args(missing.iter().filter(|name| **name != "qemu-utils"))
        .arg(format!("qemu-utils/{release}"));
    process::run(&what, &mut pinned).map(drop)
}

/// The `bpf-linker` to use, installed below `target/tools` if the host has none.
pub(crate) fn bpf_linker() -> Result<PathBuf> {
    let _lock = paths::lock("tools")?;
    if let Some(found) = find("bpf-linker") {
        return Ok(found);
    }
    need(Group::BpfLinker)?;
    let mut install = process::command("cargo");
    install
        .args([
            "install",
            "bpf-linker",
            "--version",
            "0.13.0",
            "--locked",
            "--quiet",
        ])
        .args(["--no-default-features", "--features", "llvm-22", "--root"])
        .arg(paths::ensure(paths::tools())?)
        .env("LLVM_PREFIX", "/usr/lib/llvm-22")
        .env("CARGO_PROFILE_RELEASE_DEBUG", "false");
    process::run("installing bpf-linker (about a minute)", &mut install)?;
    find("bpf-linker").context("bpf-linker was installed but is not there")
}

/// cargo-deb, installed below `target/tools` if the host has none. Its speed does not matter here, so
/// it is built without optimization, which takes half a minute instead of several.
pub(crate) fn cargo_deb() -> Result<PathBuf> {
    let _lock = paths::lock("tools")?;
    if let Some(found) = find("cargo-deb") {
        return Ok(found);
    }
    let mut install = process::command("cargo");
    install
        .args([
            "install",
            "cargo-deb",
            "--version",
            "3.8.0",
            "--locked",
            "--quiet",
        ])
        .args(["--no-default-features", "--profile", "dev", "--root"])
        .arg(paths::ensure(paths::tools())?);
    process::run("installing cargo-deb (about a minute)", &mut install)?;
    find("cargo-deb").context("cargo-deb was installed but is not there")
}

/// A program below `target/tools/bin`, else on PATH.
pub(crate) fn find(program: &str) -> Option<PathBuf> {
    let ours = paths::tools().join("bin").join(program);
    if ours.is_file() {
        return Some(ours);
    }
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path)
        .map(|dir| dir.join(program))
        .find(|file| file.is_file())
}

/// PATH with the administrative directories, which an ordinary user's leaves out on Debian.
pub(crate) fn admin_path() -> std::ffi::OsString {
    let mut path = std::env::var_os("PATH").unwrap_or_default();
    path.push(":/usr/sbin:/sbin");
    path
}

/// The same command with the rights of root.
pub(crate) fn privileged(command: Command) -> Command {
    if is_root() {
        return command;
    }
    let mut sudo = process::command("sudo");
    sudo.arg("-n")
        .arg(command.get_program())
        .args(command.get_args());
    sudo
}

fn installed(package: &str) -> bool {
    process::capture(process::command("dpkg-query").args([
        "-W",
        "-f",
        "${db:Status-Status}",
        package,
    ]))
    .is_ok_and(|status| status == "installed")
}

fn apt(arguments: &[&str]) -> Command {
    let mut command = process::command("apt-get");
    command
        .args(["-q", "-o", "DPkg::Lock::Timeout=600"])
        .args(arguments);
    command.env("DEBIAN_FRONTEND", "noninteractive");
    privileged(command)
}

fn may_install() -> bool {
    is_root() || process::capture(process::command("sudo").args(["-n", "true"])).is_ok()
}

fn is_root() -> bool {
    // SAFETY: geteuid has no arguments and cannot fail.
    unsafe { libc::geteuid() == 0 }
}

fn release() -> Option<String> {
    let text = std::fs::read_to_string("/etc/os-release").ok()?;
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix("VERSION_CODENAME="))?;
    Some(line.trim_matches('"').to_owned())
}

/// Removes nothing: where the host has a package of another release, apt would otherwise take that
/// away to make room for what depends on its own.
const INSTALL: [&str; 4] = ["install", "-y", "--no-install-recommends", "--no-remove"];
