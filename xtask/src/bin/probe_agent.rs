//! The workload of the guest tests: it does one thing that a gate may judge and ends with 0, or
//! with 100 plus the error number that the kernel gave. Dynamically linked, like real work.

use std::{
    io::{self, Read as _, Write as _},
    net::{SocketAddr, TcpListener, TcpStream, UdpSocket},
    os::{
        fd::FromRawFd as _,
        unix::{
            fs::PermissionsExt,
            process::{CommandExt as _, ExitStatusExt as _},
        },
    },
    process::{Command, ExitCode},
};

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    act(&args)
}

fn act(args: &[&str]) -> ExitCode {
    let done = match args {
        ["after", fifo, rest @ ..] => match after(fifo) {
            Ok(()) => return act(rest),
            waiting => waiting,
        },
        ["fork"] => fork(),
        ["hello"] => Ok(()),
        ["size"] => size(),
        ["tcp", to] => address(to).and_then(tcp),
        ["tcp-fast", to] => address(to).and_then(fast),
        ["tcp-many-paths"] => socket(libc::SOCK_STREAM, libc::IPPROTO_MPTCP).map(drop),
        ["udp", to] => address(to).and_then(|to| udp(to, false)),
        ["udp-connected", to] => address(to).and_then(|to| udp(to, true)),
        ["mapped", to] => address(to).and_then(mapped),
        ["raw"] => socket(libc::SOCK_RAW, libc::IPPROTO_ICMP).map(drop),
        ["source-route", to] => address(to).and_then(source_route),
        ["flow-label", to] => address(to).and_then(flow_label),
        ["bind-device", to] => {
            address(to).and_then(|to| by_interface(to, (libc::SOL_SOCKET, 25), b"lo\0"))
        }
        ["bind-index", to] => {
            let lo = 1u32.to_ne_bytes();
            address(to).and_then(|to| by_interface(to, (libc::SOL_SOCKET, 62), &lo))
        }
        ["unicast-interface", to] => {
            let lo = 1u32.to_be_bytes();
            address(to).and_then(|to| by_interface(to, (libc::IPPROTO_IP, 50), &lo))
        }
        ["control", to] => address(to).and_then(|to| messages(to, [true], true)),
        ["many", to] => address(to).and_then(|to| messages(to, [false, true], true)),
        ["many-connected", to] => address(to).and_then(|to| messages(to, [false, false], false)),
        ["serve", at] => address(at).and_then(serve),
        ["hold"] => hold(),
        ["leaderless"] => leaderless(),
        ["spin"] => spin(),
        ["crowd", count] => crowd(count),
        ["stay", to] => address(to).and_then(stay),
        ["witness", at] => address(at).and_then(witness),
        ["exec", path, rest @ ..] => Err(Command::new(path).args(rest).exec()),
        ["spawn", path, rest @ ..] => return spawn(path, rest),
        ["memfd", path] => memfd(path),
        ["anonymous"] => map_anonymous(),
        ["map", path] => map_file(path, libc::PROT_READ | libc::PROT_EXEC),
        ["map-writable", path] => {
            map_file(path, libc::PROT_READ | libc::PROT_WRITE | libc::PROT_EXEC)
        }
        _ => {
            eprintln!("probe_agent: what is `{}`?", args.join(" "));
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

fn address(text: &str) -> io::Result<SocketAddr> {
    text.parse().map_err(io::Error::other)
}

fn tcp(to: SocketAddr) -> io::Result<()> {
    let mut stream = TcpStream::connect(to)?;
    stream.write_all(b"ping")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    if answer == "pong" {
        Ok(())
    } else {
        Err(io::Error::other("no pong"))
    }
}

fn udp(to: SocketAddr, connected: bool) -> io::Result<()> {
    let any: SocketAddr = if to.is_ipv4() {
        ([0, 0, 0, 0], 0).into()
    } else {
        ([0u16; 8], 0).into()
    };
    let socket = UdpSocket::bind(any)?;
    if connected {
        socket.connect(to)?;
        socket.send(b"ping").map(drop)
    } else {
        socket.send_to(b"ping", to).map(drop)
    }
}

/// The same IPv4 address, in the form an IPv6 socket takes.
fn mapped(to: SocketAddr) -> io::Result<()> {
    let SocketAddr::V4(v4) = to else {
        return Err(io::Error::other("not IPv4"));
    };
    tcp(SocketAddr::from((v4.ip().to_ipv6_mapped(), v4.port())))
}

/// A socket over IPv4 of this kind and protocol.
fn socket(kind: i32, protocol: i32) -> io::Result<std::os::fd::OwnedFd> {
    // SAFETY: socket(2) takes three integers and touches no memory.
    let fd = unsafe { libc::socket(libc::AF_INET, kind, protocol) };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the kernel just gave us this descriptor; nobody else owns it.
    Ok(unsafe { std::os::fd::OwnedFd::from_raw_fd(fd) })
}

/// Connects by sending.
fn fast(to: SocketAddr) -> io::Result<()> {
    use std::os::fd::AsRawFd as _;
    let SocketAddr::V4(v4) = to else {
        return Err(io::Error::other("not IPv4"));
    };
    let socket = socket(libc::SOCK_STREAM, 0)?;
    let name = internet(v4);
    let (text, length) = (
        b"ping".as_ptr().cast(),
        size_of_val(&name) as libc::socklen_t,
    );
    let name = std::ptr::from_ref(&name).cast();
    // SAFETY: the text and the name outlive the call, and the lengths are theirs.
    let sent = unsafe {
        libc::sendto(
            socket.as_raw_fd(),
            text,
            4,
            libc::MSG_FASTOPEN,
            name,
            length,
        )
    };
    if sent < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}

fn internet(to: std::net::SocketAddrV4) -> libc::sockaddr_in {
    libc::sockaddr_in {
        sin_family: libc::AF_INET as libc::sa_family_t,
        sin_port: to.port().to_be(),
        sin_addr: libc::in_addr {
            s_addr: u32::from(*to.ip()).to_be(),
        },
        sin_zero: [0; 8],
    }
}

/// Asks for a loose source route on a UDP socket, as any user may.
fn source_route(to: SocketAddr) -> io::Result<()> {
    let socket = UdpSocket::bind(SocketAddr::from(([0, 0, 0, 0], 0)))?;
    // LSRR, 7 bytes long, pointer 4, one hop: 127.0.0.2; then the end of the list.
    let options: [u8; 8] = [131, 7, 4, 127, 0, 0, 2, 0];
    set_option(&socket, (libc::IPPROTO_IP, libc::IP_OPTIONS), &options)?;
    socket.send_to(b"ping", to).map(drop)
}

/// Names the interface a datagram leaves by, as any user may.
fn by_interface(to: SocketAddr, option: (i32, i32), value: &[u8]) -> io::Result<()> {
    let socket = UdpSocket::bind(SocketAddr::from(([0, 0, 0, 0], 0)))?;
    set_option(&socket, option, value)?;
    socket.send_to(b"ping", to).map(drop)
}

/// Takes a flow label whose options hold a routing header by way of the destination itself, and
/// sends under it, as any user may.
fn flow_label(to: SocketAddr) -> io::Result<()> {
    let SocketAddr::V6(v6) = to else {
        return Err(io::Error::other("not IPv6"));
    };
    let socket = UdpSocket::bind(SocketAddr::from(([0u16; 8], 0)))?;
    let label = (0x1_0000 | (std::process::id() & 0xfff)).to_be();
    // Destination, label, get, exclusive, create, 60 s and 6 s; then a control message (its length, the
    // level, the type) with a header of type 2: two units long, one segment left, the hop.
    let mut request = Vec::new();
    request.extend(v6.ip().octets());
    request.extend(label.to_ne_bytes());
    request.extend([0, 1]);
    for word in [1u16, 60, 6, 0, 0] {
        request.extend(word.to_ne_bytes());
    }
    request.extend(40u64.to_ne_bytes());
    request.extend(libc::IPPROTO_IPV6.to_ne_bytes());
    request.extend(57i32.to_ne_bytes());
    request.extend([0, 2, 2, 1, 0, 0, 0, 0]);
    request.extend(v6.ip().octets());
    set_option(&socket, (libc::IPPROTO_IPV6, 32), &request)?;
    set_option(&socket, (libc::IPPROTO_IPV6, 33), &1i32.to_ne_bytes())?;
    let to = std::net::SocketAddrV6::new(*v6.ip(), v6.port(), label, 0);
    socket.send_to(b"ping", to).map(drop)
}

fn set_option(socket: &UdpSocket, (level, name): (i32, i32), value: &[u8]) -> io::Result<()> {
    use std::os::fd::AsRawFd as _;
    let length = libc::socklen_t::try_from(value.len()).map_err(io::Error::other)?;
    // SAFETY: the option's bytes outlive the call, and its length is theirs.
    let result = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            level,
            name,
            value.as_ptr().cast(),
            length,
        )
    };
    if result < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(())
    }
}

