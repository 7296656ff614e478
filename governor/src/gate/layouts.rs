//! From one layout to the next: which maps both share, and what cannot be taken over.
//!
//! Promises: the maps of a layout that is taken over are the very maps of the one before, pinned once
//! more, so labels, zones, table, tombstones, epochs, signals and an armed guard are never without a
//! holder and never copied. Only the rings are new: what is in them is laid out as their programs
//! lay it out. A layout that this version does not know is left alone, and it does not start. Nor does
//! it where programs are in force whose maps it cannot find all of: others would be made in their place,
//! which those programs never read.

use std::path::{Path, PathBuf};

use aya::maps::MapData;
use governor_common::names;

use super::{
    GateError,
    error::whole,
    pins::{self, Had, Pins},
};

/// What a start goes on from, looked at before anything is made.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum From {
    /// Nothing that enforces.
    Nothing,
    /// Maps of this layout.
    Here,
    /// The maps in this directory, of a layout that is taken over.
    There(PathBuf),
}

/// Where the maps of what is in force are; an error if this version cannot go on from them.
/// `takes_over`: the layouts that it can. Where no program is in force it was so for some time, in which nobody saw
/// what was written, started or let go: what maps say of it is void.
pub(super) fn from(pins: &Pins, takes_over: &[u64]) -> Result<From, GateError> {
    if !pins.holds_links()? {
        return Ok(From::Nothing);
    }
    let others = pins.other_maps()?;
    let known = |dir: &&PathBuf| {
        let mut names = takes_over.iter().map(|layout| pins::of_layout(*layout));
        names.any(|name| dir.ends_with(name))
    };
    if let Some(before) = others.iter().rfind(known) {
        return Ok(From::There(before.clone()));
    }
    match (pins.had(), others.into_iter().next()) {
        // Others beside all of ours are what an upgrade left that was given up.
        (Had::All, _) => Ok(From::Here),
        // Some of ours may be what is left of them after an upgrade.
        (Had::None | Had::Some, Some(other)) => Err(GateError::OtherLayout(other)),
        (Had::None | Had::Some, None) => Err(GateError::Missing {
            dir: pins.maps.clone(),
            names: pins.missing().join("`, `"),
        }),
    }
}

/// Pins the maps of the layout before as ours, as far as they are not yet. True if there is one.
pub(super) fn take_over(pins: &Pins, from: &From) -> Result<bool, GateError> {
    let From::There(before) = from else {
        return Ok(false);
    };
    for name in pins::MAPS.iter().filter(|name| !RINGS.contains(name)) {
        pin_again(&before.join(name), &pins.maps.join(name), name)?;
    }
    Ok(true)
}

/// One that the layout before did not have is made by the loader.
fn pin_again(from: &Path, to: &Path, name: &'static str) -> Result<(), GateError> {
    if to.exists() || !from.exists() {
        return Ok(());
    }
    let map = MapData::from_pin(from).map_err(GateError::map(name, "taking it over"))?;
    map.pin(to).map_err(|error| GateError::Pin {
        path: to.to_owned(),
        reason: whole(&error),
    })
}

const RINGS: [&str; 2] = [names::DENIALS, names::EVENTS];

#[cfg(test)]
mod tests {
    use std::fs;

    use governor_common::names::ABI;

    use super::*;

    /// A pin directory with these maps of ours, as files: nothing here opens one.
    fn pinned(ours: &[&str], beside: &[&str]) -> (tempfile::TempDir, Pins) {
        let dir = tempfile::tempdir().unwrap();
        let maps = dir.path().join(pins::of_layout(ABI));
        fs::create_dir(&maps).unwrap();
        for name in ours {
            fs::write(maps.join(name), "").unwrap();
        }
        for path in beside {
            let path = dir.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, "").unwrap();
        }
        let pins = Pins::find(dir.path(), b"object");
        (dir, pins)
    }

    #[test]
    fn nothing_is_begun_anew_beside_programs_whose_maps_are_gone() {
        let (_, most) = pins::MAPS.split_first().unwrap();
        let missing = |ours: &[&str]| {
            let (_dir, pins) = pinned(ours, &["links-0123/file_open"]);
            from(&pins, &[]).unwrap_err().to_string()
        };
        let said = missing(most);
        assert!(said.contains(&format!("`{}`", names::TABLE)), "{said}");
        assert!(!said.contains(&format!("`{}`", names::STATE)), "{said}");
        assert!(missing(&[]).contains(names::COUNTS));
        // Links with all of their maps do not stand in the way.
        let (_dir, pins) = pinned(pins::MAPS, &["links-0123/file_open"]);
        assert_eq!(from(&pins, &[]).unwrap(), From::Here);
    }

    #[test]
    fn maps_alone_are_void() {
        let (_, most) = pins::MAPS.split_first().unwrap();
        for (ours, beside) in [
            (pins::MAPS, [].as_slice()),
            (most, &[]),
            (most, &["maps-77/TABLE", "maps-78/TABLE", "ready/x"]),
        ] {
            let (dir, pins) = pinned(ours, beside);
            fs::create_dir_all(dir.path().join("links-0123")).unwrap();
            assert_eq!(from(&pins, &[77]).unwrap(), From::Nothing);
            pins.begin_anew().unwrap();
            let pins = Pins::find(dir.path(), b"object");
            assert_eq!(pins.every_maps().unwrap(), [] as [PathBuf; 0]);
        }
    }

    #[test]
    fn what_is_left_of_ours_after_an_upgrade_is_no_reason_to_go_on_from_it() {
        let (_, most) = pins::MAPS.split_first().unwrap();
        let (other, other_map) = ("maps-77", "maps-77/TABLE");
        let beside = [other_map, "links-0123/file_open"];
        for ours in [most, &[]] {
            let (dir, pins) = pinned(ours, &beside);
            let refused = from(&pins, &[]);
            assert!(
                matches!(&refused, Err(GateError::OtherLayout(at)) if *at == dir.path().join(other)),
                "{refused:?}"
            );
            let there = From::There(dir.path().join(other));
            assert_eq!(from(&pins, &[77]).unwrap(), there);
        }
        let (_dir, pins) = pinned(pins::MAPS, &beside);
        assert_eq!(from(&pins, &[]).unwrap(), From::Here);
    }
}
