//! What shows that another socket may be at a path: something of a wanted name that comes, goes or changes in one
//! of the directories on the way, and any mount.
//!
//! Promises: a directory is watched before it is looked into, so nothing comes between. Where nothing can be watched
//! it is not noticed, and found when somebody was refused it.

use std::{
    collections::{BTreeMap, BTreeSet},
    ffi::{OsStr, OsString},
    fs::File,
    mem::MaybeUninit,
    os::{
        fd::{AsRawFd as _, OwnedFd},
        unix::ffi::OsStrExt as _,
    },
    thread,
    time::{Duration, Instant},
};

use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    fs::inotify::{self, CreateFlags, ReadFlags, WatchFlags},
    io::{Errno, retry_on_intr},
};

use super::BREATH;

/// Directories, and the names that are wanted in each.
#[derive(Debug, Default)]
pub(super) struct Watch {
    inotify: Option<OwnedFd>,
    names: BTreeMap<i32, BTreeSet<OsString>>,
    /// The daemon's own view of what is mounted.
    mounts: Option<File>,
}

impl Watch {
    /// Before everything is looked for: with what is watched already, unless that is far more than there can be.
    pub(super) fn begin(&mut self) {
        if self.inotify.is_none() || self.names.len() > MOST {
            self.names.clear();
            let flags = CreateFlags::CLOEXEC | CreateFlags::NONBLOCK;
            self.inotify = told(inotify::init(flags), "watching for sockets");
        }
        if self.mounts.is_none() {
            let opened = File::open("/proc/self/mountinfo");
            self.mounts = told(opened, "watching mounts");
        }
    }

    /// What is called so in this directory, from now on.
    pub(super) fn add(&mut self, directory: &OwnedFd, name: &OsStr) {
        let Some(inotify) = &self.inotify else { return };
        // This very one, whatever is at its path.
        let place = format!("/proc/self/fd/{}", directory.as_raw_fd());
        match inotify::add_watch(inotify, place, WATCHED) {
            Ok(number) => {
                self.names
                    .entry(number)
                    .or_default()
                    .insert(name.to_owned());
            }
            Err(error) => tracing::debug!(%error, "watching a directory"),
        }
    }

    /// Until `came` is raised, something shows up that may be wanted, or it is time.
    pub(super) fn wait(
        &mut self,
        came: &OwnedFd,
        until: Option<Instant>,
    ) -> rustix::io::Result<()> {
        loop {
            let left = until.map(|until| until.saturating_duration_since(Instant::now()));
            if left == Some(Duration::ZERO) {
                return Ok(());
            }
            let left = left.map(|left| Timespec {
                tv_sec: i64::try_from(left.as_secs()).unwrap_or(i64::MAX),
                tv_nsec: left.subsec_nanos().into(),
            });
            let mut ready = vec![PollFd::new(came, PollFlags::IN)];
            let inotify = self.inotify.as_ref();
            ready.extend(inotify.map(|inotify| PollFd::new(inotify, PollFlags::IN)));
            let mounts = self.mounts.as_ref();
            ready.extend(mounts.map(|mounts| PollFd::new(mounts, PollFlags::PRI)));
            retry_on_intr(|| poll(&mut ready, left.as_ref()))?;
            let mounted = mounts.is_some()
                && ready
                    .last()
                    .is_some_and(|last| last.revents().contains(PollFlags::PRI));
            let mut count = [0; 8];
            let raised = match rustix::io::read(came, &mut count) {
                Ok(_) => true,
                Err(Errno::WOULDBLOCK | Errno::INTR) => false,
                Err(error) => return Err(error),
            };
            if self.noticed()? || raised || mounted {
                return Ok(());
            }
            // Whoever does other things there all the time is looked at now and then.
            thread::sleep(BREATH);
        }
    }

    /// Whether something happened that may be about a wanted path.
    fn noticed(&mut self) -> rustix::io::Result<bool> {
        let Some(inotify) = &self.inotify else {
            return Ok(false);
        };
        let mut room = [MaybeUninit::uninit(); 4096];
        let mut events = inotify::Reader::new(inotify, &mut room);
        let mut noticed = false;
        loop {
            let event = match events.next() {
                Ok(event) => event,
                Err(Errno::WOULDBLOCK) => return Ok(noticed),
                Err(Errno::INTR) => continue,
                Err(error) => return Err(error),
            };
            if event.events().contains(ReadFlags::IGNORED) {
                // It is gone, and the number may come to mean another.
                self.names.remove(&event.wd());
                noticed = true;
                continue;
            }
            // The directory itself moved or went, or events were left out.
            let of_itself = event
                .events()
                .intersects(ReadFlags::QUEUE_OVERFLOW | ReadFlags::MOVE_SELF | ReadFlags::UNMOUNT);
            let named = event.file_name().is_some_and(|name| {
                let names = self.names.get(&event.wd());
                names.is_some_and(|names| names.contains(OsStr::from_bytes(name.to_bytes())))
            });
            noticed |= of_itself || named;
        }
    }
}

fn told<T, E: std::fmt::Display>(made: Result<T, E>, doing: &str) -> Option<T> {
    made.inspect_err(|error| tracing::warn!(%error, "{doing}; what is missed is found when somebody is refused it"))
        .ok()
}

/// What shows that another socket may be there, or that the way to it is another.
const WATCHED: WatchFlags = WatchFlags::CREATE
    .union(WatchFlags::DELETE)
    .union(WatchFlags::MOVED_FROM)
    .union(WatchFlags::MOVED_TO)
    .union(WatchFlags::ATTRIB)
    .union(WatchFlags::MOVE_SELF)
    .union(WatchFlags::ONLYDIR);
/// Directories that were watched once. Whoever makes them anew all the time has the rest forgotten.
const MOST: usize = 8192;

#[cfg(test)]
mod tests {
    use std::{
        fs,
        os::unix::{fs::PermissionsExt as _, net::UnixListener},
    };

    use governor_core::policy::SocketPath;

    use super::{super::place::find, *};

    #[test]
    fn what_comes_is_noticed_and_what_else_happens_is_not() {
        let dir = tempfile::tempdir().unwrap();
        let inside = dir.path().join("inside");
        let wanted = format!("{}/deeper/socket", inside.display());
        let socket = SocketPath::parse(&wanted).unwrap();
        let mut watch = Watch::default();
        let mut after = |what: &dyn Fn()| {
            watch.begin();
            find(&socket, None, &mut watch).unwrap();
            watch.noticed().unwrap();
            what();
            watch.noticed().unwrap()
        };
        assert!(!after(&|| {}), "nothing");
        let other = || fs::write(dir.path().join("other"), "").unwrap();
        assert!(!after(&other), "another name");
        assert!(after(&|| fs::create_dir(&inside).unwrap()), "a directory");
        let deeper = inside.join("deeper");
        assert!(after(&|| fs::create_dir(&deeper).unwrap()), "the next one");
        let bind = || drop(UnixListener::bind(&wanted).unwrap());
        assert!(after(&bind), "the socket");
        let mode = fs::Permissions::from_mode(0o600);
        let rights = || fs::set_permissions(&wanted, mode.clone()).unwrap();
        assert!(after(&rights), "its rights");
        assert!(after(&|| fs::remove_file(&wanted).unwrap()), "it went");
        assert!(after(&bind), "another took its place");
        let moved = inside.join("moved");
        let goes = || fs::rename(&deeper, &moved).unwrap();
        assert!(after(&goes), "its directory went");
        assert!(!after(&|| fs::write(moved.join("more"), "").unwrap()));
    }
}
