//! Names and limits that both sides must spell the same way.
//!
//! A pin path or a map name written twice is a gate that silently reads an empty map, so each is
//! written once, here.

/// Where programs, links and maps are pinned. bpffs must be mounted at `/sys/fs/bpf`.
pub const PIN_DIR: &str = "/sys/fs/bpf/governor";

/// Layout version of everything in this crate, which a build for tests raises. A daemon that finds pins
/// of another version attaches its own programs beside them first and lets go of the old ones after.
pub const ABI: u64 = if cfg!(feature = "next-layout") { 6 } else { 5 };

/// Layouts whose maps, all but the rings, are laid out as those of this one, so that both can use the
/// very same. Pins of any other are left alone. Whoever raises [`ABI`] says here what still fits: if
/// labels, table or state words do not, a host upgrades by a reboot. Layout 4 knew nothing of sockets, so
/// what was made under it counts as made outside of zones.
pub const TAKES_OVER: &[u64] = if cfg!(feature = "next-layout") {
    &[5]
} else {
    &[4]
};

/// Outer map with one slot: the table of [`crate::Row`]s in force.
pub const TABLE: &str = "TABLE";
/// Array of the words the daemon writes, indexed by [`crate::state::Word`].
pub const STATE: &str = "STATE";
/// Array with one word that only the kernel raises.
pub const TRIPS: &str = "TRIPS";
/// Array of counters indexed by [`crate::Signal`] that only the kernel raises.
pub const SIGNALS: &str = "SIGNALS";
/// The same counters as far as a daemon has dealt with them, and written it down.
pub const HANDLED: &str = "HANDLED";
/// Array of words indexed by [`crate::guard::GuardWord`].
pub const GUARD: &str = "GUARD";
/// What the guard keeps others from; [`crate::guard::ProtectedKey`].
pub const PROTECTED: &str = "PROTECTED";
/// Content that may be the daemon, a module, a kernel; [`crate::guard::ListedKey`].
pub const LISTED: &str = "LISTED";
/// Array with one word: how many executions were labelled since boot.
pub const EXECS: &str = "EXECS";
/// `{zone, digest}` that are revoked whatever the table says.
pub const TOMBSTONES: &str = "TOMBSTONES";
/// cgroup id to zone id, for zone cgroups that exist now.
pub const CGROUPS: &str = "CGROUPS";
/// cgroup path to zone id, for zone cgroups whether they exist or not.
pub const ZONE_PATHS: &str = "ZONE_PATHS";
/// Destinations a workload may reach, a longest-prefix-match trie.
pub const EGRESS: &str = "EGRESS";
/// Task storage: the label a task carries.
pub const LABELS: &str = "LABELS";
/// Inode storage: the digest of what a file holds. No verdict is kept there.
pub const DIGESTS: &str = "DIGESTS";
/// Socket storage: the zone of the work that made a Unix socket.
pub const SOCKETS: &str = "SOCKETS";
/// Inode storage: which of the sockets that policies name was found there. No verdict is kept there.
pub const NAMED: &str = "NAMED";
/// Ring of denials (and of what observing would have denied).
pub const DENIALS: &str = "DENIALS";
/// Ring of everything that was allowed inside a zone.
pub const EVENTS: &str = "EVENTS";
/// Array of words for measuring what the daemon asks for; pinned by nobody.
pub const ASKED: &str = "ASKED";
/// Index in [`ASKED`] of the task whose files are measured: process and task, as the kernel packs them.
pub const ASKED_WHO: u32 = 0;
/// Index in [`ASKED`] of how: [`HOW_AGAIN`], [`HOW_ONCE`] or [`HOW_EMPTY`].
pub const ASKED_HOW: u32 = 1;
/// Index in [`ASKED`] of how many were measured.
pub const ASKED_COUNT: u32 = 2;
/// Index in [`ASKED`] of what the helper answered last.
pub const ASKED_RESULT: u32 = 3;
/// Index in [`ASKED`] of whether the last digest is kept with its file: zero or one.
pub const ASKED_KEPT: u32 = 4;
/// Index in [`ASKED`] of the first of the four words of the last digest.
pub const ASKED_DIGEST: u32 = 5;
/// Length of [`ASKED`].
pub const ASKED_WORDS: u32 = 9;
/// In [`ASKED_HOW`]: the file is read, whatever was kept, and nothing is kept.
pub const HOW_AGAIN: u64 = 1;
/// In [`ASKED_HOW`]: the file is read if its digest is not kept, and then it is.
pub const HOW_ONCE: u64 = 2;
/// In [`ASKED_HOW`]: the same, and that the file is empty is kept too.
pub const HOW_EMPTY: u64 = 3;
/// Counters, one per [`crate::Reason`] and per ring loss, per CPU.
pub const COUNTS: &str = "COUNTS";

