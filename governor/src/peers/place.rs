//! Where a socket lies, and whether it could be another's.
//!
//! Promises: the way is led part by part and no link is followed. Each directory on it belongs to root, or to the
//! owner of the socket if no work runs as that user, and nobody else may write there: work could otherwise put, or
//! link, another socket there, and have that named.

use std::{
    collections::BTreeSet,
    ffi::OsStr,
    os::fd::OwnedFd,
    path::{Path, PathBuf},
};

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
    /// A socket that does not, or no socket; and why.
    Unfit(Option<(OwnedFd, (u64, u64))>, String),
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
    for &part in &parts {
        let directory = fstat(&at)?;
        let what = FileType::from_raw_mode(directory.st_mode);
        if what != FileType::Directory {
            let why = format!("`{}` is {}", upto(&parts, way.len()), kind(what));
            return Ok(Place::Unfit(None, why));
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
    let what = FileType::from_raw_mode(socket.st_mode);
    if what != FileType::Socket {
        return Ok(Place::Unfit(None, format!("it is {}", kind(what))));
    }
    let number = (socket.st_dev, socket.st_ino);
    Ok(match unfit(socket.st_uid, &way, users) {
        None => Place::Fit(at, number),
        Some((which, why)) => {
            let why = format!("into `{}` {why}", upto(&parts, which));
            Place::Unfit(Some((at, number)), why)
        }
    })
}

/// Which directory on the way has somebody in it who could have put it there, beside root and the socket's owner,
/// if the owner is no work; and who that is. The group's bits also say what an access control list grants at most.
fn unfit(owner: u32, way: &[Stat], users: Option<&BTreeSet<u32>>) -> Option<(usize, &'static str)> {
    let is_works = users.is_none_or(|users| users.contains(&owner));
    let why = |directory: &Stat| {
        let uid = directory.st_uid;
        if directory.st_mode & OTHERS_WRITE != 0 {
            Some("its group or others may put one")
        } else if uid == 0 || (uid == owner && !is_works) {
            None
        } else if uid == owner {
            Some("a user may put one whom a workload may run as")
        } else {
            Some("somebody may put one who is neither root nor its owner")
        }
    };
    let mut each = way.iter().enumerate();
    each.find_map(|(number, directory)| Some((number, why(directory)?)))
}

/// The path of a directory on the way.
fn upto(parts: &[&OsStr], number: usize) -> String {
    let path: PathBuf = parts.iter().take(number).collect();
    format!("/{}", path.display())
}

const fn kind(of: FileType) -> &'static str {
    match of {
        FileType::Symlink => "a link",
        FileType::Socket => "a socket",
        FileType::Directory => "a directory",
        FileType::RegularFile
        | FileType::Fifo
        | FileType::CharacterDevice
        | FileType::BlockDevice
        | FileType::Unknown => "no socket",
    }
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
        let which = |owner, way: &[Stat]| unfit(owner, way, Some(&none)).map(|(number, _)| number);
        let root = dir(0, 0o755);
        assert_eq!(which(0, &[root, dir(0, 0o700)]), None);
        assert_eq!(which(33, &[root, dir(33, 0o750)]), None);
        for way in [dir(33, 0o755), dir(0, 0o775), dir(0, 0o757), dir(0, 0o1777)] {
            assert_eq!(which(0, &[root, way]), Some(1), "{way:?}");
            assert_eq!(which(0, &[way, root]), Some(0), "{way:?}");
        }
    }

    /// It could link any socket of its user's there.
    #[test]
    fn work_has_no_directory_on_the_way() {
        let (root, theirs) = (dir(0, 0o755), dir(33, 0o755));
        let users = BTreeSet::from([33]);
        let is_fit = |owner, way: &[Stat], users| unfit(owner, way, users).is_none();
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
        let found = real.join("socket");
        for (path, expected) in [
            (
                "link/socket",
                format!("`{}/link` is a link", dir.path().display()),
            ),
            ("real/other", "it is a link".to_owned()),
            (
                "real/socket/below",
                format!("`{}` is a socket", found.display()),
            ),
            ("real", "it is a directory".to_owned()),
        ] {
            let Place::Unfit(None, why) = of(path) else {
                panic!("{path}");
            };
            assert_eq!(why, expected);
        }
        // Where the tests run the way there may be anybody's.
        assert!(matches!(
            of("real/socket"),
            Place::Fit(..) | Place::Unfit(Some(_), _)
        ));
    }
}
