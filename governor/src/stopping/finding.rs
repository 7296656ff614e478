//! Who is meant, and where.
//!
//! Promises: whoever carries a label is found, wherever it moved to. The kernel's own list tells task,
//! label and cgroup at once, so inside of a zone no number is followed anywhere. Where that list
//! cannot be had every process is asked through a handle instead, which is slower and finds the same.
//! What cannot be told apart from what is meant is treated like it inside of a zone, and is an error
//! outside.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    path::{Path, PathBuf},
};

use governor_common::{Carrier, Label, Line};

use super::{Action, Order, Running, Stopping, networks, process, process::Process, tree};

/// A task, and no other that ever has its number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct Task {
    pub(super) process: i32,
    thread: u32,
    started: u64,
}

impl Task {
    pub(super) const fn is_first(&self) -> bool {
        self.process.cast_unsigned() == self.thread
    }

    /// The first thread of a process that began then.
    pub(super) const fn first(process: i32, started: u64) -> Self {
        Self {
            process,
            thread: process.cast_unsigned(),
            started,
        }
    }
}

/// What is meant of somebody.
#[derive(Clone, Copy)]
enum Place {
    NotMeant,
    /// Inside, at this place of the list.
    Here(usize),
    Astray,
}

/// A zone's cgroup with everything below it, by number.
pub(super) struct Zone {
    zone: u32,
    root: PathBuf,
    cgroups: BTreeMap<u64, PathBuf>,
}

/// What is to be done in one cgroup.
pub(super) struct Here<'z> {
    pub(super) zone: u32,
    /// The zone's cgroup.
    pub(super) root: &'z Path,
    pub(super) cgroup: &'z Path,
    /// The cgroup's number.
    pub(super) id: u64,
    pub(super) action: Action,
    pub(super) tasks: Vec<Task>,
}

/// Processes outside of their zones, each with the places that its threads are in.
pub(super) type Strays = BTreeMap<i32, Vec<(u64, Task)>>;

/// Everybody who is meant.
#[derive(Default)]
pub(super) struct Sorted<'z> {
    /// By the zone's cgroup and their own.
    pub(super) inside: Vec<Here<'z>>,
    /// Where in it each cgroup is, until it is put in order.
    places: HashMap<(u64, &'z Path), usize>,
    pub(super) strays: Strays,
}

