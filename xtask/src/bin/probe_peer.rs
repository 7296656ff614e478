//! Unix sockets, from both ends. Outside of zones it is whoever executes what it is asked to, as a container engine
//! does; as a workload it asks. A command does one thing and ends with 0, or with 100 plus the error number that the
//! kernel gave. A name that begins with `@` is abstract.

use std::{
    ffi::OsStr,
    io,
    os::{
        fd::{AsRawFd as _, FromRawFd as _, OwnedFd},
        unix::ffi::OsStrExt as _,
    },
    process::{Command, ExitCode},
    thread,
};

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    let done = match args.as_slice() {
        ["serve", kind, at] => kind_of(kind).and_then(|kind| serve(kind, at)),
        ["ask", kind, at, what] => kind_of(kind).and_then(|kind| ask(kind, at, what)),
        ["ask-connected", at, what] => ask_connected(at, what),
        ["neighbour", kind, at] => kind_of(kind).and_then(|kind| neighbour(kind, at)),
        ["pair", kind] => kind_of(kind).and_then(pair),
        _ => {
            eprintln!("probe_peer: what is `{}`?", args.join(" "));
            return ExitCode::from(2);
        }
    };
    match done {
        Ok(()) => {
            println!("done");
            ExitCode::SUCCESS
        }
        Err(error) => {
            println!("{error}");
            let number = error.raw_os_error().unwrap_or(99);
            ExitCode::from(u8::try_from(100 + number).unwrap_or(u8::MAX))
        }
    }
}

fn kind_of(text: &str) -> io::Result<i32> {
    match text {
        "stream" => Ok(libc::SOCK_STREAM),
        "packet" => Ok(libc::SOCK_SEQPACKET),
        "datagram" => Ok(libc::SOCK_DGRAM),
        _ => Err(io::ErrorKind::InvalidInput.into()),
    }
}

/// Executes whatever it is asked to, until it is ended.
fn serve(kind: i32, at: &str) -> io::Result<()> {
    let socket = bound(kind, at)?;
    println!("listening");
    loop {
        let taken = if kind == libc::SOCK_DGRAM {
            receive(&socket)
        } else {
            accept(&socket).and_then(|peer| receive(&peer))
        };
        // Who connects and says nothing asks for nothing.
        let what = taken?;
        if !what.is_empty() {
            let ended = Command::new(OsStr::from_bytes(&what)).status();
            println!("executed: {ended:?}");
        }
    }
}

fn ask(kind: i32, at: &str, what: &str) -> io::Result<()> {
    let socket = socket(kind)?;
    let (name, length) = address(at)?;
    if kind == libc::SOCK_DGRAM {
        let to: *const libc::sockaddr_un = &raw const name;
        let text = what.as_bytes();
        // SAFETY: the text and the name outlive the call, and the lengths are theirs.
        let sent = unsafe {
            libc::sendto(
                socket.as_raw_fd(),
                text.as_ptr().cast(),
                text.len(),
                0,
                to.cast(),
                length,
            )
        };
        return check(sent).map(drop);
    }
    connect(&socket, at)?;
    send(&socket, what)
}

fn ask_connected(at: &str, what: &str) -> io::Result<()> {
    let socket = socket(libc::SOCK_DGRAM)?;
    connect(&socket, at)?;
    send(&socket, what)
}

/// Listens, and asks itself from another thread.
fn neighbour(kind: i32, at: &str) -> io::Result<()> {
    let socket = bound(kind, at)?;
    let to = at.to_owned();
    let asking = thread::spawn(move || ask(kind, &to, "hello"));
    let said = if kind == libc::SOCK_DGRAM {
        receive(&socket)
    } else {
        accept(&socket).and_then(|peer| receive(&peer))
    };
    let Ok(asked) = asking.join() else {
        return Err(io::Error::other("it ended"));
    };
    asked?;
    same(&said?)
}

