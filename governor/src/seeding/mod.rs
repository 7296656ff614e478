//! Having listed files measured before anything executes them, so that not even their first exec reads them.
//!
//! Promises: what becomes known was measured by the kernel, of the file that is there, under the very rules
//! by which an exec keeps a digest. The names that a policy lists digests under say where to look and decide
//! nothing: a file that holds something else becomes known as what it holds. One of which no digest would be
//! kept, or that would keep the kernel busy for long, is not read. Nothing waits for any of it.
//!
//! What was known is forgotten with the file's inode, and nothing is known of a file that took its place. Where that
//! had an open refused all of it is gone over again, and so it is where it could not be begun: not at once, so that
//! nobody who is refused all the time keeps it busy.

mod fit;
mod pace;

use std::{
    collections::BTreeSet,
    fs, io,
    os::fd::AsRawFd as _,
    path::PathBuf,
    sync::{Arc, Condvar, Mutex, PoisonError},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result};
use governor_common::{Event, Reason};
use governor_core::{digest::Digest, policy::Policy};
use tokio::sync::watch;

use self::{
    fit::{Open, open},
    pace::{Over, Pace},
};
use crate::{
    gate::{Answer, Asker, Asking, GateError, How},
    text,
};

/// How far it is with the files that a policy lists by path.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Seeded {
    /// The kernel knows their digests, and they are the listed ones.
    pub(crate) known: u64,
    /// They hold something else.
    pub(crate) others: u64,
    /// There is no such file.
    pub(crate) absent: u64,
    /// They are read whenever they are executed: no digest of them is kept, or they are large.
    pub(crate) passed_over: u64,
    /// Not looked at yet.
    pub(crate) left: u64,
}

/// How far it is, and with which job.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Progress {
    number: u64,
    pub(crate) seeded: Seeded,
    /// How often everything was looked at.
    pub(crate) passes: u64,
    /// How the job ended; absent while it goes on.
    over: Option<Over>,
}

/// A file as a policy lists it.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Listed {
    path: PathBuf,
    digest: Digest,
}

/// What is to be looked at.
#[derive(Debug)]
struct Job {
    number: u64,
    files: Arc<[Listed]>,
    /// The same files as before: what was said of them holds until something else is found.
    again: bool,
}

type Told = watch::Sender<Progress>;

/// The latest job that nobody began. However long one takes, there is never more than one after it.
#[derive(Debug, Default)]
struct Next {
    job: Mutex<Option<Job>>,
    came: Condvar,
}

impl Next {
    fn put(&self, job: Job) {
        *self.job.lock().unwrap_or_else(PoisonError::into_inner) = Some(job);
        self.came.notify_one();
    }

    /// The one that comes within this time.
    fn within(&self, patience: Duration) -> Option<Job> {
        let job = self.job.lock().unwrap_or_else(PoisonError::into_inner);
        let waited = self
            .came
            .wait_timeout_while(job, patience, |job| job.is_none());
        let (mut job, _) = waited.unwrap_or_else(PoisonError::into_inner);
        job.take()
    }

    fn wait(&self) -> Job {
        let mut job = self.job.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            match job.take() {
                Some(job) => return job,
                None => job = self.came.wait(job).unwrap_or_else(PoisonError::into_inner),
            }
        }
    }
}

/// The thread that asks the kernel, and what it was given last.
#[derive(Debug)]
pub(crate) struct Seeder {
    next: Arc<Next>,
    told: Arc<Told>,
    last: Option<(Digest, u64)>,
    /// What the policy that was given last lists.
    files: Arc<[Listed]>,
    /// Somebody was refused a file for not being known, since everything was looked at last.
    missed: bool,
}

impl Seeder {
    pub(crate) fn start(asker: Asker) -> Result<Self> {
        let next: Arc<Next> = Arc::default();
        let told: Arc<Told> = Arc::new(watch::Sender::default());
        let (jobs, tell) = (Arc::clone(&next), Arc::clone(&told));
        thread::Builder::new()
            .name("seeding".into())
            .spawn(move || keep_up(asker, &jobs, &tell))
            .context("starting the thread that has files measured")?;
        Ok(Self {
            next,
            told,
            last: None,
            files: Arc::default(),
            missed: false,
        })
    }

