//! Looking for the Unix sockets that a policy names, so that the kernel knows them when work reaches for them.
//!
//! Promises: what becomes known lies at the path when it is looked at, in a [place] where no workload and nobody
//! else could have put another. What takes its place is looked for as soon as the directory shows it. Whoever has a
//! hand in any of it costs a few looks a second at most. Whoever puts a policy in force waits for the first look, but
//! not long; nobody else waits, and until a socket is found nobody reaches it.

mod place;
mod told;
mod watch;

use std::{
    collections::{BTreeMap, BTreeSet, btree_map::Entry},
    os::fd::{AsFd as _, OwnedFd},
    sync::{Arc, Condvar, Mutex, PoisonError},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result};
use governor_common::{Event, Reason};
use governor_core::{
    digest::Digest,
    policy::{Policy, SocketPath},
};
use rustix::event::{EventfdFlags, eventfd};

use self::{
    place::{Place, find},
    told::{Looked, Told},
    watch::Watch,
};
use crate::gate::Namer;

/// How many of the sockets that the policy names were found when they were looked for last.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Found {
    pub(crate) found: u32,
    /// There is nothing at the path.
    pub(crate) absent: u32,
    /// There is something else, the same as under another name, a link on the way, or a directory that others may
    /// write.
    pub(crate) unfit: u32,
}

/// The thread that looks, and what it was given last.
#[derive(Debug)]
pub(crate) struct Peers {
    shared: Arc<Shared>,
    last: Option<Digest>,
    /// Somebody was refused since it was last asked for.
    missed: bool,
    asked: Option<Instant>,
}

#[derive(Debug)]
struct Shared {
    wanted: Mutex<Arc<Wanted>>,
    /// And for which policy they were looked for.
    found: Mutex<(Option<Digest>, Found)>,
    looked: Condvar,
    /// Wakes the thread.
    came: OwnedFd,
}

/// What is looked for.
#[derive(Debug, Default)]
struct Wanted {
    policy: Option<Digest>,
    /// Each once, whoever may reach it.
    sockets: Vec<SocketPath>,
    /// Users whom work runs as: what one of them owns could be put there by work. Absent: it may be anybody.
    users: Option<BTreeSet<u32>>,
}

