//! The tree of mounts: what goes with a mount that is taken away, and where else it goes.
//!
//! A mount that is put somewhere or taken from there is put or taken as well wherever that place
//! propagates to, in any namespace; and what is unmounted lazily goes with all that is mounted below.
//! The kernel asks about the one mount that was named. So its tree and its groups are walked here, as
//! the kernel walks them after it asked. Nothing is locked meanwhile: a walk that loses its way, or takes
//! too long, found something.

use core::ffi::c_void;

use aya_ebpf::helpers::generated::{bpf_loop, bpf_probe_read_kernel};
use governor_common::guard::{PROTECTED_MOUNT, PROTECTED_PINS, PROTECTED_TREE, PROTECTED_WAY};

use crate::{maps, offsets};

/// Steps of all walks for one question together; each mount takes two at most of each. Some
/// milliseconds, for whoever asks with a tree of its own making.
const STEPS: u32 = 1 << 16;

/// What would be hit.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Hit {
    Nothing,
    /// The way to the pins.
    Way,
    /// The tree of cgroups, or something that could not be found out.
    Tree,
}

/// The mount around what hooks are given of it.
#[inline(always)]
pub(super) fn around(part: u64) -> u64 {
    part.wrapping_sub(offsets::OFF_MOUNT_PART.load())
}

/// The mount that a path is on.
#[inline(always)]
pub(super) fn mount_of(path: u64) -> u64 {
    around(word(path + offsets::OFF_PATH_MNT.load()))
}

/// The directory that a path leads to.
#[inline(always)]
pub(super) fn entry_of(path: u64) -> u64 {
    word(path + offsets::OFF_PATH_DENTRY.load())
}

/// What goes when this mount does, with all below it or alone.
#[inline(always)]
pub(super) fn removed(mount: u64, with_all_below: bool) -> Hit {
    if !with_all_below {
        return goes_with(mount, &mut 0);
    }
    let mut walk = Walk::from(mount);
    // SAFETY: a function that takes what is passed to it, and lives as long as the call.
    unsafe { bpf_loop(STEPS, below as *mut c_void, (&raw mut walk).cast(), 0) };
    match walk.state {
        NOTHING => Hit::Nothing,
        WAY => Hit::Way,
        _ => Hit::Tree,
    }
}

/// What is covered when something is mounted over this directory of this mount.
#[inline(always)]
pub(super) fn covered(mount: u64, entry: u64, cgroups: u64) -> Hit {
    covered_within(mount, entry, cgroups, &mut 0)
}

#[inline(always)]
fn covered_within(mount: u64, entry: u64, cgroups: u64, taken: &mut u64) -> Hit {
    let hit = place(entry, cgroups);
    if hit == Hit::Nothing {
        return Hit::Nothing;
    }
    match reaches(mount, taken) {
        Reach::Nothing => Hit::Nothing,
        Reach::Ours => hit,
        // Refused; but that the walk found no end is nobody's attack yet.
        Reach::Lost => Hit::Tree,
    }
}

/// Whether this directory is the one at the root of this mount.
#[inline(always)]
pub(super) fn is_root(mount: u64, entry: u64) -> bool {
    let part = mount + offsets::OFF_MOUNT_PART.load();
    entry == word(part + offsets::OFF_MNT_ROOT.load())
}

/// Whether this very mount is one that the gate is found by.
#[inline(always)]
pub(super) fn is_protected(mount: u64) -> bool {
    maps::protected(
        PROTECTED_MOUNT,
        0,
        half(mount + offsets::OFF_MOUNT_ID.load()).into(),
    )
}

/// What is at the root of a mount.
#[inline(always)]
pub(super) fn root_of(mount: u64) -> Hit {
    let part = mount + offsets::OFF_MOUNT_PART.load();
    match place(word(part + offsets::OFF_MNT_ROOT.load()), 0) {
        Hit::Tree => Hit::Tree,
        Hit::Way | Hit::Nothing => Hit::Way,
    }
}

/// A mount by itself, and what it takes with it elsewhere: what is mounted there on the same directory.
#[inline(always)]
fn goes_with(mount: u64, taken: &mut u64) -> Hit {
    if is_protected(mount) {
        return root_of(mount);
    }
    let over = word(mount + offsets::OFF_MOUNT_OVER.load());
    let parent = word(mount + offsets::OFF_MOUNT_PARENT.load());
    if over == 0 || parent == 0 {
        // No mount is without.
        return Hit::Tree;
    }
    covered_within(parent, over, 0, taken)
}

/// What a directory is to the gate.
#[inline(always)]
pub(super) fn place(entry: u64, cgroups: u64) -> Hit {
    let inode = word(entry + offsets::OFF_DENTRY_INODE.load());
    let superblock = word(inode + offsets::OFF_INODE_SB.load());
    let device = half(superblock + offsets::OFF_SB_DEVICE.load());
    let number = word(inode + offsets::OFF_INODE_NUMBER.load());
    if maps::protected(PROTECTED_WAY, device, number)
        || maps::protected(PROTECTED_PINS, device, number)
    {
        return Hit::Way;
    }
    if cgroups != 0 && u64::from(device) == cgroups
        || maps::protected(PROTECTED_TREE, device, number)
    {
        return Hit::Tree;
    }
    Hit::Nothing
}

