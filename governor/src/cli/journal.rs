//! The journal, without ever waiting for it.
//!
//! Promises: a line for which the journal has no room is left out, and nobody waits until it has. Anybody may
//! fill its queue, and keep whoever empties it from the processor; a log proves nothing, and records are in the
//! ledger.

use std::{
    io,
    os::{
        fd::{AsRawFd as _, BorrowedFd},
        unix::net::UnixDatagram,
    },
};

use nix::sys::socket::{SockType, setsockopt, sockopt};
use tracing_journald::Layer;

const SOCKET: &str = "/run/systemd/journal/socket";
/// What is sent and not read yet: enough for whatever the daemon says at once.
const ROOM: usize = 8 << 20;

/// To be called before there are threads, because it knows the layer's socket by its number.
pub(super) fn layer() -> io::Result<Layer> {
    let first = UnixDatagram::unbound()?;
    first.set_nonblocking(true)?;
    // The layer sends the same, and would wait.
    first.send_to(&[], SOCKET)?;
    let number = first.as_raw_fd();
    // The lowest number that is free is the next one's.
    drop(first);
    let layer = tracing_journald::layer()?;
    // SAFETY: whatever has this number now is copied at once, and there is no other thread that could close it.
    let theirs = unsafe { BorrowedFd::borrow_raw(number) };
    let theirs = theirs.try_clone_to_owned()?;
    if nix::sys::socket::getsockopt(&theirs, sockopt::SockType)? != SockType::Datagram {
        return Err(io::Error::other(
            "the layer's socket is not where it should be",
        ));
    }
    // Who may not have it has less.
    let _less_room = setsockopt(&theirs, sockopt::SndBufForce, &ROOM);
    // What a copy is told holds for both.
    UnixDatagram::from(theirs).set_nonblocking(true)?;
    Ok(layer)
}
