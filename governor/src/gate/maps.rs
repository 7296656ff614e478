//! Typed handles on the pinned maps.
//!
//! Promises: a map is used only if its key and value have the sizes that the shared crate gives
//! them. Keys and values are byte arrays here; `governor_common::Plain` is the only way in and out.

use std::{
    fs,
    os::fd::{AsFd as _, AsRawFd as _, BorrowedFd},
    path::Path,
};

use aya::maps::{Array, ArrayOfMaps, HashMap, LpmTrie, Map, MapData, PerCpuArray, RingBuf};
use governor_common::{
    Row, RowKey,
    guard::{ListedKey, ProtectedKey},
    names::{self, ZONE_PATH_LEN},
    net::{EgressKey, EgressRow},
    row::TombstoneKey,
};

use super::{GateError, pins, sys};

pub(super) type RowKeyBytes = [u8; size_of::<RowKey>()];
pub(super) type RowBytes = [u8; size_of::<Row>()];
pub(super) type TombstoneBytes = [u8; size_of::<TombstoneKey>()];
pub(super) type ProtectedBytes = [u8; size_of::<ProtectedKey>()];
pub(super) type ListedBytes = [u8; size_of::<ListedKey>()];
pub(super) type EgressKeyBytes = [u8; size_of::<EgressKey>()];
pub(super) type EgressRowBytes = [u8; size_of::<EgressRow>()];
pub(super) type PathBytes = [u8; ZONE_PATH_LEN];
/// The table: what the one slot of the outer map points to.
pub(super) type Inner = HashMap<MapData, RowKeyBytes, RowBytes>;

/// Every map of the gate.
pub(super) struct Maps {
    pub(super) table: ArrayOfMaps<MapData, Inner>,
    pub(super) state: Array<MapData, u64>,
    pub(super) trips: Array<MapData, u64>,
    pub(super) signals: Array<MapData, u64>,
    pub(super) handled: Array<MapData, u64>,
    pub(super) guard: Array<MapData, u64>,
    pub(super) protected: HashMap<MapData, ProtectedBytes, u32>,
    pub(super) listed: HashMap<MapData, ListedBytes, u32>,
    pub(super) tombstones: HashMap<MapData, TombstoneBytes, u64>,
    pub(super) cgroups: HashMap<MapData, u64, u32>,
    pub(super) zone_paths: HashMap<MapData, PathBytes, u32>,
    pub(super) egress: LpmTrie<MapData, EgressKeyBytes, EgressRowBytes>,
    pub(super) labels: MapData,
    pub(super) labels_value: usize,
    pub(super) named: MapData,
    pub(super) denials: RingBuf<MapData>,
    pub(super) events: RingBuf<MapData>,
    pub(super) counts: PerCpuArray<MapData, u64>,
}

impl std::fmt::Debug for Maps {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Maps").finish_non_exhaustive()
    }
}

impl Maps {
    pub(super) fn open(dir: &Path) -> Result<Self, GateError> {
        let labels = pinned(dir, names::LABELS, Some(4), None)?;
        let labels_value = labels
            .info()
            .map_err(GateError::map(names::LABELS, "reading its layout"))?
            .value_size() as usize;
        Ok(Self {
            table: typed(dir, names::TABLE, 4, 4)?,
            state: typed(dir, names::STATE, 4, 8)?,
            trips: typed(dir, names::TRIPS, 4, 8)?,
            signals: typed(dir, names::SIGNALS, 4, 8)?,
            handled: typed(dir, names::HANDLED, 4, 8)?,
            guard: typed(dir, names::GUARD, 4, 8)?,
            protected: typed(dir, names::PROTECTED, size_of::<ProtectedKey>(), 4)?,
            listed: typed(dir, names::LISTED, size_of::<ListedKey>(), 4)?,
            tombstones: typed(dir, names::TOMBSTONES, size_of::<TombstoneKey>(), 8)?,
            cgroups: typed(dir, names::CGROUPS, 8, 4)?,
            zone_paths: typed(dir, names::ZONE_PATHS, ZONE_PATH_LEN, 4)?,
            egress: typed(
                dir,
                names::EGRESS,
                4 + size_of::<EgressKey>(),
                size_of::<EgressRow>(),
            )?,
            labels,
            labels_value,
            named: pinned(dir, names::NAMED, Some(4), Some(size_of::<[u64; 4]>()))?,
            denials: typed(dir, names::DENIALS, 0, 0)?,
            events: typed(dir, names::EVENTS, 0, 0)?,
            counts: typed(dir, names::COUNTS, 4, 8)?,
        })
    }
}

/// Closes the maps that the programs alone write to user space, whoever asks: what was measured, and whose sockets
/// are whose.
pub(super) fn keep_from_us(dir: &Path) -> Result<(), GateError> {
    for name in [names::DIGESTS, names::SOCKETS] {
        let map = pinned(dir, name, Some(4), None)?;
        // One that is closed cannot be closed again: that takes the right to write it.
        if !is_frozen(map.fd().as_fd()) {
            sys::freeze(map.fd().as_fd()).map_err(|error| {
                GateError::Invalid(format!("closing the map `{name}` to user space: {error}"))
            })?;
        }
    }
    Ok(())
}

/// The numbers of all maps that are pinned there.
pub(super) fn ids(dir: &Path) -> Result<Vec<u32>, GateError> {
    let each = pins::MAPS.iter().map(|name| {
        MapData::from_pin(dir.join(name))
            .and_then(|map| Ok(map.info()?.id()))
            .map_err(GateError::map(name, "reading its id"))
    });
    each.collect()
}

/// Whether the kernel says so; what cannot be read is not.
fn is_frozen(map: BorrowedFd<'_>) -> bool {
    let info = fs::read_to_string(format!("/proc/self/fdinfo/{}", map.as_raw_fd()));
    info.is_ok_and(|info| info.lines().any(|line| line == "frozen:\t1"))
}

pub(super) fn typed<T: TryFrom<Map, Error = aya::maps::MapError>>(
    dir: &Path,
    name: &'static str,
    key: usize,
    value: usize,
) -> Result<T, GateError> {
    let data = pinned(dir, name, Some(key), Some(value))?;
    Map::from_map_data(data)
        .and_then(T::try_from)
        .map_err(GateError::map(name, "taking hold of it"))
}

fn pinned(
    dir: &Path,
    name: &'static str,
    key: Option<usize>,
    value: Option<usize>,
) -> Result<MapData, GateError> {
    let data =
        MapData::from_pin(dir.join(name)).map_err(GateError::map(name, "opening its pin"))?;
    let info = data
        .info()
        .map_err(GateError::map(name, "reading its layout"))?;
    let (actual_key, actual_value) = (info.key_size() as usize, info.value_size() as usize);
    if key.is_some_and(|key| key != actual_key) || value.is_some_and(|value| value != actual_value)
    {
        let detail = format!("key {actual_key} bytes, value {actual_value} bytes");
        return Err(GateError::Layout { name, detail });
    }
    Ok(data)
}
