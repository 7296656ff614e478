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

use std::{
    collections::BTreeSet,
    fs::{self, File, Metadata, OpenOptions},
    io,
    os::{
        fd::AsRawFd as _,
        unix::fs::{MetadataExt as _, OpenOptionsExt as _},
    },
    path::{Path, PathBuf},
    sync::{Arc, Condvar, Mutex, PoisonError},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result};
use governor_common::{Event, Reason};
use governor_core::{digest::Digest, policy::Policy};
use tokio::sync::watch;

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

/// The end of a job.
#[derive(Clone, Copy, Debug)]
struct Over {
    at: Instant,
    took: Duration,
    failed: bool,
}

impl Over {
    /// Whether it is time to look at everything again, if anything asks for that: the longer it takes, the
    /// longer it is left alone.
    fn is_due(&self, missed: bool, now: Instant) -> bool {
        let pause = self.took.saturating_mul(PAUSES).max(SHORTEST_PAUSE);
        (missed || self.failed) && now.saturating_duration_since(self.at) >= pause
    }
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
        let (began, ended) = loop {
            let began = Instant::now();
            match pass(&mut asker, &job, next, tell) {
                Pass::Superseded(newer) => job = newer,
                Pass::Over(seeded) => break (began, Ok(seeded)),
                Pass::Failed(error) => break (began, Err(error)),
            }
        };
        // What fails again at each try is said once.
        if let Err(error) = &ended
            && !failing
        {
            tracing::warn!(%error, "having listed files measured; it is tried again");
        }
        failing = ended.is_err();
        finish(&job, began, ended.ok(), tell);
    }
}

/// How going over all files ended.
enum Pass {
    Over(Seeded),
    Failed(GateError),
    /// There is another job before the end.
    Superseded(Job),
}

/// Looks at each.
fn pass(asker: &mut Asker, job: &Job, next: &Next, tell: &Told) -> Pass {
    let mut seeded = nothing_of(&job.files);
    if job.files.is_empty() {
        return Pass::Over(seeded);
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
    Pass::Over(seeded)
}

/// How long it worked since it rested last: whoever runs work is to have the processor as well.
#[derive(Debug, Default)]
struct Pace(Duration);

impl Pace {
    fn worked(&mut self, long: Duration) {
        self.0 = self.0.saturating_add(long);
    }

    /// How long to rest now: not for every small file.
    fn rest(&mut self) -> Duration {
        if self.0 < SHORTEST_WORK {
            return Duration::ZERO;
        }
        std::mem::take(&mut self.0).saturating_mul(RESTS)
    }
}

/// Says how it ended; nothing was looked at if `found` is absent.
fn finish(job: &Job, began: Instant, found: Option<Seeded>, tell: &Told) {
    let took = began.elapsed();
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

enum Open {
    File(File),
    Unfit,
}

/// Opens it if it is fit. Looked at before it is opened: opening a device can do something, and what others
/// may write can be made as large as they like.
fn open(path: &Path) -> io::Result<Option<Open>> {
    let place = OpenOptions::new()
        .read(true)
        .custom_flags(libc::O_PATH)
        .open(path);
    let place = match place {
        Ok(place) => place,
        Err(error)
            if [io::ErrorKind::NotFound, io::ErrorKind::NotADirectory].contains(&error.kind()) =>
        {
            return Ok(None);
        }
        Err(error) => return Err(error),
    };
    if !is_fit(&place.metadata()?) {
        return Ok(Some(Open::Unfit));
    }
    let file = OpenOptions::new()
        .read(true)
        .custom_flags(libc::O_NONBLOCK | libc::O_NOATIME)
        .open(format!("/proc/self/fd/{}", place.as_raw_fd()))?;
    Ok(Some(Open::File(file)))
}

/// Whether a digest of it may be kept, as far as can be told without reading. What is on no device is a process's,
/// a server's or made up: reading it may do something, or never end.
fn is_fit(file: &Metadata) -> bool {
    let is_on_device = rustix::fs::major(file.dev()) != 0;
    file.is_file()
        && is_on_device
        && file.uid() == 0
        && file.mode() & OTHERS_WRITE == 0
        && file.len() <= LARGEST
}

/// A daemon that is told to end may wait for the file that is being read.
const LARGEST: u64 = 1 << 30;
/// Of the files that others than root may write no digest is kept.
const OTHERS_WRITE: u32 = 0o022;
/// It rests for this many times as long as it worked, and works for so long before it does.
const RESTS: u32 = 3;
const SHORTEST_WORK: Duration = Duration::from_millis(5);
/// Everything is left alone for this many times as long as it took.
const PAUSES: u32 = 10;
const SHORTEST_PAUSE: Duration = Duration::from_secs(5);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_has_it_done_again_all_the_time() {
        let at = Instant::now();
        let due = |took: u64, failed, missed, since: u64| {
            let took = Duration::from_secs(took);
            let over = Over { at, took, failed };
            over.is_due(missed, at + Duration::from_secs(since))
        };
        for (failed, missed) in [(true, false), (false, true), (true, true)] {
            assert!(!due(0, failed, missed, 4));
            assert!(due(0, failed, missed, 5));
            // It takes a part of the time at most, and comes back all the same.
            assert!(!due(3, failed, missed, 29));
            assert!(due(3, failed, missed, 30));
            assert!(!due(600, failed, missed, 5999));
            assert!(due(600, failed, missed, 6000));
        }
        assert!(!due(0, false, false, 3600), "nothing asks for it");
    }

    #[test]
    fn it_takes_a_quarter_of_a_processor_and_rests_not_for_nothing() {
        let mut pace = Pace::default();
        assert_eq!(pace.rest(), Duration::ZERO);
        pace.worked(Duration::from_millis(4));
        assert_eq!(pace.rest(), Duration::ZERO);
        pace.worked(Duration::from_millis(4));
        assert_eq!(
            pace.rest(),
            Duration::from_millis(24),
            "of all that it worked"
        );
        assert_eq!(pace.rest(), Duration::ZERO, "once");
    }

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

    #[test]
    fn what_is_not_there_is_absent_and_what_is_no_file_is_not_opened() {
        let dir = tempfile::tempdir().unwrap();
        assert!(open(&dir.path().join("none")).unwrap().is_none());
        let below_a_file = dir.path().join("file");
        std::fs::write(&below_a_file, "x").unwrap();
        assert!(open(&below_a_file.join("none")).unwrap().is_none());
        for path in [
            dir.path(),
            Path::new("/dev/null"),
            Path::new("/proc/cmdline"),
        ] {
            assert!(matches!(open(path).unwrap(), Some(Open::Unfit)));
        }
        let fifo = dir.path().join("fifo");
        nix::unistd::mkfifo(&fifo, nix::sys::stat::Mode::S_IRWXU).unwrap();
        assert!(matches!(open(&fifo).unwrap(), Some(Open::Unfit)));
    }
}
