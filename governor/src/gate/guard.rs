//! Arming the guard: which objects are the gate's own, which content may stand beside it.
//!
//! Promises: the word that arms is stored last, when everything it speaks of is in place; once armed
//! nothing here disarms but [`Gate::take_down`]. What cannot be found out is an error, and nothing is
//! armed. Refuses to arm a daemon that the first process could not start again as itself.

use std::{
    collections::BTreeSet,
    fs,
    os::fd::{AsFd, OwnedFd},
    path::Path,
};

use aya::{
    maps::{Array, HashMap, MapData},
    programs::ProgramInfo,
};
use governor_common::{
    Label, Plain,
    guard::{
        ARMED, GuardWord, LISTED_DAEMON, LISTED_FIRST, LISTED_GLASS, LISTED_KEXEC, LISTED_KEY,
        LISTED_LIBRARY, LISTED_MODULE, ListedKey, Mark, PROTECTED_DEVICE, PROTECTED_LINK,
        PROTECTED_MAP, PROTECTED_PINS, PROTECTED_PROGRAM, ProtectedKey,
    },
    names::{self, LISTED_ROWS, PROTECTED_ROWS, WORKLOAD_NONE, ZONE_CANARY},
};

use super::{
    Gate, GateError, HookState, hosts,
    maps::{self, ProtectedBytes},
    pins,
    state::is_absent,
    swaps, sys,
    table::exact,
};
use crate::cgroups;

/// Content that policy lists for the host itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Listed {
    pub daemon: BTreeSet<[u8; 32]>,
    pub libraries: BTreeSet<[u8; 32]>,
    pub modules: BTreeSet<[u8; 32]>,
    pub kexec: BTreeSet<[u8; 32]>,
    /// Keys that sign policies, and how many of them must. Taken when the guard is armed; afterwards
    /// what was taken stays.
    pub keys: BTreeSet<[u8; 32]>,
    pub threshold: u64,
    /// Keys that break the glass; taken like those.
    pub glass_keys: BTreeSet<[u8; 32]>,
}

/// Digests of keys, and how many of them must sign.
pub(super) type Pinned = (BTreeSet<[u8; 32]>, u64);

/// Puts a process into the canary's zone.
#[derive(Debug)]
pub struct CanaryLabel {
    labels: OwnedFd,
    size: usize,
}

impl CanaryLabel {
    /// Labels the process behind a pidfd. It must have mapped all it needs: nothing is listed there.
    pub fn put(&self, process: &OwnedFd) -> std::io::Result<()> {
        let label = Label {
            zone: ZONE_CANARY,
            workload: WORKLOAD_NONE,
            ..Label::default()
        };
        let mut value = vec![0u8; self.size];
        value
            .iter_mut()
            .zip(label.bytes())
            .for_each(|(to, from)| *to = *from);
        sys::update_by_fd(self.labels.as_fd(), process.as_fd(), &value)
    }
}

impl Gate {
    /// Whether the guard is armed.
    pub fn is_armed(&self) -> Result<bool, GateError> {
        Ok(self.guard_word(GuardWord::Armed)? == ARMED)
    }

    /// Marks this process as the daemon. Possible only while the guard is not armed: afterwards the
    /// mark comes with being started by the first process. To be called before there are threads.
    pub(super) fn mark_self(&self) -> Result<(), GateError> {
        let pid = i32::try_from(std::process::id()).unwrap_or(0);
        let own: OwnedFd = cgroups::open_pidfd(pid).map_err(invalid("taking hold of ourselves"))?;
        let mut value = vec![0u8; self.maps.labels_value.next_multiple_of(8)];
        let mark = (Mark::Daemon as u32).to_ne_bytes();
        let start = size_of::<Label>();
        let place = value
            .get_mut(start..start + mark.len())
            .ok_or_else(|| GateError::Layout {
                name: names::LABELS,
                detail: "there is no room for a mark".to_owned(),
            })?;
        place.copy_from_slice(&mark);
        sys::update_by_fd(self.maps.labels.fd().as_fd(), own.as_fd(), &value)
            .map_err(invalid("marking ourselves as the daemon"))
    }

