//! Asking the kernel for internet sockets, and to destroy one: NETLINK_SOCK_DIAG.
//!
//! Promises: what is sent is laid out as `linux/inet_diag.h` has it; what comes back is read within
//! its bounds, and anything that does not fit is an error. A connection to the kernel reaches the
//! network namespace that it was made in, and no other.

use std::{
    io,
    os::fd::{AsRawFd as _, BorrowedFd, OwnedFd},
};

use nix::sys::socket::{
    AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, connect, recv, send,
    setsockopt, socket, sockopt::ReceiveTimeout,
};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

/// One socket, as the kernel described it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Socket {
    family: u8,
    protocol: u8,
    /// Ports, addresses, interface and cookie, as they came.
    pub(super) id: [u8; ID],
    /// Zero: no process has it open.
    pub(crate) inode: u32,
    /// The cgroup it was made in; zero: unknown.
    pub(crate) cgroup: u64,
    /// Which of the connections to the kernel tells of it, for whoever has several.
    pub(crate) told_by: usize,
}

/// A connection to the kernel.
#[derive(Debug)]
pub(crate) struct Diag {
    socket: OwnedFd,
    sequence: u32,
}

impl Diag {
    pub(crate) fn open() -> io::Result<Self> {
        let socket = socket(
            AddressFamily::Netlink,
            SockType::Raw,
            SockFlag::SOCK_CLOEXEC,
            SockProtocol::NetlinkSockDiag,
        )?;
        // The kernel, and nobody else: what other senders say is not received.
        connect(socket.as_raw_fd(), &NetlinkAddr::new(0, 0))?;
        // It answers at once; a reply that got lost must not keep the daemon.
        setsockopt(&socket, ReceiveTimeout, &nix::sys::time::TimeVal::new(2, 0))?;
        Ok(Self {
            socket,
            sequence: 0,
        })
    }

    /// One that reaches another network namespace. Only a thread of its own goes there, and ends.
    pub(crate) fn open_in(namespace: BorrowedFd<'_>) -> io::Result<Self> {
        std::thread::scope(|scope| {
            let there = scope.spawn(|| {
                move_into_link_name_space(namespace, Some(LinkNameSpaceType::Network))?;
                Self::open()
            });
            there
                .join()
                .unwrap_or_else(|_panic| Err(io::Error::other("the thread that went there ended")))
        })
    }

    /// Every connection of TCP and UDP, both families.
    pub(crate) fn list(&mut self) -> io::Result<Vec<Socket>> {
        let mut found = Vec::new();
        for protocol in [TCP, UDP] {
            for family in [INET, INET6] {
                self.dump(family, protocol, &mut found)?;
            }
        }
        Ok(found)
    }

    fn dump(&mut self, family: u8, protocol: u8, found: &mut Vec<Socket>) -> io::Result<()> {
        let states = if protocol == TCP {
            CONNECTIONS
        } else {
            CONNECTED
        };
        let request = request(family, protocol, states, &[0; ID]);
        let sequence = self.send(SOCK_DIAG_BY_FAMILY, REQUEST | DUMP, &request)?;
        let mut buffer = vec![0; BUFFER];
        loop {
            let length = recv(self.socket.as_raw_fd(), &mut buffer, MsgFlags::empty())?;
            let mut rest = buffer.get(..length).unwrap_or_default();
            while let Some(message) = Message::next(&mut rest)? {
                if message.sequence != sequence {
                    continue;
                }
                match message.kind {
                    DONE => return message.status(),
                    ERROR => message.status()?,
                    SOCK_DIAG_BY_FAMILY => found.push(described(protocol, message.payload)?),
                    _ => return Err(malformed()),
                }
            }
        }
    }

    /// `false`: it was gone, or is another by now.
    pub(crate) fn destroy(&mut self, doomed: &Socket) -> io::Result<bool> {
        let request = request(doomed.family, doomed.protocol, u32::MAX, &doomed.id);
        let sequence = self.send(SOCK_DESTROY, REQUEST | ACK, &request)?;
        let mut buffer = vec![0; BUFFER];
        loop {
            let length = recv(self.socket.as_raw_fd(), &mut buffer, MsgFlags::empty())?;
            let mut rest = buffer.get(..length).unwrap_or_default();
            while let Some(message) = Message::next(&mut rest)? {
                if message.sequence != sequence || message.kind != ERROR {
                    continue;
                }
                return match message.status() {
                    Ok(()) => Ok(true),
                    Err(error) => match error.raw_os_error() {
                        Some(libc::ENOENT | libc::ESTALE) => Ok(false),
                        _ => Err(error),
                    },
                };
            }
        }
    }

