//! What runs: proc(5). The first process and governor are vital, everybody else is advisable.
//!
//! A process that ends meanwhile is passed over. What a process calls its files is taken from the kernel;
//! its command line, which it can write itself, is not read.

use std::{
    collections::BTreeSet,
    fs,
    io::ErrorKind,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result};

use crate::survival::{Role, Why, collect::Collection, grammar::maps};

pub(super) fn vital(all: &mut Collection<'_>) -> Result<()> {
    process(all, "1", &Why::Init)?;
    let daemon = all.root.file(Path::new(DAEMON)).map(|(real, _)| real);
    if let Some(daemon) = &daemon {
        all.program(daemon, &Why::Governor)?;
    }
    // The library that reaches the TPM is loaded by name.
    all.opened("libtss2-tcti-device.so.0", &Why::Governor)?;
    if all.root.is_host() {
        process(all, "self", &Why::Governor)?;
    }
    // Anybody may run the same program and put a library of their own into it. What is in the service's
    // cgroup was put there by the first process.
    let mut service = Vec::new();
    all.root.lines(Path::new(SERVICE), |line| {
        service.extend(
            line.trim()
                .parse::<u32>()
                .ok()
                .filter(|_| service.len() < MAX_SERVICE),
        );
    })?;
    for pid in service.iter().map(u32::to_string) {
        let exe = fs::read_link(in_proc(all, &pid, "exe")).ok();
        if exe.is_some() && exe == daemon {
            process(all, &pid, &Why::Governor)?;
        }
    }
    Ok(())
}

pub(super) fn running(all: &mut Collection<'_>, governed: &[String]) -> Result<()> {
    for number in pids(all)? {
        let pid = number.to_string();
        if is_governed(all, &pid, governed) {
            continue;
        }
        // Users decide what runs: it must not keep anything else from being found.
        if let Err(error) = process(all, &pid, &Why::Running(number)) {
            all.notice(format!(
                "process {pid} and later ones were left out: {error:#}"
            ));
            return Ok(());
        }
    }
    Ok(())
}

fn is_governed(all: &Collection<'_>, pid: &str, governed: &[String]) -> bool {
    let mut found = false;
    let path = Path::new("/proc").join(pid).join("cgroup");
    let read = all.root.lines(&path, |line| {
        let cgroup = maps::cgroup(line).map(Path::new);
        found |= cgroup.is_some_and(|at| governed.iter().any(|zone| at.starts_with(zone)));
    });
    // Gone, most likely; otherwise what it runs is told about once too often.
    read.is_ok() && found
}

fn process(all: &mut Collection<'_>, pid: &str, why: &Why) -> Result<()> {
    let exe = match fs::read_link(in_proc(all, pid, "exe")) {
        Ok(exe) => exe,
        // A thread of the kernel, or nobody any more.
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        Err(error) => {
            all.notice(format!(
                "process {pid} cannot be looked at: {error}; that takes root"
            ));
            return Ok(());
        }
    };
    let elsewhere = is_elsewhere(all, pid);
    file(
        all,
        pid,
        &exe.to_string_lossy(),
        Role::Executable,
        elsewhere,
        why,
    )?;
    let mut mapped = BTreeSet::new();
    let path = Path::new("/proc").join(pid).join("maps");
    let read = all.root.lines(&path, |line| {
        if let Some(name) = maps::executable(line)
            && mapped.len() < MAX_MAPPED
        {
            mapped.insert(name.to_owned());
        }
    });
    if let Err(error) = read {
        all.notice(format!(
            "what process {pid} has mapped cannot be read: {error:#}"
        ));
    }
    for name in mapped {
        file(all, pid, &name, Role::Library, elsewhere, why)?;
    }
    Ok(())
}

fn file(
    all: &mut Collection<'_>,
    pid: &str,
    name: &str,
    role: Role,
    elsewhere: bool,
    why: &Why,
) -> Result<()> {
    if elsewhere {
        let inside = name.trim_start_matches('/');
        return all.foreign(
            Path::new("/proc").join(pid).join("root").join(inside),
            role,
            why,
        );
    }
    let there = |name: &&str| all.root.file(Path::new(name)).is_some();
    let deleted = maps::deleted(name);
    // Where another file has the name by now, that one is what the next start takes.
    if let Some(name) = Some(name).filter(there).or(deleted.filter(there)) {
        return match role {
            Role::Executable => all.program(name, why),
            Role::Library | Role::Script => all.library(name, why),
        };
    }
    // Shared and anonymous memory has names too, and never was a file.
    match deleted {
        Some(name) if !NO_FILES.iter().any(|dir| name.starts_with(dir)) => {
            all.gone(PathBuf::from(name), role, why)
        }
        _ => Ok(()),
    }
}

/// Whether the process sees another root than we do.
fn is_elsewhere(all: &Collection<'_>, pid: &str) -> bool {
    let identity = |path: PathBuf| {
        fs::metadata(path)
            .map(|found| (found.dev(), found.ino()))
            .ok()
    };
    let theirs = identity(in_proc(all, pid, "root"));
    theirs.is_some() && theirs != identity(all.root.on_disk(Path::new("/")))
}

/// However many there are, a few bytes for each.
fn pids(all: &Collection<'_>) -> Result<Vec<u32>> {
    let mut found = Vec::new();
    let entries = match fs::read_dir(all.root.on_disk(Path::new("/proc"))) {
        Ok(entries) => entries,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(found),
        Err(error) => return Err(error).context("listing `/proc`"),
    };
    for entry in entries {
        let name = entry.context("listing `/proc`")?.file_name();
        found.extend(name.to_str().and_then(|name| name.parse::<u32>().ok()));
    }
    found.sort_unstable();
    Ok(found)
}

fn in_proc(all: &Collection<'_>, pid: &str, name: &str) -> PathBuf {
    all.root.on_disk(&Path::new("/proc").join(pid).join(name))
}

const DAEMON: &str = "/usr/bin/governor";
const SERVICE: &str = "/sys/fs/cgroup/system.slice/governor.service/cgroup.procs";
const MAX_SERVICE: usize = 16;
const NO_FILES: &[&str] = &[
    "/memfd:",
    "/dev/zero",
    "/SYSV",
    "/anon_hugepage",
    "/dev/shm/",
];
const MAX_MAPPED: usize = 4096;
