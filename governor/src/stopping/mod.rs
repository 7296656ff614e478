//! Reaching what runs: freezing, cutting off and killing by label, and letting go again.
//!
//! Promises: a stop reaches every cgroup below the zone that holds a task of what is meant (a shared
//! cgroup takes the strictest action, whole), then every process anywhere that carries the label and
//! has left the zone: it is killed through its pidfd, or moved into a frozen leaf below the zone, and
//! killed if that cannot be. It goes over all of it again until a pass finds nobody new. What could
//! not be reached is an error. All orders of one step share these passes. Who has no label is reached as
//! one who left the zone, and only if an order says so; see `nobody`.
//!
//! Who carries a label is listed by the kernel, with the cgroup, in one reading: a pass costs as much
//! as there are labelled tasks, and nothing is looked up by number. See `finding`.
//!
//! Refuses: to take a number for a process. See `process`.

mod diag;
mod finding;
#[cfg(feature = "fuzzing")]
pub(crate) mod fuzzing;
mod leaderless;
mod mark;
mod networks;
mod nobody;
mod process;
mod seen;
mod sockets;
mod straggler;
#[cfg(test)]
mod tests;
mod thaw;
pub(crate) mod tree;

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt, io,
    os::fd::BorrowedFd,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use crate::inventory::Nobody;
use anyhow::Result;
use governor_common::{Carrier, Label};
use governor_core::{
    engine::{Grip, Running},
    policy::OnRevoke,
};
use rustix::io::Errno;

use self::{
    finding::{Here, Sorted},
    mark::{Mark, Marks},
    process::Process,
    seen::Seen,
    sockets::{Doomed, Sockets},
    tree::{State, has_vanished, is},
};
pub(crate) use self::{
    mark::OnCgroup,
    nobody::is_held,
    sockets::{Network, prepare},
    straggler::HELD_PREFIX,
    thaw::{Thawed, bar, thaw},
};

/// What is done to a process or a cgroup, from mild to strict.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Action {
    /// As policy says when an authorization ends.
    Freeze,
    /// As policy says of what somebody did: trust that returns does not end it.
    Bar,
    /// By hand.
    Pause,
    Quarantine,
    Kill,
}

impl Action {
    /// `None`: what runs goes on.
    pub(crate) const fn of_policy(action: OnRevoke, barred: bool) -> Option<Self> {
        match action {
            OnRevoke::Deny => None,
            OnRevoke::Freeze if barred => Some(Self::Bar),
            OnRevoke::Freeze => Some(Self::Freeze),
            OnRevoke::Quarantine => Some(Self::Quarantine),
            OnRevoke::Kill => Some(Self::Kill),
        }
    }

    pub(crate) const fn by_hand(grip: Grip) -> Self {
        match grip {
            Grip::Pause => Self::Pause,
            Grip::Quarantine => Self::Quarantine,
            Grip::Kill => Self::Kill,
        }
    }

    /// `None`: nothing is left to hold.
    const fn mark(self) -> Option<Mark> {
        match self {
            Self::Freeze => Some(Mark::Frozen),
            Self::Bar => Some(Mark::Barred),
            Self::Pause => Some(Mark::Paused),
            Self::Quarantine => Some(Mark::Quarantined),
            Self::Kill => None,
        }
    }

    /// What is frozen stays so, and so does whoever comes to it.
    const fn freezes(self) -> bool {
        match self {
            Self::Freeze | Self::Bar | Self::Pause | Self::Quarantine => true,
            Self::Kill => false,
        }
    }

    const fn closes(self) -> bool {
        match self {
            Self::Freeze | Self::Bar | Self::Pause => false,
            Self::Quarantine | Self::Kill => true,
        }
    }
}

/// What is to be stopped.
#[derive(Clone, Debug)]
pub(crate) struct Order {
    pub(crate) zone: u32,
    /// The zone's cgroup.
    pub(crate) root: PathBuf,
    pub(crate) running: Running,
    pub(crate) action: Action,
}

impl Order {
    fn means(&self, label: &Label) -> bool {
        label.zone == self.zone && is_meant(self.running, label)
    }
}

fn is_meant(running: Running, label: &Label) -> bool {
    match running {
        Running::All => true,
        Running::Workload(number) => label.workload == number,
        Running::Digest(digest) => label.digest == digest,
        Running::Unlabelled => false,
    }
}

