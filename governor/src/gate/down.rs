//! Taking the gate down, and finishing what of that was cut short.
//!
//! Promises: that it goes is noted beside the pins before anything does, so that whoever starts next goes on
//! with it, however little is left. Until the last map's pin is gone every program is in place, and denies:
//! all was revoked before. Of the programs, what judges an exec goes last. An armed gate has no such note but
//! its daemon's.

use std::{
    fs,
    io::ErrorKind,
    path::{Path, PathBuf},
};

use aya::maps::{Array, MapData};
use governor_common::{guard::GuardWord, names};

use super::{
    Gate, GateError, guard_lets_us_in, hosts, let_go, maps,
    pins::{self, Pins, pin_error},
};

impl Gate {
    /// Takes the gate down: nothing is enforced afterwards, and nothing guarded.
    pub fn take_down(&mut self) -> Result<(), GateError> {
        let root = self.root();
        pins::make(&root.join(GOING))?;
        #[cfg(feature = "fault-points")]
        crate::fault::at("going");
        self.set_guard_word(GuardWord::Armed, 0)?;
        remove_all(&root)?;
        // The last holders of what hangs on links.
        self.links.clear();
        Ok(())
    }

    /// Finishes what an earlier daemon began to take down; false: none did.
    pub fn finish_taking_down(root: &Path) -> Result<bool, GateError> {
        if !root.join(GOING).exists() {
            return Ok(false);
        }
        let pins = Pins::find(root, super::OBJECT);
        guard_lets_us_in(&pins)?;
        // Of another layout too: it is one guard.
        for dir in hosts::directories_below(root)? {
            if dir.join(names::GUARD).exists() {
                disarm(&dir)?;
            }
        }
        remove_all(root)?;
        Ok(true)
    }

    /// What somebody left there before the guard was armed says nothing.
    pub(super) fn stays(&self) -> Result<(), GateError> {
        let going = self.root().join(GOING);
        match fs::remove_dir(&going) {
            Err(error) if error.kind() != ErrorKind::NotFound => Err(pin_error(&going)(error)),
            Ok(()) | Err(_) => Ok(()),
        }
    }

    fn root(&self) -> PathBuf {
        self.ready.parent().unwrap_or(Path::new("/")).to_owned()
    }
}

/// Switches the guard off, if it is on still.
fn disarm(dir: &Path) -> Result<(), GateError> {
    let mut words: Array<MapData, u64> = maps::typed(dir, names::GUARD, 4, 8)?;
    words
        .set(GuardWord::Armed as u32, 0, 0)
        .map_err(GateError::map(names::GUARD, "switching the guard off"))
}

/// What governed units wait for, maps, programs, and the note last.
fn remove_all(root: &Path) -> Result<(), GateError> {
    #[cfg(feature = "fault-points")]
    crate::fault::at("unguarded");
    let mut below = hosts::directories_below(root)?;
    below.sort_by_key(|dir| rank(root, dir));
    below.iter().try_for_each(|dir| let_go(dir))
}

/// When a directory goes. What is not known goes before what it may be needed for.
fn rank(root: &Path, dir: &Path) -> u8 {
    let name = dir.file_name().and_then(|name| name.to_str());
    match name {
        _ if dir == root => 4,
        Some(GOING) => 3,
        Some(name) if name.starts_with("links-") => 2,
        Some(name) if name.starts_with("maps-") => 1,
        Some(_) | None => 0,
    }
}

/// The directory beside the pins that says so.
const GOING: &str = "going";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn programs_go_after_maps_and_the_note_after_both() {
        let root = Path::new("/sys/fs/bpf/governor");
        let names = ["going", "links-1", "links-2", "maps-3", "ready", ""];
        let mut dirs: Vec<PathBuf> = names.iter().map(|name| root.join(name)).collect();
        dirs.sort_by_key(|dir| rank(root, dir));
        let order: Vec<&str> = dirs
            .iter()
            .map(|dir| dir.strip_prefix(root).unwrap().to_str().unwrap())
            .collect();
        let expected = ["ready", "maps-3", "links-1", "links-2", "going", ""];
        assert_eq!(order, expected);
    }

    #[test]
    fn nothing_is_finished_that_nobody_began() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("links-1")).unwrap();
        assert!(!Gate::finish_taking_down(dir.path()).unwrap());
        assert!(dir.path().join("links-1").exists());
        fs::create_dir(dir.path().join(GOING)).unwrap();
        assert!(Gate::finish_taking_down(dir.path()).unwrap());
        assert!(!dir.path().exists());
    }
}
