//! The control protocol, both ends, over real sockets and with the real binary.
//!
//! Only the daemon's loop is played, by a task that answers commands.

mod cli;
mod daemon;
mod glass;
mod server;