/// Where else happens what happens on a mount.
enum Reach {
    Nothing,
    /// On one of ours.
    Ours,
    /// That could not be found out.
    Lost,
}

/// Adds the steps of the walk to those `taken`.
#[inline(always)]
fn reaches(mount: u64, taken: &mut u64) -> Reach {
    let mut walk = Walk::from(mount);
    walk.master = word(mount + offsets::OFF_MOUNT_MASTER.load());
    // SAFETY: a function that takes what is passed to it, and lives as long as the call.
    let steps = unsafe { bpf_loop(STEPS, beside as *mut c_void, (&raw mut walk).cast(), 0) };
    *taken = taken.wrapping_add(steps as u64);
    match walk.state {
        NOTHING => Reach::Nothing,
        WAY => Reach::Ours,
        _ => Reach::Lost,
    }
}

/// Where a walk is.
#[repr(C)]
struct Walk {
    at: u64,
    start: u64,
    /// The master of where it started.
    master: u64,
    /// Back from below: what is below was seen.
    back: u64,
    state: u64,
    /// Steps that walks from here took.
    taken: u64,
}

const WALKING: u64 = 0;
const NOTHING: u64 = 1;
const WAY: u64 = 2;
const TREE: u64 = 3;

impl Walk {
    #[inline(always)]
    const fn from(mount: u64) -> Self {
        Self {
            at: mount,
            start: mount,
            master: 0,
            back: 0,
            state: WALKING,
            taken: 0,
        }
    }

    #[inline(always)]
    const fn end(&mut self, state: u64) -> i64 {
        self.state = state;
        1
    }

    #[inline(always)]
    const fn go(&mut self, to: u64, back: u64) -> i64 {
        self.at = to;
        self.back = back;
        0
    }
}

/// One step through all that is mounted below.
extern "C" fn below(_step: u32, walk: *mut c_void) -> i64 {
    // SAFETY: what `removed` passed.
    let walk = unsafe { &mut *walk.cast::<Walk>() };
    let at = walk.at;
    if walk.back == 0 {
        if walk.taken > STEPS.into() {
            return walk.end(TREE);
        }
        match goes_with(at, &mut walk.taken) {
            Hit::Nothing => {}
            Hit::Way => return walk.end(WAY),
            Hit::Tree => return walk.end(TREE),
        }
        let head = at + offsets::OFF_MOUNT_BELOW.load();
        let first = word(head);
        if first != head && first != 0 {
            return walk.go(first - offsets::OFF_MOUNT_BESIDE.load(), 0);
        }
    }
    if at == walk.start {
        return walk.end(NOTHING);
    }
    let parent = word(at + offsets::OFF_MOUNT_PARENT.load());
    let next = word(at + offsets::OFF_MOUNT_BESIDE.load());
    if next == 0 || parent == 0 {
        return walk.end(TREE);
    }
    if next == parent + offsets::OFF_MOUNT_BELOW.load() {
        walk.go(parent, 1)
    } else {
        walk.go(next - offsets::OFF_MOUNT_BESIDE.load(), 0)
    }
}

/// One step through the peers of a mount, and through whoever follows one of them.
extern "C" fn beside(_step: u32, walk: *mut c_void) -> i64 {
    // SAFETY: what `reaches` passed.
    let walk = unsafe { &mut *walk.cast::<Walk>() };
    let at = walk.at;
    if walk.back == 0 {
        if is_protected(at) {
            return walk.end(WAY);
        }
        let head = at + offsets::OFF_MOUNT_SLAVES.load();
        let first = word(head);
        if first != head && first != 0 {
            return walk.go(first - offsets::OFF_MOUNT_SLAVE.load(), 0);
        }
    }
    let master = word(at + offsets::OFF_MOUNT_MASTER.load());
    if master == walk.master {
        let next = word(at + offsets::OFF_MOUNT_PEERS.load());
        if next == 0 {
            return walk.end(TREE);
        }
        let next = next - offsets::OFF_MOUNT_PEERS.load();
        return match next == walk.start {
            true => walk.end(NOTHING),
            false => walk.go(next, 0),
        };
    }
    let next = word(at + offsets::OFF_MOUNT_SLAVE.load());
    if next == 0 || next == master + offsets::OFF_MOUNT_SLAVES.load() {
        walk.go(master, 1)
    } else {
        walk.go(next - offsets::OFF_MOUNT_SLAVE.load(), 0)
    }
}

/// A word of the kernel's; zero where there is none.
#[inline(always)]
fn word(at: u64) -> u64 {
    let mut value = 0u64;
    // SAFETY: the helper checks the source, and writes one word of our stack.
    unsafe { bpf_probe_read_kernel((&raw mut value).cast(), 8, at as *const c_void) };
    value
}

/// Half a word.
#[inline(always)]
fn half(at: u64) -> u32 {
    let mut value = 0u32;
    // SAFETY: the helper checks the source, and writes half a word of our stack.
    unsafe { bpf_probe_read_kernel((&raw mut value).cast(), 4, at as *const c_void) };
    value
}
