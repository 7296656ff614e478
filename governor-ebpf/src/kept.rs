//! What is kept with inodes: digests, so that a file is read once and not at every exec, and that writers
//! are to be turned away, so that what runs stays what was measured.
//!
//! Promises: what is recalled is the digest of what the file holds now; no verdict is kept. It was
//! measured while nobody had the file open for writing and before anybody opened it so again, and nobody
//! has it open so at the moment of the recall. And a file that is held is the one that was measured: nobody
//! had it open for writing since, and nobody opens it so, or gives it another size, for as long as the
//! kernel knows its inode. That leans on the order in which the kernel opens for writing, or changes a
//! file's size: it counts the writer first and asks `file_open` or `inode_setattr` then. So a writer is
//! seen in the count, or has raised the generation, or comes later and finds that the file is held.
//!
//! A file is never let go of: code is mapped after the hook that was asked about it, and a thread can be
//! kept waiting in between for as long as somebody likes.
//!
//! Keeps no digest of files that anybody but root may write, for pages can be held writable without the file
//! (pinned for direct or asynchronous transfers); file systems that are changed past the inode (another
//! file system's, a server's, a process's, a file's through a loop device); and any kept digest while a
//! program that notices writers was not in place.

use core::{ffi::c_void, ptr};

use aya_ebpf::{bindings::inode, btf_maps::InodeStorage, macros::btf_map};
use governor_common::{
    facts::{SHA256_OF_NOTHING, same},
    names::COUNT_TURNED_AWAY,
    state::{self, Word},
};

use crate::{
    maps::{self, fetch_add, fetch_or},
    offsets::{self, load},
};

const WORDS: usize = 4;

/// What is kept with an inode. Words, so that each is read and written whole.
#[repr(C)]
pub(crate) struct Kept {
    /// Raised by whoever may be about to change the content. The highest bit is [`HELD`].
    generation: u64,
    /// Above zero: somebody is writing what follows.
    claims: u64,
    /// The generation that the digest is of, plus one; zero: there is none.
    known: u64,
    /// The era that it was measured in.
    era: u64,
    digest: [u64; WORDS],
}

#[btf_map]
static DIGESTS: InodeStorage<Kept> = InodeStorage::new();

/// A digest, on a boundary of words.
#[repr(C, align(8))]
pub(crate) struct Digest(pub(crate) [u8; 32]);

impl Digest {
    pub(crate) const NONE: Self = Self([0; 32]);

    /// Whether it is SHA-256 of no bytes at all.
    #[inline(always)]
    pub(crate) fn is_of_nothing(&self) -> bool {
        // SAFETY: the digest is four words, on their boundary.
        same(unsafe { &*ptr::from_ref(self).cast() }, &OF_NOTHING)
    }
}

/// In words as they lie in memory.
const OF_NOTHING: [u64; WORDS] = {
    let mut words = [0; WORDS];
    let mut at = 0;
    while at < WORDS {
        let mut bytes = [0; 8];
        let mut i = 0;
        while i < 8 {
            bytes[i] = SHA256_OF_NOTHING[8 * at + i];
            i += 1;
        }
        words[at] = u64::from_ne_bytes(bytes);
        at += 1;
    }
    words
};

/// The era there is now; zero: nothing is kept. It grows with whatever may mean that a writer went
/// unnoticed: programs put in place, alarms, the loss of trust.
#[inline(always)]
pub(crate) fn era() -> u64 {
    // One after the other: the compiler adds what is there and what is not, where all are asked for first,
    // and the verifier refuses that.
    let Some(era) = maps::state(Word::DigestEra) else {
        return 0;
    };
    let Some(epoch) = maps::state(Word::EpochAttested) else {
        return 0;
    };
    let Some(trips) = maps::trips() else {
        return 0;
    };
    state::era(era, epoch, trips)
}

/// Storage of this file's inode, made if need be; null: none can be had. Made before writers are looked
/// for: one that comes later finds it and raises the generation.
#[inline(always)]
pub(crate) fn of(file: *const c_void) -> *mut Kept {
    // SAFETY: every file has an inode, and the verifier trusts the pointer.
    unsafe {
        let inode: *mut inode = load(file, &offsets::OFF_FILE_INODE);
        let kept = DIGESTS.get_or_insert_ptr_mut(inode, None);
        if !kept.is_null() {
            return kept;
        }
        // Who comes second of two that make it at once gets none, and finds what the first one made.
        DIGESTS.get_or_insert_ptr_mut(inode, None)
    }
}

/// The same where there is any. Who only recalls need not make it: without storage nothing was kept.
#[inline(always)]
pub(crate) fn existing(file: *const c_void) -> *mut Kept {
    // SAFETY: every file has an inode, and the verifier trusts the pointer.
    unsafe {
        let inode: *mut inode = load(file, &offsets::OFF_FILE_INODE);
        DIGESTS.get_ptr_mut(inode)
    }
}

