//! What lies in the state directory, read without changing anything there.
//!
//! Promises: nothing that cannot be read passes for nothing that was there. What is wrong with a ledger
//! and may be wrong for good is told apart from what only could not be read now.

use std::{
    fs::{self, OpenOptions},
    io::{ErrorKind, Read as _},
    os::unix::fs::OpenOptionsExt as _,
    path::Path,
};

use anyhow::{Context as _, Result};
use governor_core::lineage::{self, Broken, Flaw, Found, Head, Notes, Scanned};

use crate::anchor::Anchor;

/// A ledger as it was found.
#[derive(Debug)]
pub(super) struct Lying {
    /// None: there is none, or it does not check.
    pub(super) scanned: Option<Scanned>,
    pub(super) broken: Option<Broken>,
    /// What is wrong is to be kept in the anchor: it stays so until an operator begins another.
    pub(super) for_good: bool,
    /// There is an anchor beside it.
    pub(super) anchored: bool,
    /// It says that there is a file that keeps locks.
    pub(super) keeps_locks: bool,
}

/// Reads ledger and anchor and holds them against what the kernel knows.
pub(super) fn look(state: &Path, path: &Path, anchor: &Anchor, kernel: Option<Head>) -> Lying {
    let mut notes = Notes {
        kernel,
        // What cannot be listed may hold some.
        policies: keeps_policies(state).unwrap_or(true),
        ..Notes::default()
    };
    let mut unread = None;
    match anchor.read() {
        Ok(None) => {}
        Ok(Some(Ok(anchored))) => {
            notes.anchor = Some(anchored.head);
            notes.broken = anchored.broken;
        }
        // It is replaced whole, so this is no accident of ours.
        Ok(Some(Err(error))) => notes.broken = Some((Flaw::Contradicting, format!("{error:#}"))),
        Err(error) => unread = Some(error),
    }
    let anchored = notes.anchor.is_some();
    let bytes = read(path).unwrap_or_else(|error| {
        unread = Some(error);
        None
    });
    let scanned = bytes.as_deref().map(lineage::scan);
    let keeps_locks = matches!(&scanned, Some(Ok(scanned)) if scanned.keeps_locks());
    if let Some(error) = unread {
        let noted = [notes.kernel, notes.anchor].into_iter().flatten();
        let broken = Broken {
            flaw: Flaw::Unreadable,
            detail: format!("{error:#}"),
            last: noted.max_by_key(|head| head.size).unwrap_or(Head::EMPTY),
        };
        return Lying {
            // What it takes away is taken away, whatever else it is.
            scanned: scanned.and_then(Result::ok),
            broken: Some(broken),
            for_good: false,
            anchored,
            keeps_locks,
        };
    }
    let found = match &scanned {
        None => Found::Missing,
        Some(Err(error)) => Found::Unreadable(error),
        Some(Ok(scanned)) => Found::Read(scanned),
    };
    let broken = lineage::hold(&found, &notes);
    Lying {
        scanned: scanned.and_then(Result::ok),
        broken,
        for_good: true,
        anchored,
        keeps_locks,
    }
}

fn read(path: &Path) -> Result<Option<Vec<u8>>> {
    let context = || format!("reading the ledger `{}`", path.display());
    // There is no ledger where something else lies, and a pipe would hold us until somebody writes.
    if fs::symlink_metadata(path).is_ok_and(|there| !there.is_file()) {
        return Ok(None);
    }
    let opened = OpenOptions::new()
        .read(true)
        .custom_flags(libc::O_NOFOLLOW | libc::O_CLOEXEC)
        .open(path);
    let mut file = match opened {
        Ok(file) => file,
        // There is no such name, or no such directory.
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => {
            return Ok(None);
        }
        Err(error) => return Err(error).with_context(context),
    };
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes).with_context(context)?;
    Ok(Some(bytes))
}

/// Whether an earlier daemon kept a policy here, which it does only with a record of it.
fn keeps_policies(state: &Path) -> Result<bool> {
    let dir = state.join("policy");
    let context = || format!("listing `{}`", dir.display());
    let entries = match fs::read_dir(&dir) {
        Ok(entries) => entries,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(false),
        Err(error) => return Err(error).with_context(context),
    };
    for entry in entries {
        let name = entry.with_context(context)?.file_name();
        if Path::new(&name)
            .extension()
            .is_some_and(|end| end == "bundle")
        {
            return Ok(true);
        }
    }
    Ok(false)
}
