//! What the gate is found by: the directories and the mounts on the way to its pins and to the tree of
//! cgroups.

use std::{collections::BTreeSet, fs, os::unix::fs::MetadataExt as _, path::Path};

use governor_common::guard::{
    GuardWord, PROTECTED_CGROUP, PROTECTED_MOUNT, PROTECTED_PINS, PROTECTED_TREE, PROTECTED_WAY,
    ProtectedKey,
};

use super::{Gate, GateError, guard::key, hosts};
use crate::cgroups;

impl Gate {
    /// The pins' own directories, and every directory that something mounted over would hide them.
    pub(super) fn protect_way(&mut self) -> Result<(), GateError> {
        let root = self.ready.parent().unwrap_or(Path::new("/")).to_owned();
        let bpffs = root.parent().unwrap_or(Path::new("/")).to_owned();
        let device = hosts::device_of_mount(&bpffs)?;
        self.set_guard_word(GuardWord::PinDevice, device.into())?;
        for directory in self.directories_of_pins()? {
            self.protect(directory)?;
        }
        for step in hosts::way_to(&bpffs)? {
            self.protect(key(PROTECTED_WAY, step.device, step.inode))?;
        }
        let mounts = hosts::mounts_above(&[&bpffs, Path::new(cgroups::ROOT)])?;
        let wanted = mounts.iter().map(|id| key(PROTECTED_MOUNT, 0, *id));
        self.protect_exactly(PROTECTED_MOUNT, &wanted.collect())
    }

    pub(super) fn protect_cgroups(&mut self, own: &str) -> Result<(), GateError> {
        let root = Path::new(cgroups::ROOT);
        let device = hosts::device_of_mount(root)?;
        self.set_guard_word(GuardWord::CgroupDevice, device.into())?;
        // The directory that the tree covers, and its root.
        for step in hosts::way_to(root)?.iter().rev().take(2) {
            self.protect(key(PROTECTED_TREE, step.device, step.inode))?;
        }
        for above in Path::new(own).ancestors().skip(1) {
            let below = above.strip_prefix("/").unwrap_or(above);
            // The root can be neither frozen nor killed.
            if !below.as_os_str().is_empty() {
                let inode = inode(&root.join(below))?;
                self.protect(key(PROTECTED_CGROUP, device, inode))?;
            }
        }
        Ok(())
    }

    /// Where the first process is. Once: whoever is root may have moved it since.
    pub(super) fn remember_first(&mut self) -> Result<(), GateError> {
        if self.guard_word(GuardWord::FirstCgroup)? != 0 {
            return Ok(());
        }
        let path = hosts::cgroup_of(Path::new("/proc/1/cgroup"))?;
        let below = path.strip_prefix('/').unwrap_or(&path);
        let home = inode(&Path::new(cgroups::ROOT).join(below))?;
        self.set_guard_word(GuardWord::FirstCgroup, home)
    }

    pub(super) fn directories_of_pins(&self) -> Result<BTreeSet<ProtectedKey>, GateError> {
        let root = self.ready.parent().unwrap_or(Path::new("/"));
        let device = hosts::device_of_mount(root.parent().unwrap_or(Path::new("/")))?;
        let directories = hosts::directories_below(root)?;
        let keys = directories
            .iter()
            .map(|dir| Ok(key(PROTECTED_PINS, device, inode(dir)?)));
        keys.collect()
    }
}

fn inode(path: &Path) -> Result<u64, GateError> {
    let metadata = fs::metadata(path).map_err(|error| GateError::Read {
        path: path.into(),
        error,
    })?;
    Ok(metadata.ino())
}