    fn send(&mut self, kind: u16, flags: u16, request: &[u8]) -> io::Result<u32> {
        self.sequence = self.sequence.wrapping_add(1);
        let length = u32::try_from(HEADER + request.len()).map_err(|_large| malformed())?;
        let mut message = length.to_ne_bytes().to_vec();
        message.extend(kind.to_ne_bytes());
        message.extend(flags.to_ne_bytes());
        message.extend(self.sequence.to_ne_bytes());
        message.extend(0u32.to_ne_bytes());
        message.extend(request);
        let sent = send(self.socket.as_raw_fd(), &message, MsgFlags::empty())?;
        if sent == message.len() {
            Ok(self.sequence)
        } else {
            Err(malformed())
        }
    }
}

/// `struct inet_diag_req_v2`.
fn request(family: u8, protocol: u8, states: u32, id: &[u8; ID]) -> Vec<u8> {
    let mut request = vec![family, protocol, 0, 0];
    request.extend(states.to_ne_bytes());
    request.extend(id);
    request
}

/// `struct inet_diag_msg` and the attributes after it.
pub(super) fn described(protocol: u8, payload: &[u8]) -> io::Result<Socket> {
    let mut rest = payload;
    let [family, _state, _timer, _retransmissions] = take(&mut rest)?;
    let id = take(&mut rest)?;
    let _expires: [u8; 4] = take(&mut rest)?;
    let _queues_and_user: [u8; 12] = take(&mut rest)?;
    let inode = u32::from_ne_bytes(take(&mut rest)?);
    let mut cgroup = 0;
    while !rest.is_empty() {
        let attributes = rest;
        let length = usize::from(u16::from_ne_bytes(take(&mut rest)?));
        let kind = u16::from_ne_bytes(take(&mut rest)?);
        let mut value = attributes.get(4..length).ok_or_else(malformed)?;
        if kind == CGROUP_ID {
            cgroup = u64::from_ne_bytes(take(&mut value)?);
        }
        rest = attributes.get(aligned(length)..).unwrap_or_default();
    }
    Ok(Socket {
        family,
        protocol,
        id,
        inode,
        cgroup,
        told_by: 0,
    })
}

/// One netlink message.
pub(super) struct Message<'a> {
    kind: u16,
    sequence: u32,
    pub(super) payload: &'a [u8],
}

impl<'a> Message<'a> {
    pub(super) fn next(bytes: &mut &'a [u8]) -> io::Result<Option<Self>> {
        let whole = *bytes;
        if whole.is_empty() {
            return Ok(None);
        }
        let mut rest = whole;
        let length = usize::try_from(u32::from_ne_bytes(take(&mut rest)?)).unwrap_or(usize::MAX);
        let kind = u16::from_ne_bytes(take(&mut rest)?);
        let _flags: [u8; 2] = take(&mut rest)?;
        let sequence = u32::from_ne_bytes(take(&mut rest)?);
        let _port: [u8; 4] = take(&mut rest)?;
        let payload = whole.get(HEADER..length).ok_or_else(malformed)?;
        *bytes = whole.get(aligned(length)..).unwrap_or_default();
        Ok(Some(Self {
            kind,
            sequence,
            payload,
        }))
    }

    /// What NLMSG_ERROR and NLMSG_DONE begin with: zero, or an error number, negated.
    pub(super) fn status(&self) -> io::Result<()> {
        let mut rest = self.payload;
        match i32::from_ne_bytes(take(&mut rest)?) {
            0 => Ok(()),
            error => Err(io::Error::from_raw_os_error(error.saturating_neg())),
        }
    }
}

fn take<const N: usize>(bytes: &mut &[u8]) -> io::Result<[u8; N]> {
    let (taken, rest) = bytes.split_first_chunk().ok_or_else(malformed)?;
    *bytes = rest;
    Ok(*taken)
}

const fn aligned(length: usize) -> usize {
    length.next_multiple_of(4)
}

fn malformed() -> io::Error {
    io::Error::other("reading about sockets: the kernel's answer has another form than expected")
}

