//! Destinations: the key and value of the egress trie, and which sockets may exist at all.
//!
//! The exact parts of the key come first and the address last, so that one longest-prefix match
//! answers for generation, workload, protocol and family together. User space writes, for each
//! prefix, the ports of every rule that covers it, so the longest match alone is the answer.

use crate::names::PORT_RANGES;

pub const AF_UNIX: u32 = 1;
pub const AF_INET: u32 = 2;
pub const AF_INET6: u32 = 10;
pub const AF_NETLINK: u32 = 16;

pub const SOCK_STREAM: u32 = 1;
pub const SOCK_DGRAM: u32 = 2;
pub const SOCK_RAW: u32 = 3;
pub const SOCK_SEQPACKET: u32 = 5;

pub const IPPROTO_IP: u32 = 0;
pub const IPPROTO_TCP: u32 = 6;
pub const IPPROTO_UDP: u32 = 17;

/// Bits of an [`EgressKey`] before the address.
pub const EGRESS_EXACT_BITS: u32 = 96;

/// The data part of the trie's key; the kernel's `prefixlen` word stands before it.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct EgressKey {
    pub generation: u32,
    pub workload: u32,
    /// `IPPROTO_TCP` or `IPPROTO_UDP`.
    pub protocol: u16,
    /// `AF_INET` or `AF_INET6`; a v4-mapped address is looked up as `AF_INET`.
    pub family: u16,
    /// Network order; an IPv4 address fills the first four bytes.
    pub address: [u8; 16],
}

/// Ports allowed at a destination, inclusive.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PortRange {
    pub low: u16,
    pub high: u16,
}

/// The trie's value.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct EgressRow {
    /// Places of `ports` in use.
    pub count: u32,
    pub reserved: u32,
    pub ports: [PortRange; PORT_RANGES],
}

impl EgressRow {
    /// Whether `port` (host order) is listed. Port 0 never is.
    #[inline(always)]
    pub fn allows(&self, port: u16) -> bool {
        let mut i = 0;
        while i < PORT_RANGES {
            let range = self.ports[i];
            if (i as u32) < self.count && port != 0 && range.low <= port && port <= range.high {
                return true;
            }
            i += 1;
        }
        false
    }
}

/// Whether a socket of this shape may exist in a zone that allows `families`.
///
/// Raw, packet, MPTCP, SCTP and every family without a bit are refused: each has a way to send that
/// no later hook sees.
#[inline(always)]
pub const fn socket_allowed(families: u64, family: u32, kind: u32, protocol: u32) -> bool {
    if family == 0 || family >= 64 || families & (1 << family) == 0 {
        return false;
    }
    match family {
        AF_INET | AF_INET6 => match kind {
            SOCK_STREAM => protocol == IPPROTO_IP || protocol == IPPROTO_TCP,
            SOCK_DGRAM => protocol == IPPROTO_IP || protocol == IPPROTO_UDP,
            _ => false,
        },
        AF_UNIX => matches!(kind, SOCK_STREAM | SOCK_DGRAM | SOCK_SEQPACKET),
        // Routing information only: what resolvers ask for.
        AF_NETLINK => matches!(kind, SOCK_RAW | SOCK_DGRAM) && protocol == 0,
        _ => false,
    }
}