    /// What labels a canary.
    pub fn canary_label(&self) -> Result<CanaryLabel, GateError> {
        let labels = self.maps.labels.fd().as_fd().try_clone_to_owned();
        Ok(CanaryLabel {
            labels: labels.map_err(invalid("holding the labels"))?,
            size: self.maps.labels_value.next_multiple_of(8),
        })
    }

    /// Arms the guard, or brings an armed one up to date: what may be listed is exactly this from now
    /// on, besides what this daemon has mapped already.
    pub fn arm(&mut self, listed: &Listed) -> Result<(), GateError> {
        let own = hosts::own_cgroup()?;
        self.require_pins()?;
        self.protect_objects()?;
        self.protect_way()?;
        self.protect_cgroups(&own)?;
        self.protect_devices()?;
        self.remember_first()?;
        self.list(listed)?;
        let first = !self.is_armed()?;
        if first {
            self.set_guard_word(GuardWord::Threshold, listed.threshold)?;
        }
        let namespace = hosts::mount_namespace_of_init()?;
        self.set_guard_word(GuardWord::MountNamespace, namespace)?;
        self.own = Some(own);
        self.bind_own()?;
        self.set_guard_word(GuardWord::Armed, ARMED)?;
        if first {
            // Until now root could switch off what notices writers.
            self.begin_digest_era()?;
        }
        Ok(())
    }

    /// Every program is pinned, each under its own name: one that this process alone holds in place would end
    /// with it.
    fn require_pins(&self) -> Result<(), GateError> {
        for hook in &self.hooks {
            let HookState::Attached { prog_id } = hook.state else {
                continue;
            };
            let path = self.pinned_links.join(hook.name);
            let lost = |reason| GateError::Unpinned {
                path: path.clone(),
                reason,
            };
            let by_link = !self.programs.contains(&prog_id);
            let pinned = pins::program_at(&path, by_link).map_err(lost)?;
            if pinned != prog_id {
                return Err(lost(format!("it is of program {pinned}, not of {prog_id}")));
            }
        }
        Ok(())
    }

    /// The keys that were trusted when the guard was armed, and how many of them must sign.
    pub fn pinned_keys(&self) -> Result<Option<Pinned>, GateError> {
        if !self.is_armed()? {
            return Ok(None);
        }
        let keys = self.listed_as(LISTED_KEY)?;
        Ok(Some((keys, self.guard_word(GuardWord::Threshold)?)))
    }

    /// The keys that could break the glass when the guard was armed.
    pub fn pinned_glass_keys(&self) -> Result<Option<BTreeSet<[u8; 32]>>, GateError> {
        match self.is_armed()? {
            true => self.listed_as(LISTED_GLASS).map(Some),
            false => Ok(None),
        }
    }

    fn listed_as(&self, kind: u32) -> Result<BTreeSet<[u8; 32]>, GateError> {
        let mut digests = BTreeSet::new();
        for bytes in self.maps.listed.keys() {
            let bytes = bytes.map_err(GateError::map(names::LISTED, "listing digests"))?;
            let listed = ListedKey::read(&bytes).filter(|key| key.kind == kind);
            digests.extend(listed.map(|key| key.digest));
        }
        Ok(digests)
    }

    /// What an adopted guard needs to know again.
    pub(super) fn resume_guard(&mut self) -> Result<(), GateError> {
        if self.is_armed()? {
            self.own = Some(hosts::own_cgroup()?);
            self.protect_objects()?;
            self.protect_way()?;
        }
        Ok(())
    }

