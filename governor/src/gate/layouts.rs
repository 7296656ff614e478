//! From one layout to the next: which maps both share, and what cannot be taken over.
//!
//! Promises: the maps of a layout that is taken over are the very maps of the one before, pinned once
//! more, so labels, zones, table, tombstones, epochs, signals and an armed guard are never without a
//! holder and never copied. Only the rings are new: what is in them is laid out as their programs
//! lay it out. A layout that this version does not know is left alone, and it does not start.

use aya::maps::MapData;
use governor_common::names::{self, TAKES_OVER};

use super::{
    GateError,
    error::whole,
    pins::{self, Pins},
};

/// Pins the maps of the layout before as ours, as far as they are not yet. True if there is one.
pub(super) fn take_over(pins: &Pins) -> Result<bool, GateError> {
    let others = pins.other_maps()?;
    let known = |dir: &&std::path::PathBuf| {
        let mut names = TAKES_OVER.iter().map(|layout| pins::of_layout(*layout));
        names.any(|name| dir.ends_with(name))
    };
    let Some(before) = others.iter().rfind(known) else {
        return match others.into_iter().next() {
            // Ours were there before them: they are what an upgrade left that was given up.
            Some(other) if !pins.had_maps => Err(GateError::OtherLayout(other)),
            Some(_) | None => Ok(false),
        };
    };
    for name in pins::MAPS.iter().filter(|name| !RINGS.contains(name)) {
        let (from, to) = (before.join(name), pins.maps.join(name));
        // One that the layout before did not have is made by the loader.
        if to.exists() || !from.exists() {
            continue;
        }
        let map = MapData::from_pin(&from).map_err(GateError::map(name, "taking it over"))?;
        map.pin(&to).map_err(|error| GateError::Pin {
            path: to.clone(),
            reason: whole(&error),
        })?;
    }
    Ok(true)
}

const RINGS: [&str; 2] = [names::DENIALS, names::EVENTS];