    /// Has everything looked at again if it is another policy, or digests that were kept do not count any
    /// more; or if it is time to, because somebody missed something or the last try came to nothing.
    pub(crate) fn look(&mut self, digest: Digest, policy: &Policy, era: u64) {
        let last = self.last.replace((digest, era));
        let again = last == Some((digest, era));
        let before = self.progress();
        let due = |over: Over| over.is_due(self.missed, Instant::now());
        if again && !before.over.is_some_and(due) {
            return;
        }
        self.missed = false;
        // There may be a million, and this is asked for by whoever is refused.
        if last.map(|(digest, _)| digest) != Some(digest) {
            self.files = listed(policy);
        }
        let files = Arc::clone(&self.files);
        let number = before.number + 1;
        self.told.send_replace(Progress {
            number,
            seeded: if again {
                before.seeded
            } else {
                nothing_of(&files)
            },
            passes: before.passes,
            over: None,
        });
        self.next.put(Job {
            number,
            files,
            again,
        });
    }

    /// Looks whether anybody was refused, or would have been, what is not known. Anybody may have been whose event
    /// was lost.
    pub(crate) fn hear(&mut self, events: &[Event], lost: u64) {
        let not_known = |event: &Event| event.reason == Reason::NotKnown as u32;
        self.missed |= lost > 0 || events.iter().any(not_known);
    }

    pub(crate) fn progress(&self) -> Progress {
        *self.told.borrow()
    }
}

fn nothing_of(files: &[Listed]) -> Seeded {
    Seeded {
        left: files.len() as u64,
        ..Seeded::default()
    }
}

/// What workloads may use in whatever role, and is listed under a whole path. What only the rest of a host needs
/// is not among it: that is most of the host.
fn listed(policy: &Policy) -> Arc<[Listed]> {
    let workloads = policy.workloads().values();
    let wanted: BTreeSet<Digest> = workloads.flat_map(|workload| workload.digests()).collect();
    let mut all: Vec<Listed> = policy
        .listed_by_path()
        .filter(|(_, digest)| wanted.contains(digest))
        .map(|(path, digest)| Listed {
            path: path.into(),
            digest,
        })
        .collect();
    // Empty ones first: they take no time, and are not opened before.
    all.sort_by(|one, other| {
        let first = is_of_nothing(other).cmp(&is_of_nothing(one));
        first.then_with(|| one.path.cmp(&other.path))
    });
    all.dedup();
    all.into()
}

/// Not with less priority than the rest of the daemon has: threads share the lock of their memory, and who has to
/// wait for a processor while he holds it keeps everybody waiting. It takes a part of one, and rests.
fn keep_up(mut asker: Asker, next: &Next, tell: &Told) {
    let mut failing = false;
    loop {
        let mut job = next.wait();
        let ended = loop {
            match pass(&mut asker, &job, next, tell) {
                Pass::Superseded(newer) => job = newer,
                Pass::Over(seeded, worked) => break Ok((seeded, worked)),
                Pass::Failed(error) => break Err(error),
            }
        };
        // What fails again at each try is said once.
        if let Err(error) = &ended
            && !failing
        {
            tracing::warn!(%error, "having listed files measured; it is tried again");
        }
        failing = ended.is_err();
        finish(&job, ended.ok(), tell);
    }
}

/// How going over all files ended.
enum Pass {
    /// And how long was worked for it.
    Over(Seeded, Duration),
    Failed(GateError),
    /// There is another job before the end.
    Superseded(Job),
}

