//! Closing the connections of what was stopped.
//!
//! Promises: a connection that was made in one of the cgroups, or that a stopped process has open, is
//! destroyed (the peer of a TCP connection gets a reset), and looked for again until none is left;
//! one that stays is an error. What no process has open any more (the end of a connection with data
//! still queued, a connection nobody accepted yet) is destroyed once. Looked at are the daemon's own
//! network namespace and every one that a stopped task is in.
//!
//! Not reached: a namespace that no stopped task is in any more, listening sockets, and sockets that
//! are neither TCP nor UDP.

use std::{collections::BTreeSet, io, os::fd::BorrowedFd};

use anyhow::{Context as _, Result, bail};

use super::diag::{Diag, Socket};

/// Whose connections are to be closed.
#[derive(Debug, Default)]
pub(crate) struct Doomed {
    /// By number of the cgroup they were made in.
    pub(crate) cgroups: BTreeSet<u64>,
    /// By inode number.
    pub(crate) inodes: BTreeSet<u32>,
    /// Found before their owners were killed.
    pub(crate) sockets: Vec<Socket>,
}

impl Doomed {
    fn has(&self, socket: &Socket) -> bool {
        (socket.cgroup != 0 && self.cgroups.contains(&socket.cgroup))
            || (socket.inode != 0 && self.inodes.contains(&socket.inode))
    }
}

/// What can list and destroy connections.
pub(crate) trait Sockets {
    /// From now on this network namespace is looked at too.
    fn reach(&mut self, namespace: BorrowedFd<'_>) -> io::Result<()>;
    fn list(&mut self) -> io::Result<Vec<Socket>>;
    fn destroy(&mut self, socket: &Socket) -> io::Result<bool>;
}

/// The kernel's, asked only when there is something to ask.
#[derive(Debug, Default)]
pub(crate) struct Network {
    /// The daemon's own network namespace first, once it was asked.
    asked: Vec<Diag>,
    /// To be asked with the others.
    further: Vec<Diag>,
}

impl Network {
    fn diags(&mut self) -> io::Result<&mut [Diag]> {
        if self.asked.is_empty() {
            self.asked.push(Diag::open()?);
        }
        self.asked.append(&mut self.further);
        Ok(&mut self.asked)
    }
}

impl Sockets for Network {
    fn reach(&mut self, namespace: BorrowedFd<'_>) -> io::Result<()> {
        self.further.push(Diag::open_in(namespace)?);
        Ok(())
    }

    fn list(&mut self) -> io::Result<Vec<Socket>> {
        let mut found = Vec::new();
        for (told_by, diag) in self.diags()?.iter_mut().enumerate() {
            let before = found.len();
            found.append(&mut diag.list()?);
            for socket in found.iter_mut().skip(before) {
                socket.told_by = told_by;
            }
        }
        Ok(found)
    }

    fn destroy(&mut self, socket: &Socket) -> io::Result<bool> {
        let diag = self.diags()?.get_mut(socket.told_by);
        let gone = || io::Error::other("destroying a connection that nobody told of");
        diag.ok_or_else(gone)?.destroy(socket)
    }
}

/// Has the kernel load what listing needs, now, when it may still load it.
pub(crate) fn prepare() -> Result<()> {
    Network::default()
        .list()
        .context(
            "listing connections; the kernel modules `tcp_diag` and `udp_diag` are needed for it",
        )
        .map(drop)
}

/// Connections that are among those that each of these has open, by inode number. Nobody is asked
/// while there is no connection on the host that somebody could have open.
pub(crate) fn open_in(
    kernel: &mut dyn Sockets,
    open: &mut dyn Iterator<Item = BTreeSet<u32>>,
) -> Result<Vec<Socket>> {
    let mut listed = kernel.list().context("listing connections")?;
    listed.retain(|socket| socket.inode != 0);
    if listed.is_empty() {
        return Ok(listed);
    }
    let inodes: BTreeSet<u32> = open.flatten().collect();
    listed.retain(|socket| inodes.contains(&socket.inode));
    Ok(listed)
}

/// Closes them; how many there were.
pub(crate) fn close(kernel: &mut dyn Sockets, doomed: &Doomed) -> Result<usize> {
    let mut closed = 0;
    for socket in &doomed.sockets {
        closed += usize::from(kernel.destroy(socket).context("closing a connection")?);
    }
    let mut left = 0;
    for round in 0..ROUNDS {
        let listed = kernel.list().context("listing connections")?;
        let found: Vec<&Socket> = listed
            .iter()
            .filter(|socket| doomed.has(socket) && (round == 0 || socket.inode != 0))
            .collect();
        left = found.len();
        if left == 0 {
            return Ok(closed);
        }
        for socket in found {
            closed += usize::from(kernel.destroy(socket).context("closing a connection")?);
        }
    }
    bail!("closing connections: {left} are still there after {ROUNDS} rounds");
}

/// One closes, one finds nothing; the rest is for connections that come in meanwhile.
const ROUNDS: usize = 6;

#[cfg(test)]
pub(crate) mod fake {
    use super::*;

