//! Where things live. Everything this crate makes is below `target/`, which may be deleted at any
//! time; nothing is written anywhere else in the tree or in the home directory.

use anyhow::{Context, Result};
use std::os::fd::AsRawFd as _;
use std::path::{Path, PathBuf};

/// The workspace root, fixed when xtask was compiled.
pub(crate) fn root() -> PathBuf {
    let manifest = Path::new(env!("CARGO_MANIFEST_DIR"));
    manifest.parent().unwrap_or(manifest).to_path_buf()
}

/// The cache all verbs share; deliberately not `CARGO_TARGET_DIR`, so that it survives a change of it.
pub(crate) fn target() -> PathBuf {
    root().join("target")
}

pub(crate) fn vm() -> PathBuf {
    target().join("vm")
}

/// Developer tools installed by `cargo install --root`.
pub(crate) fn tools() -> PathBuf {
    target().join("tools")
}

/// Creates a directory and its parents, and returns its path.
pub(crate) fn ensure(dir: PathBuf) -> Result<PathBuf> {
    std::fs::create_dir_all(&dir).with_context(|| format!("creating `{}`", dir.display()))?;
    Ok(dir)
}

/// Writes a file so that a reader sees the old content or the new, never half of it.
pub(crate) fn write_whole(path: &Path, bytes: &[u8]) -> Result<()> {
    let aside = path.with_extension(format!("new-{}", std::process::id()));
    std::fs::write(&aside, bytes).with_context(|| format!("writing `{}`", aside.display()))?;
    std::fs::rename(&aside, path).with_context(|| format!("renaming to `{}`", path.display()))
}

/// Hex SHA-256 of a sequence of parts, each framed by its length so that parts cannot run together.
pub(crate) fn key(parts: &[&[u8]]) -> String {
    use sha2::{Digest, Sha256};
    let mut hash = Sha256::new();
    for part in parts {
        hash.update((part.len() as u64).to_le_bytes());
        hash.update(part);
    }
    hex(&hash.finalize())
}

pub(crate) fn sha256_file(path: &Path) -> Result<String> {
    use sha2::{Digest, Sha256};
    let bytes = std::fs::read(path).with_context(|| format!("reading `{}`", path.display()))?;
    Ok(hex(&Sha256::digest(bytes)))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A lock file held until dropped: two xtask processes never build the same artefact at once.
#[derive(Debug)]
pub(crate) struct Lock {
    _file: std::fs::File,
}

pub(crate) fn lock(name: &str) -> Result<Lock> {
    let path = ensure(target())?.join(format!(".{name}.lock"));
    let file = std::fs::File::create(&path)
        .with_context(|| format!("creating the lock `{}`", path.display()))?;
    // SAFETY: flock takes a descriptor that `file` keeps open, and touches no memory.
    while unsafe { libc::flock(file.as_raw_fd(), libc::LOCK_EX) } != 0 {
        let error = std::io::Error::last_os_error();
        if error.kind() != std::io::ErrorKind::Interrupted {
            return Err(error)
                .with_context(|| format!("waiting for the lock `{}`", path.display()));
        }
    }
    Ok(Lock { _file: file })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whoever_is_second_waits_until_the_first_is_done() {
        let name = format!("test-{}", std::process::id());
        let first = lock(&name).expect("locked");
        let (done, waited) = std::sync::mpsc::channel();
        let second = std::thread::spawn({
            let name = name.clone();
            move || {
                let held = lock(&name).is_ok();
                done.send(held).expect("somebody listens");
            }
        });
        let path = target().join(format!(".{name}.lock"));
        while !is_waited_for(&path) {
            assert!(waited.try_recv().is_err(), "it did not wait");
            std::thread::yield_now();
        }
        drop(first);
        assert_eq!(waited.recv(), Ok(true));
        second.join().expect("it ended");
        std::fs::remove_file(path).expect("removed");
    }

    /// Whether the kernel lists somebody who waits for this file's lock.
    fn is_waited_for(path: &Path) -> bool {
        use std::os::unix::fs::MetadataExt as _;
        let inode = std::fs::metadata(path).expect("there").ino();
        let locks = std::fs::read_to_string("/proc/locks").expect("read");
        let ours = format!(":{inode} ");
        locks
            .lines()
            .any(|line| line.contains("-> FLOCK") && line.contains(&ours))
    }
}