impl Peers {
    pub(crate) fn start(namer: Namer) -> Result<Self> {
        let came = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK);
        let shared = Arc::new(Shared {
            wanted: Mutex::default(),
            found: Mutex::default(),
            looked: Condvar::new(),
            came: came.context("making an event")?,
        });
        let theirs = Arc::clone(&shared);
        thread::Builder::new()
            .name("peers".into())
            .spawn(move || keep_up(&namer, &theirs))
            .context("starting the thread that looks for sockets")?;
        Ok(Self {
            shared,
            last: None,
            missed: false,
            asked: None,
        })
    }

    /// Has the sockets of this policy looked for, if it is another one than before; and once more where somebody was
    /// refused one and the last time is a while ago. `users` are whom its workloads run as. Whether it is another.
    pub(crate) fn look(
        &mut self,
        digest: Digest,
        policy: &Policy,
        users: impl FnOnce() -> Option<BTreeSet<u32>>,
    ) -> bool {
        let now = Instant::now();
        let again = self.missed && self.asked.is_none_or(|asked| now - asked >= PAUSE);
        let is_another = self.last != Some(digest);
        if is_another {
            self.last = Some(digest);
            let workloads = policy.workloads().values();
            let sockets: BTreeSet<&SocketPath> =
                workloads.flat_map(|workload| &workload.sockets).collect();
            *lock(&self.shared.wanted) = Arc::new(Wanted {
                policy: self.last,
                sockets: sockets.into_iter().cloned().collect(),
                users: users(),
            });
        } else if !again {
            return false;
        }
        self.missed = false;
        self.asked = Some(now);
        let raised = rustix::io::write(&self.shared.came, &1u64.to_ne_bytes());
        if let Err(error) = raised {
            tracing::warn!(%error, "waking the thread that looks for sockets");
        }
        is_another
    }

    /// Waits until those of this policy were looked for, or for so long.
    pub(crate) fn wait(&self, patience: Duration) {
        let found = lock(&self.shared.found);
        let looked = &self.shared.looked;
        let waited = looked.wait_timeout_while(found, patience, |(of, _)| *of != self.last);
        drop(waited);
    }

    /// Looks whether anybody was refused, or would have been. Anybody may have been whose event was lost.
    pub(crate) fn hear(&mut self, events: &[Event], lost: u64) {
        let refused = |event: &Event| event.reason == Reason::UnlistedPeer as u32;
        self.missed |= lost > 0 || events.iter().any(refused);
    }

    pub(crate) fn found(&self) -> Found {
        lock(&self.shared.found).1
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn keep_up(namer: &Namer, shared: &Shared) {
    let (mut watch, mut told) = (Watch::default(), Told::default());
    loop {
        let wanted = Arc::clone(&lock(&shared.wanted));
        let looked = pass(namer, &wanted, &mut watch);
        *lock(&shared.found) = (wanted.policy, looked.found);
        shared.looked.notify_all();
        let until = told.tell(looked, Instant::now());
        // Whoever makes and removes one all the time has it looked for only so often.
        thread::sleep(BREATH);
        if let Err(error) = watch.wait(&shared.came, until) {
            tracing::debug!(%error, "waiting for sockets");
            thread::sleep(PAUSE);
        }
    }
}

fn pass(namer: &Namer, wanted: &Wanted, watch: &mut Watch) -> Looked {
    let mut looked = Looked::default();
    let mut named = BTreeMap::new();
    watch.begin();
    let users = wanted.users.as_ref();
    let fit = |socket| match find(socket, users, watch) {
        Ok(Place::Fit(_, number)) => Some(number),
        Ok(Place::Absent | Place::Unfit(..)) | Err(_) => None,
    };
    let fit: BTreeSet<(u64, u64)> = wanted.sockets.iter().filter_map(fit).collect();
    for socket in &wanted.sockets {
        let place = find(socket, users, watch).context("looking there");
        let named = place.and_then(|place| one(namer, socket, place, &fit, &mut named));
        let (count, why) = match named {
            Ok(Ok(())) => {
                looked.found.found += 1;
                continue;
            }
            Ok(Err(Missing::Absent)) => (&mut looked.found.absent, "nothing is there".to_owned()),
            Ok(Err(Missing::Unfit(why))) => (&mut looked.found.unfit, why),
            Err(error) => (&mut looked.found.unfit, format!("{error:#}")),
        };
        *count += 1;
        looked.missing.push(format!("`{socket}`: {why}"));
    }
    looked
}

/// Why there is none.
enum Missing {
    Absent,
    Unfit(String),
}

/// Has the kernel know what lies there. By the number of the inode, `fit` is what counts, and `named` what was named
/// before it.
fn one<'a>(
    namer: &Namer,
    socket: &'a SocketPath,
    place: Place,
    fit: &BTreeSet<(u64, u64)>,
    named: &mut BTreeMap<(u64, u64), &'a SocketPath>,
) -> Result<Result<(), Missing>> {
    Ok(match place {
        Place::Fit(open, number) => match named.entry(number) {
            // One name for each: the kernel keeps one.
            Entry::Occupied(other) => {
                let why = format!("it is the same socket as `{}`", other.get());
                Err(Missing::Unfit(why))
            }
            Entry::Vacant(place) => {
                place.insert(socket);
                let named = namer.name(open.as_fd(), socket.digest());
                named.context("telling the kernel")?;
                Ok(())
            }
        },
        Place::Unfit(open, why) => {
            // What was fit once is not any more. What still is by another path, whoever made this one, stays so.
            if let Some((open, number)) = open
                && !fit.contains(&number)
            {
                let forgotten = namer.forget(open.as_fd());
                forgotten.with_context(|| format!("{why}; telling the kernel"))?;
            }
            Err(Missing::Unfit(why))
        }
        Place::Absent => Err(Missing::Absent),
    })
}

/// Whoever is refused again and again has nothing looked for more often than this.
const PAUSE: Duration = Duration::from_secs(5);
/// Between two looks, whoever asks for them.
const BREATH: Duration = Duration::from_millis(100);
