//! Measuring files for sets: the same lines as `sha256sum`.
//!
//! Promises: what is printed is a set that `lint` reads. Refuses names a set cannot carry. Files that are
//! empty are refused where they are asked for by name and left out elsewhere, unless they are to be read:
//! in them is nothing to execute or to map.

use std::{
    collections::BTreeSet,
    fmt,
    fs::{self, File},
    io::{self, Read as _},
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result, bail};
use governor_core::digest::Digest;
use sha2::{Digest as _, Sha256};

/// A file's content and the name it was found under.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Measurement {
    pub digest: Digest,
    pub path: String,
}

/// What becomes of files that are empty.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Empty {
    /// The set is for code.
    NotListed,
    /// The set is for data.
    Listed,
}

impl fmt::Display for Measurement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}  {}", self.digest, self.path)
    }
}

/// Measures each of `paths`; links are followed, the name is the one given.
pub fn measure(paths: &[PathBuf], empty: Empty) -> Result<Vec<Measurement>> {
    let one = |path: &PathBuf| match one(path, empty)? {
        Some(measurement) => Ok(measurement),
        None => bail!(
            "file `{}` is empty, which only a set for `data` lists; use `--data` for one",
            path.display()
        ),
    };
    paths.iter().map(one).collect()
}

/// Measures every regular file below `dir` in order of path. Links are not followed.
pub fn measure_tree(dir: &Path, empty: Empty) -> Result<Vec<Measurement>> {
    let mut files = BTreeSet::new();
    let mut open = vec![dir.to_owned()];
    while let Some(dir) = open.pop() {
        let doing = || format!("listing `{}`", dir.display());
        for entry in fs::read_dir(&dir).with_context(doing)? {
            let entry = entry.with_context(doing)?;
            let kind = entry.file_type().with_context(doing)?;
            if kind.is_dir() {
                open.push(entry.path());
            } else if kind.is_file() {
                files.insert(entry.path());
            }
        }
    }
    each(files, empty)
}

/// Measures every regular file of an installed Debian package, as [`measure_tree`] does.
pub fn measure_package(package: &str, empty: Empty) -> Result<Vec<Measurement>> {
    let doing = || format!("asking dpkg-query for the files of `{package}`");
    let output = Command::new("dpkg-query")
        .env("LC_ALL", "C")
        .args(["--listfiles", "--", package])
        .output()
        .with_context(doing)?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr)
            .trim()
            .escape_debug()
            .to_string();
        bail!("{}: {said}", doing());
    }
    let list = String::from_utf8(output.stdout).with_context(doing)?;
    let files = list
        .lines()
        .filter(|line| line.starts_with('/'))
        .map(PathBuf::from)
        .filter(|path| fs::symlink_metadata(path).is_ok_and(|found| found.is_file()))
        .collect();
    each(files, empty)
}

/// Each file by its whole path, also one that holds what another does: it is measured ahead where it is. Of names
/// that are none the first for each content.
fn each(files: BTreeSet<PathBuf>, empty: Empty) -> Result<Vec<Measurement>> {
    let mut seen = BTreeSet::new();
    let mut found = Vec::new();
    for path in files {
        if let Some(measurement) = one(&path, empty)?
            && (seen.insert(measurement.digest) || path.is_absolute())
        {
            found.push(measurement);
        }
    }
    Ok(found)
}

/// `None`: the file is empty, and not to be listed then.
fn one(path: &Path, empty: Empty) -> Result<Option<Measurement>> {
    let doing = || format!("measuring `{}`", path.display());
    let name = match path.to_str() {
        Some(name) if !name.contains('\\') && !name.chars().any(char::is_control) => name,
        _ => bail!("a set cannot carry the name {path:?}, rename the file"),
    };
    let mut file = File::open(path).with_context(doing)?;
    if !file.metadata().with_context(doing)?.is_file() {
        bail!("`{name}` is not a regular file; use `--tree` for a directory");
    }
    let digest = measure_open(&mut file).with_context(doing)?;
    let digest = digest.or_else(|| (empty == Empty::Listed).then_some(Digest::OF_NOTHING));
    Ok(digest.map(|digest| Measurement {
        digest,
        path: name.to_owned(),
    }))
}

/// Measures the rest of an open file, in parts. `None`: there is nothing left of it.
pub fn measure_open(file: &mut File) -> io::Result<Option<Digest>> {
    let mut hasher = Sha256::new();
    let mut buffer = vec![0; 1 << 16];
    let mut empty = true;
    loop {
        let read = file.read(&mut buffer)?;
        if read == 0 {
            break;
        }
        empty = false;
        hasher.update(&buffer[..read]);
    }
    Ok((!empty).then(|| Digest::new(hasher.finalize().into())))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    fn text(list: &[Measurement]) -> String {
        list.iter()
            .map(|measurement| format!("{measurement}\n"))
            .collect()
    }

    #[test]
    fn lines_are_those_of_sha256sum() {
        let dir = tempfile::tempdir().expect("a directory");
        let link = dir.path().join("link");
        symlink("/usr/bin/env", &link).expect("linked");
        let paths = [PathBuf::from("/usr/bin/env"), link];
        let theirs = Command::new("sha256sum")
            .args(&paths)
            .output()
            .expect("sha256sum runs");
        let ours = measure(&paths, Empty::NotListed).expect("measured");
        assert_eq!(text(&ours), String::from_utf8_lossy(&theirs.stdout));
        assert_eq!(ours[0].digest, ours[1].digest);
    }

    #[test]
    fn a_tree_is_its_regular_files() {
        let dir = tempfile::tempdir().expect("a directory");
        fs::create_dir(dir.path().join("b")).expect("made");
        fs::write(dir.path().join("b/one"), "1").expect("written");
        fs::write(dir.path().join("c"), "1").expect("written");
        fs::write(dir.path().join("a"), "2").expect("written");
        fs::write(dir.path().join("empty"), "").expect("written");
        symlink("/etc", dir.path().join("link")).expect("linked");
        let names = |empty| -> Vec<String> {
            let list = measure_tree(dir.path(), empty).expect("measured");
            let name = |one: &Measurement| one.path.rsplit('/').next().map(str::to_owned);
            list.iter().filter_map(name).collect()
        };
        assert_eq!(names(Empty::NotListed), ["a", "one", "c"]);
        assert_eq!(names(Empty::Listed), ["a", "one", "c", "empty"]);

        let code = |path: PathBuf| measure(&[path], Empty::NotListed);
        assert!(code(dir.path().join("empty")).is_err());
        assert!(code(dir.path().to_owned()).is_err());
        fs::write(dir.path().join("x\ny"), "3").expect("written");
        assert!(measure_tree(dir.path(), Empty::NotListed).is_err());
    }

    #[test]
    fn packages_are_asked_for_by_name() {
        let list =
            measure_package("coreutils", Empty::NotListed).expect("dpkg-query knows coreutils");
        assert!(
            list.iter()
                .any(|measurement| measurement.path.ends_with("/sha256sum"))
        );
        assert!(measure_package("no-such-package-at-all", Empty::NotListed).is_err());
        assert!(measure_package("--version", Empty::NotListed).is_err());
    }
}
