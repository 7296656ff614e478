//! Before the gate is believed: what it leans on is tried.
//!
//! Promises: a daemon that starts has seen the kernel measure a file of known content, and the same file
//! once more while somebody wrote it, and both were right. What the command line and the policy of IMA say
//! is looked at besides; but they can be hidden, and this cannot. Nothing is left behind.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Write as _},
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
};

use aya::maps::{Array, MapData};
use governor_common::names::{self, TRIAL_COUNT, TRIAL_DIGEST, TRIAL_RESULT, TRIAL_WHO};
use governor_core::digest::Digest;
use nix::fcntl::{FcntlArg, fcntl};

use super::{
    GateError,
    load::{Hook, Kind, Loaded},
};

/// Where the trial's program is for the moment. The gate itself needs nothing there.
pub(super) const HOOK: Hook = Hook {
    name: "file_lock",
    kind: Kind::Lsm(2),
};

/// Tries the kernel's measuring on a file in the first of `dirs` that takes one.
pub(super) fn of_measuring(loaded: &mut Loaded, dirs: &[PathBuf]) -> Result<(), GateError> {
    let (path, mut writer) = scratch(dirs)?;
    // Its names are ours to take; whatever is left is overwritten by the next daemon.
    let outcome = measured_right(loaded, &path, &mut writer);
    fs::remove_file(&path).map_err(|error| GateError::Read { path, error })?;
    outcome
}

fn measured_right(loaded: &mut Loaded, path: &Path, first: &mut File) -> Result<(), GateError> {
    let failed = |error: io::Error| GateError::Read {
        path: path.to_owned(),
        error,
    };
    let link = loaded.attach(&HOOK).map_err(|reason| GateError::Hook {
        name: HOOK.name,
        reason,
    })?;
    let mut words: Array<MapData, u64> = loaded.take(names::TRIAL)?;
    first.write_all(FIRST).map_err(failed)?;
    // Whoever keeps digests has this one from here on.
    let reader = File::open(path).map_err(failed)?;
    is(&measure(&mut words, &reader)?, FIRST, "of known content")?;
    let mut second = OpenOptions::new().write(true).open(path).map_err(failed)?;
    second.write_all(SECOND).map_err(failed)?;
    let fresh = is(
        &measure(&mut words, &reader)?,
        SECOND,
        "that was just changed",
    );
    drop((second, link));
    fresh
}

/// What the program says of a file: the helper's answer, and the digest.
fn measure(words: &mut Array<MapData, u64>, file: &File) -> Result<(u64, Digest), GateError> {
    let read = |words: &Array<MapData, u64>, at| {
        let doing = "reading what a trial came to";
        words
            .get(&at, 0)
            .map_err(GateError::map(names::TRIAL, doing))
    };
    let process = u64::from(std::process::id());
    let task = u64::from(nix::unistd::gettid().as_raw().cast_unsigned());
    words
        .set(TRIAL_WHO, process << 32 | task, 0)
        .map_err(GateError::map(names::TRIAL, "asking for a trial"))?;
    let before = read(words, TRIAL_COUNT)?;
    let lock = libc::flock {
        l_type: libc::F_RDLCK as libc::c_short,
        l_whence: libc::SEEK_SET as libc::c_short,
        l_start: 0,
        l_len: 0,
        l_pid: 0,
    };
    fcntl(file, FcntlArg::F_OFD_SETLK(&lock)).map_err(|errno| {
        GateError::Measuring(format!("the file for it could not be locked: {errno}"))
    })?;
    if read(words, TRIAL_COUNT)? != before + 1 {
        let why = "the program at the hook was not called";
        return Err(GateError::Measuring(why.to_owned()));
    }
    let mut digest = [0; 32];
    for (at, bytes) in (TRIAL_DIGEST..).zip(digest.chunks_exact_mut(8)) {
        bytes.copy_from_slice(&read(words, at)?.to_ne_bytes());
    }
    Ok((read(words, TRIAL_RESULT)?, Digest::new(digest)))
}

/// Whether that is SHA-256 of the content.
fn is((result, digest): &(u64, Digest), content: &[u8], what: &str) -> Result<(), GateError> {
    if *result != HASH_ALGO_SHA256 {
        return Err(GateError::Measuring(format!(
            "asked for the digest of a file {what}, the kernel answers {}, which is not SHA-256",
            result.cast_signed()
        )));
    }
    if *digest != Digest::of(content) {
        return Err(GateError::Measuring(format!(
            "the digest of a file {what} is not the one of what it holds"
        )));
    }
    Ok(())
}

/// A file of ours to write.
fn scratch(dirs: &[PathBuf]) -> Result<(PathBuf, File), GateError> {
    let mut options = OpenOptions::new();
    options.write(true).create(true).truncate(true).mode(0o600);
    let mut last = None;
    for dir in dirs {
        let path = dir.join("trial");
        match options.open(&path) {
            Ok(file) => return Ok((path, file)),
            Err(error) => last = Some(GateError::Read { path, error }),
        }
    }
    Err(last.unwrap_or_else(|| GateError::Measuring("there is no place for it".to_owned())))
}

const FIRST: &[u8] = b"what a file of governor's trial holds first\n";
const SECOND: &[u8] = b"what a file of governor's trial holds later\n";
const _: () = assert!(FIRST.len() == SECOND.len(), "one is written over the other");
/// `HASH_ALGO_SHA256` of the kernel's list of hashes.
const HASH_ALGO_SHA256: u64 = 4;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_right_digest_of_the_right_kind_passes() {
        let right = Digest::of(FIRST);
        assert!(is(&(4, right), FIRST, "x").is_ok());
        assert!(is(&(4, right), SECOND, "x").is_err());
        for answer in [0, 2, 6, (-95_i64).cast_unsigned()] {
            let error = is(&(answer, right), FIRST, "x").unwrap_err().to_string();
            assert!(error.contains("not SHA-256"), "{error}");
        }
    }
}
