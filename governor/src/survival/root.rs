//! A tree of files seen as a host: `/` in use, anything else in tests.
//!
//! Promises: links and `..` never lead out of the tree; nothing but regular files is opened, and
//! nothing waits for a reader or writer of a pipe; texts are read line by line with a limit on each.
//! What is not there is `None`; what cannot be read is an error.

use std::{
    ffi::OsString,
    fs::{self, File, Metadata},
    io::{self, BufRead as _, BufReader, ErrorKind},
    os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _},
    path::{Component, Path, PathBuf},
};

use anyhow::{Context as _, Result, bail};

/// The links followed in one path, as in the kernel.
const MAX_LINKS: usize = 40;
/// The bytes of a line; of a longer one the beginning counts.
const MAX_LINE: usize = 16 << 10;
/// The bytes of a text. dpkg's list of packages is the longest there is.
const MAX_TEXT: u64 = 64 << 20;
/// The entries of a directory.
const MAX_ENTRIES: usize = 100_000;

#[derive(Clone, Debug)]
pub(super) struct Root {
    dir: PathBuf,
}

impl Root {
    pub(super) fn new(dir: &Path) -> Self {
        Self {
            dir: dir.to_owned(),
        }
    }

    /// Whether this is the host itself.
    pub(super) fn is_host(&self) -> bool {
        self.dir == Path::new("/")
    }

    /// Where a path of the tree is for us. Links in it are the caller's.
    pub(super) fn on_disk(&self, path: &Path) -> PathBuf {
        self.dir.join(path.strip_prefix("/").unwrap_or(path))
    }

    /// The same file without links and `..`, if something is there.
    pub(super) fn resolve(&self, path: &Path) -> Option<PathBuf> {
        let mut open: Vec<OsString> = components(path);
        let mut real = PathBuf::from("/");
        let mut links = 0;
        while let Some(name) = open.pop() {
            if name == ".." {
                real.pop();
                continue;
            }
            real.push(&name);
            let metadata = fs::symlink_metadata(self.on_disk(&real)).ok()?;
            if metadata.is_symlink() {
                links += 1;
                if links > MAX_LINKS {
                    return None;
                }
                let target = fs::read_link(self.on_disk(&real)).ok()?;
                real.pop();
                if target.is_absolute() {
                    real = PathBuf::from("/");
                }
                open.extend(components(&target));
            } else if !open.is_empty() && !metadata.is_dir() {
                return None;
            }
        }
        Some(real)
    }

    /// The regular file that `path` leads to.
    pub(super) fn file(&self, path: &Path) -> Option<(PathBuf, Metadata)> {
        let real = self.resolve(path)?;
        let metadata = fs::symlink_metadata(self.on_disk(&real)).ok()?;
        metadata.is_file().then_some((real, metadata))
    }

    /// Whether `path` leads to a regular file that somebody may execute.
    pub(super) fn is_executable(&self, path: &Path) -> bool {
        self.file(path)
            .is_some_and(|(_, metadata)| metadata.permissions().mode() & 0o111 != 0)
    }

    /// Opens a file that [`Self::file`] named.
    pub(super) fn open(&self, real: &Path) -> io::Result<File> {
        // It may have been replaced since: by a link, or by a pipe that would hold us here.
        let file = File::options()
            .read(true)
            .custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK)
            .open(self.on_disk(real))?;
        if file.metadata()?.is_file() {
            Ok(file)
        } else {
            Err(io::Error::other("it is not a regular file any more"))
        }
    }

    /// Calls `each` with every line of a text; `false`: there is no such file.
    pub(super) fn lines(&self, path: &Path, mut each: impl FnMut(&str)) -> Result<bool> {
        let doing = || format!("reading `{}`", path.display());
        let Some((real, metadata)) = self.file(path) else {
            return Ok(false);
        };
        if metadata.len() > MAX_TEXT {
            bail!("{}: it is longer than {MAX_TEXT} bytes", doing());
        }
        let file = match self.open(&real) {
            Ok(file) => file,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(false),
            Err(error) => return Err(error).with_context(doing),
        };
        for_lines(file, &mut each).with_context(doing)?;
        Ok(true)
    }

    /// What is in a directory, in order; nothing if there is no such directory.
    pub(super) fn list(&self, dir: &Path) -> Result<Vec<PathBuf>> {
        let doing = || format!("listing `{}`", dir.display());
        let Some(real) = self.resolve(dir) else {
            return Ok(Vec::new());
        };
        let entries = match fs::read_dir(self.on_disk(&real)) {
            Ok(entries) => entries,
            Err(error)
                if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) =>
            {
                return Ok(Vec::new());
            }
            Err(error) => return Err(error).with_context(doing),
        };
        let mut found = Vec::new();
        for entry in entries {
            let entry = entry.with_context(doing)?;
            if found.len() == MAX_ENTRIES {
                bail!("{}: it has more than {MAX_ENTRIES} entries", doing());
            }
            found.push(real.join(entry.file_name()));
        }
        found.sort();
        Ok(found)
    }

    /// Every file below a directory, in order. Links to directories are not entered.
    pub(super) fn tree(&self, dir: &Path) -> Result<Vec<PathBuf>> {
        let mut found = Vec::new();
        let mut open = vec![dir.to_owned()];
        while let Some(dir) = open.pop() {
            for path in self.list(&dir)? {
                match fs::symlink_metadata(self.on_disk(&path)) {
                    Ok(metadata) if metadata.is_dir() => open.push(path),
                    Ok(_) => found.push(path),
                    Err(_gone) => {}
                }
            }
            if found.len() + open.len() > MAX_ENTRIES {
                bail!("`{}` has more than {MAX_ENTRIES} files", dir.display());
            }
        }
        found.sort();
        Ok(found)
    }
}

/// Last first, without what names no step.
fn components(path: &Path) -> Vec<OsString> {
    path.components()
        .rev()
        .filter_map(|part| match part {
            Component::Normal(name) => Some(name.to_owned()),
            Component::ParentDir => Some("..".into()),
            Component::CurDir | Component::RootDir | Component::Prefix(_) => None,
        })
        .collect()
}

/// Never more than a line's limit in memory, however long the line is.
pub(super) fn for_lines(file: File, each: &mut impl FnMut(&str)) -> io::Result<()> {
    let mut reader = BufReader::with_capacity(MAX_LINE, file);
    let mut line: Vec<u8> = Vec::new();
    let mut whole = 0;
    loop {
        let bytes = match reader.fill_buf() {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        };
        let end = bytes.iter().position(|byte| *byte == b'\n');
        let used = end.map_or(bytes.len(), |end| end + 1);
        let part = bytes.get(..end.unwrap_or(bytes.len())).unwrap_or_default();
        let room = MAX_LINE.saturating_sub(line.len());
        line.extend(part.iter().take(room));
        let over = bytes.is_empty();
        reader.consume(used);
        whole += used as u64;
        if end.is_some() || (over && !line.is_empty()) {
            each(&String::from_utf8_lossy(&line));
            line.clear();
        }
        // A file that grows while it is read, or that a file system makes up, has no end.
        if over || whole > MAX_TEXT {
            return Ok(());
        }
    }
}
