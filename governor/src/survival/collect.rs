//! From the files that something names to all that they cannot run without.
//!
//! Promises: each file once, under its name without links, with the reason that came first; whatever the
//! files say, an end is reached. Whoever adds reasons adds the vital ones first.

use std::{
    collections::{BTreeMap, BTreeSet},
    io::Read as _,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    sync::Arc,
};

use anyhow::{Result, bail};
use object::elf::ELFMAG;

use super::{
    Need, Role, Why,
    elf::{self, Kind},
    grammar::script,
    loader::{self, Asking, Loader},
    root::Root,
};

/// A host with more is not one that a survival set is written for.
const MAX_NEEDS: usize = 32 << 10;
/// Files looked at, some of them again for a program with a search path of its own.
const MAX_STEPS: usize = 256 << 10;

#[derive(Debug)]
pub(super) struct Collection<'a> {
    pub(super) root: &'a Root,
    loader: Loader,
    /// What the host's own programs are.
    kind: Option<Kind>,
    needs: BTreeMap<PathBuf, Need>,
    seen: BTreeSet<(PathBuf, Arc<[PathBuf]>)>,
    foreign: BTreeSet<(u64, u64)>,
    notices: Vec<String>,
    steps: usize,
}

struct Step {
    path: PathBuf,
    role: Role,
    by: Option<PathBuf>,
    inherited: Arc<[PathBuf]>,
}

impl<'a> Collection<'a> {
    pub(super) fn new(root: &'a Root) -> Result<Self> {
        let kind = ["/bin/sh", "/sbin/init", "/usr/bin/dpkg"]
            .iter()
            .filter_map(|path| root.file(Path::new(path)))
            .find_map(|(real, _)| elf::read(root.open(&real).ok()?));
        Ok(Self {
            root,
            loader: Loader::new(root)?,
            kind: kind.map(|elf| elf.kind),
            needs: BTreeMap::new(),
            seen: BTreeSet::new(),
            foreign: BTreeSet::new(),
            notices: Vec::new(),
            steps: 0,
        })
    }

    /// Adds what is executed as `path`, if it is there: a program or a script, as its content says.
    pub(super) fn program(&mut self, path: impl AsRef<Path>, why: &Why) -> Result<()> {
        self.add(path.as_ref(), Role::Executable, why)
    }

    /// Adds what is mapped as `path`, if it is there.
    pub(super) fn library(&mut self, path: impl AsRef<Path>, why: &Why) -> Result<()> {
        self.add(path.as_ref(), Role::Library, why)
    }

    /// Adds a program that is looked for by its name.
    pub(super) fn command(&mut self, name: &str, why: &Why) -> Result<()> {
        match self.in_path(name) {
            Some(path) => self.program(path, why),
            None => Ok(()),
        }
    }

    /// Adds a library that is loaded by its name while something runs.
    pub(super) fn opened(&mut self, name: &str, why: &Why) -> Result<()> {
        let Some(kind) = self.kind else {
            return Ok(());
        };
        for path in self.loader.find_opened(self.root, kind, name) {
            self.library(path, why)?;
        }
        Ok(())
    }

    /// Adds every program and script below a directory.
    pub(super) fn tree(&mut self, dir: impl AsRef<Path>, why: &Why) -> Result<()> {
        for path in self.root.tree(dir.as_ref())? {
            if self.root.is_executable(&path) {
                self.program(path, why)?;
            }
        }
        Ok(())
    }

    /// Where the loader looks by itself for what is of this host's kind.
    pub(super) fn library_dirs(&self) -> Vec<PathBuf> {
        self.kind.map_or_else(Vec::new, loader::standard)
    }

    /// Adds a file that runs or is mapped although nothing has its name any more. Then nothing else can
    /// have needed it by that name.
    pub(super) fn gone(&mut self, path: PathBuf, role: Role, why: &Why) -> Result<()> {
        self.put(path.clone(), role, why, None)?;
        if let Some(need) = self.needs.get_mut(&path) {
            need.gone = true;
        }
        Ok(())
    }

    /// Adds a file of another root, of which nothing else is known.
    pub(super) fn foreign(&mut self, path: PathBuf, role: Role, why: &Why) -> Result<()> {
        // The link in the middle of it is the kernel's, and what lies behind is told by number.
        let Ok(metadata) = std::fs::symlink_metadata(self.root.on_disk(&path)) else {
            return Ok(());
        };
        if metadata.is_file() && self.foreign.insert((metadata.dev(), metadata.ino())) {
            self.put(path, role, why, None)?;
        }
        Ok(())
    }

