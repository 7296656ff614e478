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
pub const AF_PACKET: u32 = 17;

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

/// Whether an address (network order, IPv4 in the first four bytes) is this host itself.
#[inline(always)]
pub const fn is_loopback(family: u32, address: &[u8; 16]) -> bool {
    match family {
        AF_INET => address[0] == 127,
        AF_INET6 => {
            let mut i = 0;
            while i < 15 {
                if address[i] != 0 {
                    return false;
                }
                i += 1;
            }
            address[15] == 1
        }
        _ => false,
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

/// Whether a socket option lets the sender name the way a packet takes, so that what is sent to a
/// listed address is handed to somebody else first, or instead.
///
/// Refused, each with its own reason:
/// - source routes (`IP_OPTIONS`) and routing headers, also among the options of a flow label
///   (`IPV6_FLOWLABEL_MGR`), which are put into every packet that carries the label: the first hop on
///   the list gets the packet;
/// - an interface of the sender's choosing: where no route leads there, IPv4 takes the destination to
///   be on that link, and gives the packet to whoever answers for the listed address; a listed group
///   on another link is other hosts;
/// - a mark, which picks among routing tables, and transforms of one socket (`*_IPSEC_POLICY`,
///   `*_XFRM_POLICY`), which can wrap packets for another host. Both need a capability, and are
///   refused all the same.
///
/// Not refused: `IP_HDRINCL` and `IPV6_HDRINCL` exist on raw sockets only, which are refused whole;
/// `IPV6_ADDRFORM` turns a socket that is connected to a v4-mapped address, which was judged as IPv4
/// then; `IP_PKTINFO` and the other `IPV6_2292*` only ask to be told of what arrives; hop-by-hop and
/// destination options name no hop (a home address names another sender) and need a capability;
/// `IPV6_FLOWINFO_SEND` sends a label that can only be one without options; `IP_TRANSPARENT` and
/// `IP_FREEBIND` choose a source.
#[inline(always)]
pub const fn chooses_way(level: u32, option: u32) -> bool {
    match level {
        SOL_SOCKET => matches!(option, SO_BINDTODEVICE | SO_MARK | SO_BINDTOIFINDEX),
        SOL_IP => matches!(
            option,
            IP_OPTIONS | IP_IPSEC_POLICY | IP_XFRM_POLICY | IP_MULTICAST_IF | IP_UNICAST_IF
        ),
        SOL_IPV6 => matches!(
            option,
            IPV6_2292RTHDR
                | IPV6_2292PKTOPTIONS
                | IPV6_MULTICAST_IF
                | IPV6_FLOWLABEL_MGR
                | IPV6_IPSEC_POLICY
                | IPV6_XFRM_POLICY
                | IPV6_PKTINFO
                | IPV6_RTHDR
                | IPV6_UNICAST_IF
        ),
        _ => false,
    }
}

/// Of these the ones that name hops, which need no capability: refused on a host that is a zone also to
/// who has no label. The rest is how a host's own services reach the network.
#[inline(always)]
pub const fn names_hops(level: u32, option: u32) -> bool {
    match level {
        SOL_IP => option == IP_OPTIONS,
        SOL_IPV6 => matches!(
            option,
            IPV6_2292RTHDR | IPV6_2292PKTOPTIONS | IPV6_FLOWLABEL_MGR | IPV6_RTHDR
        ),
        _ => false,
    }
}

const SOL_IP: u32 = 0;
const SOL_SOCKET: u32 = 1;
const SOL_IPV6: u32 = 41;
const SO_BINDTODEVICE: u32 = 25;
const SO_MARK: u32 = 36;
const SO_BINDTOIFINDEX: u32 = 62;
const IP_OPTIONS: u32 = 4;
const IP_IPSEC_POLICY: u32 = 16;
const IP_XFRM_POLICY: u32 = 17;
const IP_MULTICAST_IF: u32 = 32;
const IP_UNICAST_IF: u32 = 50;
const IPV6_2292RTHDR: u32 = 5;
const IPV6_2292PKTOPTIONS: u32 = 6;
const IPV6_MULTICAST_IF: u32 = 17;
const IPV6_FLOWLABEL_MGR: u32 = 32;
const IPV6_IPSEC_POLICY: u32 = 34;
const IPV6_XFRM_POLICY: u32 = 35;
const IPV6_PKTINFO: u32 = 50;
const IPV6_RTHDR: u32 = 57;
const IPV6_UNICAST_IF: u32 = 76;
