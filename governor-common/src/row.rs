//! A row of the table: what one measurement may do in one zone.
//!
//! Rows are looked up by [`RowKey`] and carry the key again: a hash element that was deleted and
//! reused between lookup and read shows another key and is treated as missing.
//!
//! Three scopes share the table, so that one look at it sees one policy whole:
//! `SCOPE_START` rows say what may be started in the zone; rows whose scope is a workload say what
//! that workload may map or run as a script; the `SCOPE_ZONE` row describes the zone and grants
//! nothing.

use crate::names::{STARTERS, USERS};

/// What a row is found by.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RowKey {
    pub zone: u32,
    /// `SCOPE_START`, `SCOPE_ZONE`, or a workload.
    pub scope: u32,
    /// SHA-256 of the file's content, or of a socket's name; zeros in the zone's own row.
    pub digest: [u8; 32],
}

/// Roles, a bit set in [`Row::roles`].
pub const ROLE_EXECUTABLE: u32 = 1 << 0;
/// May be mapped executable.
pub const ROLE_LIBRARY: u32 = 1 << 1;
/// May be handed to an interpreter by the kernel (`#!`).
pub const ROLE_SCRIPT: u32 = 1 << 2;
/// May be what the kernel hands a script of the same workload to, and nothing else. In a row of what may be
/// started it grants nothing: it says why that is refused.
pub const ROLE_INTERPRETER: u32 = 1 << 3;
/// May be opened for reading where only what is listed may.
pub const ROLE_DATA: u32 = 1 << 4;
/// The digest is that of a Unix socket's name, and the workload may reach whoever listens there. Not one of
/// [`ROLES`]: no file's content is meant.
pub const ROLE_SOCKET: u32 = 1 << 5;
/// No role: what a task becomes by this opens only what is listed for its workload, in whatever role.
pub const OPENS_LISTED: u32 = 1 << 31;
/// Every role of a file.
pub const ROLES: u32 = ROLE_EXECUTABLE | ROLE_LIBRARY | ROLE_SCRIPT | ROLE_INTERPRETER | ROLE_DATA;

/// Trust class: allowed while a policy is valid.
pub const CLASS_POLICY: u32 = 0x2b;
/// Trust class: allowed while, besides, a lease holds.
pub const CLASS_ATTESTED: u32 = 0x54;

/// The zone denies.
pub const MODE_ENFORCE: u32 = 0x65;
/// The zone reports what it would deny.
pub const MODE_OBSERVE: u32 = 0x19;

/// Memory that was written is never executed.
pub const MEMORY_WX: u32 = 0x31;
/// Anonymous executable memory is left alone (interpreters that compile).
pub const MEMORY_ANY: u32 = 0x4d;

/// What the table holds.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Row {
    pub key: RowKey,
    /// The workload a task becomes by executing this; the owner of a library or script.
    pub workload: u32,
    pub roles: u32,
    pub class: u32,
    pub mode: u32,
    pub memory: u32,
    /// Which reload wrote this row; selects the egress rules that belong to it.
    pub generation: u32,
    /// Bit n set: address family n may be used for sockets.
    pub families: u64,
    /// Must equal the epoch of the row's class.
    pub epoch: u64,
    /// Validity in CLOCK_BOOTTIME nanoseconds.
    pub not_before: u64,
    pub not_after: u64,
    /// In the zone's own row, when it is observed: until when, CLOCK_BOOTTIME nanoseconds. From
    /// then on it denies, whether or not anybody is there to say so.
    pub observe_until: u64,
    /// Workloads (or `STARTER_OPERATOR`) that may start this; unused places are zero.
    pub starters: [u32; STARTERS],
    /// User ids plus one; unused places are zero.
    pub users: [u32; USERS],
}

/// What a tombstone stands on.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TombstoneKey {
    pub zone: u32,
    pub reserved: u32,
    pub digest: [u8; 32],
}
