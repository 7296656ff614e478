//! Which cgroups are zones, and the labels of tasks.
//!
//! Promises: a path is known to the kernel before the cgroups that exist are looked up, so a
//! cgroup made meanwhile is not missed; what is stale goes last.

use std::{
    fs,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    path::Path,
};

use governor_common::{
    Label, Plain,
    names::{self, ZONE_PATH_LEN, ZONE_PATH_ROWS, ZONE_SELF, ZONE_UNKNOWN},
};
use nix::sys::statfs::{CGROUP2_SUPER_MAGIC, fstatfs};
use rustix::{
    fs::{AtFlags, Mode, OFlags, StatxFlags, openat, statx},
    io::Errno,
};

use super::{Gate, GateError, maps::PathBytes, state::is_absent, sys};

const CGROUP_ROOT: &str = "/sys/fs/cgroup";

impl Gate {
    /// Makes exactly these paths (`/governed.slice/…`, below the cgroup root) zones.
    pub fn set_zone_paths(&mut self, zones: &[(String, u32)]) -> Result<(), GateError> {
        let mut zones = zones.to_vec();
        zones.extend(self.own.clone().map(|path| (path, ZONE_SELF)));
        let limit = ZONE_PATH_ROWS;
        if zones.len() > limit as usize {
            return Err(GateError::TooMany {
                what: "zones",
                count: zones.len(),
                limit,
            });
        }
        let root = Tree::open(Path::new(CGROUP_ROOT))?;
        let wanted = zones
            .iter()
            .map(|(path, zone)| Ok((path_bytes(path)?, *zone)))
            .collect::<Result<Vec<_>, GateError>>()?;

        for (path, zone) in &wanted {
            self.maps
                .zone_paths
                .insert(path, zone, 0)
                .map_err(GateError::map(names::ZONE_PATHS, "adding a zone"))?;
        }
        // Whatever is made from here on is seen by the kernel program; what it adds is not stale.
        let before = self.cgroup_ids()?;
        let mut found = Vec::new();
        for (path, zone) in &zones {
            // Not there now: the kernel program sees it when it is made.
            let Some(id) = root.number(path.trim_start_matches('/'))? else {
                continue;
            };
            self.maps
                .cgroups
                .insert(id, zone, 0)
                .map_err(GateError::map(names::CGROUPS, "adding a zone's cgroup"))?;
            let back = self.maps.cgroups.get(&id, 0).map_err(GateError::map(
                names::CGROUPS,
                "reading a zone's cgroup back",
            ))?;
            if back != *zone {
                let detail = format!("stored {zone}, found {back}");
                return Err(GateError::ReadBack {
                    name: names::CGROUPS,
                    detail,
                });
            }
            found.push(id);
        }

        let stale: Vec<PathBytes> = self
            .maps
            .zone_paths
            .keys()
            .filter_map(Result::ok)
            .filter(|known| !wanted.iter().any(|(path, _)| path == known))
            .collect();
        for path in stale {
            ignore_absent(
                self.maps.zone_paths.remove(&path),
                names::ZONE_PATHS,
                "removing a zone",
            )?;
        }
        for id in before.into_iter().filter(|id| !found.contains(id)) {
            ignore_absent(
                self.maps.cgroups.remove(&id),
                names::CGROUPS,
                "removing a zone's cgroup",
            )?;
        }
        Ok(())
    }

    /// The cgroup below which everything is governed now, if there is one.
    pub fn governed_root(&self) -> Result<Option<String>, GateError> {
        let unknown = |(path, zone): (String, u32)| (zone == ZONE_UNKNOWN).then_some(path);
        Ok(self.zones_in_force()?.into_iter().find_map(unknown))
    }

    /// The zones that are named now, without our own cgroup.
    pub fn zones_in_force(&self) -> Result<Vec<(String, u32)>, GateError> {
        let mut zones = Vec::new();
        for entry in self.maps.zone_paths.iter() {
            let (path, zone) = entry.map_err(GateError::map(names::ZONE_PATHS, "listing zones"))?;
            let end = path
                .iter()
                .position(|byte| *byte == 0)
                .unwrap_or(path.len());
            let path = path.get(..end).unwrap_or_default();
            if zone != ZONE_SELF {
                zones.push((String::from_utf8_lossy(path).into_owned(), zone));
            }
        }
        Ok(zones)
    }