/// What stopping acts on.
pub(crate) struct Scene<'a> {
    /// Where the unified hierarchy is mounted.
    pub(crate) cgroups: &'a Path,
    pub(crate) proc: &'a Path,
    pub(crate) marks: &'a dyn Marks,
    /// Every task that carries a label, as the kernel lists them.
    pub(crate) carriers: &'a dyn Fn() -> Result<Vec<Carrier>>,
    pub(crate) label_of: &'a dyn Fn(BorrowedFd<'_>) -> Result<Option<Label>>,
    /// Who is in a zone and carries none, by what was listed.
    pub(crate) nobodies: &'a dyn Fn(&[Carrier]) -> Result<Vec<Nobody>>,
    /// Called for each process that takes work of its own: there may be more than anybody waits for who
    /// only sees that nothing is answered.
    pub(crate) goes_on: &'a dyn Fn(),
}

impl Scene<'_> {
    /// The label of a process: its first thread's, or that of any other that has one.
    fn label(&self, process: &Process) -> Result<Option<Label>> {
        if let Some(label) = (self.label_of)(process.fd())? {
            return Ok(Some(label));
        }
        for thread in process.other_threads(self.proc)? {
            if let Some(label) = (self.label_of)(std::os::fd::AsFd::as_fd(&thread))? {
                return Ok(Some(label));
            }
        }
        Ok(None)
    }
}

/// cgroups and stragglers that were reached, by what was done to them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stopped {
    pub(crate) frozen: usize,
    pub(crate) quarantined: usize,
    pub(crate) killed: usize,
    /// Connections.
    pub(crate) closed: usize,
}

impl std::ops::AddAssign for Stopped {
    fn add_assign(&mut self, other: Self) {
        self.frozen += other.frozen;
        self.quarantined += other.quarantined;
        self.killed += other.killed;
        self.closed += other.closed;
    }
}

/// What came of it.
#[derive(Debug, Default)]
pub(crate) struct Outcome {
    pub(crate) stopped: Stopped,
    /// How long it took until everybody who was found had been told to stop.
    pub(crate) told: Duration,
    /// And until they had, or were waited for no longer.
    pub(crate) halted: Duration,
    /// What could not be reached, with the zone if it is one zone's.
    pub(crate) failed: Vec<(Option<u32>, String)>,
}

impl Outcome {
    /// Why this order was not carried out, if it was not.
    pub(crate) fn failure(&self, order: &Order) -> Option<&str> {
        let concerns = |zone: &Option<u32>| zone.is_none_or(|zone| zone == order.zone);
        let failed = self.failed.iter().find(|(zone, _)| concerns(zone));
        failed.map(|(_, why)| why.as_str())
    }
}

/// Carries out all orders together.
pub(crate) fn stop(scene: &Scene<'_>, network: &mut dyn Sockets, orders: &[Order]) -> Outcome {
    if orders.is_empty() {
        return Outcome::default();
    }
    let mut stopping = Stopping::new(scene, orders);
    let began = Instant::now();
    let mut settled = false;
    for _ in 0..PASSES {
        stopping.failed.clear();
        if !stopping.pass(network) {
            settled = true;
            break;
        }
    }
    if !settled {
        let why = format!("stopping: new tasks were found in each of {PASSES} passes");
        stopping.failed.push((None, why));
    }
    let told = began.elapsed();
    stopping.settle(Instant::now() + PATIENCE);
    let halted = began.elapsed();
    Outcome {
        told,
        halted,
        ..stopping.close(network)
    }
}

struct Stopping<'a> {
    scene: &'a Scene<'a>,
    orders: &'a [Order],
    seen: Seen,
    reached: BTreeMap<PathBuf, Action>,
    /// Those that are frozen, by number: another may have the name of one.
    frozen: BTreeMap<u64, Action>,
    /// Stragglers that were sent SIGKILL. While the handle lives on its process, the number is its.
    killed: BTreeMap<i32, Process>,
    doomed: Doomed,
    /// cgroups in which somebody without a label is meant: then everybody there is who has none.
    shared: BTreeSet<PathBuf>,
    /// Whoever is meant without a label, with the order that says so.
    nobodies: BTreeMap<i32, (usize, PathBuf)>,
    /// Network namespaces that are looked at, by inode number.
    networks: BTreeSet<u32>,
    failed: Vec<(Option<u32>, String)>,
}