    pub(super) fn notice(&mut self, what: String) {
        if self.notices.len() < MAX_NOTICES && !self.notices.contains(&what) {
            self.notices.push(what);
        }
    }

    pub(super) fn finish(self) -> (Vec<Need>, Vec<String>) {
        (self.needs.into_values().collect(), self.notices)
    }

    fn add(&mut self, path: &Path, role: Role, why: &Why) -> Result<()> {
        let mut open = vec![Step {
            path: path.to_owned(),
            role,
            by: None,
            inherited: Arc::from([]),
        }];
        while let Some(step) = open.pop() {
            self.steps += 1;
            if self.steps > MAX_STEPS {
                bail!(
                    "looking for what `{}` needs: there is no end to it",
                    path.display()
                );
            }
            self.step(step, why, &mut open)?;
        }
        Ok(())
    }

    fn step(&mut self, step: Step, why: &Why, open: &mut Vec<Step>) -> Result<()> {
        let Step {
            path,
            role,
            by,
            inherited,
        } = step;
        let Some((real, _)) = self.root.file(&path) else {
            return Ok(());
        };
        if self.seen.contains(&(real.clone(), Arc::clone(&inherited))) {
            // What it needs is known; in which roles it is used may not be.
            return match self.needs.contains_key(&real) {
                true => self.put(real, role, why, by),
                false => Ok(()),
            };
        }
        self.seen.insert((real.clone(), Arc::clone(&inherited)));
        let looked = self.root.open(&real).and_then(|mut file| {
            let mut beginning = Vec::new();
            file.by_ref()
                .take(script::LOOKED_AT as u64)
                .read_to_end(&mut beginning)?;
            Ok((file, beginning))
        });
        // What cannot be read is still needed, and is told about when it cannot be measured.
        let Ok((file, beginning)) = looked else {
            return self.put(real, role, why, by);
        };
        if let Some(elf) = elf::read(file) {
            let below: Arc<[PathBuf]> = match &by {
                None if elf.runpath.is_empty() => {
                    loader::places(&real, &elf.rpath, elf.kind).into()
                }
                _ => Arc::clone(&inherited),
            };
            let next = |path| Step {
                path,
                role: Role::Library,
                by: Some(real.clone()),
                inherited: Arc::clone(&below),
            };
            open.extend(elf.interpreter.iter().map(|path| next(PathBuf::from(path))));
            let asking = Asking {
                file: &real,
                elf: &elf,
                inherited: &inherited,
            };
            for name in elf.needed.iter().chain(&elf.opened) {
                open.extend(
                    self.loader
                        .find(self.root, asking, name)
                        .into_iter()
                        .map(next),
                );
            }
            return self.put(real, role, why, by);
        }
        // The kernel may think better of a file than we do, and then it is needed as it is.
        if beginning.starts_with(&ELFMAG) {
            return self.put(real, role, why, by);
        }
        let Some(started) = script::read(&beginning).filter(|_| role == Role::Executable) else {
            return Ok(());
        };
        let by_name = started.by_name.and_then(|name| self.in_path(&name));
        for path in [PathBuf::from(started.interpreter)]
            .into_iter()
            .chain(by_name)
        {
            open.push(Step {
                path,
                role: Role::Executable,
                by: Some(real.clone()),
                inherited: Arc::from([]),
            });
        }
        self.put(real, Role::Script, why, by)
    }

    fn put(&mut self, path: PathBuf, role: Role, why: &Why, by: Option<PathBuf>) -> Result<()> {
        if let Some(known) = self.needs.get_mut(&path) {
            // What is executed may be mapped too, and not the other way round. A reason that is not vital
            // makes no role vital.
            if known.role == Role::Library
                && role == Role::Executable
                && known.why.is_vital() == why.is_vital()
            {
                known.role = role;
            }
            return Ok(());
        }
        if self.needs.len() == MAX_NEEDS {
            bail!("this host needs more than {MAX_NEEDS} files");
        }
        let need = Need {
            path: path.clone(),
            role,
            why: why.clone(),
            by,
            gone: false,
        };
        self.needs.insert(path, need);
        Ok(())
    }

    fn in_path(&self, name: &str) -> Option<PathBuf> {
        if name.contains('/') {
            return Some(PathBuf::from(name));
        }
        let mut all = PATH.iter().map(|dir| Path::new(dir).join(name));
        all.find(|path| self.root.is_executable(path))
    }
}

const PATH: &[&str] = &[
    "/usr/local/sbin",
    "/usr/local/bin",
    "/usr/sbin",
    "/usr/bin",
    "/sbin",
    "/bin",
];
const MAX_NOTICES: usize = 100;
