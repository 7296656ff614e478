//! Byte views of the shared structs, for user space.
//!
//! With `words` the one place in this crate that needs `unsafe`: a marker for types whose every bit
//! pattern is a value and which have no padding, so that they can be read from and written to maps and
//! rings.

use core::mem::size_of;

use crate::{
    carrier::Carrier,
    event::Event,
    facts::Label,
    guard::{ListedKey, ProtectedKey},
    net::{EgressKey, EgressRow},
    row::{Row, RowKey, TombstoneKey},
};

/// A `repr(C)` struct of plain integers without padding.
///
/// # Safety
/// Every bit pattern is a valid value and the type has no padding bytes.
pub unsafe trait Plain: Copy + 'static {
    /// The value in these bytes, if there are exactly enough of them.
    fn read(bytes: &[u8]) -> Option<Self> {
        if bytes.len() != size_of::<Self>() {
            return None;
        }
        // SAFETY: the length was checked, every bit pattern is valid (the trait's contract), and an
        // unaligned read needs no alignment.
        Some(unsafe { bytes.as_ptr().cast::<Self>().read_unaligned() })
    }

    /// The bytes of this value.
    fn bytes(&self) -> &[u8] {
        let start = core::ptr::from_ref(self).cast::<u8>();
        // SAFETY: the value has `size_of` initialised bytes (no padding, the trait's contract) and
        // the slice borrows it.
        unsafe { core::slice::from_raw_parts(start, size_of::<Self>()) }
    }
}

// SAFETY: integers and arrays of integers only; the layout test below finds no padding.
unsafe impl Plain for Event {}
// SAFETY: as above.
unsafe impl Plain for Label {}
// SAFETY: as above.
unsafe impl Plain for Carrier {}
// SAFETY: as above.
unsafe impl Plain for EgressKey {}
// SAFETY: as above.
unsafe impl Plain for EgressRow {}
// SAFETY: as above.
unsafe impl Plain for Row {}
// SAFETY: as above.
unsafe impl Plain for RowKey {}
// SAFETY: as above.
unsafe impl Plain for TombstoneKey {}
// SAFETY: as above.
unsafe impl Plain for ProtectedKey {}
// SAFETY: as above.
unsafe impl Plain for ListedKey {}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{facts::Facts, names::ABI, state::StateWords};

    /// Sizes are the sums of the fields' sizes: nothing is padding.
    #[test]
    fn layouts_have_no_padding() {
        assert_eq!(size_of::<RowKey>(), 4 + 4 + 32);
        assert_eq!(size_of::<TombstoneKey>(), 4 + 4 + 32);
        assert_eq!(size_of::<ProtectedKey>(), 4 + 4 + 8);
        assert_eq!(size_of::<ListedKey>(), 4 + 4 + 32);
        assert_eq!(size_of::<Row>(), 40 + 6 * 4 + 5 * 8 + 8 * 4 + 4 * 4);
        assert_eq!(size_of::<Label>(), 4 + 4 + 8 + 32);
        assert_eq!(size_of::<Carrier>(), 4 * 4 + 8 + 8 + 48);
        assert_eq!(size_of::<StateWords>(), 7 * 8);
        assert_eq!(size_of::<EgressKey>(), 4 + 4 + 2 + 2 + 16);
        assert_eq!(size_of::<EgressRow>(), 4 + 4 + 16 * 4);
        let facts = 8 + 4 + 4 + 8 + 32 + 4 * 4 + 48 + 56 + 4 * 4 + 2 * 8 + 152 + 4 * 4 + 16 + 4 * 4;
        assert_eq!(size_of::<Facts>(), facts);
        assert_eq!(size_of::<Event>(), 8 + 4 * 4 + 8 + 48 + facts + 16 + 192);
    }

    #[test]
    fn an_event_survives_the_ring() {
        // SAFETY: all-zero bytes are a valid `Event` (integers only).
        let mut event: Event = unsafe { core::mem::zeroed() };
        event.abi = ABI;
        event.facts.digest[31] = 7;
        let bytes = event.bytes().to_vec();
        assert_eq!(Event::read(&bytes), Some(event));
        assert_eq!(Event::read(&bytes[1..]), None);
    }
}