impl<'a> Stopping<'a> {
    fn new(scene: &'a Scene<'a>, orders: &'a [Order]) -> Self {
        Self {
            scene,
            orders,
            seen: Seen::default(),
            reached: BTreeMap::new(),
            frozen: BTreeMap::new(),
            killed: BTreeMap::new(),
            doomed: Doomed::default(),
            shared: BTreeSet::new(),
            nobodies: BTreeMap::new(),
            networks: networks::own(scene.proc).into_iter().collect(),
            failed: Vec::new(),
        }
    }

    /// Goes over all tasks once; whether somebody new was found.
    fn pass(&mut self, network: &mut dyn Sockets) -> bool {
        let carriers = self.carriers();
        // Before anybody ends: where nobody is any more cannot be reached.
        self.reach_networks(network, &carriers);
        // Behind the tasks: a cgroup that a task is in exists.
        let zones = self.zones();
        let Sorted {
            inside, mut strays, ..
        } = self.sort(&carriers, &zones);
        let mut found = self.find_nobodies(&carriers, &mut strays);
        for here in &inside {
            if self.frozen.get(&here.id) >= Some(&here.action) {
                // The kernel freezes whoever comes into it, its children among them.
                continue;
            }
            let new = self.seen.all(here.id, &here.tasks);
            found |= new;
            // Whoever was there before has it coming already.
            if !new && self.reached.get(here.cgroup) >= Some(&here.action) {
                continue;
            }
            match self.act(here) {
                Ok(Some((stopped, action))) => {
                    if action.freezes() {
                        self.frozen.insert(here.id, action);
                    }
                    let done = self.reached.entry(stopped).or_insert(action);
                    *done = action.max(*done);
                }
                // Gone meanwhile: what was in it has ended or is found elsewhere.
                Ok(None) => {}
                // One that will not be reached must not keep the others running.
                Err(error) => self.fail(here.zone, here.cgroup, &error),
            }
        }
        found | self.go_after(network, &strays)
    }

    /// Stops one cgroup and what is below it; the cgroup that was stopped, and how. `None`: it is gone.
    fn act(&mut self, here: &Here<'_>) -> io::Result<Option<(PathBuf, Action)>> {
        let cgroup = here.cgroup;
        if here.action.closes() {
            self.doomed.cgroups.insert(here.id);
        }
        let whole = |()| cgroup.to_owned();
        let result = match here.action.mark() {
            Some(mark) => self.freeze(cgroup, mark).map(whole),
            None => match tree::write(&cgroup.join("cgroup.kill"), "1") {
                Err(error) if is(&error, Errno::OPNOTSUPP) => self.kill_threaded(here),
                result => result
                    .and_then(|()| self.kill_leaderless(&here.tasks))
                    .map(whole),
            },
        };
        match result {
            Ok(stopped) => Ok(Some((stopped, here.action))),
            Err(error) if has_vanished(&error) => Ok(None),
            // An operator who pauses work wants it to go on.
            Err(error) if here.action == Action::Pause => Err(error),
            Err(error) => {
                // Files of cgroups can be made read-only; nobody has to be let go for that.
                let name = cgroup.display();
                tracing::warn!(
                    "`{name}` cannot be stopped whole, so who is meant is killed: {error}"
                );
                self.kill_each(here.tasks.iter().map(|task| task.process).collect())?;
                Ok(Some((cgroup.to_owned(), Action::Kill)))
            }
        }
    }

    /// A threaded cgroup holds threads, and only a domain can be killed: the nearest one above it that
    /// is still inside the zone. The zone itself holds other work too, so there its processes are
    /// killed one by one.
    fn kill_threaded(&self, here: &Here<'_>) -> io::Result<PathBuf> {
        let inside = |dir: &&Path| dir.starts_with(here.root) && *dir != here.root;
        for domain in here.cgroup.ancestors().skip(1).take_while(inside) {
            match tree::write(&domain.join("cgroup.kill"), "1") {
                Err(error) if is(&error, Errno::OPNOTSUPP) => {}
                result => return result.map(|()| domain.to_owned()),
            }
        }
        let pids = here.tasks.iter().map(|task| task.process).collect();
        self.kill_each(pids).map(|()| here.cgroup.to_owned())
    }

