//! Looking for the Unix sockets that a policy names, so that the kernel knows them when work reaches for them.
//!
//! Promises: what counts is the socket that lies at the path now, in a place where nobody but root and whoever owns
//! the socket could have put another: no link is followed, and no directory on the way is writable by others. A
//! service that starts again makes another socket, which is looked for as soon as the directory shows it. Nothing
//! waits for any of it, and until it is found nobody reaches it.

use std::{
    collections::{BTreeMap, BTreeSet},
    ffi::{OsStr, OsString},
    mem::MaybeUninit,
    os::{fd::OwnedFd, unix::ffi::OsStrExt as _},
    path::Path,
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
use rustix::{
    event::{EventfdFlags, PollFd, PollFlags, eventfd, poll},
    fs::{
        AtFlags, CWD, FileType, Mode, OFlags, Stat, fstat,
        inotify::{self, CreateFlags, ReadFlags, WatchFlags},
        openat, statat,
    },
    io::{Errno, retry_on_intr},
};

use crate::gate::Namer;

/// How many of the sockets that the policy names are known to the kernel.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Found {
    pub(crate) found: u32,
    /// There is nothing at the path.
    pub(crate) absent: u32,
    /// There is something else, a link on the way, or a directory that others may write.
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
    wanted: Mutex<Arc<[SocketPath]>>,
    found: Mutex<Found>,
    /// Wakes the thread.
    came: OwnedFd,
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
    /// refused one and the last time is a while ago.
    pub(crate) fn look(&mut self, digest: Digest, policy: &Policy) {
        let now = Instant::now();
        let again = self.missed && self.asked.is_none_or(|asked| now - asked >= PAUSE);
        if self.last != Some(digest) {
            self.last = Some(digest);
            *lock(&self.shared.wanted) = named(policy);
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

/// Each once, whoever may reach it.
fn named(policy: &Policy) -> Arc<[SocketPath]> {
    let workloads = policy.workloads().values();
    let all: BTreeSet<&SocketPath> = workloads.flat_map(|workload| &workload.sockets).collect();
    all.into_iter().cloned().collect()
}

fn keep_up(namer: &Namer, shared: &Shared) {
    let mut before = None;
    loop {
        let wanted = Arc::clone(&lock(&shared.wanted));
        // First, so that nothing comes between looking and waiting.
        let watch = Watch::over(&wanted);
        let found = pass(namer, &wanted);
        *lock(&shared.found) = found;
        if !wanted.is_empty() && before != Some(found) {
            let Found {
                found,
                absent,
                unfit,
            } = found;
            tracing::info!(found, absent, unfit, "sockets that policy names");
        }
        before = Some(found);
        if let Err(error) = wait(shared, watch.as_ref()) {
            tracing::warn!(%error, "waiting for sockets; they are not looked for again");
            return;
        }
    }
}

fn pass(namer: &Namer, wanted: &[SocketPath]) -> Found {
    let mut found = Found::default();
    for socket in wanted {
        let count = match find(Path::new(socket.as_str())) {
            Ok(Place::Fit(open)) => {
                match namer.name(std::os::fd::AsFd::as_fd(&open), socket.digest()) {
                    Ok(()) => &mut found.found,
                    Err(error) => {
                        tracing::warn!(%error, path = %socket, "naming a socket");
                        &mut found.unfit
                    }
                }
            }
            Ok(Place::Absent) => &mut found.absent,
            Ok(Place::Unfit) => &mut found.unfit,
            Err(error) => {
                tracing::warn!(%error, path = %socket, "looking for a socket");
                &mut found.unfit
            }
        };
        *count += 1;
    }
    found
}

enum Place {
    Fit(OwnedFd),
    Absent,
    Unfit,
}

/// What lies at the path, led there part by part.
fn find(path: &Path) -> rustix::io::Result<Place> {
    let mut way = Vec::new();
    let mut at = openat(CWD, "/", OFlags::PATH | OFlags::CLOEXEC, Mode::empty())?;
    let parts: Vec<&OsStr> = path.iter().skip(1).collect();
    let Some((last, above)) = parts.split_last() else {
        return Ok(Place::Unfit);
    };
    for part in above.iter().chain([last]) {
        way.push(fstat(&at)?);
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        at = match openat(&at, *part, flags, Mode::empty()) {
            Ok(next) => next,
            Err(Errno::NOENT) => return Ok(Place::Absent),
            Err(Errno::NOTDIR) => return Ok(Place::Unfit),
            Err(error) => return Err(error),
        };
    }
    Ok(if is_fit(&fstat(&at)?, &way) {
        Place::Fit(at)
    } else {
        Place::Unfit
    })
}

/// Whether it is a socket, and nobody but root and its owner could have put it there. The group's bits also say what
/// an access control list grants at most.
fn is_fit(socket: &Stat, way: &[Stat]) -> bool {
    let is_theirs = |directory: &Stat| {
        FileType::from_raw_mode(directory.st_mode) == FileType::Directory
            && [0, socket.st_uid].contains(&directory.st_uid)
            && directory.st_mode & OTHERS_WRITE == 0
    };
    FileType::from_raw_mode(socket.st_mode) == FileType::Socket && way.iter().all(is_theirs)
}

/// The directories in which something of a path may show up, and under which name.
struct Watch {
    inotify: OwnedFd,
    names: BTreeMap<i32, BTreeSet<OsString>>,
}

impl Watch {
    /// Nothing if there is nothing to watch, or watching is impossible: then only policies and refusals tell.
    fn over(wanted: &[SocketPath]) -> Option<Self> {
        if wanted.is_empty() {
            return None;
        }
        let flags = CreateFlags::CLOEXEC | CreateFlags::NONBLOCK;
        let inotify = match inotify::init(flags) {
            Ok(inotify) => inotify,
            Err(error) => {
                tracing::warn!(%error, "watching for sockets; one that is made anew is found when it is missed");
                return None;
            }
        };
        let mut names: BTreeMap<i32, BTreeSet<OsString>> = BTreeMap::new();
        for socket in wanted {
            let path = Path::new(socket.as_str());
            // Each directory that is there, so that one which comes, or goes and comes again, is noticed.
            for (above, below) in path.ancestors().skip(1).zip(path.ancestors()) {
                let is_there = statat(CWD, above, AtFlags::SYMLINK_NOFOLLOW).is_ok();
                let Some(name) = below.file_name().filter(|_| is_there) else {
                    continue;
                };
                match inotify::add_watch(&inotify, above, WATCHED) {
                    Ok(number) => {
                        names.entry(number).or_default().insert(name.to_owned());
                    }
                    Err(error) => tracing::debug!(%error, "watching a directory"),
                }
            }
        }
        Some(Self { inotify, names })
    }

    /// Whether something happened that may be about a wanted path.
    fn noticed(&self) -> rustix::io::Result<bool> {
        let mut room = [MaybeUninit::uninit(); 4096];
        let mut events = inotify::Reader::new(&self.inotify, &mut room);
        let mut noticed = false;
        loop {
            let event = match events.next() {
                Ok(event) => event,
                Err(Errno::WOULDBLOCK) => return Ok(noticed),
                Err(Errno::INTR) => continue,
                Err(error) => return Err(error),
            };
            // A watched directory itself moved or went, or events were left out.
            let of_itself = event.events().intersects(
                ReadFlags::QUEUE_OVERFLOW
                    | ReadFlags::IGNORED
                    | ReadFlags::MOVE_SELF
                    | ReadFlags::UNMOUNT,
            );
            let named = event.file_name().is_some_and(|name| {
                let names = self.names.get(&event.wd());
                names.is_some_and(|names| names.contains(OsStr::from_bytes(name.to_bytes())))
            });
            noticed |= of_itself || named;
        }
    }
}

/// Until the thread is woken, or something shows up that may be wanted.
fn wait(shared: &Shared, watch: Option<&Watch>) -> rustix::io::Result<()> {
    loop {
        let mut ready = vec![PollFd::new(&shared.came, PollFlags::IN)];
        ready.extend(watch.map(|watch| PollFd::new(&watch.inotify, PollFlags::IN)));
        retry_on_intr(|| poll(&mut ready, None))?;
        let mut count = [0; 8];
        match rustix::io::read(&shared.came, &mut count) {
            Ok(_) => return Ok(()),
            Err(Errno::WOULDBLOCK | Errno::INTR) => {}
            Err(error) => return Err(error),
        }
        if let Some(watch) = watch
            && watch.noticed()?
        {
            return Ok(());
        }
    }
}

/// What shows that another socket may be there, or that the way to it is another.
const WATCHED: WatchFlags = WatchFlags::CREATE
    .union(WatchFlags::DELETE)
    .union(WatchFlags::MOVED_FROM)
    .union(WatchFlags::MOVED_TO)
    .union(WatchFlags::ATTRIB)
    .union(WatchFlags::MOVE_SELF)
    .union(WatchFlags::ONLYDIR)
    .union(WatchFlags::DONT_FOLLOW);
const OTHERS_WRITE: u32 = 0o022;
/// Whoever is refused again and again has nothing looked for more often than this.
const PAUSE: Duration = Duration::from_secs(5);

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::PermissionsExt as _, os::unix::net::UnixListener};

    use super::*;

    /// As a directory or a socket with this owner and these rights.
    fn stat(kind: u32, uid: u32, mode: u32) -> Stat {
        // Whatever is not looked at is of this file.
        let mut stat = statat(CWD, "/", AtFlags::empty()).unwrap();
        stat.st_mode = kind | mode;
        stat.st_uid = uid;
        stat
    }

    #[test]
    fn it_counts_where_nobody_else_could_have_put_it() {
        let socket = |uid| stat(libc::S_IFSOCK, uid, 0o666);
        let dir = |uid, mode| stat(libc::S_IFDIR, uid, mode);
        let root = dir(0, 0o755);
        assert!(is_fit(&socket(0), &[root, dir(0, 0o700)]));
        assert!(is_fit(&socket(33), &[root, dir(33, 0o750)]));
        for way in [
            dir(33, 0o755),
            dir(0, 0o775),
            dir(0, 0o757),
            dir(0, 0o1777),
            stat(libc::S_IFLNK, 0, 0o755),
        ] {
            assert!(!is_fit(&socket(0), &[root, way]), "{way:?}");
            assert!(!is_fit(&socket(0), &[way, root]), "{way:?}");
        }
        for kind in [libc::S_IFREG, libc::S_IFIFO, libc::S_IFDIR, libc::S_IFLNK] {
            assert!(!is_fit(&stat(kind, 0, 0o666), &[root]), "{kind:o}");
        }
    }

    #[test]
    fn no_link_is_followed_and_what_is_not_there_is_absent() {
        let dir = tempfile::tempdir().unwrap();
        let real = dir.path().join("real");
        fs::create_dir(&real).unwrap();
        let _listener = UnixListener::bind(real.join("socket")).unwrap();
        std::os::unix::fs::symlink(&real, dir.path().join("link")).unwrap();
        std::os::unix::fs::symlink(real.join("socket"), real.join("other")).unwrap();
        let of = |path: &str| find(&dir.path().join(path)).unwrap();
        assert!(matches!(of("none/socket"), Place::Absent));
        assert!(matches!(of("real/none"), Place::Absent));
        for path in ["link/socket", "real/other", "real/socket/below", "real"] {
            assert!(matches!(of(path), Place::Unfit), "{path}");
        }
        // Where the tests run the way there may be anybody's.
        let stats = |path: &Path| statat(CWD, path, AtFlags::SYMLINK_NOFOLLOW).unwrap();
        let way: Vec<Stat> = dir.path().join("real").ancestors().map(stats).collect();
        let fit = is_fit(&stats(&real.join("socket")), &way);
        assert_eq!(matches!(of("real/socket"), Place::Fit(_)), fit);
    }

    #[test]
    fn what_comes_is_noticed_and_what_else_happens_is_not() {
        let dir = tempfile::tempdir().unwrap();
        let inside = dir.path().join("inside");
        let wanted = format!("{}/deeper/socket", inside.display());
        let policy = governor_core::policy::SocketPath::parse(&wanted).unwrap();
        let watch = Watch::over(std::slice::from_ref(&policy)).unwrap();
        assert!(!watch.noticed().unwrap());
        fs::write(dir.path().join("outside"), "").unwrap();
        assert!(!watch.noticed().unwrap(), "another name");
        fs::create_dir(&inside).unwrap();
        assert!(watch.noticed().unwrap(), "the first directory");
        let watch = Watch::over(std::slice::from_ref(&policy)).unwrap();
        fs::create_dir(inside.join("deeper")).unwrap();
        assert!(watch.noticed().unwrap(), "the next one");
        let watch = Watch::over(&[policy]).unwrap();
        let _listener = UnixListener::bind(&wanted).unwrap();
        assert!(watch.noticed().unwrap(), "the socket");
        fs::set_permissions(&wanted, fs::Permissions::from_mode(0o600)).unwrap();
        assert!(watch.noticed().unwrap(), "its rights");
        fs::rename(inside.join("deeper"), inside.join("gone")).unwrap();
        assert!(watch.noticed().unwrap(), "its directory went");
    }
}