/// Sends messages to there by one call: each with a route of its own beside it, or without.
fn messages<const COUNT: usize>(
    to: SocketAddr,
    routed: [bool; COUNT],
    named: bool,
) -> io::Result<()> {
    use std::os::fd::AsRawFd as _;
    let SocketAddr::V4(v4) = to else {
        return Err(io::Error::other("not IPv4"));
    };
    let socket = UdpSocket::bind(SocketAddr::from(([0, 0, 0, 0], 0)))?;
    let name = internet(v4);
    // Somebody takes them, or the first would come back as an error of the second.
    let taker = if named {
        None
    } else {
        Some(UdpSocket::bind(to)?)
    };
    if taker.is_some() {
        socket.connect(to)?;
    }
    let mut byte = [b'x'];
    let mut part = libc::iovec {
        iov_base: byte.as_mut_ptr().cast(),
        iov_len: 1,
    };
    // A header of 16 bytes (length, level, type) and a loose route of one hop: 127.0.0.2; then the list's end.
    let mut beside = [
        24u64,
        (libc::IP_RETOPTS as u64) << 32,
        0x0002_0000_7f04_0783,
    ];
    let mut each = routed.map(|is_routed| libc::mmsghdr {
        msg_hdr: libc::msghdr {
            msg_name: match named {
                true => std::ptr::from_ref(&name).cast_mut().cast(),
                false => std::ptr::null_mut(),
            },
            msg_namelen: if named { 16 } else { 0 },
            msg_iov: &raw mut part,
            msg_iovlen: 1,
            msg_control: beside.as_mut_ptr().cast(),
            msg_controllen: if is_routed { 24 } else { 0 },
            msg_flags: 0,
        },
        msg_len: 0,
    });
    let (fd, first) = (socket.as_raw_fd(), each.as_mut_ptr());
    let only: *const libc::msghdr = &raw const each[0].msg_hdr;
    let count = if COUNT == 1 {
        // SAFETY: everything the message points to outlives the call, and the lengths are theirs.
        unsafe { libc::sendmsg(fd, only, 0) }
    } else {
        // SAFETY: as above, for each of so many.
        unsafe { libc::sendmmsg(fd, first, COUNT as libc::c_uint, 0) as isize }
    };
    match usize::try_from(count) {
        Ok(sent) if sent == COUNT || COUNT == 1 => Ok(()),
        Ok(sent) => Err(io::Error::other(format!("only {sent} were sent"))),
        Err(_) => Err(io::Error::last_os_error()),
    }
}