    /// A network without connections.
    pub(crate) struct Silent;

    impl Sockets for Silent {
        fn reach(&mut self, _namespace: BorrowedFd<'_>) -> io::Result<()> {
            Ok(())
        }

        fn list(&mut self) -> io::Result<Vec<Socket>> {
            Ok(Vec::new())
        }

        fn destroy(&mut self, _socket: &Socket) -> io::Result<bool> {
            Ok(false)
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{
        fs,
        io::Read as _,
        net::{TcpListener, TcpStream},
    };

    use super::*;

    fn inode(stream: &impl std::os::fd::AsRawFd) -> u32 {
        let link = fs::read_link(format!("/proc/self/fd/{}", stream.as_raw_fd())).unwrap();
        let name = link.to_str().unwrap();
        name.trim_start_matches("socket:[")
            .trim_end_matches(']')
            .parse()
            .unwrap()
    }

    /// What the kernel says of this stream.
    fn named(diag: &mut Network, stream: &TcpStream) -> Vec<Socket> {
        let open = [BTreeSet::new(), [inode(stream)].into()];
        open_in(diag, &mut open.into_iter()).unwrap()
    }

    #[test]
    fn nobody_is_asked_what_it_has_open_while_nothing_is() {
        let asked = std::cell::Cell::new(0);
        let mut open = std::iter::repeat_with(|| {
            asked.set(asked.get() + 1);
            BTreeSet::from([asked.get()])
        })
        .take(3);
        assert!(open_in(&mut fake::Silent, &mut open).unwrap().is_empty());
        assert_eq!(asked.get(), 0);
    }

    /// Connections of this very test; destroying takes CAP_NET_ADMIN.
    #[test]
    fn what_is_named_is_closed_and_nothing_else() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let connect = || {
            let stream = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
            (stream, listener.accept().unwrap().0)
        };
        let ((doomed, mut peer), (spared, _other)) = (connect(), connect());
        let mut diag = Network::default();
        let named_now = named(&mut diag, &doomed);
        assert_eq!(named_now.len(), 1);
        let which = Doomed {
            inodes: [inode(&doomed)].into(),
            ..Doomed::default()
        };
        match close(&mut diag, &which) {
            Ok(closed) => assert_eq!(closed, 1),
            Err(error) if nix::unistd::geteuid().is_root() => panic!("{error:#}"),
            Err(error) => {
                assert!(
                    error.to_string().contains("closing a connection"),
                    "{error:#}"
                );
                return;
            }
        }
        let ended = peer.read(&mut [0; 1]).unwrap_err();
        assert_eq!(ended.kind(), io::ErrorKind::ConnectionReset);
        assert!(spared.peer_addr().is_ok() && spared.take_error().unwrap().is_none());
        assert_eq!(close(&mut diag, &which).unwrap(), 0);
    }

    /// A connection that comes back however often it is destroyed.
    struct Stubborn(Vec<Socket>);

    impl Sockets for Stubborn {
        fn reach(&mut self, _namespace: BorrowedFd<'_>) -> io::Result<()> {
            Ok(())
        }

        fn list(&mut self) -> io::Result<Vec<Socket>> {
            Ok(self.0.clone())
        }

        fn destroy(&mut self, _socket: &Socket) -> io::Result<bool> {
            Ok(false)
        }
    }

    #[test]
    fn one_that_stays_is_an_error_unless_nobody_has_it_open() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let stream = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let mut diag = Network::default();
        let mut socket = named(&mut diag, &stream).remove(0);
        socket.cgroup = 7;
        let which = Doomed {
            cgroups: [7].into(),
            ..Doomed::default()
        };
        let error = close(&mut Stubborn(vec![socket.clone()]), &which).unwrap_err();
        assert!(error.to_string().contains("1 are still there"), "{error}");
        socket.inode = 0;
        assert_eq!(close(&mut Stubborn(vec![socket]), &which).unwrap(), 0);
    }
}