impl Stopping<'_> {
    /// Every task with a label.
    pub(super) fn carriers(&mut self) -> Vec<Carrier> {
        match (self.scene.carriers)() {
            Ok(carriers) => carriers,
            Err(error) => {
                tracing::warn!("{error:#}; every process is asked instead");
                self.ask_everybody()
            }
        }
    }

    /// The zones that orders speak of.
    pub(super) fn zones(&mut self) -> Vec<Zone> {
        let roots: BTreeSet<(&Path, u32)> = self
            .orders
            .iter()
            .map(|order| (order.root.as_path(), order.zone))
            .collect();
        let mut zones = Vec::new();
        for (root, zone) in roots {
            let below = tree::below(root);
            if let Some((cgroup, error)) = &below.unread {
                self.fail(zone, cgroup, error);
            }
            let unlabelled = |order: &Order| order.running == Running::Unlabelled;
            if let Some(cgroup) = &below.too_deep
                && self.orders.iter().any(unlabelled)
            {
                // Only a label finds who is there.
                self.fail(zone, cgroup, &"it is too deep for a path");
            }
            // One that is gone by now holds nobody.
            let numbered = below
                .cgroups
                .into_iter()
                .filter_map(|cgroup| Some((tree::id(&cgroup).ok()?, cgroup)));
            zones.push(Zone {
                zone,
                root: root.to_owned(),
                cgroups: numbered.collect(),
            });
        }
        zones
    }

    /// What is meant of these, and where it is.
    pub(super) fn sort<'z>(&mut self, carriers: &[Carrier], zones: &'z [Zone]) -> Sorted<'z> {
        let mut sorted = Sorted::default();
        let mut last = None;
        let own = std::process::id();
        for carrier in carriers {
            let Ok(process) = i32::try_from(carrier.tgid) else {
                continue;
            };
            if is_spared_by(own, process) {
                continue;
            }
            let task = Task {
                process,
                thread: carrier.pid,
                started: carrier.started,
            };
            let label = match Line::from_u32(carrier.line) {
                Some(Line::Labelled) => Ok(Some(carrier.label)),
                Some(Line::Unread) | None => self.asked(process),
                Some(Line::End) => continue,
            };
            match label {
                Ok(None) => {}
                Ok(Some(label)) => {
                    // A crowd is of one kind, and in one place.
                    let kind = (label, carrier.cgroup);
                    let place = match last {
                        Some((known, place)) if known == kind => place,
                        _ => self.place(&mut sorted, zones, &label, carrier.cgroup),
                    };
                    last = Some((kind, place));
                    match place {
                        Place::Here(at) => sorted.inside[at].tasks.push(task),
                        Place::Astray => {
                            let places = sorted.strays.entry(process).or_default();
                            places.push((carrier.cgroup, task));
                        }
                        Place::NotMeant => {}
                    }
                }
                Err(why) => {
                    let here = |zone: &&Zone| zone.cgroups.contains_key(&carrier.cgroup);
                    let mut known = false;
                    for zone in zones.iter().filter(here) {
                        known = true;
                        let orders = self.orders.iter().filter(|order| order.zone == zone.zone);
                        if let Some(action) = orders.map(|order| order.action).max()
                            && let Some(at) = sorted.here(zone, carrier.cgroup, action)
                        {
                            sorted.inside[at].tasks.push(task);
                        }
                    }
                    if !known {
                        // It may be anybody's.
                        self.failed.push((None, why));
                    }
                }
            }
        }
        sorted.inside.sort_by_key(|here| (here.root, here.cgroup));
        sorted
    }

    /// Where whoever carries this label in this cgroup belongs.
    fn place<'z>(
        &self,
        sorted: &mut Sorted<'z>,
        zones: &'z [Zone],
        label: &Label,
        cgroup: u64,
    ) -> Place {
        let Some(action) = self.wanted(label).map(|order| order.action) else {
            return Place::NotMeant;
        };
        let mut own = zones.iter().filter(|zone| zone.zone == label.zone);
        own.find_map(|zone| sorted.here(zone, cgroup, action))
            .map_or(Place::Astray, Place::Here)
    }

    /// The strictest order that means this label.
    pub(super) fn wanted(&self, label: &Label) -> Option<&Order> {
        let orders = self.orders.iter().filter(|order| order.means(label));
        orders.max_by_key(|order| order.action)
    }

    /// The label of a process by its handle; `None`: it has none, or has ended.
    fn asked(&self, pid: i32) -> Result<Option<Label>, String> {
        match Process::open(pid) {
            Ok(Some(process)) => self.asked_through(&process),
            Ok(None) => Ok(None),
            Err(error) => Err(format!("taking hold of process {pid}: {error}")),
        }
    }

    fn asked_through(&self, process: &Process) -> Result<Option<Label>, String> {
        let label = self.scene.label(process);
        if process.has_ended() {
            return Ok(None);
        }
        label.map_err(|error| format!("reading the label of process {}: {error:#}", process.pid))
    }

    /// The list, by way of every process there is. Here a thread is not asked by itself: what its
    /// process carries it carries too.
    fn ask_everybody(&mut self) -> Vec<Carrier> {
        let pids = match process::all(self.scene.proc) {
            Ok(pids) => pids,
            Err(error) => {
                let why = format!("listing processes: {error}");
                self.failed.push((None, why));
                return Vec::new();
            }
        };
        let mut carriers = Vec::new();
        for pid in pids {
            let process = match Process::open(pid) {
                Ok(Some(process)) => process,
                Ok(None) => continue,
                Err(error) => {
                    let why = format!("taking hold of process {pid}: {error}");
                    self.failed.push((None, why));
                    continue;
                }
            };
            let (line, label) = match self.asked_through(&process) {
                Ok(None) => continue,
                Ok(Some(label)) => (Line::Labelled, label),
                Err(_) => (Line::Unread, Label::default()),
            };
            let number = u32::try_from(pid).unwrap_or_default();
            let network = networks::of(self.scene.proc, number, number).unwrap_or_default();
            carriers.push(Carrier {
                line: line as u32,
                tgid: number,
                // A first thread that has ended is in no namespace: whoever is left is another.
                pid: if network == 0 { 0 } else { number },
                // Nowhere, if that cannot be said: then it is taken for one that left its zone.
                cgroup: self.cgroup_of(&process).unwrap_or_default(),
                network,
                label,
                ..Carrier::default()
            });
        }
        carriers
    }

    fn cgroup_of(&self, process: &Process) -> Option<u64> {
        let path = process.cgroup(self.scene.proc).ok()??;
        tree::id(&self.scene.cgroups.join(path)).ok()
    }
}

/// Whatever they carry: without the first process the host ends, and without us nobody stops the rest.
/// Neither executes what would give it a label.
pub(super) fn is_spared(process: i32) -> bool {
    is_spared_by(std::process::id(), process)
}

/// Asked of each of a crowd, where asking the kernel each time who we are would take longer than all else.
const fn is_spared_by(own: u32, process: i32) -> bool {
    process == 1 || process.cast_unsigned() == own
}

impl<'z> Sorted<'z> {
    /// Where tasks of this cgroup of the zone are listed; `None`: it is not the zone's.
    fn here(&mut self, zone: &'z Zone, id: u64, action: Action) -> Option<usize> {
        let cgroup = zone.cgroups.get(&id)?;
        let root = zone.root.as_path();
        let at = *self.places.entry((id, root)).or_insert_with(|| {
            self.inside.push(Here {
                zone: zone.zone,
                root,
                cgroup,
                id,
                action,
                tasks: Vec::new(),
            });
            self.inside.len() - 1
        });
        let here = &mut self.inside[at];
        here.action = here.action.max(action);
        Some(at)
    }
}
