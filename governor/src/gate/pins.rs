//! The pin directory: maps under their layout's version, links under their object's digest.
//!
//! ```text
//! PIN_DIR/maps-<ABI>/<MAP>        shared by every object of that layout
//! PIN_DIR/links-<digest>/<hook>   what holds the programs in place
//! PIN_DIR/ready/                  zones and a table are in force; governed units wait for it
//! ```
//! A map that two layouts share is pinned for both. Two sets of links may stand side by side while one
//! takes over from the other; the stricter verdict holds meanwhile. Nothing here removes a pin before
//! its successor is in place, but those of maps that no program reads.

use std::{
    fs,
    io::ErrorKind,
    os::unix::fs::DirBuilderExt,
    path::{Path, PathBuf},
};

use aya::programs::{
    ProgramInfo,
    links::{FdLink, PinnedLink},
};
use governor_common::names::{self, ABI};
use governor_core::digest::Digest;
use nix::sys::statfs::{FsType, statfs};

use super::{GateError, error::whole};

/// Every map that outlives the daemon.
pub(super) const MAPS: &[&str] = &[
    names::TABLE,
    names::STATE,
    names::TRIPS,
    names::SIGNALS,
    names::HANDLED,
    names::GUARD,
    names::PROTECTED,
    names::LISTED,
    names::EXECS,
    names::TOMBSTONES,
    names::CGROUPS,
    names::ZONE_PATHS,
    names::EGRESS,
    names::LABELS,
    names::DIGESTS,
    names::SOCKETS,
    names::NAMED,
    names::DENIALS,
    names::EVENTS,
    names::COUNTS,
];

/// The pin directory as one object sees it.
#[derive(Debug)]
pub(super) struct Pins {
    root: PathBuf,
    pub(super) maps: PathBuf,
    pub(super) links: PathBuf,
    pub(super) ready: PathBuf,
    /// Maps of this layout that were not pinned before us.
    missing: Vec<&'static str>,
}

/// The maps that are not pinned in this directory.
pub(super) fn missing(maps: &Path) -> Vec<&'static str> {
    let names = MAPS.iter().filter(|name| !maps.join(name).exists());
    names.copied().collect()
}

/// How much of a layout was pinned before us.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Had {
    None,
    /// What a start, or letting go, left that was cut short; or what somebody left who removed pins.
    Some,
    All,
}

impl Pins {
    /// What stands there; nothing is made yet.
    pub(super) fn find(root: &Path, object: &[u8]) -> Self {
        let digest = Digest::of(object).to_string();
        let short = digest.get(..16).unwrap_or(&digest);
        let maps = root.join(of_layout(ABI));
        Self {
            root: root.to_owned(),
            missing: missing(&maps),
            maps,
            links: root.join(format!("links-{short}")),
            ready: root.join("ready"),
        }
    }

    /// How many of the maps were there.
    pub(super) fn had(&self) -> Had {
        match self.missing.len() {
            0 => Had::All,
            missing if missing == MAPS.len() => Had::None,
            _ => Had::Some,
        }
    }

    /// Those that were not.
    pub(super) fn missing(&self) -> &[&'static str] {
        &self.missing
    }

