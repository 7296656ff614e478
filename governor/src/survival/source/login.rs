//! What a login takes: its programs, what PAM loads and runs, shells and names.

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
};

use anyhow::Result;

use crate::survival::{
    Why,
    collect::Collection,
    grammar::{
        accounts,
        pam::{self, Line},
    },
    why::EVERYBODY,
};

pub(super) fn all(all: &mut Collection<'_>) -> Result<()> {
    shells(all)?;
    names(all)?;
    for name in COMMANDS {
        all.command(name, &Why::Login((*name).to_owned()))?;
    }
    for (dir, program) in TREES {
        all.tree(dir, &Why::Login((*program).to_owned()))?;
    }
    for (dir, program) in PLUGINS {
        for path in all.root.list(Path::new(dir))? {
            all.library(path, &Why::Login((*program).to_owned()))?;
        }
    }
    services(all)
}

fn shells(all: &mut Collection<'_>) -> Result<()> {
    all.program("/bin/sh", &Why::Shell(EVERYBODY.to_owned()))?;
    let mut found = Vec::new();
    all.root.lines(Path::new("/etc/passwd"), |line| {
        if let Some((account, shell)) = accounts::login(line)
            && found.len() < MAX_ACCOUNTS
        {
            found.push((account.to_owned(), shell.to_owned()));
        }
    })?;
    for (account, shell) in found {
        all.program(shell, &Why::Shell(account))?;
    }
    Ok(())
}

fn names(all: &mut Collection<'_>) -> Result<()> {
    // What the C library asks where nothing is configured.
    let mut found: BTreeSet<String> = ["files", "dns"].map(str::to_owned).into();
    all.root.lines(Path::new("/etc/nsswitch.conf"), |line| {
        let some = accounts::services(line).into_iter().map(str::to_owned);
        found.extend(some.take(MAX_NAMES.saturating_sub(found.len())));
    })?;
    for name in found {
        all.opened(&format!("libnss_{name}.so.2"), &Why::NameService(name))?;
    }
    preloaded(all)
}

/// Libraries that the loader puts into every program.
fn preloaded(all: &mut Collection<'_>) -> Result<()> {
    let mut found = Vec::new();
    all.root.lines(Path::new("/etc/ld.so.preload"), |line| {
        let line = line.split('#').next().unwrap_or(line);
        let some = line.split([' ', '\t', ':']).filter(|word| !word.is_empty());
        let left = MAX_NAMES.saturating_sub(found.len());
        found.extend(some.take(left).map(str::to_owned));
    })?;
    for name in &found {
        match name.starts_with('/') {
            true => all.library(name, &Why::Init)?,
            false => all.opened(name, &Why::Init)?,
        }
    }
    Ok(())
}

fn services(all: &mut Collection<'_>) -> Result<()> {
    let mut open: Vec<PathBuf> = vec![PathBuf::from("/etc/pam.conf")];
    for dir in CONFIGURATION {
        open.extend(all.root.list(Path::new(dir))?);
    }
    // In order of name, so that the reason given is always the same one.
    open.reverse();
    let mut seen = BTreeSet::new();
    while let Some(path) = open.pop() {
        let Some((real, _)) = all.root.file(&path) else {
            continue;
        };
        if seen.len() >= MAX_NAMES || !seen.insert(real.clone()) {
            continue;
        }
        let mut joined = pam::Joined::default();
        let mut lines = Vec::new();
        let single = real.ends_with("pam.conf");
        all.root.lines(&real, |part| {
            if let Some(whole) = joined.push(part) {
                // In one file for all services, each line begins with the service's name.
                let whole = match whole.trim_start().split_once(char::is_whitespace) {
                    Some((_, rest)) if single => rest,
                    _ => &whole,
                };
                lines.extend(pam::line(whole).filter(|_| lines.len() < MAX_LINES));
            }
        })?;
        let why = Why::Login(real.display().to_string());
        for line in lines {
            match line {
                Line::Include(file) => {
                    let dirs = CONFIGURATION.iter().map(Path::new);
                    open.extend(dirs.map(|dir| dir.join(&file)));
                }
                Line::Module { module, program } => {
                    load(all, &module, &why)?;
                    if let Some(program) = program {
                        all.program(program, &why)?;
                    }
                }
            }
        }
    }
    Ok(())
}

fn load(all: &mut Collection<'_>, module: &str, why: &Why) -> Result<()> {
    if module.starts_with('/') {
        return all.library(module, why);
    }
    for dir in all.library_dirs() {
        all.library(dir.join("security").join(module), why)?;
    }
    Ok(())
}

const COMMANDS: &[&str] = &[
    "agetty",
    "getty",
    "login",
    "nologin",
    "passwd",
    "run-parts",
    "runuser",
    "sshd",
    "su",
    "sudo",
    "sulogin",
    "unix_chkpwd",
    "unix_update",
    "env",
];

/// Programs that another one starts.
const TREES: &[(&str, &str)] = &[
    ("/usr/lib/openssh", "sshd"),
    ("/usr/libexec/openssh", "sshd"),
    ("/usr/lib/sudo", "sudo"),
    ("/usr/libexec/sudo", "sudo"),
];

const PLUGINS: &[(&str, &str)] = &[("/usr/lib/sudo", "sudo"), ("/usr/libexec/sudo", "sudo")];

/// In the order in which PAM looks.
const CONFIGURATION: &[&str] = &["/etc/pam.d", "/usr/lib/pam.d", "/usr/share/pam.d"];

const MAX_ACCOUNTS: usize = 4096;
const MAX_NAMES: usize = 1024;
const MAX_LINES: usize = 16 << 10;
