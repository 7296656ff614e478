//! Tasks that carry a label, as the kernel lists them for the daemon.
//!
//! The program writes one line for each, and one at the end that says it got there: a list without
//! it is half a list.

use crate::facts::Label;

/// What a line says. Zero is no line.
#[repr(u32)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Line {
    /// A task and its label.
    Labelled = 0x11,
    /// A task that has something stored, which could not be read just now.
    Unread = 0x22,
    /// Everybody was asked.
    End = 0x33,
}

impl Line {
    /// The line with this number.
    pub const fn from_u32(raw: u32) -> Option<Self> {
        match raw {
            0x11 => Some(Self::Labelled),
            0x22 => Some(Self::Unread),
            0x33 => Some(Self::End),
            _ => None,
        }
    }
}

/// One line.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Carrier {
    /// A [`Line`].
    pub line: u32,
    /// Process id and thread id, in the root namespace.
    pub tgid: u32,
    pub pid: u32,
    /// The network namespace that it is in, by the inode number of its file below `/proc/PID/ns`; zero:
    /// it is just leaving.
    pub network: u32,
    /// When the task began, in nanoseconds since boot: with its number the task itself.
    pub started: u64,
    /// The cgroup that it is in, of the unified hierarchy.
    pub cgroup: u64,
    pub label: Label,
}
