//! Measuring a file: SHA-256 by the kernel's own reader, or an honest failure.

use core::ffi::c_void;

use aya_ebpf::helpers::generated::bpf_ima_file_hash;
use governor_common::Measured;

use crate::offsets::{self, load};

/// What came of it.
pub(crate) struct Measurement {
    pub(crate) measured: Measured,
    /// The helper's return value.
    pub(crate) raw: i64,
}

impl Measurement {
    /// The helper took the file, so it is one and its fields may be read.
    #[inline(always)]
    pub(crate) fn is_file(&self) -> bool {
        self.raw >= 0
    }

    /// The digest is one, of a file that has a name.
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

/// Measures `file`, which may be null where the verifier says it is not: the helper tests it, and
/// no field is read unless the helper succeeded.
#[inline(always)]
pub(crate) fn file(file: *mut c_void, digest: &mut [u8; 32]) -> Measurement {
    // SAFETY: a file the verifier trusts, and 32 bytes of our stack.
    let raw = unsafe { bpf_ima_file_hash(file.cast(), digest.as_mut_ptr().cast(), 32) } as i64;
    if raw < 0 {
        return Measurement {
            measured: Measured::Failed,
            raw,
        };
    }
    // SAFETY: the helper refuses null and returned a hash, so this is a file with an inode.
    let inode: *const c_void = unsafe { load(file, &offsets::OFF_FILE_INODE) };
    // SAFETY: as above.
    let links: u32 = unsafe { load(inode, &offsets::OFF_INODE_NLINK) };
    // SAFETY: every inode has a superblock.
    let superblock: *const c_void = unsafe { load(inode, &offsets::OFF_INODE_SB) };
    // SAFETY: as above.
    let flags: u64 = unsafe { load(superblock, &offsets::OFF_SB_FLAGS) };
    let measured = if raw != HASH_ALGO_SHA256 {
        Measured::Failed
    } else if links == 0 || flags & SB_KERNMOUNT != 0 {
        Measured::Unstable
    } else {
        Measured::Sha256
    };
    Measurement { measured, raw }
}

/// `HASH_ALGO_SHA256` of the kernel's list of hashes.
pub(crate) const HASH_ALGO_SHA256: i64 = 4;
/// A mount internal to the kernel: memfd, SysV shared memory.
const SB_KERNMOUNT: u64 = 1 << 22;