/// Answers `pong` to whoever connects, for ever; says when it listens.
fn serve(at: SocketAddr) -> io::Result<()> {
    let listener = TcpListener::bind(at)?;
    println!("listening");
    io::stdout().flush()?;
    for stream in listener.incoming() {
        let mut stream = stream?;
        let mut ping = [0; 4];
        if stream.read_exact(&mut ping).is_ok() {
            // A client that went away is its own loss.
            drop(stream.write_all(b"pong"));
        }
    }
    Ok(())
}

/// Runs until something ends it, and shows in the output that it began.
fn hold() -> io::Result<()> {
    println!("holding");
    io::stdout().flush()?;
    loop {
        std::thread::park();
    }
}

/// The first thread ends, and another holds on.
fn leaderless() -> io::Result<()> {
    std::thread::spawn(hold);
    // SAFETY: ends this thread only, which holds nothing that another waits for.
    unsafe { libc::syscall(libc::SYS_exit, 0) };
    Err(io::Error::other("the first thread goes on"))
}

/// Computes, with a child and a thread that do the same, and never asks the kernel for anything.
fn spin() -> io::Result<()> {
    // SAFETY: nothing else runs in this process yet, so the child finds nothing half done.
    let child = unsafe { libc::fork() };
    if child < 0 {
        return Err(io::Error::last_os_error());
    }
    let compute = || {
        loop {
            std::hint::spin_loop();
        }
    };
    std::thread::spawn(compute);
    if child > 0 {
        println!("spinning");
        io::stdout().flush()?;
    }
    compute()
}

