//! Verdicts and reasons: spaced discriminants, zero never valid.
//!
//! A verdict read from memory that was never written is not a verdict. Reasons double as indices
//! of the counters, so each is below 240 and none is used twice.

/// What the gate answers.
#[repr(u32)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    Allow = 0x5a17,
    Deny = 0xa5e8,
    /// Would be denied; the zone observes, so it goes on.
    WouldDeny = 0x3cc3,
}

impl Verdict {
    /// The verdict with this number, if there is one.
    pub const fn from_u32(raw: u32) -> Option<Self> {
        match raw {
            0x5a17 => Some(Self::Allow),
            0xa5e8 => Some(Self::Deny),
            0x3cc3 => Some(Self::WouldDeny),
            _ => None,
        }
    }
}

macro_rules! reasons {
    ($($(#[$doc:meta])* $name:ident = $value:literal, $text:literal;)+) => {
        /// Why the verdict is what it is.
        #[repr(u32)]
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
        pub enum Reason { $($(#[$doc])* $name = $value,)+ }

        impl Reason {
            /// Every reason, in order of number.
            pub const ALL: &'static [Self] = &[$(Self::$name,)+];

            /// The reason with this number, if there is one.
            pub const fn from_u32(raw: u32) -> Option<Self> {
                match raw { $($value => Some(Self::$name),)+ _ => None }
            }

            /// The name used in output, records and metrics.
            pub const fn name(self) -> &'static str {
                match self { $(Self::$name => $text,)+ }
            }
        }
    };
}

reasons! {
    /// The row, its class and everything else agreed.
    Authorized = 3, "authorized";
    /// A task that entered the zone but is not yet a workload does what systemd needs it to.
    Unlabelled = 5, "unlabelled";
    /// The content is in the survival set, and the task is in no zone but the whole host's.
    Survival = 7, "survival";
    /// The zone is below the governed slice, but no policy names it.
    UnknownZone = 16, "unknown-zone";
    /// The content could not be measured, or not with SHA-256.
    NotMeasured = 20, "not-measured";
    /// The file has no name any more, or never had one (memfd), or is on a file system whose content is up to
    /// who mounted it.
    NoStableFile = 21, "no-stable-file";
    /// Somebody has the file open for writing, or came to write while it was measured.
    BeingWritten = 22, "being-written";
    /// Opened for reading where only listed files may be, on a kernel that cannot measure what is opened, and no
    /// digest of it is kept.
    NotKnown = 23, "not-known";
    /// No row for this content in this zone.
    NotAuthorized = 24, "not-authorized";
    /// The row does not list the role.
    WrongRole = 25, "wrong-role";
    /// The parent may not start this.
    WrongStarter = 26, "wrong-starter";
    /// The user may not run this.
    WrongUser = 27, "wrong-user";
    /// Listed as an interpreter only, and not about to run a listed script: started by itself, or given the
    /// script by a name that it might take for an option.
    InterpreterOnly = 28, "interpreter-only";
    /// Opened for reading where only listed files may be, and not one of those.
    UnlistedOpen = 29, "unlisted-open";
    /// The row's validity has not begun.
    NotYetValid = 32, "not-yet-valid";
    /// The row's validity is over.
    Expired = 33, "expired";
    /// The epoch of the row's class was raised since the row was written.
    EpochRaised = 36, "epoch-raised";
    /// The row needs attestation and no lease holds.
    NoLease = 37, "no-lease";
    /// The kernel raised its alarm counter since the lease was granted.
    Tripped = 38, "tripped";
    /// A tombstone stands on this content.
    Revoked = 40, "revoked";
    /// The row is not one this program knows how to read.
    BadRow = 44, "bad-row";
    /// A map this verdict needs could not be read or written.
    GateFault = 45, "gate-fault";
    /// A task without a label in a zone wanted the network.
    NoLabel = 48, "no-label";
    /// The zone does not allow such a socket.
    SocketKind = 52, "socket-kind";
    /// No rule of the workload covers the destination.
    Destination = 53, "destination";
    /// The address could not be read or has a form that is not judged.
    BadAddress = 54, "bad-address";
    /// Who listens on the Unix socket is outside the zone, and policy does not name that socket.
    UnlistedPeer = 55, "unlisted-peer";
    /// Executable memory that is not a file's authorized content.
    WrittenMemory = 56, "written-memory";
    /// The gate itself, or what it leans on, was reached for by somebody it is not for.
    Guarded = 58, "guarded";
    /// A tracer: of a task with a label, or such a task itself, or one that was there before the label.
    Traced = 59, "traced";
    /// The label changed between check and commit.
    LabelLost = 60, "label-lost";
}