    /// The label of the task behind a pidfd; `None`: it has none.
    pub fn label_of(&self, pidfd: BorrowedFd<'_>) -> Result<Option<Label>, GateError> {
        let mut value = vec![0u8; self.maps.labels_value.next_multiple_of(8)];
        if let Err(error) = sys::lookup_by_fd(self.maps.labels.fd().as_fd(), pidfd, &mut value) {
            if error.raw_os_error() == Some(libc::ENOENT) {
                return Ok(None);
            }
            return Err(GateError::Invalid(format!(
                "reading a task's label: {error}"
            )));
        }
        let label = value.get(..size_of::<Label>()).and_then(Label::read);
        Ok(label.filter(Label::present))
    }

    fn cgroup_ids(&self) -> Result<Vec<u64>, GateError> {
        self.maps
            .cgroups
            .keys()
            .collect::<Result<_, _>>()
            .map_err(GateError::map(names::CGROUPS, "listing zones' cgroups"))
    }
}

/// The tree of cgroups itself: no part of it mounted in its place, and nothing mounted over a part.
struct Tree {
    root: OwnedFd,
    mount: u64,
}

impl Tree {
    fn open(root: &Path) -> Result<Self, GateError> {
        let failed = |error: std::io::Error| GateError::Read {
            path: root.into(),
            error,
        };
        let open = fs::File::open(root).map_err(failed)?;
        let kind = fstatfs(&open).map_err(|error| failed(error.into()))?;
        if kind.filesystem_type() != CGROUP2_SUPER_MAGIC {
            return Err(GateError::NoCgroup2(root.to_owned()));
        }
        let root_fd = OwnedFd::from(open);
        let (mount, number) = place(root_fd.as_fd()).map_err(|error| failed(error.into()))?;
        if number != ROOT_NUMBER {
            return Err(GateError::Invalid(format!(
                "`{}` is a part of the tree of cgroups and not its root: unmount what was mounted over it",
                root.display()
            )));
        }
        Ok(Self {
            root: root_fd,
            mount,
        })
    }

    /// The number of the cgroup at `path`; nothing: there is none.
    fn number(&self, path: &str) -> Result<Option<u64>, GateError> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let full = || Path::new(CGROUP_ROOT).join(path);
        let failed = |error: Errno| GateError::Read {
            path: full(),
            error: error.into(),
        };
        let dir = match openat(&self.root, path, flags, Mode::empty()) {
            Ok(dir) => dir,
            Err(Errno::NOENT) => return Ok(None),
            Err(error) => return Err(failed(error)),
        };
        let (mount, number) = place(dir.as_fd()).map_err(failed)?;
        if mount != self.mount {
            return Err(GateError::Invalid(format!(
                "something is mounted over `{}` or a directory above it: unmount it",
                full().display()
            )));
        }
        Ok(Some(number))
    }
}

/// The mount that a directory was found in, and its number.
fn place(dir: BorrowedFd<'_>) -> Result<(u64, u64), Errno> {
    let wanted = StatxFlags::INO | StatxFlags::MNT_ID;
    let found = statx(dir, c"", AtFlags::EMPTY_PATH, wanted)?;
    Ok((found.stx_mnt_id, found.stx_ino))
}

/// The kernel gives this number to the root of every tree of cgroups.
const ROOT_NUMBER: u64 = 1;

fn ignore_absent(
    result: Result<(), aya::maps::MapError>,
    name: &'static str,
    doing: &'static str,
) -> Result<(), GateError> {
    match result {
        Ok(()) => Ok(()),
        Err(error) if is_absent(&error) => Ok(()),
        Err(error) => Err(GateError::map(name, doing)(error)),
    }
}

/// The map's key: the path as the kernel writes it, then zeros, at least one.
fn path_bytes(path: &str) -> Result<PathBytes, GateError> {
    let valid = path.starts_with('/')
        && path.len() > 1
        && !path.ends_with('/')
        && path.len() < ZONE_PATH_LEN;
    if !valid {
        return Err(GateError::Invalid(format!(
            "`{path}` is not a cgroup path: it must start with `/`, not end with one, and be shorter than {ZONE_PATH_LEN} bytes"
        )));
    }
    let mut bytes = [0; ZONE_PATH_LEN];
    bytes
        .iter_mut()
        .zip(path.bytes())
        .for_each(|(to, from)| *to = from);
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_zone_path_is_exact_and_ends_in_a_zero() {
        let bytes = path_bytes("/governed.slice").unwrap();
        assert!(bytes.starts_with(b"/governed.slice\0"));
        assert!(bytes[15..].iter().all(|byte| *byte == 0));
        assert!(path_bytes(&format!("/{}", "a".repeat(ZONE_PATH_LEN - 2))).is_ok());
        for bad in ["", "/", "governed.slice", "/governed.slice/"] {
            assert!(path_bytes(bad).is_err(), "`{bad}`");
        }
        assert!(path_bytes(&format!("/{}", "a".repeat(ZONE_PATH_LEN - 1))).is_err());
    }
}