/// Whether a digest of this file may be kept.
#[inline(always)]
pub(crate) fn may_keep(file: *const c_void) -> bool {
    is_changed_by_inode_only(file) && is_written_by_root_only(file)
}

/// Copies what is known of the content. False: nothing is.
#[inline(always)]
pub(crate) fn recall(kept: *mut Kept, file: *const c_void, era: u64, digest: &mut Digest) -> bool {
    // SAFETY: fields of storage that lives as long as the file is held, read word by word.
    let known = unsafe { (&raw const (*kept).known).read_volatile() };
    let generation = generation(kept);
    if known == 0 || known != generation + 1 {
        return false;
    }
    // SAFETY: as above.
    if unsafe { (&raw const (*kept).era).read_volatile() } != era {
        return false;
    }
    // SAFETY: as above.
    let from: *const u64 = unsafe { (&raw const (*kept).digest).cast() };
    maps::copy_words(from, ptr::from_mut(digest).cast(), 0, WORDS);
    // Whoever wrote another digest meanwhile took `known` away first.
    let after = self::generation(kept);
    // SAFETY: as above.
    let still = unsafe { (&raw const (*kept).known).read_volatile() };
    after == generation && still == known && !is_written(file)
}

/// How often somebody came to write. A full barrier: nothing is read ahead of it or kept behind it.
#[inline(always)]
pub(crate) fn generation(kept: *mut Kept) -> u64 {
    // SAFETY: a field of the storage.
    fetch_add(unsafe { &raw mut (*kept).generation }, 0) & !HELD
}

/// Whether somebody has the file open for writing, or mapped so.
#[inline(always)]
pub(crate) fn is_written(file: *const c_void) -> bool {
    // SAFETY: every file has an inode.
    let inode: *const c_void = unsafe { load(file, &offsets::OFF_FILE_INODE) };
    // SAFETY: a field of `inode`.
    let writers: i32 = unsafe { load(inode, &offsets::OFF_INODE_WRITERS) };
    writers > 0
}

/// Keeps a digest that was measured since `generation` was read, with nobody writing then, unless
/// somebody writes by now or did meanwhile.
#[inline(always)]
pub(crate) fn store(
    kept: *mut Kept,
    file: *const c_void,
    era: u64,
    generation: u64,
    digest: &Digest,
) {
    // SAFETY: a field of the storage.
    let claims = unsafe { &raw mut (*kept).claims };
    if fetch_add(claims, 1) == 0 {
        // SAFETY: nobody else writes this and what follows while the claim is held.
        unsafe { (&raw mut (*kept).known).write_volatile(0) };
        if self::generation(kept) == generation && !is_written(file) {
            // SAFETY: as above.
            unsafe { (&raw mut (*kept).era).write_volatile(era) };
            // SAFETY: as above.
            let to: *mut u64 = unsafe { (&raw mut (*kept).digest).cast() };
            maps::copy_words(ptr::from_ref(digest).cast(), to, 0, WORDS);
            // The digest is whole before it is known.
            self::generation(kept);
            // SAFETY: as above.
            unsafe { (&raw mut (*kept).known).write_volatile(generation + 1) };
        }
    }
    fetch_add(claims, u64::MAX);
}

/// What came of holding a file.
pub(crate) enum Hold {
    /// It is what was measured when its generation was read, and stays so.
    Held,
    /// Somebody writes it, or came to since.
    Written,
    /// There is nothing to note it in.
    Broken,
}

/// Turns writers away from the file from now on. `kept` is its storage, and `generation` was read before it
/// was measured, with nobody writing. Noted first and looked for writers then, for they do it the other way
/// round; looked for before that only so as not to hold what is being written.
#[inline(always)]
pub(crate) fn hold(kept: *mut Kept, file: *const c_void, generation: u64) -> Hold {
    if kept.is_null() || generation == UNKNOWN {
        return Hold::Broken;
    }
    // Who writes now is refused nothing more for a try that is refused in any case.
    if self::generation(kept) != generation || is_written(file) {
        return Hold::Written;
    }
    // SAFETY: a field of the storage. A full barrier, as all of these.
    let before = fetch_or(unsafe { &raw mut (*kept).generation }, HELD);
    if before & !HELD != generation || is_written(file) {
        return Hold::Written;
    }
    Hold::Held
}

