//! The gate: kernel programs, their maps, and the pins that let both outlive the daemon.
//!
//! The only folder that names the BPF library. Promises: there is never a moment without
//! enforcement between one daemon and the next; every store that a verdict depends on is read back;
//! every hook is attached or none is, and the one that cannot be is named.
//!
//! Refuses to detach. Decides nothing: verdicts are made in the kernel, by `governor_common`.

mod asked;
mod btf;
mod charged;
mod down;
mod edition;
mod error;
mod fields;
#[cfg(feature = "fuzzing")]
pub(crate) mod fuzzing;
mod guard;
mod hosts;
mod keep;
mod layouts;
mod load;
#[cfg(feature = "bpf-log")]
mod logs;
mod maps;
mod named;
mod opens;
mod pins;
mod probe;
mod rings;
mod signals;
mod state;
mod swaps;
mod sys;
mod table;
mod taken;
mod tasks;
mod trial;
mod way;
mod zones;

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
};

use aya::{
    maps::{MapData, MapError},
    programs::{ProgramInfo, links::FdLink},
};
use governor_common::{guard::ProtectedKey, names};
use governor_core::digest::Digest;

pub use asked::{Answer, Asker, Asking, How};
pub use charged::make as make_maps;
pub use error::GateError;
use error::whole;
pub use guard::{CanaryLabel, Listed};
pub use named::Namer;
pub use opens::detail;
pub use probe::{Requirement, busy, probe};
pub use rings::{Drained, OfRing, Told, UpTo};
pub use state::Measurements;
pub use table::EgressRule;

use layouts::From;
use load::{HOOKS, Hook, Loaded};
use maps::Maps;
use pins::{Had, Pins};
use tasks::Listing;
use trial::Tried;

/// The kernel programs, embedded when the binary was built; empty in a build that never attaches.
static OBJECT: &[u8] = aya::include_bytes_aligned!(env!("GOVERNOR_EBPF_EMBEDDED"));

/// SHA-256 of the embedded kernel programs, under which their links are pinned.
pub fn object_digest() -> [u8; 32] {
    *Digest::of(OBJECT).bytes()
}

/// An attached gate. Dropping it detaches nothing.
#[derive(Debug)]
pub struct Gate {
    maps: Maps,
    hooks: Vec<HookStatus>,
    /// Held besides the pins: a removed pin alone does not take a program off.
    links: Vec<FdLink>,
    /// Ids of programs that hang on no link.
    programs: Vec<u32>,
    /// The one of them that lists who carries a label.
    listing: Listing,
    /// The cgroup of our own service, once the guard is armed.
    own: Option<String>,
    /// What judges opens here, attached or not.
    opens: Option<&'static Hook>,
    pinned_maps: PathBuf,
    pinned_links: PathBuf,
    /// What we had mapped executable when we first armed the guard.
    mapped: Option<BTreeSet<[u8; 32]>>,
    /// Devices that are guarded, as last stored.
    devices: Option<BTreeSet<u32>>,
    /// How many signals there were when all of them were dealt with.
    quiet_at: Option<u64>,
    /// The marker that governed units wait for.
    ready: PathBuf,
    /// Pins of other programs and layouts, which enforce until `release_previous`.
    previous: Vec<PathBuf>,
    /// How far what the rings told is written down, as the kernel keeps it.
    told: Told,
    /// What was taken out of the rings; what an earlier daemon left untold is the first of it.
    taken_so_far: rings::Taken,
    /// What has files measured that nobody executes.
    asker: Option<Asker>,
    /// Its map and its program, whoever has it by now.
    asked: BTreeSet<ProtectedKey>,
    /// Where the kernel's measuring is still to be tried on a disk.
    untried: Option<Vec<PathBuf>>,
}

/// How the gate came to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Opened {
    /// Maps and programs of this very object were in force already.
    Adopted,
    /// Maps were kept; the programs were replaced, or ones whose pins were gone added.
    Upgraded,
    /// There was nothing of this layout.
    Fresh,
}

