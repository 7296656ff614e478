//! Measuring a file: SHA-256 by the kernel's own reader, or an honest failure. What was measured
//! before need not be read again where `kept` can tell that it is still the same.

use core::{ffi::c_void, ptr};

use aya_ebpf::helpers::generated::bpf_ima_file_hash;
use governor_common::{
    Measured,
    facts::NOT_ASKED,
    names::{COUNT_HASHED, COUNT_RECALLED},
};

use crate::{
    facts,
    kept::{self, Digest, Kept, UNKNOWN, WRITTEN},
    maps,
    offsets::{self, load},
};

/// What came of it.
pub(crate) struct Measurement {
    pub(crate) measured: Measured,
    /// The helper's return value.
    pub(crate) raw: i64,
    /// How often somebody had come to write when it began; [`UNKNOWN`] if that could not be known,
    /// [`WRITTEN`] if somebody wrote.
    pub(crate) generation: u64,
    /// Where that is counted; null: nowhere.
    pub(crate) kept: *mut Kept,
    /// It was known before.
    pub(crate) recalled: bool,
}

impl Measurement {
    /// Nothing was read.
    const FAILED: Self = Self::without(Measured::Failed);

    /// There is no digest, and why.
    #[inline(always)]
    const fn without(measured: Measured) -> Self {
        Self {
            measured,
            raw: -1,
            generation: UNKNOWN,
            kept: ptr::null_mut(),
            recalled: false,
        }
    }

    /// It is a file whose fields may be read: the helper took it, or was not needed to tell.
    #[inline(always)]
    pub(crate) fn is_file(&self) -> bool {
        self.raw >= 0
    }

    /// The digest is one, of a file that has a name on a file system that can be relied on.
    #[inline(always)]
    pub(crate) fn is_stable(&self) -> bool {
        self.measured as u32 == Measured::Sha256 as u32
    }

    /// The digest is one, whatever else speaks against the file.
    #[inline(always)]
    pub(crate) fn is_sha256(&self) -> bool {
        self.raw == HASH_ALGO_SHA256
    }
}

/// Measures `file`, which is not null, or recalls what was measured before. What somebody writes is not read for
/// a task of a zone that would refuse it in any case: who keeps a file open for writing has nobody read it.
#[inline(always)]
pub(crate) fn file(file: *mut c_void, digest: &mut Digest, zone: u32) -> Measurement {
    if length(file) > LONGEST {
        return Measurement::FAILED;
    }
    if kept::is_written(file) && is_stable(file) && facts::enforces(zone) {
        return Measurement {
            raw: NOT_ASKED,
            ..Measurement::without(Measured::Written)
        };
    }
    let measurement = once(file, digest, false);
    maps::count(if measurement.recalled {
        COUNT_RECALLED
    } else {
        COUNT_HASHED
    });
    measurement
}

/// The same for a file that nobody executes yet, if the digest may be kept: otherwise it would be read for
/// nothing. So it would be while somebody writes it. Counted by whoever asks for it.
#[inline(always)]
pub(crate) fn ahead(
    file: *mut c_void,
    digest: &mut Digest,
    is_listed_as_empty: bool,
) -> Measurement {
    if length(file) <= LONGEST && is_kept_at_all(file) && !kept::is_written(file) {
        once(file, digest, is_listed_as_empty)
    } else {
        Measurement::FAILED
    }
}

/// What is known of a file that cannot be read yet. As [`file`] in all but that: what it would read to find
/// out is unknown.
#[inline(always)]
pub(crate) fn recalled(file: *mut c_void, digest: &mut Digest) -> Measurement {
    if length(file) > LONGEST {
        return Measurement::FAILED;
    }
    if !is_stable(file) {
        return Measurement::without(Measured::Unstable);
    }
    // Also whoever opens it to write as well: the kernel has counted them by now.
    if kept::is_written(file) {
        return Measurement::without(Measured::Written);
    }
    let kept = kept::existing(file);
    if kept.is_null() {
        return Measurement::without(Measured::Unknown);
    }
    let era = kept::era();
    let generation = kept::generation(kept);
    if !is_owned(file, era) || !kept::recall(kept, file, era, digest) {
        return Measurement::without(Measured::Unknown);
    }
    maps::count(COUNT_RECALLED);
    Measurement {
        measured: Measured::Sha256,
        raw: HASH_ALGO_SHA256,
        generation,
        kept,
        recalled: true,
    }
}

/// Whether whoever executes it next need not read it.
#[inline(always)]
pub(crate) fn is_known(file: *mut c_void) -> bool {
    let (kept, era) = (kept::of(file), kept::era());
    let mut digest = Digest::NONE;
    !kept.is_null() && is_kept_at_all(file) && kept::recall(kept, file, era, &mut digest)
}

#[inline(always)]
fn is_kept_at_all(file: *mut c_void) -> bool {
    kept::era() != 0 && is_stable(file) && kept::may_keep(file)
}