/// Somebody may be about to change the content: nothing that was measured before is known any more. True:
/// the file is held, and whoever it is must be turned away.
#[inline(always)]
pub(crate) fn touched(inode: *mut inode) -> bool {
    // SAFETY: an inode that the verifier trusts.
    let kept = unsafe { DIGESTS.get_ptr_mut(inode) };
    if kept.is_null() {
        return false;
    }
    // SAFETY: a field of the storage.
    let generation = unsafe { &raw mut (*kept).generation };
    // Who is turned away changes nothing, so what was measured stays known. Only the second look is made
    // after the writer was counted.
    // SAFETY: as above.
    let held =
        unsafe { generation.read_volatile() } & HELD != 0 || fetch_add(generation, 1) & HELD != 0;
    if held {
        maps::count(COUNT_TURNED_AWAY);
    }
    held
}

/// Whether content changes only by way of an inode that the kernel counts writers of.
#[inline(always)]
fn is_changed_by_inode_only(file: *const c_void) -> bool {
    // SAFETY: every file has an inode.
    let inode: *const c_void = unsafe { load(file, &offsets::OFF_FILE_INODE) };
    // SAFETY: every inode has a superblock.
    let superblock: *const c_void = unsafe { load(inode, &offsets::OFF_INODE_SB) };
    // SAFETY: a field of `super_block`.
    let magic: u64 = unsafe { load(superblock, &offsets::OFF_SB_MAGIC) };
    (magic == EXT || magic == XFS) && is_on_disk(superblock)
}

/// Whether what is read of the file now is what is read of it next, unless somebody writes it: it is on a disk, or
/// in memory. Overlays, file systems of other hosts or of user space, and what lies on a file may say something else
/// each time. Of btrfs nothing says what it lies on.
#[inline(always)]
pub(crate) fn is_local(file: *const c_void) -> bool {
    // SAFETY: every file has an inode.
    let inode: *const c_void = unsafe { load(file, &offsets::OFF_FILE_INODE) };
    // SAFETY: every inode has a superblock.
    let superblock: *const c_void = unsafe { load(inode, &offsets::OFF_INODE_SB) };
    // SAFETY: a field of `super_block`.
    let magic: u64 = unsafe { load(superblock, &offsets::OFF_SB_MAGIC) };
    magic == BTRFS || magic == TMPFS || magic == RAMFS || is_on_disk(superblock)
}

/// Whether a file system lies on a device that is no file and no other host's.
#[inline(always)]
fn is_on_disk(superblock: *const c_void) -> bool {
    // SAFETY: a pointer field of `super_block`, only compared with zero.
    let any: u64 = unsafe { load(superblock, &offsets::OFF_SB_BDEV) };
    if any == 0 {
        return false;
    }
    // SAFETY: a field of `super_block`.
    let device: *const c_void = unsafe { load(superblock, &offsets::OFF_SB_BDEV) };
    // SAFETY: a field of `block_device`.
    let disk: *const c_void = unsafe { load(device, &offsets::OFF_BDEV_DISK) };
    // SAFETY: a field of `gendisk`.
    let major: u32 = unsafe { load(disk, &offsets::OFF_DISK_MAJOR) };
    major != LOOP && major != NBD
}

/// Whether the file is root's and nobody else may open it for writing. The group's bits also say what
/// an access control list grants at most.
#[inline(always)]
pub(crate) fn is_written_by_root_only(file: *const c_void) -> bool {
    // SAFETY: every file has an inode.
    let inode: *const c_void = unsafe { load(file, &offsets::OFF_FILE_INODE) };
    // SAFETY: a field of `inode`: the owner as the root namespace knows it.
    let owner: u32 = unsafe { load(inode, &offsets::OFF_INODE_OWNER) };
    // SAFETY: a field of `inode`.
    let mode: u16 = unsafe { load(inode, &offsets::OFF_INODE_MODE) };
    owner == 0 && mode & OTHERS_WRITE == 0
}

/// No generation: there was nothing to count it in. It is counted in fewer bits.
pub(crate) const UNKNOWN: u64 = u64::MAX;
/// No generation: somebody wrote when it was to be read.
pub(crate) const WRITTEN: u64 = u64::MAX - 1;
/// In the generation: writers are turned away.
const HELD: u64 = 1 << 63;
const OTHERS_WRITE: u16 = 0o022;
// Numbers of linux/magic.h. Btrfs is not among them: it does not name its devices to the superblock.
// Nor is tmpfs: its pages stay writable for a ring of asynchronous transfers without being counted.
const EXT: u64 = 0xef53;
const XFS: u64 = 0x5846_5342;
const BTRFS: u64 = 0x9123_683e;
const TMPFS: u64 = 0x0102_1994;
const RAMFS: u64 = 0x8584_58f6;
// Numbers of linux/major.h: devices whose content is a file's or a server's.
const LOOP: u32 = 7;
const NBD: u32 = 43;