/// One hook and whether it enforces.
#[derive(Clone, Debug)]
pub struct HookStatus {
    pub name: &'static str,
    pub state: HookState,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HookState {
    /// In force, by this program.
    Attached { prog_id: u32 },
    /// Not in force, and why. A gate that opened has none of these.
    Missing(String),
}

impl Gate {
    /// Whether there can be a gate here, and the directory of its pins, empty where it is new.
    pub fn prepare(pin_dir: &Path) -> Result<(), GateError> {
        probe::bpf_is_active()?;
        if OBJECT.is_empty() {
            return Err(GateError::NoObject);
        }
        probe::digests_are_fresh()?;
        pins::place(pin_dir)
    }

    /// Adopts what is pinned, or attaches what is embedded beside it and then lets go of the old. If
    /// it fails, whatever enforced before enforces still, and nothing new is left behind. What it leans
    /// on is tried first, in one of the directories `scratch`; see [`Self::try_measuring`].
    pub fn open_or_attach(
        pin_dir: &Path,
        scratch: &[PathBuf],
    ) -> Result<(Self, Opened), GateError> {
        Self::prepare(pin_dir)?;
        let mut pins = Pins::find(pin_dir, OBJECT);
        // Whoever reaches for a map first is known from then on, and may make pins beside it.
        guard_lets_us_in(&pins)?;
        let from = layouts::from(&pins, names::TAKES_OVER)?;
        if from == From::Nothing {
            pins.begin_anew()?;
            pins = Pins::find(pin_dir, OBJECT);
        }
        let mut attach = Attach {
            pins: &pins,
            from: &from,
            loaded: None,
            made: Vec::new(),
            scratch,
            asker: None,
            asked: BTreeSet::new(),
            untried: None,
        };
        let attached = attach.beside().and_then(|attached| {
            // These programs would not let the next daemon in that a version before armed the guard for.
            if attached.0.is_armed()? {
                hosts::require_local()?;
            }
            Ok(attached)
        });
        let (mut gate, took_over) = match attached {
            Ok(attached) => attached,
            Err(error) => {
                // A guard that hangs on no link would stay; it does nothing, and goes all the same.
                for pin in attach.made.iter().filter(|pin| pin.ends_with(SYSCTL)) {
                    let info = ProgramInfo::from_pin(pin);
                    let _gone_or_harmless = info.map(|info| guard::detach_sysctl(&info));
                }
                pins.take_back(&attach.made);
                return Err(error);
            }
        };
        // From here on nothing is taken back: what was there before is about to go.
        let (other_links, other_maps) = (pins.other_links()?, pins.other_maps()?);
        let same_layout = other_maps.is_empty();
        gate.previous = other_links.into_iter().chain(other_maps).collect();
        if gate.is_armed()? {
            gate.resume_guard()?;
        } else {
            gate.mark_self()?;
        }
        if same_layout {
            // Same maps and every hook, so the new programs enforce all that the old ones did.
            gate.release_previous()?;
        }
        let opened = match (pins.had() == Had::All || took_over, attach.made.is_empty()) {
            (true, true) => Opened::Adopted,
            (true, false) => Opened::Upgraded,
            (false, _) => Opened::Fresh,
        };
        // A writer may have gone unnoticed while a program was not there. From here on none does.
        if opened != Opened::Adopted || !gate.has_digest_era()? {
            gate.begin_digest_era()?;
        }
        Ok((gate, opened))
    }

    /// Tells the units of governed work that they may start. To be called once zones and a table are
    /// in force: before that, nothing says what is governed.
    pub fn mark_ready(&self) -> Result<(), GateError> {
        pins::make(&self.ready)
    }

    /// What has files measured that nobody executes, for whoever asks first once its measuring was tried.
    pub fn take_asker(&mut self) -> Option<Asker> {
        match self.untried {
            None => self.asker.take(),
            Some(_) => None,
        }
    }

    /// Tries the kernel's measuring, where no disk took a file for that at the start. To be called before
    /// anything is recorded.
    pub fn try_measuring(&mut self) -> Result<(), GateError> {
        if let (Some(dirs), Some(asker)) = (&self.untried, &mut self.asker) {
            trial::on_a_disk(asker, dirs)?;
        }
        self.untried = None;
        Ok(())
    }