    /// Brings the list of devices below mounted file systems, and below swap, up to date.
    pub fn protect_devices(&mut self) -> Result<(), GateError> {
        let swaps = swaps::in_use()?;
        let mut used = hosts::devices(&swaps.devices)?;
        if !swaps.unknown.is_empty() {
            // What one of them lies on may be among those known before.
            used.extend(self.devices.iter().flatten());
        }
        if self.devices.as_ref() == Some(&used) {
            return Ok(());
        }
        let wanted: BTreeSet<ProtectedKey> = used
            .iter()
            .map(|dev| key(PROTECTED_DEVICE, *dev, 0))
            .collect();
        // Only what was stored whole is taken for known.
        self.devices = None;
        self.protect_exactly(PROTECTED_DEVICE, &wanted)?;
        self.devices = Some(used);
        Ok(())
    }

    /// The table that is about to be in force.
    pub(super) fn protect_table(&mut self, id: u32) -> Result<(), GateError> {
        self.protect(key(PROTECTED_MAP, 0, id.into()))
    }

    /// One that is not in force any more.
    pub(super) fn unprotect_table(&mut self, id: u32) -> Result<(), GateError> {
        self.unprotect(&key(PROTECTED_MAP, 0, id.into()))
    }

    pub(super) fn protect_objects(&mut self) -> Result<(), GateError> {
        for key in self.objects()? {
            self.protect(key)?;
        }
        Ok(())
    }

    /// Maps, links, programs and pins of ours and of nobody before us: numbers of what is gone would fill
    /// the map, and are given to others some day.
    pub(super) fn protect_only_ours(&mut self) -> Result<(), GateError> {
        let wanted = self.objects()?;
        for kind in [PROTECTED_MAP, PROTECTED_LINK, PROTECTED_PROGRAM] {
            let of_kind = wanted.iter().filter(|key| key.kind == kind);
            self.protect_exactly(kind, &of_kind.copied().collect())?;
        }
        let pins = self.directories_of_pins()?;
        self.protect_exactly(PROTECTED_PINS, &pins)
    }

    fn objects(&self) -> Result<BTreeSet<ProtectedKey>, GateError> {
        let mut objects = keys_of_maps(&self.pinned_maps)?;
        let table = self.inner_id();
        objects.extend(table.map(|id| key(PROTECTED_MAP, 0, id.into())));
        for link in &self.links {
            let info = link
                .info()
                .map_err(|error| GateError::Invalid(format!("reading a link: {error}")))?;
            objects.insert(key(PROTECTED_LINK, 0, info.id().into()));
            objects.insert(key(PROTECTED_PROGRAM, 0, info.program_id().into()));
        }
        objects.extend(&self.asked);
        let programs = self.programs.iter();
        objects.extend(programs.map(|id| key(PROTECTED_PROGRAM, 0, (*id).into())));
        Ok(objects)
    }

