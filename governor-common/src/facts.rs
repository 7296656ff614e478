//! What a verdict is made from: everything, in one plain struct.
//!
//! The kernel program fills it, [`crate::decide`] reads it, the event carries it, and the ledger
//! can put it before the same function again years later.

use core::mem::offset_of;

use crate::{
    names::{SCOPE_START, SCOPE_SURVIVAL, ZONE_HOST},
    row::{MODE_OBSERVE, ROLE_EXECUTABLE, ROLE_LIBRARY, ROLE_SCRIPT, Row},
    state::StateWords,
    words::words,
};

/// What a task is, once it has been authorized. Lives in task storage, inherited over fork.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Label {
    pub zone: u32,
    /// A workload, or `WORKLOAD_NONE`. Zero: no label.
    pub workload: u32,
    /// Unique for each confirmed execution since boot, below [`LABEL_OPENS_LISTED`].
    pub exec_id: u64,
    /// What was measured when it was authorized.
    pub digest: [u8; 32],
}

impl Label {
    /// Whether this is a label at all.
    #[inline(always)]
    pub const fn present(&self) -> bool {
        self.workload != 0 && self.zone != 0
    }

    /// The execution's number.
    #[inline(always)]
    pub const fn execution(&self) -> u64 {
        self.exec_id & !LABEL_OPENS_LISTED
    }

    /// Whether the task opens only what is listed. Said with the label, so that whoever may open anything is
    /// told from the label alone; its workload may have another rule for what it starts from now on.
    #[inline(always)]
    pub const fn opens_listed(&self) -> bool {
        self.present() && self.exec_id & LABEL_OPENS_LISTED != 0
    }

    /// The digest, in words.
    #[inline(always)]
    pub const fn words(&self) -> [u64; 4] {
        words::<Self, { offset_of!(Label, digest) }>(self)
    }
}

/// In [`Facts::measured_raw`]: somebody writes it where nothing lifts a denial, so the helper was not asked. No hash
/// that counts has this number.
pub const NOT_ASKED: i64 = 0;

/// In [`Label::exec_id`]: the task opens only what is listed.
pub const LABEL_OPENS_LISTED: u64 = 1 << 63;

/// What is asked for.
#[repr(u32)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    /// Execute a program (an ELF image, or the interpreter of a script).
    Execute = 0x11,
    /// Hand a `#!` file to its interpreter.
    Script = 0x22,
    /// Map a file, or anonymous memory, executable.
    Map = 0x33,
    /// Make existing memory executable.
    Protect = 0x3a,
    /// Create a socket.
    Socket = 0x44,
    /// Connect, or send to a named address.
    Connect = 0x55,
    /// Send on a socket that has its peer already.
    Send = 0x66,
    /// Fork inside a zone.
    Fork = 0x77,
    /// Reach for the gate itself, or for what it leans on.
    Guard = 0x88,
    /// Trace a task, write its memory, or take what it has open.
    Trace = 0x99,
    /// Open a file for reading.
    Open = 0xaa,
    /// Reach somebody on this host through a Unix socket.
    Peer = 0xbb,
}

impl Operation {
    /// The operation with this number, if there is one.
    pub const fn from_u32(raw: u32) -> Option<Self> {
        match raw {
            0x11 => Some(Self::Execute),
            0x22 => Some(Self::Script),
            0x33 => Some(Self::Map),
            0x3a => Some(Self::Protect),
            0x44 => Some(Self::Socket),
            0x55 => Some(Self::Connect),
            0x66 => Some(Self::Send),
            0x77 => Some(Self::Fork),
            0x88 => Some(Self::Guard),
            0x99 => Some(Self::Trace),
            0xaa => Some(Self::Open),
            0xbb => Some(Self::Peer),
            _ => None,
        }
    }

    /// The name used in output.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Execute => "execute",
            Self::Script => "script",
            Self::Map => "map",
            Self::Protect => "protect",
            Self::Socket => "socket",
            Self::Connect => "connect",
            Self::Send => "send",
            Self::Fork => "fork",
            Self::Guard => "guard",
            Self::Trace => "trace",
            Self::Open => "open",
            Self::Peer => "peer",
        }
    }
}

/// How measuring went.
#[repr(u32)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Measured {
    /// `digest` is the SHA-256 of the content.
    Sha256 = 0x71,
    /// There was nothing to measure (anonymous memory, sockets).
    Nothing = 0x72,
    /// The kernel could not hash it, or hashed with something else.
    Failed = 0x73,
    /// The file is unlinked or on a mount internal to the kernel.
    Unstable = 0x74,
    /// It was measured, and somebody has it open for writing, or came to write meanwhile.
    Written = 0x75,
    /// It cannot be measured where it is judged, and no digest of it is kept.
    Unknown = 0x76,
}

