//! Looking for the Unix sockets that a policy names, so that the kernel knows them when work reaches for them.
//!
//! Promises: what becomes known lies at the path when it is looked at, in a [place] where no workload and nobody
//! else could have put another. What takes its place is looked for as soon as the directory shows it. Whoever has a
//! hand in any of it costs a few looks a second at most. Nothing waits for any of it, and until a socket is found
//! nobody reaches it.

mod place;
mod watch;

use std::{
    collections::BTreeSet,
    os::fd::{AsFd as _, OwnedFd},
    sync::{Arc, Mutex, PoisonError},
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
    found: Mutex<Found>,
    /// Wakes the thread.
    came: OwnedFd,
}

/// What is looked for.
#[derive(Debug, Default)]
struct Wanted {
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
    /// refused one and the last time is a while ago. `users` are whom its workloads run as.
    pub(crate) fn look(
        &mut self,
        digest: Digest,
        policy: &Policy,
        users: impl FnOnce() -> Option<BTreeSet<u32>>,
    ) {
        let now = Instant::now();
        let again = self.missed && self.asked.is_none_or(|asked| now - asked >= PAUSE);
        if self.last != Some(digest) {
            self.last = Some(digest);
            let workloads = policy.workloads().values();
            let sockets: BTreeSet<&SocketPath> =
                workloads.flat_map(|workload| &workload.sockets).collect();
            *lock(&self.shared.wanted) = Arc::new(Wanted {
                sockets: sockets.into_iter().cloned().collect(),
                users: users(),
            });
        } else if !again {
            return;
        }
        self.missed = false;
        self.asked = Some(now);
        let raised = rustix::io::write(&self.shared.came, &1u64.to_ne_bytes());
        if let Err(error) = raised {
            tracing::warn!(%error, "waking the thread that looks for sockets");
        }
    }

    /// Looks whether anybody was refused, or would have been. Anybody may have been whose event was lost.
    pub(crate) fn hear(&mut self, events: &[Event], lost: u64) {
        let refused = |event: &Event| event.reason == Reason::UnlistedPeer as u32;
        self.missed |= lost > 0 || events.iter().any(refused);
    }

    pub(crate) fn found(&self) -> Found {
        *lock(&self.shared.found)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn keep_up(namer: &Namer, shared: &Shared) {
    let mut watch = Watch::default();
    let mut said: Option<(Found, Instant)> = None;
    loop {
        let wanted = Arc::clone(&lock(&shared.wanted));
        let found = pass(namer, &wanted, &mut watch);
        *lock(&shared.found) = found;
        let is_news = said.is_none_or(|(before, at)| before != found && at.elapsed() >= PAUSE);
        if !wanted.sockets.is_empty() && is_news {
            let Found {
                found,
                absent,
                unfit,
            } = found;
            tracing::info!(found, absent, unfit, "sockets that policy names");
        }
        if is_news {
            said = Some((found, Instant::now()));
        }
        // Whoever makes and removes one all the time has it looked for only so often.
        thread::sleep(BREATH);
        if let Err(error) = watch.wait(&shared.came) {
            tracing::debug!(%error, "waiting for sockets");
            thread::sleep(PAUSE);
        }
    }
}

fn pass(namer: &Namer, wanted: &Wanted, watch: &mut Watch) -> Found {
    let mut found = Found::default();
    let mut named = BTreeSet::new();
    watch.begin();
    for socket in &wanted.sockets {
        let count = match find(socket, wanted.users.as_ref(), watch) {
            Ok(Place::Fit(_, number)) if !named.insert(number) => {
                // One name for each: the kernel keeps one.
                &mut found.unfit
            }
            Ok(Place::Fit(open, _)) => match namer.name(open.as_fd(), socket.digest()) {
                Ok(()) => &mut found.found,
                Err(error) => {
                    tracing::debug!(%error, path = %socket, "naming a socket");
                    &mut found.unfit
                }
            },
            Ok(Place::Unfit(open)) => {
                // What was fit once is not any more.
                if let Some(open) = open
                    && let Err(error) = namer.forget(open.as_fd())
                {
                    tracing::debug!(%error, path = %socket, "taking a name off");
                }
                &mut found.unfit
            }
            Ok(Place::Absent) => &mut found.absent,
            Err(error) => {
                tracing::debug!(%error, path = %socket, "looking for a socket");
                &mut found.unfit
            }
        };
        *count += 1;
    }
    found
}

/// Whoever is refused again and again has nothing looked for more often than this, and nothing said.
const PAUSE: Duration = Duration::from_secs(5);
/// Between two looks, whoever asks for them.
const BREATH: Duration = Duration::from_millis(100);
