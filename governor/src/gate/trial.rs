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

use governor_core::digest::Digest;

use super::{
    GateError,
    asked::{Answer, Asker, How},
};

/// Tries the kernel's measuring on a file in the first of `dirs` that takes one.
pub(super) fn of_measuring(asker: &mut Asker, dirs: &[PathBuf]) -> Result<(), GateError> {
    let (path, mut writer) = scratch(dirs)?;
    // Its names are ours to take; whatever is left is overwritten by the next daemon.
    let outcome = measured_right(asker, &path, &mut writer);
    fs::remove_file(&path).map_err(|error| GateError::Read { path, error })?;
    outcome
}

fn measured_right(asker: &mut Asker, path: &Path, first: &mut File) -> Result<(), GateError> {
    let failed = |error: io::Error| GateError::Read {
        path: path.to_owned(),
        error,
    };
    let mut asking = asker.begin()?;
    first.write_all(FIRST).map_err(failed)?;
    // Whoever keeps digests has this one from here on.
    let reader = File::open(path).map_err(failed)?;
    let known = asking.measure(&reader, How::Again)?;
    is(&known, FIRST, "of known content")?;
    let mut second = OpenOptions::new().write(true).open(path).map_err(failed)?;
    second.write_all(SECOND).map_err(failed)?;
    let changed = asking.measure(&reader, How::Again)?;
    is(&changed, SECOND, "that was just changed")
}

/// Whether that is SHA-256 of the content.
fn is(answer: &Answer, content: &[u8], what: &str) -> Result<(), GateError> {
    let Some(digest) = answer.sha256() else {
        return Err(GateError::Measuring(format!(
            "asked for the digest of a file {what}, the kernel answers {}, which is not SHA-256",
            answer.result.cast_signed()
        )));
    };
    if digest != Digest::of(content) {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_right_digest_of_the_right_kind_passes() {
        let answer = |result| Answer {
            result,
            digest: Digest::of(FIRST),
            known: false,
        };
        assert!(is(&answer(4), FIRST, "x").is_ok());
        assert!(is(&answer(4), SECOND, "x").is_err());
        for result in [0, 2, 6, (-95_i64).cast_unsigned()] {
            let error = is(&answer(result), FIRST, "x").unwrap_err().to_string();
            assert!(error.contains("not SHA-256"), "{error}");
        }
    }
}
