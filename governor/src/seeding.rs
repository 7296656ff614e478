//! Having listed files measured before anything executes them, so that not even their first exec reads them.
//!
//! Promises: what becomes known was measured by the kernel, of the file that is there, under the very rules
//! by which an exec keeps a digest. The names that a policy lists digests under say where to look and decide
//! nothing: a file that holds something else becomes known as what it holds. One of which no digest would be
//! kept, or that would keep the kernel busy for long, is not read. Nothing waits for any of it.

use std::{
    collections::BTreeSet,
    fs::{File, Metadata, OpenOptions},
    io,
    os::{
        fd::AsRawFd as _,
        unix::fs::{MetadataExt as _, OpenOptionsExt as _},
    },
    path::{Path, PathBuf},
    sync::{Arc, Condvar, Mutex, PoisonError},
    thread,
    time::Instant,
};

use anyhow::{Context as _, Result};
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
    /// They are read when they are executed: no digest of them is kept, or they are large.
    pub(crate) passed_over: u64,
    /// Not looked at yet.
    pub(crate) left: u64,
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
    files: Vec<Listed>,
}

/// How far it is, and with which job.
type Told = watch::Sender<(u64, Seeded)>;

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

    fn take(&self) -> Option<Job> {
        let mut job = self.job.lock().unwrap_or_else(PoisonError::into_inner);
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
        })
    }

    /// Has everything looked at again if it is another policy, or digests that were kept do not count any
    /// more.
    pub(crate) fn look(&mut self, digest: Digest, policy: &Policy, era: u64) {
        if self.last.replace((digest, era)) == Some((digest, era)) {
            return;
        }
        let files = listed(policy);
        let (number, _) = *self.told.borrow();
        let number = number + 1;
        self.told.send_replace((number, nothing_of(&files)));
        self.next.put(Job { number, files });
    }

    pub(crate) fn seeded(&self) -> Seeded {
        self.told.borrow().1
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
fn listed(policy: &Policy) -> Vec<Listed> {
    let workloads = policy.workloads().values();
    let wanted: BTreeSet<Digest> = workloads.flat_map(|workload| workload.digests()).collect();
    let sets = policy.sets().values();
    let mut all: Vec<Listed> = sets
        .flatten()
        .filter(|(digest, name)| name.starts_with('/') && wanted.contains(digest))
        .map(|(digest, name)| Listed {
            path: name.into(),
            digest: *digest,
        })
        .collect();
    all.sort_by(|one, other| one.path.cmp(&other.path));
    all.dedup();
    all
}

fn keep_up(mut asker: Asker, next: &Next, tell: &Told) {
    // Whoever runs work comes first.
    if let Err(error) = rustix::process::setpriority_process(None, LAST) {
        tracing::warn!(%error, "having files measured with less priority");
    }
    loop {
        let mut job = next.wait();
        while let Some(newer) = pass(&mut asker, &job, next, tell) {
            job = newer;
        }
    }
}

/// Looks at each; the next job, if there is one before the end.
fn pass(asker: &mut Asker, job: &Job, next: &Next, tell: &Told) -> Option<Job> {
    let began = Instant::now();
    let mut seeded = nothing_of(&job.files);
    if job.files.is_empty() {
        return None;
    }
    let mut asking = match asker.begin() {
        Ok(asking) => asking,
        Err(error) => {
            tracing::warn!(%error, "having listed files measured");
            return None;
        }
    };
    for file in &job.files {
        if let Some(newer) = next.take() {
            return Some(newer);
        }
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
        seeded.left -= 1;
        tell.send_if_modified(|(number, so_far)| {
            let current = *number == job.number;
            if current {
                *so_far = seeded;
            }
            current
        });
    }
    tracing::info!(
        known = seeded.known,
        others = seeded.others,
        absent = seeded.absent,
        passed_over = seeded.passed_over,
        took_ms = began.elapsed().as_millis(),
        "listed files were measured ahead"
    );
    None
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
    let answer = asking.measure(&open, How::Once)?;
    Ok(match answer {
        Answer { known: false, .. } => Found::PassedOver,
        _ if answer.sha256() == Some(file.digest) => Found::Known,
        _ => Found::Other,
    })
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
/// The weakest priority there is.
const LAST: i32 = 19;

#[cfg(test)]
mod tests {
    use super::*;

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
