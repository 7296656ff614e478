//! The gate: kernel programs, their maps, and the pins that let both outlive the daemon.
//!
//! The only folder that names the BPF library. Promises: there is never a moment without
//! enforcement between one daemon and the next; every store that a verdict depends on is read back;
//! what cannot be attached is named, and without the hooks that executions pass nothing is attached.
//!
//! Refuses to detach. Decides nothing: verdicts are made in the kernel, by `governor_common`.

mod btf;
mod error;
mod load;
mod maps;
mod pins;
mod probe;
mod rings;
mod state;
mod table;
mod zones;

use std::path::{Path, PathBuf};

use aya::programs::links::{FdLink, PinnedLink};
use governor_core::digest::Digest;

pub use error::GateError;
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
    /// Maps were kept; the programs were replaced, or missing ones added.
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
    /// Not in force, and why.
    Missing(String),
}

impl Gate {
    /// Adopts what is pinned, or attaches what is embedded beside it and then lets go of the old.
    pub fn open_or_attach(pin_dir: &Path) -> Result<(Self, Opened), GateError> {
        probe::bpf_is_active()?;
        if OBJECT.is_empty() {
            return Err(GateError::NoObject);
        }
        let pins = Pins::open(pin_dir, OBJECT)?;
        let had_maps = pins.has_maps();
        let mut attach = Attach {
            pins: &pins,
            loaded: None,
            made: Vec::new(),
        };
        let mut hooks = Vec::new();
        let mut links = Vec::new();
        for hook in HOOKS {
            let state = match attach.hook(hook) {
                Ok(Ok(link)) => {
                    let prog_id = link
                        .info()
                        .map(|info| info.program_id())
                        .unwrap_or_default();
                    links.push(link);
                    HookState::Attached { prog_id }
                }
                Ok(Err(reason)) if !hook.essential => HookState::Missing(reason),
                Ok(Err(reason)) => {
                    attach.undo();
                    return Err(GateError::Hook {
                        name: hook.name,
                        reason,
                    });
                }
                Err(error) => {
                    attach.undo();
                    return Err(error);
                }
            };
            hooks.push(HookStatus {
                name: hook.name,
                state,
            });
        }
        let attached_any = !attach.made.is_empty();
        let maps = Maps::open(&pins.maps)?;
        let (other_links, other_maps) = (pins.other_links()?, pins.other_maps()?);
        let mut gate = Self {
            maps,
            hooks,
            links,
            previous: Vec::new(),
            unreadable: (0, 0),
        };
        if other_maps.is_empty() {
            // Same maps, so the new programs enforce what the old ones did; all that they did.
            for (name, reason) in hooks_missing(&gate.hooks) {
                if other_links.iter().any(|dir| dir.join(name).exists()) {
                    return Err(GateError::Hook { name, reason });
                }
            }
            for dir in &other_links {
                pins::remove(dir)?;
            }
        } else {
            gate.previous = other_links.into_iter().chain(other_maps).collect();
        }
        let opened = match (had_maps, attached_any) {
            (true, false) => Opened::Adopted,
            (true, true) => Opened::Upgraded,
            (false, _) => Opened::Fresh,
        };
        Ok((gate, opened))
    }

    /// Every hook, attached or missing.
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

fn hooks_missing(hooks: &[HookStatus]) -> Vec<(&'static str, String)> {
    let missing = |hook: &HookStatus| match &hook.state {
        HookState::Attached { .. } => None,
        HookState::Missing(reason) => Some((hook.name, reason.clone())),
    };
    hooks.iter().filter_map(missing).collect()
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
    /// The hook's link; the inner error is why this one hook is missing.
    fn hook(&mut self, hook: &Hook) -> Result<Result<FdLink, String>, GateError> {
        let path = self.pins.links.join(hook.name);
        if path.exists() {
            let pinned = PinnedLink::from_pin(&path).map(FdLink::from);
            return Ok(pinned.map_err(|error| format!("its pin cannot be opened: {error}")));
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
        Ok(pinned.map_err(|error| format!("it cannot be pinned: {error}")))
    }

    /// Takes back this call's own pins: a set without its essential hooks is worth nothing, and
    /// whatever stood before stands still.
    fn undo(&mut self) {
        for path in self.made.drain(..) {
            // It goes with the mount at the latest, and does no harm until then.
            let _ignored = std::fs::remove_file(path);
        }
    }
}