    /// Who has the number now may be another. One whose label cannot be read is not let off.
    fn is_still_meant(&self, process: &Process) -> bool {
        match self.scene.label(process) {
            Ok(label) => label.is_some_and(|label| self.wanted(&label).is_some()),
            Err(_) => true,
        }
    }

    /// The mark comes first, so that nothing is frozen of which nobody knows why.
    fn freeze(&self, cgroup: &Path, mark: Mark) -> io::Result<()> {
        let by_others = tree::is_frozen(cgroup) && self.scene.marks.get(cgroup)?.is_none();
        let mark = match mark {
            // Somebody else froze it before: trust that returns is not what they waited for.
            Mark::Frozen if by_others => Mark::Barred,
            Mark::Frozen | Mark::Barred | Mark::Paused | Mark::Quarantined => mark,
        };
        self.scene.marks.raise(cgroup, mark)?;
        tree::write(&cgroup.join("cgroup.freeze"), "1")
    }

    /// Waits, a bounded while, until what was stopped has stopped. The kernel has it in hand already:
    /// nothing of it comes back to its own code.
    fn settle(&self, deadline: Instant) {
        for (cgroup, action) in &self.reached {
            let state = match action {
                Action::Freeze | Action::Bar | Action::Pause | Action::Quarantine => State::Frozen,
                Action::Kill => State::Empty,
            };
            match tree::reaches(cgroup, state, deadline) {
                Ok(true) => {}
                Ok(false) => tracing::warn!(cgroup = %cgroup.display(), ?state, "not there yet"),
                Err(error) => {
                    tracing::warn!(cgroup = %cgroup.display(), %error, "cannot be watched")
                }
            }
        }
        let processes = self.killed.values();
        let not_yet = processes.filter(|process| !process.ends(deadline)).count();
        if not_yet > 0 {
            tracing::warn!("{not_yet} processes were killed, and have not ended yet");
        }
    }

    /// Closes connections, and counts what was done.
    fn close(mut self, network: &mut dyn Sockets) -> Outcome {
        let mut stopped = Stopped::default();
        let reached = std::mem::take(&mut self.reached);
        for (cgroup, action) in &reached {
            match action {
                Action::Freeze | Action::Bar | Action::Pause => stopped.frozen += 1,
                Action::Quarantine => {
                    stopped.quarantined += 1;
                    self.doom_open_in(cgroup);
                }
                Action::Kill => stopped.killed += 1,
            }
        }
        stopped.killed += self.killed.len();
        if reached.values().any(|action| action.closes()) || !self.killed.is_empty() {
            match sockets::close(network, &self.doomed) {
                Ok(closed) => stopped.closed = closed,
                Err(error) => self.failed.push((None, format!("{error:#}"))),
            }
        }
        Outcome {
            stopped,
            failed: self.failed,
            ..Outcome::default()
        }
    }

    /// Sockets that processes of a frozen cgroup have open, whoever made them.
    fn doom_open_in(&mut self, cgroup: &Path) {
        let below = tree::below(cgroup);
        let mut failures: Vec<String> = below.unread.iter().map(|(_, e)| e.to_string()).collect();
        let mut pids = Vec::new();
        for dir in below.cgroups {
            match tree::pids(&dir) {
                Ok(found) => pids.extend(found),
                Err(error) => failures.push(error.to_string()),
            }
        }
        for pid in pids {
            (self.scene.goes_on)();
            let open = Process::open(pid).and_then(|process| {
                let sockets = process.map(|process| process.sockets(self.scene.proc));
                sockets.transpose()
            });
            match open {
                Ok(inodes) => self.doomed.inodes.extend(inodes.into_iter().flatten()),
                Err(error) => failures.push(error.to_string()),
            }
        }
        let cgroup = cgroup.display();
        self.failed.extend(failures.into_iter().map(|error| {
            (
                None,
                format!("reading which sockets are open in `{cgroup}`: {error}"),
            )
        }));
    }

    fn fail(&mut self, zone: u32, cgroup: &Path, error: &dyn fmt::Display) {
        let cgroup = cgroup.display();
        let why =
            format!("reaching what runs in `{cgroup}`: {error}; see what it holds and try again");
        self.failed.push((Some(zone), why));
    }
}

/// How often everything is gone over for what moved meanwhile. Two passes see all that moved once; the
/// rest is for work that moves all the time.
const PASSES: usize = 8;
/// How long freezing and dying may take until the answer is given all the same.
const PATIENCE: Duration = Duration::from_millis(500);
