//! A policy directory as a [`RawBundle`].
//!
//! Promises: regular files only, no symbolic link followed below the directory itself, and never
//! more read than a bundle may hold. Whatever else lies in the directory is an error that names
//! it: a file that is silently skipped is a file nobody signed.

use std::{
    fs::File,
    io::Read as _,
    os::fd::{AsFd as _, OwnedFd},
    path::Path,
};

use anyhow::{Context as _, Result, bail};
use governor_core::policy::{MAX_FILE, MAX_FILES, RawBundle};
use nix::{
    dir::Dir,
    fcntl::{AtFlags, OFlag, openat},
    sys::stat::{FileStat, Mode, SFlag, fstat, fstatat},
};

/// Directories below each other.
const MAX_DEPTH: usize = 8;

/// Reads all of `dir`.
pub fn read(dir: &Path) -> Result<RawBundle> {
    let doing = || format!("reading the policy directory `{}`", dir.display());
    let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
    let root = Dir::open(dir, flags, Mode::empty()).with_context(doing)?;
    let mut walk = Walk {
        bundle: RawBundle::default(),
        entries: 0,
    };
    walk.directory(root, "", 0).with_context(doing)?;
    Ok(walk.bundle)
}

struct Walk {
    bundle: RawBundle,
    entries: usize,
}

impl Walk {
    fn directory(&mut self, mut dir: Dir, prefix: &str, depth: usize) -> Result<()> {
        if depth > MAX_DEPTH {
            bail!("directories are nested more than {MAX_DEPTH} deep at `{prefix}`");
        }
        let mut names = Vec::new();
        for entry in dir.iter() {
            let entry = entry.with_context(|| format!("listing `{prefix}`"))?;
            let name = entry.file_name();
            if name == c"." || name == c".." {
                continue;
            }
            let Ok(name) = name.to_str() else {
                bail!(
                    "file name `{}` is not UTF-8",
                    name.to_string_lossy().escape_debug()
                );
            };
            self.entries += 1;
            // Directories count too, or empty ones would be a way to read on for ever.
            if self.entries > 2 * MAX_FILES {
                bail!(
                    "there are more than {} files and directories",
                    2 * MAX_FILES
                );
            }
            names.push(name.to_owned());
        }
        // The same refusal for the same directory, whatever order the file system lists it in.
        names.sort();
        for name in names {
            let path = format!("{prefix}{name}");
            self.entry(&dir, &name, path.clone(), depth)
                .with_context(|| format!("reading `{}`", path.escape_debug()))?;
        }
        Ok(())
    }

    fn entry(&mut self, dir: &Dir, name: &str, path: String, depth: usize) -> Result<()> {
        let seen = fstatat(dir.as_fd(), name, AtFlags::AT_SYMLINK_NOFOLLOW)?;
        match kind(&seen) {
            SFlag::S_IFREG => {
                let bytes = regular(open(dir, name, OFlag::empty())?)?;
                self.bundle.insert(path, bytes)?;
                Ok(())
            }
            SFlag::S_IFDIR => {
                let below = open(dir, name, OFlag::O_DIRECTORY)?;
                self.directory(Dir::from_fd(below)?, &format!("{path}/"), depth + 1)
            }
            SFlag::S_IFLNK => bail!("it is a symbolic link; put the file itself there"),
            _ => bail!("it is neither a regular file nor a directory"),
        }
    }
}

fn open(dir: &Dir, name: &str, more: OFlag) -> Result<OwnedFd> {
    // Without O_NONBLOCK a fifo that takes the file's place in between would hold us here.
    let flags = OFlag::O_RDONLY | OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK | OFlag::O_CLOEXEC;
    Ok(openat(dir.as_fd(), name, flags | more, Mode::empty())?)
}

fn regular(file: OwnedFd) -> Result<Vec<u8>> {
    if kind(&fstat(&file)?) != SFlag::S_IFREG {
        bail!("it was replaced while it was read");
    }
    let limit = u64::try_from(MAX_FILE)?.saturating_add(1);
    let mut bytes = Vec::new();
    File::from(file).take(limit).read_to_end(&mut bytes)?;
    Ok(bytes)
}

fn kind(stat: &FileStat) -> SFlag {
    SFlag::from_bits_truncate(stat.st_mode) & SFlag::S_IFMT
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::symlink};

    use governor_core::policy::POLICY;

    use super::*;

    fn refused(dir: &Path) -> String {
        format!("{:#}", read(dir).expect_err("refused"))
    }

    #[test]
    fn a_directory_is_its_files() {
        let dir = tempfile::tempdir().expect("a directory");
        fs::create_dir_all(dir.path().join("sets/deep")).expect("made");
        fs::write(dir.path().join(POLICY), "x").expect("written");
        fs::write(dir.path().join("sets/deep/a"), "").expect("written");
        let bundle = read(dir.path()).expect("read");
        let files: Vec<_> = bundle.files().collect();
        assert_eq!(files, [(POLICY, &b"x"[..]), ("sets/deep/a", &b""[..])]);
        assert!(refused(&dir.path().join(POLICY)).contains("Not a directory"));
    }

    #[test]
    fn nothing_but_regular_files_is_read() {
        let dir = tempfile::tempdir().expect("a directory");
        let link = dir.path().join("link");
        symlink("/etc/passwd", &link).expect("linked");
        assert!(refused(dir.path()).contains("`link`: it is a symbolic link"));
        fs::remove_file(&link).expect("removed");
        symlink("/etc", &link).expect("linked");
        assert!(refused(dir.path()).contains("`link`: it is a symbolic link"));
        fs::remove_file(&link).expect("removed");
        nix::unistd::mkfifo(&dir.path().join("fifo"), Mode::S_IRWXU).expect("made");
        assert!(refused(dir.path()).contains("`fifo`: it is neither"));
    }

    #[test]
    fn limits_hold_while_reading() {
        let dir = tempfile::tempdir().expect("a directory");
        let file = File::create(dir.path().join("big")).expect("made");
        file.set_len(1 << 40).expect("a sparse file");
        let said = format!("has {} bytes, the limit is {MAX_FILE}", MAX_FILE + 1);
        assert!(refused(dir.path()).contains(&said));
        fs::remove_file(dir.path().join("big")).expect("removed");
        for n in 0..=MAX_FILES {
            fs::write(dir.path().join(format!("{n:03}")), "").expect("written");
        }
        assert!(refused(dir.path()).contains("more than 256 files"));
        let deep = tempfile::tempdir().expect("a directory");
        fs::create_dir_all(deep.path().join("a/".repeat(20))).expect("made");
        assert!(refused(deep.path()).contains("nested more than 8 deep"));
    }
}
