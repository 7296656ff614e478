//! What this host cannot go on without: for survival sets, and for refusing a policy whose survival set
//! would shut its operator out.
//!
//! Promises: what is needed is read from files and never found out by executing anything; each file comes
//! once, in order of its name. Whatever is in the files, what is read and kept of them has a limit. It
//! can be wrong in one direction only that matters: a program that nothing on the host names is not found.

mod collect;
mod elf;
#[cfg(feature = "fuzzing")]
pub(crate) mod fuzzing;
mod grammar;
mod loader;
mod measured;
mod refuse;
mod root;
mod source;
#[cfg(test)]
mod tests;
mod why;

use std::{
    fmt,
    path::{Path, PathBuf},
};

use anyhow::Result;

use collect::Collection;
pub use measured::{Found, Listing, Missing, listing, missing};
pub use refuse::{ShutOut, Warning, refuse_if_shut_out};
use root::Root;
pub use why::Why;

/// As what a file is used: which list of `[survival]` it belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Role {
    Executable,
    Library,
    Script,
}

impl Role {
    /// The key under `[survival]`.
    pub const fn key(self) -> &'static str {
        match self {
            Self::Executable => "exec",
            Self::Library => "libraries",
            Self::Script => "scripts",
        }
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Executable => "executable",
            Self::Library => "library",
            Self::Script => "script",
        })
    }
}

/// A file that the host needs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Need {
    /// Without links, below the root that was looked at.
    pub path: PathBuf,
    pub role: Role,
    pub why: Why,
    /// The file that asks for it, if it is not needed for itself.
    pub by: Option<PathBuf>,
    /// It runs or is mapped, and its name leads to nothing: what is on disk says nothing about it.
    pub gone: bool,
}

impl Need {
    /// Why it is needed, in words.
    pub fn reason(&self) -> String {
        match &self.by {
            None => self.why.to_string(),
            Some(by) => format!("{}, for {}", self.why, by.display()),
        }
    }
}

/// All that a host needs.
#[derive(Clone, Debug)]
pub struct Needs {
    root: Root,
    list: Vec<Need>,
    notices: Vec<String>,
}

impl Needs {
    pub fn iter(&self) -> impl Iterator<Item = &Need> {
        self.list.iter()
    }

    /// What could not be looked at.
    pub fn notices(&self) -> &[String] {
        &self.notices
    }
}

/// Everything that the host below `root` needs. Processes below the cgroups in `governed` are work and
/// no need of the host.
pub fn needs(root: &Path, governed: &[String]) -> Result<Needs> {
    let root = Root::new(root);
    let mut all = Collection::new(&root)?;
    source::vital(&mut all)?;
    source::advisable(&mut all)?;
    source::running(&mut all, governed)?;
    Ok(done(root.clone(), all))
}

/// Like [`needs`], without what only runs: a user decides what that is, and how much of it.
fn lasting_needs(root: &Path) -> Result<Needs> {
    let root = Root::new(root);
    let mut all = Collection::new(&root)?;
    source::vital(&mut all)?;
    source::advisable(&mut all)?;
    Ok(done(root.clone(), all))
}

fn done(root: Root, all: Collection<'_>) -> Needs {
    let (list, notices) = all.finish();
    Needs {
        root,
        list,
        notices,
    }
}