fn pair(kind: i32) -> io::Result<()> {
    let mut ends = [0; 2];
    // SAFETY: room for two descriptors.
    check(unsafe { libc::socketpair(libc::AF_UNIX, kind, 0, ends.as_mut_ptr()) } as isize)?;
    // SAFETY: the kernel just gave us these; nobody else owns them.
    let [one, other] = ends.map(|end| unsafe { OwnedFd::from_raw_fd(end) });
    send(&one, "hello")?;
    same(&receive(&other)?)
}

fn same(said: &[u8]) -> io::Result<()> {
    if said == b"hello" {
        Ok(())
    } else {
        Err(io::Error::other("something else was said"))
    }
}

fn bound(kind: i32, at: &str) -> io::Result<OwnedFd> {
    let socket = socket(kind)?;
    let (name, length) = address(at)?;
    let to: *const libc::sockaddr_un = &raw const name;
    // SAFETY: the name outlives the call, and the length is its own.
    check(unsafe { libc::bind(socket.as_raw_fd(), to.cast(), length) } as isize)?;
    if !at.starts_with('@') {
        let everybody = std::os::unix::fs::PermissionsExt::from_mode(0o777);
        std::fs::set_permissions(at, everybody)?;
    }
    if kind != libc::SOCK_DGRAM {
        // SAFETY: integers only.
        check(unsafe { libc::listen(socket.as_raw_fd(), 16) } as isize)?;
    }
    Ok(socket)
}

fn socket(kind: i32) -> io::Result<OwnedFd> {
    // SAFETY: integers only.
    let fd = unsafe { libc::socket(libc::AF_UNIX, kind | libc::SOCK_CLOEXEC, 0) };
    check(fd as isize)?;
    // SAFETY: the kernel just gave us this descriptor; nobody else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

fn accept(socket: &OwnedFd) -> io::Result<OwnedFd> {
    let (nobody, unasked) = (std::ptr::null_mut(), std::ptr::null_mut());
    // SAFETY: nothing is asked about the peer.
    let fd = unsafe { libc::accept4(socket.as_raw_fd(), nobody, unasked, libc::SOCK_CLOEXEC) };
    check(fd as isize)?;
    // SAFETY: the kernel just gave us this descriptor; nobody else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

fn connect(socket: &OwnedFd, at: &str) -> io::Result<()> {
    let (name, length) = address(at)?;
    let to: *const libc::sockaddr_un = &raw const name;
    // SAFETY: the name outlives the call, and the length is its own.
    check(unsafe { libc::connect(socket.as_raw_fd(), to.cast(), length) } as isize).map(drop)
}

fn send(socket: &OwnedFd, what: &str) -> io::Result<()> {
    let text = what.as_bytes();
    // SAFETY: the text outlives the call, and the length is its own.
    let sent = unsafe { libc::send(socket.as_raw_fd(), text.as_ptr().cast(), text.len(), 0) };
    check(sent).map(drop)
}

fn receive(socket: &OwnedFd) -> io::Result<Vec<u8>> {
    let mut room = vec![0u8; 4096];
    // SAFETY: room of that length.
    let got = unsafe { libc::recv(socket.as_raw_fd(), room.as_mut_ptr().cast(), room.len(), 0) };
    room.truncate(check(got)?);
    Ok(room)
}

fn address(at: &str) -> io::Result<(libc::sockaddr_un, libc::socklen_t)> {
    let is_abstract = at.starts_with('@');
    // SAFETY: integers only; all zero is a name of no bytes.
    let mut name: libc::sockaddr_un = unsafe { std::mem::zeroed() };
    name.sun_family = libc::AF_UNIX as libc::sa_family_t;
    if at.len() >= name.sun_path.len() {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    for (place, byte) in name.sun_path.iter_mut().zip(at.bytes()) {
        *place = byte as libc::c_char;
    }
    if is_abstract {
        name.sun_path[0] = 0;
    }
    let family = std::mem::offset_of!(libc::sockaddr_un, sun_path);
    // A path ends with a zero; an abstract name with its length.
    let length = family + at.len() + usize::from(!is_abstract);
    Ok((name, length as libc::socklen_t))
}

fn check(result: isize) -> io::Result<usize> {
    match usize::try_from(result) {
        Ok(count) => Ok(count),
        Err(_negative) => Err(io::Error::last_os_error()),
    }
}
