//! Where a socket lies, and whether it could be another's.
//!
//! Promises: the way is led part by part and no link is followed. Each directory on it belongs to root, or to the
//! owner of the socket if no work runs as that user, and nobody else may write there: work could otherwise put, or
//! link, another socket there, and have that named.

use std::{collections::BTreeSet, ffi::OsStr, os::fd::OwnedFd, path::Path};

use governor_core::policy::SocketPath;
use rustix::{
    fs::{CWD, FileType, Mode, OFlags, Stat, fstat, openat},
    io::Errno,
};

use super::watch::Watch;

/// What lies at a path.
#[derive(Debug)]
pub(super) enum Place {
    /// A socket that counts, and the number of its inode.
    Fit(OwnedFd, (u64, u64)),
    Absent,
    /// A socket that does not, or no socket.
    Unfit(Option<OwnedFd>),
}

/// Looks, and has each directory on the way watched before it is looked into.
pub(super) fn find(
    socket: &SocketPath,
    users: Option<&BTreeSet<u32>>,
    watch: &mut Watch,
) -> rustix::io::Result<Place> {
    let path = Path::new(socket.as_str());
    let parts: Vec<&OsStr> = path.iter().skip(1).collect();
    let mut way = Vec::new();
    let mut at = openat(CWD, "/", OFlags::PATH | OFlags::CLOEXEC, Mode::empty())?;
    for part in parts {
        let directory = fstat(&at)?;
        if FileType::from_raw_mode(directory.st_mode) != FileType::Directory {
            return Ok(Place::Unfit(None));
        }
        watch.add(&at, part);
        way.push(directory);
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        at = match openat(&at, part, flags, Mode::empty()) {
            Ok(next) => next,
            Err(Errno::NOENT) => return Ok(Place::Absent),
            Err(error) => return Err(error),
        };
    }
    let socket = fstat(&at)?;
    if FileType::from_raw_mode(socket.st_mode) != FileType::Socket {
        return Ok(Place::Unfit(None));
    }
    Ok(if is_fit(socket.st_uid, &way, users) {
        Place::Fit(at, (socket.st_dev, socket.st_ino))
    } else {
        Place::Unfit(Some(at))
    })
}

/// Whether no work and nobody but root and the socket's owner could have put it there. The group's bits also say
/// what an access control list grants at most.
fn is_fit(owner: u32, way: &[Stat], users: Option<&BTreeSet<u32>>) -> bool {
    let is_works = users.is_none_or(|users| users.contains(&owner));
    way.iter().all(|directory| {
        let is_theirs = directory.st_uid == owner && !is_works;
        (directory.st_uid == 0 || is_theirs) && directory.st_mode & OTHERS_WRITE == 0
    })
}

const OTHERS_WRITE: u32 = 0o022;

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::net::UnixListener};

    use super::*;

    /// As a directory with this owner and these rights.
    fn dir(uid: u32, mode: u32) -> Stat {
        // Whatever is not looked at is of this one.
        let mut stat = rustix::fs::stat("/").unwrap();
        stat.st_mode = libc::S_IFDIR | mode;
        stat.st_uid = uid;
        stat
    }

    #[test]
    fn it_counts_where_nobody_else_could_have_put_it() {
        let none = BTreeSet::new();
        let nobody = Some(&none);
        let root = dir(0, 0o755);
        assert!(is_fit(0, &[root, dir(0, 0o700)], nobody));
        assert!(is_fit(33, &[root, dir(33, 0o750)], nobody));
        for way in [dir(33, 0o755), dir(0, 0o775), dir(0, 0o757), dir(0, 0o1777)] {
            assert!(!is_fit(0, &[root, way], nobody), "{way:?}");
            assert!(!is_fit(0, &[way, root], nobody), "{way:?}");
        }
    }

    /// It could link any socket of its user's there.
    #[test]
    fn work_has_no_directory_on_the_way() {
        let (root, theirs) = (dir(0, 0o755), dir(33, 0o755));
        let users = BTreeSet::from([33]);
        assert!(!is_fit(33, &[root, theirs], Some(&users)));
        assert!(!is_fit(34, &[root, dir(34, 0o755)], None), "anybody's");
        assert!(
            is_fit(33, &[root, root], Some(&users)),
            "its own, in root's"
        );
        assert!(is_fit(34, &[root, dir(34, 0o755)], Some(&users)));
    }

    #[test]
    fn no_link_is_followed_and_what_is_not_there_is_absent() {
        let dir = tempfile::tempdir().unwrap();
        let real = dir.path().join("real");
        fs::create_dir(&real).unwrap();
        let _listener = UnixListener::bind(real.join("socket")).unwrap();
        std::os::unix::fs::symlink(&real, dir.path().join("link")).unwrap();
        std::os::unix::fs::symlink(real.join("socket"), real.join("other")).unwrap();
        let of = |path: &str| {
            let path = format!("{}/{path}", dir.path().display());
            let socket = SocketPath::parse(&path).unwrap();
            find(&socket, None, &mut Watch::default()).unwrap()
        };
        assert!(matches!(of("none/socket"), Place::Absent));
        assert!(matches!(of("real/none"), Place::Absent));
        for path in ["link/socket", "real/other", "real/socket/below", "real"] {
            assert!(matches!(of(path), Place::Unfit(None)), "{path}");
        }
        // Where the tests run the way there may be anybody's.
        assert!(matches!(
            of("real/socket"),
            Place::Fit(..) | Place::Unfit(Some(_))
        ));
    }
}
