//! Having the kernel measure a file that nobody executes.
//!
//! Promises: what is answered was measured by the gate's own program, of the very file that is passed, now.
//! The program is attached only as long as somebody asks. No lock is ever taken: one is let go of that
//! nobody holds, which the kernel asks its hook about all the same.

use std::{
    collections::BTreeSet,
    fmt,
    fs::File,
    os::fd::{AsFd as _, OwnedFd},
};

use aya::{
    maps::{Array, IterableMap, MapData},
    programs::ProgramFd,
};
use governor_common::{
    guard::{PROTECTED_MAP, PROTECTED_PROGRAM, ProtectedKey},
    names::{
        self, ASKED_COUNT, ASKED_DIGEST, ASKED_HOW, ASKED_KEPT, ASKED_RESULT, ASKED_WHO, HOW_AGAIN,
        HOW_EMPTY, HOW_ONCE,
    },
};
use governor_core::digest::Digest;
use nix::fcntl::{FcntlArg, fcntl};

use super::{
    GateError, guard,
    load::{Hook, Kind, Loaded, hook},
    sys,
};

/// Where the program is for the moment. The gate itself needs nothing there.
pub(super) const HOOK: Hook = hook("file_lock", Kind::Lsm(2));

/// The program and its map, for as long as the daemon lives.
pub struct Asker {
    program: ProgramFd,
    words: Array<MapData, u64>,
    objects: BTreeSet<ProtectedKey>,
}

/// The program in its place. Whoever drops this takes it away.
pub struct Asking<'a> {
    words: &'a mut Array<MapData, u64>,
    _link: OwnedFd,
}

impl fmt::Debug for Asker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Asker").finish_non_exhaustive()
    }
}

impl fmt::Debug for Asking<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Asking").finish_non_exhaustive()
    }
}

/// How it is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum How {
    /// Read now, and kept nowhere.
    Again,
    /// As an exec would: read only if the digest is not kept, and then it is, where that may be.
    Once,
    /// The same, of a file that is listed as empty: that is kept as well.
    Empty,
}

/// What came of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Answer {
    /// What the kernel's helper answered: the number of a hash.
    pub result: u64,
    pub digest: Digest,
    /// Whoever executes it next need not read it.
    pub known: bool,
}

impl Answer {
    /// The digest, if it is one of the right kind.
    pub fn sha256(&self) -> Option<Digest> {
        (self.result == HASH_ALGO_SHA256).then_some(self.digest)
    }
}

impl Asker {
    pub(super) fn load(loaded: &mut Loaded) -> Result<Self, GateError> {
        let name = HOOK.name;
        let (program, id) = loaded
            .program(&HOOK)
            .map_err(|reason| GateError::Hook { name, reason })?;
        let words = loaded.take(names::ASKED)?;
        let map = IterableMap::map(&words)
            .info()
            .map_err(GateError::map(names::ASKED, "reading its id"))?
            .id();
        let objects = [
            guard::key(PROTECTED_MAP, 0, map.into()),
            guard::key(PROTECTED_PROGRAM, 0, id.into()),
        ];
        Ok(Self {
            program,
            words,
            objects: objects.into(),
        })
    }

    /// What nobody else may have a hold of: whoever writes the map answers in the kernel's place.
    pub(super) const fn objects(&self) -> &BTreeSet<ProtectedKey> {
        &self.objects
    }

    /// Puts the program in its place.
    pub fn begin(&mut self) -> Result<Asking<'_>, GateError> {
        let link = sys::link_lsm(self.program.as_fd()).map_err(|error| GateError::Hook {
            name: HOOK.name,
            reason: format!("it cannot be attached: {error}"),
        })?;
        Ok(Asking {
            words: &mut self.words,
            _link: link,
        })
    }
}

impl Asking<'_> {
    pub fn measure(&mut self, file: &File, how: How) -> Result<Answer, GateError> {
        let process = u64::from(std::process::id());
        let task = u64::from(nix::unistd::gettid().as_raw().cast_unsigned());
        let how = match how {
            How::Again => HOW_AGAIN,
            How::Once => HOW_ONCE,
            How::Empty => HOW_EMPTY,
        };
        for (at, value) in [(ASKED_WHO, process << 32 | task), (ASKED_HOW, how)] {
            let failed = GateError::map(names::ASKED, "asking for a measurement");
            self.words.set(at, value, 0).map_err(failed)?;
        }
        let before = self.read(ASKED_COUNT)?;
        let lock = libc::flock {
            l_type: libc::F_UNLCK as libc::c_short,
            l_whence: libc::SEEK_SET as libc::c_short,
            l_start: 0,
            l_len: 0,
            l_pid: 0,
        };
        fcntl(file, FcntlArg::F_OFD_SETLK(&lock)).map_err(|errno| {
            GateError::Measuring(format!("the kernel was not asked about the file: {errno}"))
        })?;
        if self.read(ASKED_COUNT)? != before + 1 {
            let why = "the program at the hook was not called";
            return Err(GateError::Measuring(why.to_owned()));
        }
        let mut digest = [0; 32];
        for (at, bytes) in (ASKED_DIGEST..).zip(digest.chunks_exact_mut(8)) {
            bytes.copy_from_slice(&self.read(at)?.to_ne_bytes());
        }
        Ok(Answer {
            result: self.read(ASKED_RESULT)?,
            digest: Digest::new(digest),
            known: self.read(ASKED_KEPT)? == 1,
        })
    }

    fn read(&self, at: u32) -> Result<u64, GateError> {
        let doing = "reading what a measurement came to";
        self.words
            .get(&at, 0)
            .map_err(GateError::map(names::ASKED, doing))
    }
}

/// `HASH_ALGO_SHA256` of the kernel's list of hashes.
const HASH_ALGO_SHA256: u64 = 4;
