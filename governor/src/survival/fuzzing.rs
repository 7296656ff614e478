//! What must hold of what is read of a host's files: programs, and texts line by line.

use super::{
    elf,
    grammar::{accounts, dpkg, maps, pam, script, unit},
    loader,
};

/// A program is read or is none, and what is kept of it has a limit.
pub fn program(bytes: &[u8]) -> bool {
    let started = script::read(bytes);
    if let Some(started) = &started {
        assert!(!started.interpreter.is_empty() && started.interpreter.len() < script::LOOKED_AT);
        assert!(started.by_name.as_ref().is_none_or(|name| !name.is_empty()));
    }
    let Some(found) = elf::of_any_class(bytes) else {
        return started.is_some();
    };
    assert!(started.is_none(), "no file is both");
    assert!(found.needed.len() <= 1024 && found.opened.len() <= MAX_OPENED);
    let kept = found.interpreter.iter().chain(&found.needed);
    for name in kept.chain(&found.rpath).chain(&found.runpath) {
        assert!(name.len() <= 4096 && !name.contains('\0'));
    }
    true
}

/// Every line of every kind of file, as its reader takes it.
pub fn files(text: &str) -> bool {
    let mut any = false;
    let mut joined = pam::Joined::default();
    let mut status = dpkg::Status::default();
    let mut before = "";
    for line in text.lines() {
        if let Some((name, shell)) = accounts::login(line) {
            assert!(!name.is_empty() && shell.starts_with('/'));
            any = true;
        }
        for service in accounts::services(line) {
            assert!(!service.is_empty() && !service.contains(['/', '.', '[', ' ']));
            any = true;
        }
        if let Some(path) = maps::executable(line) {
            assert!(path.starts_with('/'));
            assert!(maps::deleted(path).is_none_or(|name| name.len() < path.len()));
            any = true;
        }
        if let Some(word) = unit::program(line) {
            assert!(!word.is_empty() && !word.contains('%'));
            any = true;
        }
        if let Some(found) = joined.push(line).as_deref().and_then(pam::line) {
            match found {
                pam::Line::Include(file) => assert!(!file.is_empty()),
                pam::Line::Module { module, program } => {
                    assert!(!module.is_empty());
                    assert!(program.is_none_or(|program| program.starts_with('/')));
                }
            }
            any = true;
        }
        any |= status
            .line(line)
            .is_some_and(|package| is_file_name(&package.name));
        // A pattern fits whatever its star stands for.
        if let Some((begin, end)) = before.split_once('*') {
            assert!(loader::matches(before, &format!("{begin}{line}{end}")));
        }
        before = line;
    }
    any | status
        .end()
        .is_some_and(|package| is_file_name(&package.name))
}

fn is_file_name(name: &str) -> bool {
    assert!(!name.is_empty() && !name.contains(['/', '\0', ' ']) && !name.starts_with('.'));
    true
}

/// 256 of each note of a dozen bytes and more, in eight segments of 64 KiB.
const MAX_OPENED: usize = 256 * 8 * (64 << 10) / 12;