    /// Whether anything is pinned that keeps a program in place, of any object.
    pub(super) fn holds_links(&self) -> Result<bool, GateError> {
        let dirs = self.others("links-", &self.maps)?;
        for dir in dirs {
            let read = |error| GateError::Read {
                path: dir.clone(),
                error,
            };
            if fs::read_dir(&dir).map_err(read)?.next().is_some() {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Removes maps of every layout: those of programs that are gone.
    pub(super) fn begin_anew(&self) -> Result<(), GateError> {
        self.others("maps-", &self.links)?
            .iter()
            .try_for_each(|dir| remove(dir))
    }

    /// Whether some of these programs of ours are pinned, and not all: somebody took them away.
    pub(super) fn lost_some(&self, mut names: impl Iterator<Item = &'static str>) -> bool {
        let is_pinned = |name: &str| self.links.join(name).exists();
        let Some(first) = names.next().map(is_pinned) else {
            return false;
        };
        names.any(|name| is_pinned(name) != first)
    }

    /// Makes the directories where they are missing.
    pub(super) fn make_directories(&self) -> Result<(), GateError> {
        for dir in [&self.root, &self.maps, &self.links] {
            make(dir)?;
        }
        // Whoever removed the pins left a marker that says what is no longer so.
        if self.had() != Had::All && self.other_maps()?.is_empty() && self.ready.exists() {
            fs::remove_dir(&self.ready).map_err(pin_error(&self.ready))?;
        }
        Ok(())
    }

    /// After a start that failed: removes these pins, maps that were not all there before, and what is
    /// empty then. Whatever enforced before enforces still.
    pub(super) fn take_back(&self, made: &[PathBuf]) {
        let maps = MAPS.iter().map(|name| self.maps.join(name));
        let maps = maps.filter(|_| self.had() != Had::All);
        for pin in made.iter().cloned().chain(maps) {
            // It goes with the mount at the latest, and does no harm until then.
            let _ignored = fs::remove_file(pin);
        }
        for dir in [&self.links, &self.maps, &self.root] {
            // One that holds something is not removed.
            let _ignored = fs::remove_dir(dir);
        }
    }

    /// Sets of links of other objects.
    pub(super) fn other_links(&self) -> Result<Vec<PathBuf>, GateError> {
        self.others("links-", &self.links)
    }

    /// Maps of every layout, ours first.
    pub(super) fn every_maps(&self) -> Result<Vec<PathBuf>, GateError> {
        let ours = (self.had() != Had::None).then(|| self.maps.clone());
        Ok(ours.into_iter().chain(self.other_maps()?).collect())
    }

    /// Maps of other layouts.
    pub(super) fn other_maps(&self) -> Result<Vec<PathBuf>, GateError> {
        self.others("maps-", &self.maps)
    }

    fn others(&self, prefix: &str, ours: &Path) -> Result<Vec<PathBuf>, GateError> {
        let read = |error| GateError::Read {
            path: self.root.clone(),
            error,
        };
        let mut found = Vec::new();
        if !self.root.exists() {
            return Ok(found);
        }
        for entry in fs::read_dir(&self.root).map_err(read)? {
            let path = entry.map_err(read)?.path();
            let named = path
                .file_name()
                .and_then(|name| name.to_str())
                .unwrap_or_default();
            if named.starts_with(prefix) && path != ours {
                found.push(path);
            }
        }
        found.sort();
        Ok(found)
    }
}

/// Makes the pin directory, or finds it there; on a file system that takes pins.
pub(super) fn place(root: &Path) -> Result<(), GateError> {
    let bpffs = root.parent().unwrap_or(root);
    let kind = statfs(bpffs).map_err(|error| GateError::Read {
        path: bpffs.into(),
        error: error.into(),
    })?;
    if kind.filesystem_type() != BPF_FS_MAGIC {
        return Err(GateError::NoBpffs(bpffs.to_owned()));
    }
    make(root)
}

/// The directory of a layout's maps.
pub(super) fn of_layout(layout: u64) -> String {
    format!("maps-{layout}")
}

/// The program that is pinned there, or the one on the link that is.
pub(super) fn program_at(pin: &Path, by_link: bool) -> Result<u32, String> {
    if by_link {
        let link = PinnedLink::from_pin(pin).map_err(|error| whole(&error))?;
        let info = FdLink::from(link).info().map_err(|error| whole(&error))?;
        return Ok(info.program_id());
    }
    let info = ProgramInfo::from_pin(pin).map_err(|error| whole(&error))?;
    Ok(info.id())
}

/// Makes a directory, or finds it there.
pub(super) fn make(dir: &Path) -> Result<(), GateError> {
    match fs::DirBuilder::new().mode(0o700).create(dir) {
        Err(error) if error.kind() != ErrorKind::AlreadyExists => Err(pin_error(dir)(error)),
        Ok(()) | Err(_) => Ok(()),
    }
}

/// Removes a directory of pins, what judges an exec last. Called only when successors stand, or none are
/// meant to.
pub(super) fn remove(dir: &Path) -> Result<(), GateError> {
    let pins = fs::read_dir(dir).map_err(pin_error(dir))?;
    let paths: Result<Vec<PathBuf>, _> = pins.map(|entry| Ok(entry?.path())).collect();
    let mut paths = paths.map_err(pin_error(dir))?;
    paths.sort_by_key(|path| path.ends_with(JUDGES_EXEC));
    for path in paths {
        fs::remove_file(&path).map_err(pin_error(&path))?;
        #[cfg(feature = "fault-points")]
        crate::fault::at("removed");
    }
    fs::remove_dir(dir).map_err(pin_error(dir))
}

fn pin_error(path: &Path) -> impl FnOnce(std::io::Error) -> GateError {
    let path = path.to_owned();
    move |error| GateError::Pin {
        path,
        reason: error.to_string(),
    }
}

/// The hook that lets nothing unlisted begin.
const JUDGES_EXEC: &str = "bprm_check_security";
const BPF_FS_MAGIC: FsType = FsType(0xcafe_4a11);
