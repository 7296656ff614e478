//! What the service manager is told of how far the daemon is.
//!
//! Promises: it is told that the daemon is alive by whoever does the work, when a part of it is done, and by no
//! timer: one that hangs says nothing. A step that takes long says so about once a second while it gets on.

use std::{
    cell::Cell,
    sync::atomic::{AtomicBool, Ordering},
    time::{Duration, Instant},
};

use sd_notify::NotifyState;

/// A part of the work is done. Also extends how long a start may take.
pub(crate) fn made() {
    thread_local! {
        static LAST: Cell<Option<Instant>> = const { Cell::new(None) };
    }
    let now = Instant::now();
    if LAST
        .get()
        .is_some_and(|last| now.duration_since(last) < EVERY)
    {
        return;
    }
    LAST.set(Some(now));
    tell(&[NotifyState::Watchdog]);
    takes(PATIENCE);
}

/// A part of a start may take this long, and nothing is heard of it meanwhile. A daemon that runs has no such
/// time: it would put off the watchdog as well.
pub(crate) fn takes(long: Duration) {
    if IS_READY.load(Ordering::Relaxed) {
        return;
    }
    let long = u32::try_from(long.as_micros()).unwrap_or(u32::MAX);
    tell(&[NotifyState::ExtendTimeoutUsec(long)]);
}

pub(crate) fn ready() {
    IS_READY.store(true, Ordering::Relaxed);
    tell(&[NotifyState::Ready]);
}

pub(crate) fn stopping() {
    tell(&[NotifyState::Stopping]);
}

fn tell(states: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(states) {
        tracing::warn!(%error, "telling the service manager");
    }
}

static IS_READY: AtomicBool = AtomicBool::new(false);
/// How often, at most.
const EVERY: Duration = Duration::from_secs(1);
/// How long a start may take from there to the next part: as long as a daemon may say nothing that runs.
const PATIENCE: Duration = Duration::from_secs(30);
