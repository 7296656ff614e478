//! What the service manager is told of how far the daemon is.
//!
//! Promises: it is told that the daemon is alive by whoever does the work, when a part of it is done, and by no
//! timer: one that hangs says nothing. A step that takes long says so about once a second while it gets on.
//! A daemon that runs does not wait until it is heard: what cannot be sent is left out, like any that come too
//! soon after one another.

use std::{
    cell::Cell,
    sync::{
        OnceLock,
        atomic::{AtomicBool, Ordering},
        mpsc::{SyncSender, sync_channel},
    },
    thread,
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
    tell(Word::Alive);
    takes(PATIENCE);
}

/// A part of a start may take this long, and nothing is heard of it meanwhile. A daemon that runs has no such
/// time: it would put off the watchdog as well.
pub(crate) fn takes(long: Duration) {
    if IS_READY.load(Ordering::Relaxed) {
        return;
    }
    let long = u32::try_from(long.as_micros()).unwrap_or(u32::MAX);
    tell(Word::Takes(long));
}

/// From here on a thread tells it, and nobody waits for that. Not before the daemon is known for what it is:
/// threads that were there already would not be.
pub(crate) fn beside() -> std::io::Result<()> {
    let teller = teller(send)?;
    // Whoever was first is one as well.
    drop(TELLER.set(teller));
    Ok(())
}

pub(crate) fn ready() {
    IS_READY.store(true, Ordering::Relaxed);
    match TELLER.get() {
        // Not one to be left out. Little waits before it.
        Some(teller) => drop(teller.send(Word::Ready)),
        None => send(Word::Ready),
    }
}

pub(crate) fn stopping() {
    tell(Word::Stopping);
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Word {
    Alive,
    /// Microseconds.
    Takes(u32),
    Ready,
    Stopping,
}

fn tell(word: Word) {
    match TELLER.get() {
        // It has not read for a while what was sent: this would tell it nothing either.
        Some(teller) => drop(teller.try_send(word)),
        None => send(word),
    }
}

fn teller(mut send: impl FnMut(Word) + Send + 'static) -> std::io::Result<SyncSender<Word>> {
    let (teller, words) = sync_channel(WAITING);
    thread::Builder::new()
        .name("notify".into())
        .spawn(move || words.into_iter().for_each(&mut send))?;
    Ok(teller)
}

fn send(word: Word) {
    let state = match word {
        Word::Alive => NotifyState::Watchdog,
        Word::Takes(long) => NotifyState::ExtendTimeoutUsec(long),
        Word::Ready => NotifyState::Ready,
        Word::Stopping => NotifyState::Stopping,
    };
    if let Err(error) = sd_notify::notify(&[state]) {
        tracing::warn!(%error, "telling the service manager");
    }
}

static IS_READY: AtomicBool = AtomicBool::new(false);
static TELLER: OnceLock<SyncSender<Word>> = OnceLock::new();
/// What may wait to be sent.
const WAITING: usize = 4;
/// How often, at most.
const EVERY: Duration = Duration::from_secs(1);
/// How long a start may take from there to the next part: as long as a daemon may say nothing that runs.
const PATIENCE: Duration = Duration::from_secs(30);

#[cfg(test)]
mod tests {
    use std::sync::mpsc::channel;

    use super::*;

    #[test]
    fn who_tells_waits_for_nobody_and_what_is_told_is_told_in_order() {
        let (heard, hears) = channel();
        let (lets, waits) = channel::<()>();
        let teller = teller(move |word| {
            heard.send(word).unwrap();
            let _none_comes = waits.recv();
        })
        .unwrap();
        teller.send(Word::Alive).unwrap();
        assert_eq!(hears.recv().unwrap(), Word::Alive);
        // It is not heard any more.
        let mut taken = 0;
        while teller.try_send(Word::Alive).is_ok() {
            taken += 1;
        }
        assert_eq!(taken, WAITING);
        drop(lets);
        teller.send(Word::Stopping).unwrap();
        drop(teller);
        let rest: Vec<Word> = hears.iter().collect();
        assert_eq!(rest.len(), WAITING + 1);
        assert_eq!(rest.last(), Some(&Word::Stopping));
    }
}