/// Holds with many children that hold.
fn crowd(count: &str) -> io::Result<()> {
    let count: usize = count.parse().map_err(io::Error::other)?;
    for _ in 1..count {
        // SAFETY: nothing else runs in this process, so the child finds nothing half done.
        match unsafe { libc::fork() } {
            0 => loop {
                // SAFETY: it takes nothing and waits for a signal.
                unsafe { libc::pause() };
            },
            child if child < 0 => return Err(io::Error::last_os_error()),
            _ => {}
        }
    }
    hold()
}

/// Connects and keeps the connection.
fn stay(to: SocketAddr) -> io::Result<()> {
    let stream = TcpStream::connect(to)?;
    let held = hold();
    drop(stream);
    held
}

/// Accepts one connection and tells how it ended.
fn witness(at: SocketAddr) -> io::Result<()> {
    let listener = TcpListener::bind(at)?;
    println!("listening");
    io::stdout().flush()?;
    let (mut stream, _) = listener.accept()?;
    println!("accepted");
    io::stdout().flush()?;
    match stream.read(&mut [0; 1]) {
        Ok(0) => println!("ended"),
        Ok(_) => println!("data"),
        Err(error) if error.kind() == io::ErrorKind::ConnectionReset => println!("reset"),
        Err(error) => return Err(error),
    }
    Ok(())
}

/// Waits until somebody opens the other end and is done with it.
fn after(fifo: &str) -> io::Result<()> {
    println!("waiting");
    io::stdout().flush()?;
    std::fs::read(fifo).map(drop)
}

fn fork() -> io::Result<()> {
    // SAFETY: this process has one thread, so its copy holds no lock that nobody will open.
    match unsafe { libc::fork() } {
        // SAFETY: ends the copy, without what would be done at an ordinary end.
        0 => unsafe { libc::_exit(0) },
        child if child < 0 => Err(io::Error::last_os_error()),
        _ => Ok(()),
    }
}

/// Ends as the program does, or as a shell says that a signal ended it.
fn spawn(path: &str, rest: &[&str]) -> ExitCode {
    match Command::new(path).args(rest).status() {
        Ok(status) => {
            let code = status.code().or(status.signal().map(|signal| 128 + signal));
            ExitCode::from(code.and_then(|code| u8::try_from(code).ok()).unwrap_or(1))
        }
        Err(error) => {
            println!("{error}");
            let number = error.raw_os_error().unwrap_or(99);
            ExitCode::from(u8::try_from(100 + number).unwrap_or(u8::MAX))
        }
    }
}

/// Executes a copy of `path` that has no name in any file system.
fn memfd(path: &str) -> io::Result<()> {
    // SAFETY: the name is a string that ends with a zero, and outlives the call.
    let fd = unsafe { libc::memfd_create(c"copy".as_ptr(), 0) };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the kernel just gave us this descriptor; nobody else owns it.
    let mut file = unsafe { std::fs::File::from_raw_fd(fd) };
    file.write_all(&std::fs::read(path)?)?;
    file.set_permissions(PermissionsExt::from_mode(0o755))?;
    let mut command = Command::new(format!("/proc/self/fd/{fd}"));
    Err(command.arg("hello").exec())
}

fn map_anonymous() -> io::Result<()> {
    map(
        -1,
        libc::PROT_READ | libc::PROT_EXEC,
        libc::MAP_PRIVATE | libc::MAP_ANONYMOUS,
    )
    .map(drop)
}

/// How long the file is that this is executed from; nobody may write to it meanwhile.
fn size() -> io::Result<()> {
    println!("{}", std::fs::metadata("/proc/self/exe")?.len());
    Ok(())
}

fn map_file(path: &str, protection: i32) -> io::Result<()> {
    use std::os::fd::AsRawFd as _;
    let file = std::fs::File::open(path)?;
    map(file.as_raw_fd(), protection, libc::MAP_PRIVATE).map(drop)
}

fn map(fd: i32, protection: i32, flags: i32) -> io::Result<*mut libc::c_void> {
    // SAFETY: the kernel chooses the address, so no memory of ours is replaced.
    let at = unsafe { libc::mmap(std::ptr::null_mut(), PAGE, protection, flags, fd, 0) };
    if at == libc::MAP_FAILED {
        Err(io::Error::last_os_error())
    } else {
        Ok(at)
    }
}

const PAGE: usize = 4096;
