//! Builds the kernel programs into `target/ebpf/governor-ebpf`, with whichever toolchain can: rustup's
//! nightly with `rust-src`, or Debian's own Rust with its prebuilt `core` for the BPF target. When
//! neither is there and Debian's cannot be installed, the error names both ways.

use crate::{paths, process, tools};
use anyhow::{Context, Result, bail};
use std::path::{Path, PathBuf};

/// Through this variable `governor`'s build learns where the object is.
pub(crate) const OBJECT_VARIABLE: &str = "GOVERNOR_EBPF_OBJECT";

/// With `logs`, the programs say in words what they decide.
pub(crate) fn build(logs: bool) -> Result<PathBuf> {
    build_as("governor-ebpf", if logs { LOGS } else { &[] })
}

/// The programs of the layout that only a test has.
pub(crate) fn build_with_next_layout() -> Result<PathBuf> {
    build_as("governor-ebpf-next-layout", NEXT_LAYOUT)
}

fn build_as(name: &str, features: &[&str]) -> Result<PathBuf> {
    let linker = tools::bpf_linker()?;
    let _lock = paths::lock("ebpf")?;
    let mut failures = Vec::new();
    for toolchain in toolchains()? {
        match build_with(toolchain, &linker, features) {
            Ok(made) => return keep(&made, name),
            Err(error) => failures.push(format!("{error:#}")),
        }
    }
    bail!(
        "no toolchain built the kernel programs:\n{}",
        failures.join("\n")
    )
}

/// What can build for the BPF target here, best first; Debian's is installed if there is nothing.
fn toolchains() -> Result<Vec<Toolchain>> {
    let mut found = Vec::new();
    if nightly_has_source() {
        found.push(Toolchain::Nightly);
    }
    if !debian_is_there() && found.is_empty() {
        tools::need(tools::Group::EbpfDebian).context(ADVICE)?;
    }
    if debian_is_there() {
        found.push(Toolchain::Debian);
    }
    if found.is_empty() {
        bail!("{ADVICE}");
    }
    Ok(found)
}

#[derive(Clone, Copy, Debug)]
enum Toolchain {
    Nightly,
    Debian,
}

fn build_with(toolchain: Toolchain, linker: &Path, features: &[&str]) -> Result<PathBuf> {
    let target_dir = paths::target().join("ebpf-build");
    let mut build = match toolchain {
        Toolchain::Nightly => {
            let mut cargo = process::command("cargo");
            cargo.args(["+nightly", "build", "-Z", "build-std=core"]);
            cargo
        }
        Toolchain::Debian => {
            let mut cargo = process::command("/usr/bin/cargo");
            cargo
                .arg("build")
                .env("RUSTC", "/usr/bin/rustc")
                .env("RUSTC_BOOTSTRAP", "1");
            cargo
        }
    };
    build
        .args(["--release", "--target", TARGET, "--target-dir"])
        .arg(&target_dir)
        .args(features)
        .current_dir(paths::root().join("governor-ebpf"))
        .env("CARGO_TARGET_BPFEL_UNKNOWN_NONE_LINKER", linker)
        .env("CARGO_TARGET_BPFEL_UNKNOWN_NONE_RUSTFLAGS", FLAGS);
    process::run("building the kernel programs", &mut build)?;
    Ok(target_dir.join(TARGET).join("release/governor-ebpf"))
}

/// Copies what of the object is loaded to its place; an unchanged one keeps its time, so that the
/// daemon is not built again for nothing.
fn keep(made: &Path, name: &str) -> Result<PathBuf> {
    let object = paths::ensure(paths::target().join("ebpf"))?.join(name);
    let bytes = std::fs::read(made).with_context(|| format!("reading `{}`", made.display()))?;
    let bytes = without_debug_sections(&bytes)
        .with_context(|| format!("leaving out what is not loaded of `{}`", made.display()))?;
    if std::fs::read(&object).ok().as_ref() != Some(&bytes) {
        paths::write_whole(&object, &bytes)?;
    }
    Ok(object)
}

/// The object without DWARF. The linker needs it to make BTF and keeps it, four fifths of the file; the
/// daemon embeds the object and reads all of it, so it would stay in memory for nothing.
fn without_debug_sections(object: &[u8]) -> Result<Vec<u8>> {
    let mut elf = object::build::elf::Builder::read(object)?;
    for section in &mut elf.sections {
        let name = section.name.as_slice();
        section.delete = name.starts_with(b".debug_") || name.starts_with(b".rel.debug_");
    }
    elf.delete_orphans();
    // LLVM keeps the names of sections with those of symbols; the library writes two tables.
    let names = elf.sections.add();
    names.name = ".shstrtab".into();
    names.sh_type = object::elf::SHT_STRTAB;
    names.sh_addralign = 1;
    names.data = object::build::elf::SectionData::SectionString;
    let mut kept = Vec::new();
    elf.write(&mut kept)?;
    Ok(kept)
}

fn nightly_has_source() -> bool {
    process::capture(process::command("rustup").args([
        "component",
        "list",
        "--toolchain",
        "nightly",
        "--installed",
    ]))
    .is_ok_and(|list| list.lines().any(|line| line.starts_with("rust-src")))
}

fn debian_is_there() -> bool {
    Path::new("/usr/bin/cargo").is_file() && Path::new(DEBIAN_CORE).is_dir()
}

const ADVICE: &str = "no toolchain can build for the BPF target; either of these helps: \
     `rustup toolchain install nightly --component rust-src`, or on Debian 12 \
     `apt-get install rustc-web cargo-web libstd-rust-web-dev-bpf`";
const TARGET: &str = "bpfel-unknown-none";
const DEBIAN_CORE: &str = "/usr/lib/rustlib/bpfel-unknown-none";
/// The first: Debian's LLVM otherwise refuses every 32-byte array. The others make BTF.
const FLAGS: &str = "-C link-arg=--disable-expand-memcpy-in-order -C link-arg=--btf -C debuginfo=2";
const LOGS: &[&str] = &["--features", "log"];
const NEXT_LAYOUT: &[&str] = &["--features", "next-layout"];