/// Looks at each.
fn pass(asker: &mut Asker, job: &Job, next: &Next, tell: &Told) -> Pass {
    let mut seeded = nothing_of(&job.files);
    if job.files.is_empty() {
        return Pass::Over(seeded, Duration::ZERO);
    }
    let mut asking = match asker.begin() {
        Ok(asking) => asking,
        Err(error) => return Pass::Failed(error),
    };
    let mut pace = Pace::default();
    for file in &*job.files {
        if let Some(newer) = next.within(pace.rest()) {
            return Pass::Superseded(newer);
        }
        let began = Instant::now();
        match look_at(&mut asking, file) {
            Ok(Found::Known) => seeded.known += 1,
            Ok(Found::Other) => seeded.others += 1,
            Ok(Found::Absent) => seeded.absent += 1,
            Ok(Found::PassedOver) => seeded.passed_over += 1,
            Err(error) => {
                let path = file.path.to_string_lossy();
                tracing::debug!(%error, path = %text::strip(&path), "measuring a listed file");
                seeded.passed_over += 1;
            }
        }
        pace.worked(began.elapsed());
        seeded.left -= 1;
        if !job.again {
            say(job, tell, |progress| progress.seeded = seeded);
        }
    }
    Pass::Over(seeded, pace.all())
}

/// Says how it ended; nothing was looked at if `found` is absent.
fn finish(job: &Job, found: Option<(Seeded, Duration)>, tell: &Told) {
    let (found, took) = found.map_or((None, Duration::ZERO), |(seeded, worked)| {
        (Some(seeded), worked)
    });
    let before = tell.borrow().seeded;
    say(job, tell, |progress| {
        if let Some(seeded) = found {
            progress.seeded = seeded;
            progress.passes += 1;
        }
        progress.over = Some(Over {
            at: Instant::now(),
            took,
            failed: found.is_none(),
        });
    });
    // Nobody is told all the time of what is as it was.
    if let Some(seeded) =
        found.filter(|seeded| !job.files.is_empty() && (!job.again || *seeded != before))
    {
        tracing::info!(
            known = seeded.known,
            others = seeded.others,
            absent = seeded.absent,
            passed_over = seeded.passed_over,
            took_ms = took.as_millis(),
            "listed files were measured ahead"
        );
    }
}

/// Unless another job came meanwhile: then this one is of no more interest.
fn say(job: &Job, tell: &Told, change: impl FnOnce(&mut Progress)) {
    tell.send_if_modified(|progress| {
        let current = progress.number == job.number;
        if current {
            change(progress);
        }
        current
    });
}

enum Found {
    Known,
    Other,
    Absent,
    PassedOver,
}

fn look_at(asking: &mut Asking<'_>, file: &Listed) -> Result<Found, GateError> {
    let failed = |error: io::Error| GateError::Read {
        path: file.path.clone(),
        error,
    };
    let Some(open) = open(&file.path).map_err(failed)? else {
        return Ok(Found::Absent);
    };
    let Open::File(open) = open else {
        return Ok(Found::PassedOver);
    };
    let answer = if is_of_nothing(file) {
        // All empty files are alike, so a link would have another one count as the one that is listed.
        let place = format!("/proc/self/fd/{}", open.as_raw_fd());
        if fs::read_link(place).map_err(failed)? != file.path {
            return Ok(Found::Other);
        }
        asking.measure(&open, How::Empty)?
    } else {
        asking.measure(&open, How::Once)?
    };
    Ok(match answer {
        Answer { known: false, .. } => Found::PassedOver,
        _ if answer.sha256() == Some(file.digest) => Found::Known,
        _ => Found::Other,
    })
}

fn is_of_nothing(file: &Listed) -> bool {
    file.digest == Digest::OF_NOTHING
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_job_that_comes_while_it_rests_is_begun_at_once() {
        let next: Arc<Next> = Arc::default();
        assert!(next.within(Duration::ZERO).is_none());
        let put = Arc::clone(&next);
        let other = thread::spawn(move || {
            let files = Arc::default();
            put.put(Job {
                number: 7,
                files,
                again: false,
            });
        });
        let job = next.within(Duration::from_secs(600)).unwrap();
        assert_eq!(job.number, 7);
        other.join().unwrap();
    }
}