/// Of an empty file nothing is kept unless `nothing_too`: all of them have one digest, and whoever may have one
/// of them held need not be let hold all that others are about to fill.
#[inline(always)]
fn once(file: *mut c_void, digest: &mut Digest, nothing_too: bool) -> Measurement {
    let kept = kept::of(file);
    if kept.is_null() {
        return hash(file, digest);
    }
    let era = kept::era();
    let generation = kept::generation(kept);
    let written = kept::is_written(file);
    let owned = is_owned(file, era);
    // What is kept was kept on a file system that it may be kept on, and an inode stays on that.
    if owned && kept::recall(kept, file, era, digest) {
        return Measurement {
            measured: Measured::Sha256,
            raw: HASH_ALGO_SHA256,
            generation,
            kept,
            recalled: true,
        };
    }
    let measurement = hash(file, digest);
    let says_something = nothing_too || !digest.is_of_nothing();
    if owned && measurement.is_stable() && says_something && kept::may_keep(file) && !written {
        kept::store(kept, file, era, generation, digest);
    }
    Measurement {
        generation: if written { WRITTEN } else { generation },
        kept,
        ..measurement
    }
}

/// Whether a digest that is kept of it counts, as far as era, name and owner go.
#[inline(always)]
fn is_owned(file: *const c_void, era: u64) -> bool {
    era != 0 && has_name(file) && kept::is_written_by_root_only(file)
}

/// Reads and measures `file`, which may be null where the verifier says it is not: the helper tests
/// it, and no field is read unless the helper succeeded.
#[inline(always)]
pub(crate) fn read(file: *mut c_void, digest: &mut Digest) -> Measurement {
    maps::count(COUNT_HASHED);
    hash(file, digest)
}

#[inline(always)]
fn hash(file: *mut c_void, digest: &mut Digest) -> Measurement {
    // SAFETY: a file the verifier trusts, and 32 bytes of our stack.
    let raw = unsafe { bpf_ima_file_hash(file.cast(), digest.0.as_mut_ptr().cast(), 32) } as i64;
    let measured = if raw != HASH_ALGO_SHA256 {
        Measured::Failed
    } else if is_stable(file) {
        Measured::Sha256
    } else {
        Measured::Unstable
    };
    Measurement {
        measured,
        raw,
        generation: UNKNOWN,
        kept: ptr::null_mut(),
        recalled: false,
    }
}

/// Whether the file, which is one, has a name somewhere, on a file system that whoever mounted it does not
/// answer for: below an overlay that a task mounted in a user namespace of its own it changes what the
/// inode says nothing of, and a file system in user space says what it likes, whoever mounted it (its
/// helper does so as root for anybody).
#[inline(always)]
fn is_stable(file: *const c_void) -> bool {
    // SAFETY: every file has an inode.
    let inode: *const c_void = unsafe { load(file, &offsets::OFF_FILE_INODE) };
    // SAFETY: every inode has a superblock.
    let superblock: *const c_void = unsafe { load(inode, &offsets::OFF_INODE_SB) };
    // SAFETY: every superblock has a user namespace.
    let users: *const c_void = unsafe { load(superblock, &offsets::OFF_SB_USERS) };
    // SAFETY: a field of `user_namespace`; that of the host is at the top.
    let level: u32 = unsafe { load(users, &offsets::OFF_USERS_LEVEL) };
    // SAFETY: a field of `super_block`.
    let magic: u64 = unsafe { load(superblock, &offsets::OFF_SB_MAGIC) };
    has_name(file) && !is_kernels_own(file) && level == 0 && magic != FUSE_SUPER_MAGIC
}

/// Whether the file is on a mount that only the kernel uses: memory that is shared.
#[inline(always)]
pub(crate) fn is_kernels_own(file: *const c_void) -> bool {
    // SAFETY: every file has an inode.
    let inode: *const c_void = unsafe { load(file, &offsets::OFF_FILE_INODE) };
    // SAFETY: every inode has a superblock.
    let superblock: *const c_void = unsafe { load(inode, &offsets::OFF_INODE_SB) };
    // SAFETY: a field of `super_block`.
    let flags: u64 = unsafe { load(superblock, &offsets::OFF_SB_FLAGS) };
    flags & SB_KERNMOUNT != 0
}

/// Whether the file has a name somewhere.
#[inline(always)]
fn has_name(file: *const c_void) -> bool {
    // SAFETY: every file has an inode.
    let inode: *const c_void = unsafe { load(file, &offsets::OFF_FILE_INODE) };
    // SAFETY: a field of `inode`.
    let links: u32 = unsafe { load(inode, &offsets::OFF_INODE_NLINK) };
    links != 0
}

/// How many bytes the file has.
#[inline(always)]
fn length(file: *const c_void) -> u64 {
    // SAFETY: every file has an inode.
    let inode: *const c_void = unsafe { load(file, &offsets::OFF_FILE_INODE) };
    // SAFETY: a field of `inode`; it is never negative.
    unsafe { load(inode, &offsets::OFF_INODE_SIZE) }
}

/// The kernel reads to the end, and on some file systems no signal ends that: whoever makes a file of
/// nothing but holes could have a processor for years.
const LONGEST: u64 = 1 << 32;
/// `HASH_ALGO_SHA256` of the kernel's list of hashes.
pub(crate) const HASH_ALGO_SHA256: i64 = 4;
/// A mount internal to the kernel: memfd, SysV shared memory.
const SB_KERNMOUNT: u64 = 1 << 22;
/// A file system in user space, also on a block device, and one that a hypervisor serves (virtiofs).
const FUSE_SUPER_MAGIC: u64 = 0x6573_5546;
