//! Reading a socket address into facts: family, port, address, in one form for one destination.

use core::ffi::c_void;

use aya_ebpf::helpers::generated::bpf_probe_read_kernel;
use governor_common::{
    Facts,
    net::{AF_INET, AF_INET6},
};

pub(crate) const AF_UNSPEC: u32 = 0;

/// Bytes of the longest address that is judged: `sockaddr_in6`.
pub(crate) const LEN: usize = 28;

/// A kernel copy of an address that the caller named.
pub(crate) struct Address {
    bytes: [u8; LEN],
    /// What the caller said its length is; zero: it could not be read.
    len: u32,
}

impl Address {
    /// Copies the address. Every field has a value also when nothing was read: the verifier refuses
    /// to see one copied that has none.
    #[inline(always)]
    pub(crate) fn read(from: *const c_void, len: u32) -> Self {
        let mut this = Self {
            bytes: [0; LEN],
            len: 0,
        };
        if len < 2 || len > 128 {
            return this;
        }
        // SAFETY: the helper checks the source; the destination is `LEN` bytes of our stack. The
        // kernel keeps every address in a `sockaddr_storage`, so `LEN` bytes are there.
        let read =
            unsafe { bpf_probe_read_kernel(this.bytes.as_mut_ptr().cast(), LEN as u32, from) };
        if read == 0 {
            this.len = len;
        }
        this
    }

    /// One that is not judged but refused.
    #[inline(always)]
    pub(crate) fn unreadable() -> Self {
        Self {
            bytes: [0; LEN],
            len: 0,
        }
    }

    #[inline(always)]
    pub(crate) fn readable(&self) -> bool {
        self.len != 0
    }

    #[inline(always)]
    pub(crate) fn family(&self) -> u32 {
        u32::from(u16::from_ne_bytes([self.bytes[0], self.bytes[1]]))
    }

    /// Fills in the destination as an address of `family`.
    #[inline(always)]
    pub(crate) fn describe(&self, family: u32, facts: &mut Facts) {
        facts.family = family;
        if family != AF_INET && family != AF_INET6 {
            return;
        }
        facts.port = u32::from(u16::from_be_bytes([self.bytes[2], self.bytes[3]]));
        // The kernel takes "any" for this host, which no rule means by it.
        if family == AF_INET {
            if self.len < 8 || self.zeros(4, 8) {
                facts.address_unreadable = 1;
                return;
            }
            self.copy::<4>(4, facts);
            return;
        }
        if self.len < 24 || self.zeros(8, 24) {
            facts.address_unreadable = 1;
            return;
        }
        if self.is_v4_mapped() {
            if self.zeros(20, 24) {
                facts.address_unreadable = 1;
                return;
            }
            facts.family = AF_INET;
            self.copy::<4>(20, facts);
        } else {
            self.copy::<16>(8, facts);
        }
    }

    #[inline(always)]
    fn copy<const N: usize>(&self, start: usize, facts: &mut Facts) {
        let mut i = 0;
        while i < N {
            facts.address[i] = self.bytes[start + i];
            i += 1;
        }
    }

    /// `::ffff:0:0/96`.
    #[inline(always)]
    fn is_v4_mapped(&self) -> bool {
        self.zeros(8, 18) && self.bytes[18] == 0xff && self.bytes[19] == 0xff
    }

    #[inline(always)]
    fn zeros(&self, start: usize, end: usize) -> bool {
        let mut bits = 0;
        let mut i = start;
        while i < end {
            bits |= self.bytes[i];
            i += 1;
        }
        bits == 0
    }
}
