//! What the gate guards of itself: which objects are its own, and which content may stand beside it.
//!
//! User space fills these maps while it arms the guard, the kernel programs look things up in them.
//! Numbers and digests decide; no path and no name does.

/// Index of a word in the guard's array.
#[repr(u32)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GuardWord {
    /// [`ARMED`], or the guard does nothing.
    Armed = 0,
    /// Number of the mount namespace of the first process.
    MountNamespace = 1,
    /// Device number of the file system that the pins are on.
    PinDevice = 2,
    /// Device number of the unified cgroup hierarchy.
    CgroupDevice = 3,
    /// How many signatures a policy needed when the guard was armed.
    Threshold = 4,
    /// [`CHANGED`] while the first process is not what it was when the guard was armed. The kernel
    /// programs alone write it.
    FirstProcess = 5,
    /// Number of the cgroup that the first process was in when that was first asked. Zero: it was not.
    FirstCgroup = 6,
    /// Registers, as bits: of each policy under which evidence was asked for, the one to extend for it to fail
    /// until the host reboots. Only grows. No program reads it.
    Quoted = 7,
}

/// How many words the array has.
pub const GUARD_WORDS: u32 = 8;
/// What [`GuardWord::Armed`] holds when the guard is armed.
pub const ARMED: u64 = 0xa12e_d000_0000_0001;

/// What [`GuardWord::FirstProcess`] holds when the first process is another.
pub const CHANGED: u64 = 0xc4a6_ed00_0000_0001;

/// What a task is to the gate itself, in task storage beside the label. Zero: nothing.
#[repr(u32)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mark {
    /// Started as the daemon is; everything it mapped so far is listed.
    Candidate = 0x6b,
    /// Started as the daemon is, but something else takes part.
    Spoiled = 0x2d,
    /// The daemon.
    Daemon = 0x5c,
    /// A process that the daemon made and that has not executed anything yet: it has what the daemon has open,
    /// and perhaps its memory, but is not the daemon.
    Offspring = 0x7d,
    /// The first process is about to become something that is not listed.
    Changing = 0x39,
    /// The first process is about to become something that is.
    Staying = 0x4e,
}

/// One object of the gate, or that it leans on.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ProtectedKey {
    /// One of the `PROTECTED_` numbers.
    pub kind: u32,
    /// The kernel's device number, for inodes and devices; zero otherwise.
    pub dev: u32,
    /// Id of the map, program or link; inode number; zero for devices.
    pub id: u64,
}

pub const PROTECTED_MAP: u32 = 0x11;
pub const PROTECTED_PROGRAM: u32 = 0x22;
pub const PROTECTED_LINK: u32 = 0x33;
/// A directory of pins: nothing in it may change.
pub const PROTECTED_PINS: u32 = 0x44;
/// A directory on the way to the pins: nothing may be mounted over it or unmounted from it.
pub const PROTECTED_WAY: u32 = 0x55;
/// A cgroup above the daemon's own: it may not be frozen or killed.
pub const PROTECTED_CGROUP: u32 = 0x66;
/// The root of the tree of cgroups, and the directory that it covers: nothing may be mounted there and
/// nothing unmounted.
pub const PROTECTED_TREE: u32 = 0x88;
/// A mount that the pins or the cgroups are found by: it stays where it is, and nothing is mounted over
/// that way on it.
pub const PROTECTED_MOUNT: u32 = 0x99;
/// A block device that holds a mounted file system.
pub const PROTECTED_DEVICE: u32 = 0x77;

/// Content that policy lists for the host itself.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ListedKey {
    /// One of the `LISTED_` numbers.
    pub kind: u32,
    pub reserved: u32,
    pub digest: [u8; 32],
}

/// May be the daemon.
pub const LISTED_DAEMON: u32 = 0x15;
/// May be mapped by the daemon.
pub const LISTED_LIBRARY: u32 = 0x26;
/// May be loaded as a module.
pub const LISTED_MODULE: u32 = 0x37;
/// Signs policies; user space keeps here which keys it trusted when it armed the guard.
pub const LISTED_KEY: u32 = 0x59;
/// Breaks the glass; kept like the keys that sign policies.
pub const LISTED_GLASS: u32 = 0x6a;
/// Was executed or mapped by the first process when the guard was armed.
pub const LISTED_FIRST: u32 = 0x7b;
/// May be loaded as a kernel, or as the initial file system of one.
pub const LISTED_KEXEC: u32 = 0x48;
