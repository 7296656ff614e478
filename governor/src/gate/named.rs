//! Telling the kernel which of the sockets that policies name lies at an inode.
//!
//! Promises: nothing is granted by it. It is kept with the inode until it is taken off or the kernel forgets that, so
//! what takes the place of a socket is nobody until it was looked at. What a workload may reach its own rows say.

use std::{
    io::ErrorKind,
    os::fd::{AsFd as _, BorrowedFd, OwnedFd},
};

use governor_common::names;
use governor_core::digest::Digest;

use super::{Gate, GateError, sys};

/// What names sockets, for whichever thread looks for them.
#[derive(Debug)]
pub struct Namer {
    map: OwnedFd,
}

impl Namer {
    /// Says that what is behind `socket`, which need not be open for anything, is the one of this name.
    pub fn name(&self, socket: BorrowedFd<'_>, name: Digest) -> Result<(), GateError> {
        sys::update_by_fd(self.map.as_fd(), socket, name.bytes())
            .map_err(|error| failed("naming a socket", &error))
    }

    /// Says that it is none any more, if it was one.
    pub fn forget(&self, socket: BorrowedFd<'_>) -> Result<(), GateError> {
        match sys::delete_by_fd(self.map.as_fd(), socket) {
            Err(error) if error.kind() != ErrorKind::NotFound => {
                Err(failed("taking a name off a socket", &error))
            }
            Ok(()) | Err(_) => Ok(()),
        }
    }
}

impl Gate {
    /// What names sockets.
    pub fn namer(&self) -> Result<Namer, GateError> {
        let map = self.maps.named.fd().as_fd().try_clone_to_owned();
        let map = map.map_err(|error| failed("holding it", &error))?;
        Ok(Namer { map })
    }
}

fn failed(doing: &str, error: &std::io::Error) -> GateError {
    GateError::Invalid(format!("map `{}`: {doing}: {error}", names::NAMED))
}