    fn list(&mut self, listed: &Listed) -> Result<(), GateError> {
        // Once: what is mapped later had to be listed, and an upgrade takes names away from files that
        // stay mapped.
        let mapped = match &self.mapped {
            Some(mapped) => mapped.clone(),
            None => self.mapped.insert(hosts::mapped_by_us()?).clone(),
        };
        let mut wanted = BTreeSet::new();
        let mut add = |kind, digests: &BTreeSet<[u8; 32]>| {
            wanted.extend(digests.iter().map(|digest| ListedKey {
                kind,
                reserved: 0,
                digest: *digest,
            }));
        };
        add(LISTED_DAEMON, &listed.daemon);
        add(LISTED_LIBRARY, &listed.libraries);
        add(LISTED_LIBRARY, &mapped);
        add(LISTED_MODULE, &listed.modules);
        add(LISTED_KEXEC, &listed.kexec);
        let known = match self.is_armed()? {
            true => self.listed_as(LISTED_FIRST)?,
            false => BTreeSet::new(),
        };
        add(LISTED_FIRST, &of_first(known, hosts::mapped_by_first)?);
        match self.pinned_keys()? {
            Some((keys, _)) => add(LISTED_KEY, &keys),
            None => add(LISTED_KEY, &listed.keys),
        }
        match self.pinned_glass_keys()? {
            Some(keys) => add(LISTED_GLASS, &keys),
            None => add(LISTED_GLASS, &listed.glass_keys),
        }
        if wanted.len() > LISTED_ROWS as usize {
            return Err(GateError::TooMany {
                what: "digests under [governor]",
                count: wanted.len(),
                limit: LISTED_ROWS,
            });
        }
        let store = &mut self.maps.listed;
        for key in &wanted {
            store
                .insert(exact(key.bytes())?, 1, 0)
                .map_err(GateError::map(names::LISTED, "listing a digest"))?;
        }
        let stale: Vec<_> = store
            .keys()
            .filter_map(Result::ok)
            .filter(|bytes| ListedKey::read(bytes).is_none_or(|key| !wanted.contains(&key)))
            .collect();
        for bytes in stale {
            match store.remove(&bytes) {
                Err(error) if !is_absent(&error) => {
                    return Err(GateError::map(names::LISTED, "removing a digest")(error));
                }
                Ok(()) | Err(_) => {}
            }
        }
        Ok(())
    }

    /// Binds the cgroup of our own service, as one that is made again will be.
    fn bind_own(&mut self) -> Result<(), GateError> {
        let zones = self.zones_in_force()?;
        self.set_zone_paths(&zones)
    }

    pub(super) fn protect(&mut self, key: ProtectedKey) -> Result<(), GateError> {
        protect(&mut self.maps.protected, key)
    }

    fn unprotect(&mut self, key: &ProtectedKey) -> Result<(), GateError> {
        match self.maps.protected.remove(&exact(key.bytes())?) {
            Err(error) if !is_absent(&error) => Err(GateError::map(
                names::PROTECTED,
                "removing an object",
            )(error)),
            Ok(()) | Err(_) => Ok(()),
        }
    }

    pub(super) fn protect_exactly(
        &mut self,
        kind: u32,
        wanted: &BTreeSet<ProtectedKey>,
    ) -> Result<(), GateError> {
        let stale: Vec<ProtectedKey> = self
            .maps
            .protected
            .keys()
            .filter_map(Result::ok)
            .filter_map(|bytes| ProtectedKey::read(&bytes))
            .filter(|known| known.kind == kind && !wanted.contains(known))
            .collect();
        for key in wanted {
            self.protect(*key)?;
        }
        for key in stale {
            self.unprotect(&key)?;
        }
        Ok(())
    }

    pub(super) fn guard_word(&self, word: GuardWord) -> Result<u64, GateError> {
        self.maps
            .guard
            .get(&(word as u32), 0)
            .map_err(GateError::map(names::GUARD, "reading a word"))
    }

    pub(super) fn set_guard_word(&mut self, word: GuardWord, value: u64) -> Result<(), GateError> {
        self.maps
            .guard
            .set(word as u32, value, 0)
            .map_err(GateError::map(names::GUARD, "storing a word"))?;
        let back = self.guard_word(word)?;
        if back == value {
            Ok(())
        } else {
            let detail = format!("stored {value}, found {back}");
            Err(GateError::ReadBack {
                name: names::GUARD,
                detail,
            })
        }
    }
}

/// Guards the maps that are pinned there, where an earlier daemon armed the guard.
pub(super) fn protect_maps_beside(maps: &Path) -> Result<(), GateError> {
    protect_beside(maps, &keys_of_maps(maps)?)
}

fn keys_of_maps(dir: &Path) -> Result<BTreeSet<ProtectedKey>, GateError> {
    let keys = maps::ids(dir)?.into_iter();
    Ok(keys.map(|id| key(PROTECTED_MAP, 0, id.into())).collect())
}

