//! The pin directory: maps under their layout's version, links under their object's digest.
//!
//! ```text
//! PIN_DIR/maps-<ABI>/<MAP>        shared by every object of that layout
//! PIN_DIR/links-<digest>/<hook>   what holds the programs in place
//! ```
//! Two sets of links may stand side by side while one takes over from the other; the stricter
//! verdict holds meanwhile. Nothing here removes a pin before its successor is in place.

use std::{
    fs,
    io::ErrorKind,
    os::unix::fs::DirBuilderExt,
    path::{Path, PathBuf},
};

use governor_common::names::{self, ABI};
use governor_core::digest::Digest;
use nix::sys::statfs::{FsType, statfs};

use super::GateError;

/// Every map that outlives the daemon.
pub(super) const MAPS: &[&str] = &[
    names::TABLE,
    names::STATE,
    names::TRIPS,
    names::EXECS,
    names::TOMBSTONES,
    names::CGROUPS,
    names::ZONE_PATHS,
    names::EGRESS,
    names::LABELS,
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
}

impl Pins {
    /// Makes the directories where they are missing.
    pub(super) fn open(root: &Path, object: &[u8]) -> Result<Self, GateError> {
        let digest = Digest::of(object).to_string();
        let short = digest.get(..16).unwrap_or(&digest);
        let this = Self {
            root: root.to_owned(),
            maps: root.join(format!("maps-{ABI}")),
            links: root.join(format!("links-{short}")),
        };
        let bpffs = root.parent().unwrap_or(root);
        let kind = statfs(bpffs).map_err(|error| GateError::Read {
            path: bpffs.into(),
            source: error.into(),
        })?;
        if kind.filesystem_type() != BPF_FS_MAGIC {
            return Err(GateError::NoBpffs(bpffs.to_owned()));
        }
        for dir in [&this.root, &this.maps, &this.links] {
            match fs::DirBuilder::new().mode(0o700).create(dir) {
                Err(error) if error.kind() != ErrorKind::AlreadyExists => {
                    return Err(GateError::Pin {
                        path: dir.clone(),
                        reason: error.to_string(),
                    });
                }
                Ok(()) | Err(_) => {}
            }
        }
        Ok(this)
    }

    /// Whether this layout's maps were pinned before us.
    pub(super) fn has_maps(&self) -> bool {
        MAPS.iter().any(|name| self.maps.join(name).exists())
    }

    /// Sets of links of other objects.
    pub(super) fn other_links(&self) -> Result<Vec<PathBuf>, GateError> {
        self.others("links-", &self.links)
    }

    /// Maps of other layouts.
    pub(super) fn other_maps(&self) -> Result<Vec<PathBuf>, GateError> {
        self.others("maps-", &self.maps)
    }

    fn others(&self, prefix: &str, ours: &Path) -> Result<Vec<PathBuf>, GateError> {
        let read = |source| GateError::Read {
            path: self.root.clone(),
            source,
        };
        let mut found = Vec::new();
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

/// Removes a directory of pins. Called only when successors stand.
pub(super) fn remove(dir: &Path) -> Result<(), GateError> {
    let failed = |path: &Path| {
        let path = path.to_owned();
        move |error: std::io::Error| GateError::Pin {
            path,
            reason: error.to_string(),
        }
    };
    for entry in fs::read_dir(dir).map_err(failed(dir))? {
        let path = entry.map_err(failed(dir))?.path();
        fs::remove_file(&path).map_err(failed(&path))?;
    }
    fs::remove_dir(dir).map_err(failed(dir))
}

const BPF_FS_MAGIC: FsType = FsType(0xcafe_4a11);