/// Rows a table can hold.
pub const TABLE_ROWS: u32 = 1_048_576;
/// Tombstones that can stand at once.
pub const TOMBSTONE_ROWS: u32 = 16_384;
/// Zone cgroups that can exist at once.
pub const CGROUP_ROWS: u32 = 1_024;
/// Objects the guard keeps others from.
pub const PROTECTED_ROWS: u32 = 4_096;
/// Digests listed for the host itself.
pub const LISTED_ROWS: u32 = 32_768;
/// Zones that can be known at once.
pub const ZONE_PATH_ROWS: u32 = 256;
/// Destination prefixes over all workloads and the two generations of a reload.
pub const EGRESS_ROWS: u32 = 65_536;
/// Bytes of each ring; a power of two and a multiple of the page size.
pub const RING_BYTES: u32 = 1 << 20;

/// Longest cgroup path (without the leading mount point) that can name a zone.
pub const ZONE_PATH_LEN: usize = 128;
/// Levels of the cgroup tree that are searched for a zone, counted from the root.
pub const CGROUP_LEVELS: i32 = 16;
/// Workloads and users that a row can list.
pub const STARTERS: usize = 8;
/// Users a row can list.
pub const USERS: usize = 4;
/// Port ranges a destination can list.
pub const PORT_RANGES: usize = 16;

/// The zone of a cgroup below the governed slice that no policy names. It has no row, so
/// everything in it is denied.
pub const ZONE_UNKNOWN: u32 = u32::MAX;
/// The cgroup of the daemon's own service. Not governed; what PID 1 starts there may be the daemon.
pub const ZONE_SELF: u32 = u32::MAX - 4;
/// The canary's zone. It never has a row, so nothing may be executed in it.
pub const ZONE_CANARY: u32 = u32::MAX - 5;
/// The whole-host zone: every task that is in no other zone. Its rows alone switch it on, so a table
/// without them governs nothing outside of zones.
pub const ZONE_HOST: u32 = u32::MAX - 6;
/// In a tombstone: every zone there is and every zone that comes. No task is in it, so the kernel
/// never asks for it; whoever makes a zone does.
pub const ZONE_EVERY: u32 = 0;
/// Scope of a row that says what may be *started* in a zone, whoever it will then be.
pub const SCOPE_START: u32 = u32::MAX;
/// Scope of the row that describes the zone itself. It grants no role.
pub const SCOPE_ZONE: u32 = u32::MAX - 1;
/// Scope of a row that lists content of the survival set. Only unlabelled tasks of [`ZONE_HOST`] are
/// judged by it; it has no class, no epoch and no end.
pub const SCOPE_SURVIVAL: u32 = u32::MAX - 7;
/// In the egress trie: destinations of unlabelled tasks of [`ZONE_HOST`].
pub const WORKLOAD_SURVIVAL: u32 = u32::MAX - 8;
/// The workload of a task that runs only because its zone is being observed. Equal to no other
/// number here: such a task is not the operator, and no row is in its scope.
pub const WORKLOAD_NONE: u32 = u32::MAX - 2;
/// In a row's starters: a parent without a label.
pub const STARTER_OPERATOR: u32 = u32::MAX - 3;

/// Index in [`COUNTS`] of events lost because a ring was full: denials.
pub const COUNT_LOST_DENIALS: u32 = 240;
/// Index in [`COUNTS`] of events lost because a ring was full: the others.
pub const COUNT_LOST_EVENTS: u32 = 241;
/// Index in [`COUNTS`] of the canary's refusals, which are no denials.
pub const COUNT_CANARY: u32 = 242;
/// Index in [`COUNTS`] of lists of labelled tasks that the daemon read to their end. The programs
/// alone count there, so that a list made by another program is not taken for theirs.
pub const COUNT_LISTS: u32 = 243;
/// Index in [`COUNTS`] of files that were read to measure them.
pub const COUNT_HASHED: u32 = 244;
/// Index in [`COUNTS`] of measurements that were kept from an earlier time.
pub const COUNT_RECALLED: u32 = 245;
/// Index in [`COUNTS`] of writers that were turned away from files which run, or are mapped to run.
pub const COUNT_TURNED_AWAY: u32 = 246;
/// Length of [`COUNTS`]. Reasons use the indices below 240.
pub const COUNT_SLOTS: u32 = 256;
