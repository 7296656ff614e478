//! Where the dynamic loader finds a library: ld.so(8), ldconfig(8).
//!
//! Promises: of every directory that it would look in, in its order, the first that has the library for
//! the right machine counts, with all variants for processors beside it. The loader's cache is not read:
//! it is made from the same configuration. What the environment could add is no need of the host.

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
};

use anyhow::Result;
use object::elf::{EM_386, EM_AARCH64, EM_ARM, EM_X86_64};

use super::{
    elf::{self, Elf, Kind},
    root::Root,
};

/// Files of its configuration.
const MAX_FILES: usize = 256;
/// Directories of one search.
const MAX_PLACES: usize = 64;

/// The directories that every search ends with.
#[derive(Debug)]
pub(super) struct Loader {
    configured: Vec<PathBuf>,
}

/// Who asks for a library.
#[derive(Clone, Copy, Debug)]
pub(super) struct Asking<'a> {
    pub(super) file: &'a Path,
    pub(super) elf: &'a Elf,
    /// The search path of the program that it all began with, where that is passed on.
    pub(super) inherited: &'a [PathBuf],
}

impl Loader {
    pub(super) fn new(root: &Root) -> Result<Self> {
        let configured = configuration(root)?;
        Ok(Self { configured })
    }

    /// The files that `name` stands for when `asking` asks for it.
    pub(super) fn find(&self, root: &Root, asking: Asking<'_>, name: &str) -> Vec<PathBuf> {
        if name.contains('/') {
            return vec![PathBuf::from(name)];
        }
        let elf = asking.elf;
        let rpath: Vec<PathBuf> = match elf.runpath.as_slice() {
            [] => places(asking.file, &elf.rpath, elf.kind)
                .into_iter()
                .chain(asking.inherited.iter().cloned())
                .collect(),
            runpath => places(asking.file, runpath, elf.kind),
        };
        self.first(root, &rpath, elf.kind, name)
    }

    /// The files that `name` stands for when something of `kind` loads it while it runs.
    pub(super) fn find_opened(&self, root: &Root, kind: Kind, name: &str) -> Vec<PathBuf> {
        self.first(root, &[], kind, name)
    }

    fn first(&self, root: &Root, before: &[PathBuf], kind: Kind, name: &str) -> Vec<PathBuf> {
        let standard = standard(kind);
        let all = before.iter().chain(&self.configured).chain(&standard);
        for dir in all {
            let mut found: Vec<PathBuf> = variants(root, dir)
                .into_iter()
                .chain([dir.clone()])
                .map(|dir| dir.join(name))
                .filter(|path| is_of(root, path, kind))
                .collect();
            if !found.is_empty() {
                found.sort();
                return found;
            }
        }
        Vec::new()
    }
}

/// A search path as written in a file, without what depends on where a process stands.
pub(super) fn places(file: &Path, path: &[String], kind: Kind) -> Vec<PathBuf> {
    let origin = file.parent().unwrap_or(Path::new("/")).to_string_lossy();
    let libraries: &[&str] = &["lib", "lib64", &format!("lib/{}", triplet(kind))];
    let mut found = Vec::new();
    for place in path {
        for lib in libraries {
            let place = replaced(place, "ORIGIN", &origin);
            let place = PathBuf::from(replaced(&place, "LIB", lib));
            if place.is_absolute() && !found.contains(&place) && found.len() < MAX_PLACES {
                found.push(place);
            }
        }
    }
    found
}

/// The directories of the loader itself, as Debian builds it.
pub(super) fn standard(kind: Kind) -> Vec<PathBuf> {
    let triplet = triplet(kind);
    [
        format!("/lib/{triplet}"),
        format!("/usr/lib/{triplet}"),
        "/lib64".to_owned(),
        "/usr/lib64".to_owned(),
        "/lib".to_owned(),
        "/usr/lib".to_owned(),
    ]
    .map(PathBuf::from)
    .to_vec()
}

fn triplet(kind: Kind) -> &'static str {
    match kind.machine {
        EM_X86_64 => "x86_64-linux-gnu",
        EM_386 => "i386-linux-gnu",
        EM_AARCH64 => "aarch64-linux-gnu",
        EM_ARM => "arm-linux-gnueabihf",
        _ => "unknown-linux-gnu",
    }
}

fn replaced(text: &str, name: &str, by: &str) -> String {
    text.replace(&format!("${{{name}}}"), by)
        .replace(&format!("${name}"), by)
}

fn is_of(root: &Root, path: &Path, kind: Kind) -> bool {
    root.file(path)
        .and_then(|(real, _)| root.open(&real).ok())
        .and_then(elf::read)
        .is_some_and(|found| found.kind == kind)
}

/// Directories with the same libraries for newer processors.
fn variants(root: &Root, dir: &Path) -> Vec<PathBuf> {
    let all = root.list(&dir.join("glibc-hwcaps"));
    all.unwrap_or_default()
}

/// The directories that its configuration names, in order.
fn configuration(root: &Root) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    let mut seen = BTreeSet::new();
    let mut open = vec![PathBuf::from("/etc/ld.so.conf")];
    while let Some(file) = open.pop() {
        if seen.len() == MAX_FILES || !seen.insert(file.clone()) {
            continue;
        }
        let mut included = Vec::new();
        root.lines(&file, |line| {
            let line = line.split('#').next().unwrap_or(line).trim();
            let mut words = line.split_whitespace();
            match words.next() {
                Some("include") if included.len() < MAX_FILES => {
                    included.extend(words.map(str::to_owned));
                }
                Some(dir) if dir.starts_with('/') && found.len() < MAX_PLACES => {
                    found.push(PathBuf::from(dir));
                }
                _ => {}
            }
        })?;
        for pattern in included.into_iter().rev() {
            open.extend(matching(root, &file, &pattern)?.into_iter().rev());
        }
    }
    Ok(found)
}

/// The files that a pattern in `file` stands for.
fn matching(root: &Root, file: &Path, pattern: &str) -> Result<Vec<PathBuf>> {
    let pattern = file.parent().unwrap_or(Path::new("/")).join(pattern);
    let (Some(dir), Some(name)) = (pattern.parent(), pattern.file_name()) else {
        return Ok(Vec::new());
    };
    let name = name.to_string_lossy();
    let fits = |path: &PathBuf| {
        let one = path.file_name().unwrap_or_default().to_string_lossy();
        matches(&name, &one)
    };
    Ok(root.list(dir)?.into_iter().filter(fits).collect())
}

/// Whether a name fits a pattern with at most one star, which is all that configurations use.
pub(super) fn matches(pattern: &str, name: &str) -> bool {
    match pattern.split_once('*') {
        None => pattern == name,
        Some((begin, end)) => {
            name.len() >= begin.len() + end.len() && name.starts_with(begin) && name.ends_with(end)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_star_stands_for_anything() {
        assert!(matches("*.conf", "libc.conf") && matches("*.conf", ".conf"));
        assert!(matches("a*a", "aa") && !matches("a*a", "a"));
        assert!(matches("x.conf", "x.conf") && !matches("*.conf", "libc.conf~"));
    }
}
