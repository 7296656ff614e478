//! The gate: kernel programs, their maps, and the pins that let both outlive the daemon.
//!
//! The only folder that names the BPF library. Promises: there is never a moment without
//! enforcement between one daemon and the next; every store that a verdict depends on is read back;
//! every hook is attached or none is, and the one that cannot be is named.
//!
//! Refuses to detach. Decides nothing: verdicts are made in the kernel, by `governor_common`.

mod btf;
mod error;
mod keep;
mod load;
#[cfg(feature = "bpf-log")]
mod logs;
mod maps;
mod pins;
mod probe;
mod rings;
mod signals;
mod state;
mod table;
mod zones;

use std::path::{Path, PathBuf};

use aya::programs::links::{FdLink, PinnedLink};
use governor_core::digest::Digest;

pub use error::GateError;
use error::whole;
pub use probe::{Requirement, probe};
pub use rings::Drained;
pub use table::EgressRule;

use load::{HOOKS, Hook, Loaded};
use maps::Maps;
use pins::Pins;

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
    /// The marker that governed units wait for.
    ready: PathBuf,
    /// Pins of an older layout, which enforce until `release_previous`.
    previous: Vec<PathBuf>,
    /// Events of another layout met so far: denials, others.
    unreadable: (u64, u64),
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
    /// Adopts what is pinned, or attaches what is embedded beside it and then lets go of the old. If
    /// it fails, whatever enforced before enforces still, and nothing new is left behind.
    pub fn open_or_attach(pin_dir: &Path) -> Result<(Self, Opened), GateError> {
        probe::bpf_is_active()?;
        if OBJECT.is_empty() {
            return Err(GateError::NoObject);
        }
        probe::digests_are_fresh()?;
        let pins = Pins::open(pin_dir, OBJECT)?;
        let mut attach = Attach {
            pins: &pins,
            loaded: None,
            made: Vec::new(),
        };
        let mut gate = match attach.all() {
            Ok(gate) => gate,
            Err(error) => {
                pins.take_back(&attach.made);
                return Err(error);
            }
        };
        // From here on nothing is taken back: what was there before is about to go.
        let (other_links, other_maps) = (pins.other_links()?, pins.other_maps()?);
        if other_maps.is_empty() {
            // Same maps and every hook, so the new programs enforce all that the old ones did.
            for dir in &other_links {
                pins::remove(dir)?;
            }
        } else {
            gate.previous = other_links.into_iter().chain(other_maps).collect();
        }
        let opened = match (pins.had_maps, attach.made.is_empty()) {
            (true, true) => Opened::Adopted,
            (true, false) => Opened::Upgraded,
            (false, _) => Opened::Fresh,
        };
        Ok((gate, opened))
    }

    /// Tells the units of governed work that they may start. To be called once zones and a table are
    /// in force: before that, nothing says what is governed.
    pub fn mark_ready(&self) -> Result<(), GateError> {
        pins::make(&self.ready)
    }

    /// Every hook.
    pub fn hooks(&self) -> &[HookStatus] {
        &self.hooks
    }

    /// How many links are held as descriptors.
    pub fn held_links(&self) -> usize {
        self.links.len()
    }

    /// Whether programs of an older layout still enforce beside ours.
    pub fn has_previous(&self) -> bool {
        !self.previous.is_empty()
    }

    /// Lets go of programs and maps of an older layout. To be called once zones, table and
    /// tombstones are in the new maps: until then the old programs are the only ones that know any.
    pub fn release_previous(&mut self) -> Result<(), GateError> {
        while let Some(dir) = self.previous.first() {
            pins::remove(dir)?;
            self.previous.remove(0);
        }
        Ok(())
    }
}

/// Attaching hook by hook: what is pinned is taken, what is not is loaded and pinned.
struct Attach<'a> {
    pins: &'a Pins,
    /// Loaded only when a hook needs it: adopting runs no verifier.
    loaded: Option<Loaded>,
    /// Pins that this call made.
    made: Vec<PathBuf>,
}

impl Attach<'_> {
    /// Every hook, or the first one that cannot be attached.
    fn all(&mut self) -> Result<Gate, GateError> {
        let (mut hooks, mut links) = (Vec::new(), Vec::new());
        for hook in HOOKS {
            let name = hook.name;
            let failed = |reason| GateError::Hook { name, reason };
            let link = self.hook(hook)?.map_err(failed)?;
            let prog_id = link
                .info()
                .map_err(|error| failed(format!("its link cannot be read: {}", whole(&error))))?
                .program_id();
            links.push(link);
            let state = HookState::Attached { prog_id };
            hooks.push(HookStatus { name, state });
        }
        Ok(Gate {
            maps: Maps::open(&self.pins.maps)?,
            hooks,
            links,
            ready: self.pins.ready.clone(),
            previous: Vec::new(),
            unreadable: (0, 0),
        })
    }

    /// The hook's link; the inner error is why this one hook is missing.
    fn hook(&mut self, hook: &Hook) -> Result<Result<FdLink, String>, GateError> {
        let path = self.pins.links.join(hook.name);
        if path.exists() {
            let pinned = PinnedLink::from_pin(&path).map(FdLink::from);
            return Ok(
                pinned.map_err(|error| format!("its pin cannot be opened: {}", whole(&error)))
            );
        }
        let loaded = match &mut self.loaded {
            Some(loaded) => loaded,
            none => none.insert(Loaded::with_maps(OBJECT, &self.pins.maps)?),
        };
        let link = match loaded.attach(hook) {
            Ok(link) => link,
            Err(reason) => return Ok(Err(reason)),
        };
        let pinned = link.pin(&path).map(FdLink::from);
        if pinned.is_ok() {
            self.made.push(path);
        }
        Ok(pinned.map_err(|error| format!("it cannot be pinned: {}", whole(&error))))
    }
}