const HEADER: usize = 16;
const ID: usize = 48;
/// More than one datagram of a dump.
const BUFFER: usize = 64 << 10;

const ERROR: u16 = 2;
const DONE: u16 = 3;
const SOCK_DIAG_BY_FAMILY: u16 = 20;
const SOCK_DESTROY: u16 = 21;
const REQUEST: u16 = 1;
const ACK: u16 = 4;
const DUMP: u16 = 0x300;
/// Sent with every socket, since 5.9; a request may filter by it too, one cgroup at a time.
const CGROUP_ID: u16 = 21;

const INET: u8 = 2;
const INET6: u8 = 10;
const TCP: u8 = 6;
const UDP: u8 = 17;

const ESTABLISHED: u32 = 1;
const SYN_SENT: u32 = 2;
const SYN_RECEIVED: u32 = 3;
const FIN_WAIT_1: u32 = 4;
const FIN_WAIT_2: u32 = 5;
const CLOSE_WAIT: u32 = 8;
const LAST_ACK: u32 = 9;
const CLOSING: u32 = 11;
/// Neither listening (it sends nothing of the workload's) nor TIME_WAIT (it has nothing left to send).
const CONNECTIONS: u32 = 1 << ESTABLISHED
    | 1 << SYN_SENT
    | 1 << SYN_RECEIVED
    | 1 << FIN_WAIT_1
    | 1 << FIN_WAIT_2
    | 1 << CLOSE_WAIT
    | 1 << LAST_ACK
    | 1 << CLOSING;
/// How UDP calls a socket with a peer; one without holds nothing back to be sent.
const CONNECTED: u32 = 1 << ESTABLISHED;

#[cfg(test)]
mod tests {
    use std::{
        fs,
        net::{TcpListener, TcpStream},
    };

    use super::*;

    #[test]
    fn a_message_is_read_within_its_bounds() {
        let mut bytes = 20u32.to_ne_bytes().to_vec();
        bytes.extend(DONE.to_ne_bytes());
        bytes.extend([0; 2]);
        bytes.extend(7u32.to_ne_bytes());
        bytes.extend([0; 4]);
        bytes.extend((-2i32).to_ne_bytes());
        let mut rest = bytes.as_slice();
        let message = Message::next(&mut rest).unwrap().unwrap();
        assert_eq!((message.kind, message.sequence), (DONE, 7));
        let error = message.status().unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::ENOENT));
        assert!(Message::next(&mut rest).unwrap().is_none());
        for cut in 1..bytes.len() {
            assert!(Message::next(&mut &bytes[..cut]).is_err(), "{cut}");
        }
        // A length that would not move on.
        bytes[0] = 8;
        assert!(Message::next(&mut bytes.as_slice()).is_err());
    }

    #[test]
    fn a_description_is_read_within_its_bounds() {
        let mut bytes = vec![INET, 1, 0, 0];
        bytes.extend([7; ID]);
        bytes.extend([0; 16]);
        bytes.extend(99u32.to_ne_bytes());
        // An attribute that means nothing here, of an odd length, then the cgroup.
        bytes.extend([5, 0, 8, 0, 1, 0, 0, 0]);
        bytes.extend([12, 0, CGROUP_ID as u8, 0]);
        bytes.extend(4711u64.to_ne_bytes());
        let socket = described(TCP, &bytes).unwrap();
        assert_eq!(
            (socket.inode, socket.cgroup, socket.id),
            (99, 4711, [7; ID])
        );
        for cut in (0..72).chain(73..77).chain(81..bytes.len()) {
            assert!(described(TCP, &bytes[..cut]).is_err(), "{cut}");
        }
        // Attributes that claim less than their own header.
        bytes[72] = 0;
        assert!(described(TCP, &bytes).is_err());
    }

    #[test]
    fn the_kernel_lists_a_connection_of_ours() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let stream = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let link = {
            use std::os::fd::AsRawFd as _;
            fs::read_link(format!("/proc/self/fd/{}", stream.as_raw_fd())).unwrap()
        };
        let listed = Diag::open().unwrap().list().unwrap();
        assert!(
            listed
                .iter()
                .any(|socket| link.to_str() == Some(&format!("socket:[{}]", socket.inode))),
            "{link:?} in {listed:?}"
        );
    }
}