/// Guards objects of a gate that is not open yet, where an earlier daemon armed the guard.
pub(super) fn protect_beside(
    maps: &Path,
    objects: &BTreeSet<ProtectedKey>,
) -> Result<(), GateError> {
    let words: Array<MapData, u64> = maps::typed(maps, names::GUARD, 4, 8)?;
    let armed = words
        .get(&(GuardWord::Armed as u32), 0)
        .map_err(GateError::map(names::GUARD, "reading a word"))?;
    if armed != ARMED {
        return Ok(());
    }
    let size = size_of::<ProtectedKey>();
    let mut store: Protected = maps::typed(maps, names::PROTECTED, size, 4)?;
    objects.iter().try_for_each(|key| protect(&mut store, *key))
}

/// Attaches the guard of settings to the root cgroup, unless this very program is there. Its id.
pub(super) fn attach_sysctl(program: &ProgramInfo) -> Result<u32, String> {
    let (root, fd) = root_and(program)?;
    let attached = sys::attached_sysctl(root.as_fd()).map_err(|error| error.to_string())?;
    if !attached.contains(&program.id()) {
        sys::attach_sysctl(root.as_fd(), fd.as_fd()).map_err(|error| error.to_string())?;
    }
    Ok(program.id())
}

/// Takes it off.
pub(super) fn detach_sysctl(program: &ProgramInfo) -> Result<(), String> {
    let (root, fd) = root_and(program)?;
    match sys::detach_sysctl(root.as_fd(), fd.as_fd()) {
        Err(error) if error.raw_os_error() != Some(libc::ENOENT) => Err(error.to_string()),
        Ok(()) | Err(_) => Ok(()),
    }
}

fn root_and(program: &ProgramInfo) -> Result<(fs::File, aya::programs::ProgramFd), String> {
    let root = fs::File::open(cgroups::ROOT).map_err(|error| error.to_string())?;
    let fd = program.fd().map_err(|error| error.to_string())?;
    Ok((root, fd))
}

type Protected = HashMap<MapData, ProtectedBytes, u32>;

fn protect(store: &mut Protected, key: ProtectedKey) -> Result<(), GateError> {
    store
        .insert(exact(key.bytes())?, 1, 0)
        .map_err(|error| match store.keys().count() {
            count if count >= PROTECTED_ROWS as usize => GateError::TooMany {
                what: "guarded objects",
                count,
                limit: PROTECTED_ROWS,
            },
            _ => GateError::map(names::PROTECTED, "adding an object")(error),
        })
}

pub(super) const fn key(kind: u32, dev: u32, id: u64) -> ProtectedKey {
    ProtectedKey { kind, dev, id }
}

fn invalid(doing: &'static str) -> impl FnOnce(std::io::Error) -> GateError {
    move |error| GateError::Invalid(format!("{doing}: {error}"))
}

/// What the first process may be. What an armed guard knows of it stays: it may be another by now. One
/// that was armed before anybody asked knows nothing, and let it become whatever it is; with an empty list
/// nothing that it executes would be its own.
fn of_first(
    known: BTreeSet<[u8; 32]>,
    mapped: impl FnOnce() -> Result<BTreeSet<[u8; 32]>, GateError>,
) -> Result<BTreeSet<[u8; 32]>, GateError> {
    match known.is_empty() {
        true => mapped(),
        false => Ok(known),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_guard_that_knows_nothing_of_the_first_process_asks_once() {
        let (was, is) = (BTreeSet::from([[1; 32]]), BTreeSet::from([[2; 32]]));
        let asked = of_first(BTreeSet::new(), || Ok(is.clone()));
        assert_eq!(asked.unwrap(), is);
        assert_eq!(of_first(was.clone(), || Ok(is)).unwrap(), was);
        let failed = || Err(GateError::Invalid("it cannot be read".to_owned()));
        assert!(of_first(BTreeSet::new(), failed).is_err());
    }
}
