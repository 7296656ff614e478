//! What the rings carry: the verdict, everything it was made from, and who asked.
//!
//! `comm` and `path` are what the kernel had at hand for people to read. They are untrusted, they
//! decide nothing, and whoever prints them strips control characters first.

use crate::facts::{Facts, Label};

/// Bytes of path kept in an event, including the terminating zero.
pub const PATH_LEN: usize = 192;

/// One verdict inside a zone.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Event {
    /// [`crate::names::ABI`], so that a reader never guesses.
    pub abi: u64,
    /// A [`crate::Verdict`].
    pub verdict: u32,
    /// A [`crate::Reason`].
    pub reason: u32,
    /// Process id and thread id, in the root namespace.
    pub tgid: u32,
    pub pid: u32,
    /// The task's cgroup.
    pub cgroup: u64,
    /// The label the task will carry if this goes on; all zero: unchanged.
    pub next: Label,
    pub facts: Facts,
    pub comm: [u8; 16],
    /// The file's path as the kernel sees it, or zeros.
    pub path: [u8; PATH_LEN],
}
