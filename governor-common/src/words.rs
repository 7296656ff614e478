//! Digests in words.
//!
//! The kernel's target reads nothing across a boundary of words, and takes what is declared as bytes to
//! lie anywhere: each of a digest's bytes would be loaded, moved into place and compared for itself.

use crate::facts::{Facts, Label};

/// What a digest can be taken out of.
///
/// # Safety
/// `repr(C)`, of integers only and without padding, and on a boundary of words.
pub(crate) unsafe trait Aligned {}

// SAFETY: as the layout test of `bytes` finds.
unsafe impl Aligned for Facts {}
// SAFETY: as above.
unsafe impl Aligned for Label {}

/// The digest that `whole` holds `AT` bytes from its start.
#[inline(always)]
pub(crate) const fn words<T: Aligned, const AT: usize>(whole: &T) -> [u64; 4] {
    const {
        assert!(align_of::<T>().is_multiple_of(align_of::<[u64; 4]>()));
        assert!(AT.is_multiple_of(align_of::<[u64; 4]>()));
        assert!(AT + size_of::<[u64; 4]>() <= size_of::<T>());
    }
    // SAFETY: within it, as asserted.
    let digest = unsafe { core::ptr::from_ref(whole).byte_add(AT) };
    // SAFETY: as above, and on a boundary of words; every bit pattern is a value.
    unsafe { *digest.cast::<[u64; 4]>() }
}
