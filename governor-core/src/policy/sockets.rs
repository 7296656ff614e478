//! `sockets` of a workload: the Unix sockets outside its zone that it may reach, each by its path.
//!
//! Promises: one spelling for one path. The kernel is never given a path: it is given a digest of one, and compares it
//! with what the daemon found to lie there. A file that holds what is digested has the same digest, and is none by its
//! role.

use core::fmt;
use std::collections::BTreeSet;

use governor_common::net::AF_UNIX;

use super::{
    document::Table,
    report::{Complaint, Report, quoted},
};
use crate::digest::Digest;

/// The path that a Unix socket is bound to: absolute, and as short as it can be written.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct SocketPath(String);

impl SocketPath {
    /// `None` where policy would be refused for it.
    pub fn parse(text: &str) -> Option<Self> {
        Self::read(text).ok()
    }

    fn read(text: &str) -> Result<Self, Complaint> {
        let bad = |why: &str| Complaint::new(format!("socket {} {why}", quoted(text)));
        let Some(below) = text.strip_prefix('/') else {
            return Err(bad("is not an absolute path").hint(
                "write it like `/run/dbus/system_bus_socket`; abstract names can be taken by anybody",
            ));
        };
        if text.len() > LONGEST {
            return Err(bad(&format!("is longer than {LONGEST} bytes")));
        }
        if below.split('/').any(|part| matches!(part, "" | "." | "..")) {
            return Err(bad("contains `.`, `..` or an empty component"));
        }
        if text.contains(char::is_control) {
            return Err(bad("contains a control character"));
        }
        Ok(Self(text.to_owned()))
    }

    /// As it is written.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// What the kernel knows it by.
    pub fn digest(&self) -> Digest {
        Digest::of_parts(&[DOMAIN, self.0.as_bytes()])
    }
}

impl fmt::Display for SocketPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Reads `sockets`. `families` is what the zone allows, if the zone is known.
pub(super) fn read(
    table: &Table<'_>,
    families: Option<u64>,
    report: &mut Report<'_>,
) -> BTreeSet<SocketPath> {
    let mut sockets = BTreeSet::new();
    for listed in table.strings("sockets", report).into_iter().flatten() {
        let socket = match SocketPath::read(listed.value) {
            Ok(socket) => socket,
            Err(complaint) => {
                report.error(listed.at, complaint);
                continue;
            }
        };
        if families.is_some_and(|families| families & (1 << AF_UNIX) == 0) {
            let message = "the zone allows no `unix` sockets, so this has no effect";
            report.warn(listed.at, Complaint::new(message));
        }
        if let Some(below) = socket.0.strip_prefix("/var/run/") {
            let message = format!("{} leads through a link on most hosts", quoted(&socket.0));
            let hint = format!("no link is followed: write `/run/{below}`");
            report.warn(listed.at, Complaint::new(message).hint(hint));
        }
        if !sockets.insert(socket) {
            let message = format!("{} is listed twice", quoted(listed.value));
            report.warn(listed.at, Complaint::new(message));
        } else if sockets.len() == MOST + 1 {
            let message = format!("more than {MOST} in `sockets`");
            report.error(listed.at, Complaint::new(message));
        }
    }
    sockets
}

/// What `sockaddr_un` holds (unix(7)), without the zero at its end.
const LONGEST: usize = 107;
/// Of one workload.
const MOST: usize = 64;
/// So that nothing else is digested alike by accident.
const DOMAIN: &[u8] = b"governor unix socket v1\0";
