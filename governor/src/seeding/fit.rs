//! Which files may be opened to be measured.
//!
//! Refuses, unopened, whatever no digest would be kept of, and what opening or reading could do something to.

use std::{
    fs::{File, Metadata, OpenOptions},
    io,
    os::{
        fd::AsRawFd as _,
        unix::fs::{MetadataExt as _, OpenOptionsExt as _},
    },
    path::Path,
};

pub(super) enum Open {
    File(File),
    Unfit,
}

/// Opens it if it is fit. Looked at before it is opened: opening a device can do something, and what others
/// may write can be made as large as they like.
pub(super) fn open(path: &Path) -> io::Result<Option<Open>> {
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