/// Everything a verdict saw. `u32` fields that hold an enum hold one of its numbers; anything
/// else denies.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Facts {
    /// CLOCK_BOOTTIME nanoseconds, read after the measurement.
    pub now: u64,
    /// An [`Operation`].
    pub operation: u32,
    /// A [`Measured`].
    pub measured: u32,
    /// Return value of the measuring helper, or [`NOT_ASKED`].
    pub measured_raw: i64,
    /// The measurement; zeros where nothing was measured. Where a Unix socket is judged, which of those that
    /// policies name it is; zeros: none.
    pub digest: [u8; 32],
    /// The zone of the task.
    pub zone: u32,
    /// Workload of the script whose interpreter is being executed, or whose interpreter the task is since its
    /// last execution; zero: no script.
    pub script_workload: u32,
    /// The caller's real user id.
    pub uid: u32,
    /// 1 when a tombstone stands on what the asking task was authorized as.
    pub starter_tombstone: u32,
    /// The task's label before this operation; all zero: none.
    pub label: Label,
    pub state: StateWords,
    /// The zone's own row, as copied; all zero: missing.
    pub zone_mode: u32,
    pub zone_class: u32,
    pub zone_memory: u32,
    /// 1 when a tombstone stands on what is judged.
    pub tombstone: u32,
    pub zone_families: u64,
    /// Until when the zone may be observed; see [`Row::observe_until`].
    pub zone_observe_until: u64,
    /// The row found for what is judged, as copied; all zero: missing.
    pub row: Row,
    /// The socket's family, type and protocol. Where a script's interpreter is executed, the type is the first
    /// byte of the name that the script was called by. Where a file is opened, the type is the file's, as in
    /// its mode, and the protocol the number of the device that it stands for.
    pub family: u32,
    pub kind: u32,
    pub protocol: u32,
    /// Destination port, host order. Where a Unix socket is judged, the zone of the work that made it; zero: made
    /// outside of zones.
    pub port: u32,
    /// Destination, network order; IPv4 in the first four bytes.
    pub address: [u8; 16],
    /// 1 when a rule covers destination and port, or names the Unix socket.
    pub destination_listed: u32,
    /// 1 when the address could not be read.
    pub address_unreadable: u32,
    /// A [`crate::Signal`] where the gate itself is reached for; zero otherwise.
    pub signal: u32,
    /// A [`crate::Actor`] beside it, or where somebody traces; zero otherwise.
    pub actor: u32,
}

impl Facts {
    /// Whether the task has no label and is in no zone but the whole host's.
    #[inline(always)]
    pub const fn on_host(&self) -> bool {
        self.zone == ZONE_HOST && !self.label.present()
    }

    /// Whether the zone is observed at this moment.
    #[inline(always)]
    pub const fn is_observed(&self) -> bool {
        self.zone_mode == MODE_OBSERVE && self.now < self.zone_observe_until
    }

    /// Whether `row` lists what is judged in the survival set, in a role that serves. Never for a
    /// labelled task, and not for what a workload's script hands itself to. The kernel program asks
    /// this to decide whether to look further.
    #[inline(always)]
    pub const fn survives(&self) -> bool {
        let roles = if self.operation == Operation::Execute as u32 {
            ROLE_EXECUTABLE
        } else if self.operation == Operation::Script as u32 {
            ROLE_SCRIPT
        } else if self.operation == Operation::Map as u32 {
            ROLE_LIBRARY | ROLE_EXECUTABLE
        } else {
            0
        };
        self.on_host()
            && self.script_workload == 0
            && self.row.key.zone == ZONE_HOST
            && self.row.key.scope == SCOPE_SURVIVAL
            && same(
                &self.row_words(),
                &words::<Self, { offset_of!(Facts, digest) }>(self),
            )
            && self.row.roles & roles != 0
    }

    /// The scope in which the judged content is looked up. The kernel program uses it for the
    /// lookup, the verdict for checking that the row is the one that was asked for.
    #[inline(always)]
    pub const fn scope(&self) -> u32 {
        // The first file of an exec is a start; whatever a script hands itself to, another script
        // or an interpreter, must be the same workload's.
        if self.operation == Operation::Script as u32 || self.operation == Operation::Execute as u32
        {
            if self.script_workload != 0 {
                self.script_workload
            } else {
                SCOPE_START
            }
        } else {
            self.label.workload
        }
    }

    /// What is judged: the measured content, or for the network the content the task was
    /// authorized as.
    #[inline(always)]
    pub const fn subject(&self) -> [u64; 4] {
        if self.operation == Operation::Connect as u32
            || self.operation == Operation::Send as u32
            || self.operation == Operation::Socket as u32
            || self.operation == Operation::Fork as u32
            || self.operation == Operation::Trace as u32
            || self.operation == Operation::Peer as u32
        {
            self.starter()
        } else {
            words::<Self, { offset_of!(Facts, digest) }>(self)
        }
    }

    /// Whether it was not read because it was sure to be refused. So nobody knows whether it was revoked.
    #[inline(always)]
    pub(crate) const fn is_unread(&self) -> bool {
        self.measured == Measured::Written as u32 && self.measured_raw == NOT_ASKED
    }

    /// What the asking task was authorized as.
    #[inline(always)]
    pub const fn starter(&self) -> [u64; 4] {
        words::<Self, { offset_of!(Facts, label.digest) }>(self)
    }

    /// What the row that was found is of.
    #[inline(always)]
    pub(crate) const fn row_words(&self) -> [u64; 4] {
        words::<Self, { offset_of!(Facts, row.key.digest) }>(self)
    }
}

/// SHA-256 of no bytes at all (FIPS 180-4), which every empty file has.
pub const SHA256_OF_NOTHING: [u8; 32] = [
    0xe3, 0xb0, 0xc4, 0x42, 0x98, 0xfc, 0x1c, 0x14, 0x9a, 0xfb, 0xf4, 0xc8, 0x99, 0x6f, 0xb9, 0x24,
    0x27, 0xae, 0x41, 0xe4, 0x64, 0x9b, 0x93, 0x4c, 0xa4, 0x95, 0x99, 0x1b, 0x78, 0x52, 0xb8, 0x55,
];

/// Whether two digests are equal.
#[inline(always)]
pub const fn same(a: &[u64; 4], b: &[u64; 4]) -> bool {
    let mut i = 0;
    let mut difference = 0;
    while i < 4 {
        difference |= a[i] ^ b[i];
        i += 1;
    }
    difference == 0
}