    /// Every hook.
    pub fn hooks(&self) -> &[HookStatus] {
        &self.hooks
    }

    /// Lets go of older programs, and of maps of another layout. To be called once whatever the old
    /// programs enforced is in maps that the new ones read.
    pub fn release_previous(&mut self) -> Result<(), GateError> {
        while let Some(dir) = self.previous.first() {
            #[cfg(feature = "fault-points")]
            crate::fault::at("release");
            let_go(dir)?;
            self.previous.remove(0);
        }
        if self.is_armed()? {
            self.protect_only_ours()?;
        }
        Ok(())
    }
}

/// Attaching hook by hook: what is pinned is taken, what is not is loaded and pinned.
struct Attach<'a> {
    pins: &'a Pins,
    from: &'a layouts::From,
    /// The object; a program of it is verified when a hook needs it.
    loaded: Option<Loaded>,
    /// Pins that this call made.
    made: Vec<PathBuf>,
    /// Where files may be made for a trial.
    scratch: &'a [PathBuf],
    asker: Option<Asker>,
    asked: BTreeSet<ProtectedKey>,
    untried: Option<Vec<PathBuf>>,
}

impl Attach<'_> {
    /// Every hook, with maps of ours or taken over; true if they were.
    fn beside(&mut self) -> Result<(Gate, bool), GateError> {
        self.pins.make_directories()?;
        let took_over = layouts::take_over(self.pins, self.from)?;
        if HOOKS
            .iter()
            .any(|hook| !self.pins.links.join(hook.name).exists())
        {
            state::end_digest_era(&self.pins.maps)?;
        }
        #[cfg(feature = "fault-points")]
        crate::fault::at("taken-over");
        let mut asker = Asker::load(self.loaded()?)?;
        self.asked.clone_from(asker.objects());
        // Before it is asked for the first time: what it answers decides whether there is a gate.
        guard::protect_beside(&self.pins.maps, &self.asked)?;
        if trial::of_measuring(&mut asker, self.scratch)? == Tried::InMemory {
            self.untried = Some(self.scratch.to_vec());
        }
        self.asker = Some(asker);
        Ok((self.all()?, took_over))
    }

    /// Every hook, or the first one that cannot be attached.
    fn all(&mut self) -> Result<Gate, GateError> {
        let (mut hooks, mut links, mut programs) = (Vec::new(), Vec::new(), Vec::new());
        let mut listing = None;
        let loaded = self.loaded()?;
        let opens = opens::fitting(|hook| loaded.carries(hook));
        let are_judged = opens::are_judged(self.pins)?;
        for hook in HOOKS.iter().chain(opens.filter(|_| are_judged)) {
            let name = hook.name;
            let failed = |reason| GateError::Hook { name, reason };
            if hook.is_sysctl() || hook.is_list() {
                let prog_id = if hook.is_sysctl() {
                    self.sysctl(hook)?.map_err(failed)?
                } else {
                    let (prog_id, list) = self.list(hook)?.map_err(failed)?;
                    listing = Some(list);
                    prog_id
                };
                programs.push(prog_id);
                let state = HookState::Attached { prog_id };
                hooks.push(HookStatus { name, state });
                continue;
            }
            let link = self.hook(hook)?.map_err(failed)?;
            let prog_id = link
                .info()
                .map_err(|error| failed(format!("its link cannot be read: {}", whole(&error))))?
                .program_id();
            links.push(link);
            let state = HookState::Attached { prog_id };
            hooks.push(HookStatus { name, state });
        }
        let listing = listing
            .ok_or_else(|| GateError::Invalid("no program lists who carries a label".to_owned()))?;
        let maps = Maps::open(&self.pins.maps)?;
        let told = rings::told(&maps.state)?;
        Ok(Gate {
            told,
            taken_so_far: rings::Taken::untold(told),
            maps,
            hooks,
            links,
            programs,
            listing,
            own: None,
            opens,
            devices: None,
            mapped: None,
            quiet_at: None,
            pinned_maps: self.pins.maps.clone(),
            pinned_links: self.pins.links.clone(),
            ready: self.pins.ready.clone(),
            previous: Vec::new(),
            asked: self.asked.clone(),
            asker: self.asker.take(),
            untried: self.untried.take(),
        })
    }

    /// The hook's link; the inner error is why this one hook is missing.
    fn hook(&mut self, hook: &Hook) -> Result<Result<FdLink, String>, GateError> {
        let path = self.pins.links.join(hook.name);
        let is_new = !path.exists();
        let link = opens::pinned(&path, || Ok(self.loaded()?.attach(hook)))?;
        if is_new && link.is_ok() {
            self.made.push(path);
            #[cfg(feature = "fault-points")]
            crate::fault::at("attached");
        }
        Ok(link)
    }

    /// The guard of settings: its program is pinned, and hangs on the root cgroup.
    fn sysctl(&mut self, hook: &Hook) -> Result<Result<u32, String>, GateError> {
        let path = self.pins.links.join(hook.name);
        if !path.exists() {
            let program = match self.loaded()?.sysctl(hook.name) {
                Ok(program) => program,
                Err(reason) => return Ok(Err(reason)),
            };
            if let Err(error) = program.pin(&path) {
                return Ok(Err(format!("it cannot be pinned: {}", whole(&error))));
            }
            self.made.push(path.clone());
            #[cfg(feature = "fault-points")]
            crate::fault::at("pinned");
        }
        let attached = match ProgramInfo::from_pin(&path) {
            Ok(info) => guard::attach_sysctl(&info),
            Err(error) => Err(format!("its pin cannot be opened: {}", whole(&error))),
        };
        Ok(attached)
    }

    /// A program that makes a list is pinned, and hangs on nothing.
    fn list(&mut self, hook: &Hook) -> Result<Result<(u32, Listing), String>, GateError> {
        let path = self.pins.links.join(hook.name);
        if !path.exists() {
            let program = match self.loaded()?.list(hook) {
                Ok(program) => program,
                Err(reason) => return Ok(Err(reason)),
            };
            if let Err(error) = program.pin(&path) {
                return Ok(Err(format!("it cannot be pinned: {}", whole(&error))));
            }
            self.made.push(path.clone());
        }
        Ok(Listing::open(&path))
    }

    fn loaded(&mut self) -> Result<&mut Loaded, GateError> {
        match &mut self.loaded {
            Some(loaded) => Ok(loaded),
            none => {
                charged::to_nobody(&self.pins.maps);
                let loaded = Loaded::with_maps(OBJECT, &self.pins.maps)?;
                maps::keep_from_us(&self.pins.maps)?;
                // Those that an older layout has not are nobody's yet who is guarded.
                guard::protect_maps_beside(&self.pins.maps)?;
                #[cfg(feature = "fault-points")]
                crate::fault::at("maps");
                Ok(none.insert(loaded))
            }
        }
    }
}

/// Fails with a reason to act on when an armed guard does not take us for the daemon.
fn guard_lets_us_in(pins: &Pins) -> Result<(), GateError> {
    for dir in pins.every_maps()? {
        match MapData::from_pin(dir.join(names::GUARD)) {
            Err(MapError::SyscallError(error))
                if error.io_error.raw_os_error() == Some(libc::EPERM) =>
            {
                return Err(GateError::NotTheDaemon);
            }
            // Another failure shows again where the map is needed.
            Ok(_) | Err(_) => {}
        }
    }
    Ok(())
}

/// Removes a directory of pins whose successors stand.
fn let_go(dir: &Path) -> Result<(), GateError> {
    let program = dir.join(SYSCTL);
    if program.exists() {
        let reason = |reason| GateError::Pin {
            path: program.clone(),
            reason,
        };
        let info = ProgramInfo::from_pin(&program).map_err(|error| reason(whole(&error)))?;
        guard::detach_sysctl(&info).map_err(reason)?;
        #[cfg(feature = "fault-points")]
        crate::fault::at("detached");
    }
    pins::remove(dir)
}

/// The guard of settings, by the name of its program and pin.
const SYSCTL: &str = "sysctl";
