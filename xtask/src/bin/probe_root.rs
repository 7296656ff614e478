//! What root tries against a gate: each command does one thing and ends with 0, or with 100 plus the
//! error number that the kernel gave. Raw system calls, so that no library refuses first.

use std::{
    ffi::CString,
    fs, io,
    os::{
        fd::{AsRawFd as _, FromRawFd as _, OwnedFd},
        unix::fs::FileExt as _,
    },
    process::ExitCode,
};

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    let done = match args.as_slice() {
        ["maps"] => each_id(BPF_MAP_GET_NEXT_ID, BPF_MAP_GET_FD_BY_ID),
        ["programs"] => each_id(BPF_PROG_GET_NEXT_ID, BPF_PROG_GET_FD_BY_ID),
        ["links"] => each_id(BPF_LINK_GET_NEXT_ID, BPF_LINK_GET_FD_BY_ID),
        ["by-number", "map", ids @ ..] => any_of(ids, BPF_MAP_GET_FD_BY_ID),
        ["by-number", "program", ids @ ..] => any_of(ids, BPF_PROG_GET_FD_BY_ID),
        ["load", kind] => number(kind).and_then(load),
        ["family", family] => number(family).and_then(socket),
        ["family", family, cgroup] => fs::write(format!("{cgroup}/cgroup.procs"), "0")
            .and_then(|()| number(family))
            .and_then(socket),
        ["guess-links"] => guess_links(),
        ["pin", path] => pinned(path).map(drop),
        ["detach", path] => pinned(path).and_then(|link| detach(&link)),
        ["attach", pid] => number(pid).and_then(attach),
        ["memory", pid] => fs::OpenOptions::new()
            .read(true)
            .write(true)
            .open(format!("/proc/{pid}/mem"))
            .map(drop),
        ["write", pid] => number(pid).and_then(write_memory),
        ["descriptor", pid] => number(pid).and_then(take_descriptor),
        ["limit", pid] => number(pid).and_then(limit),
        ["signal", pid, signal] => {
            number(pid).and_then(|pid| number(signal).and_then(|signal| send(pid, signal)))
        }
        ["module"] => module(),
        ["module-file", path] => module_file(path),
        ["kexec"] => kexec(),
        ["kexec-file", path] => kexec_file(path),
        ["kexec-unload"] => kexec_unload(),
        ["ports"] => ports(),
        ["port"] => port(),
        ["join-group", group, mount] => join_group(group, mount),
        ["bind-private", what, over] => bind_private(what, over),
        _ => {
            eprintln!("probe_root: what is `{}`?", args.join(" "));
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

fn number(text: &str) -> io::Result<i32> {
    text.parse().map_err(io::Error::other)
}

/// Asks for a descriptor of everything there is; the first refusal is the answer.
fn each_id(next: libc::c_long, open: libc::c_long) -> io::Result<()> {
    let mut id = 0u32;
    let mut opened = 0;
    loop {
        let mut attr: Attr = [0; 16];
        attr[0] = id.into();
        if bpf(next, &mut attr).is_err() {
            println!("opened all {opened}");
            return Ok(());
        }
        // The answer stands behind what was asked.
        id = u32::try_from(attr[0] >> 32).map_err(io::Error::other)?;
        let mut attr: Attr = [0; 16];
        attr[0] = id.into();
        let fd = bpf(open, &mut attr)?;
        opened += 1;
        drop(own(fd));
    }
}

/// Asks for a descriptor of each of these; done if one was had.
fn any_of(ids: &[&str], open: libc::c_long) -> io::Result<()> {
    let mut answer = Err(io::Error::from_raw_os_error(libc::ENOENT));
    for id in ids {
        let mut attr: Attr = [0; 16];
        attr[0] = id.parse().map_err(io::Error::other)?;
        match bpf(open, &mut attr) {
            Ok(fd) => {
                drop(own(fd));
                println!("opened {id}");
                answer = Ok(());
            }
            Err(error) => answer = answer.or(Err(error)),
        }
    }
    answer
}

/// Loads a program of this kind that answers zero.
fn load(kind: i32) -> io::Result<()> {
    const ANSWER_ZERO: [u64; 2] = [0xb7, 0x95];
    let mut attr: Attr = [0; 16];
    attr[0] = u64::from(kind.cast_unsigned()) | (ANSWER_ZERO.len() as u64) << 32;
    attr[1] = ANSWER_ZERO.as_ptr() as u64;
    attr[2] = c"GPL".as_ptr() as u64;
    bpf(BPF_PROG_LOAD, &mut attr).map(own).map(drop)
}

/// Asks for a socket of a family, whoever has to bring it.
fn socket(family: i32) -> io::Result<()> {
    // SAFETY: integers only.
    let fd = unsafe { libc::socket(family, libc::SOCK_SEQPACKET, 0) };
    descriptor(fd.into()).map(own).map(drop)
}

/// Asks without being told the numbers, which takes no privilege before the question is heard.
fn guess_links() -> io::Result<()> {
    let mut answer = Err(io::Error::from_raw_os_error(libc::ENOENT));
    for id in 1..512 {
        let mut attr: Attr = [0; 16];
        attr[0] = id;
        match bpf(BPF_LINK_GET_FD_BY_ID, &mut attr) {
            Ok(fd) => {
                drop(own(fd));
                return Ok(());
            }
            Err(error) => answer = Err(error),
        }
    }
    answer
}

fn pinned(path: &str) -> io::Result<OwnedFd> {
    let path = CString::new(path).map_err(io::Error::other)?;
    let mut attr: Attr = [0; 16];
    attr[0] = path.as_ptr() as u64;
    bpf(BPF_OBJ_GET, &mut attr).map(own)
}

fn detach(link: &OwnedFd) -> io::Result<()> {
    let mut attr: Attr = [0; 16];
    attr[0] = u64::from(link.as_raw_fd().cast_unsigned());
    bpf(BPF_LINK_DETACH, &mut attr).map(drop)
}

fn attach(pid: i32) -> io::Result<()> {
    // SAFETY: seizing takes no memory of ours.
    checked(unsafe { libc::ptrace(libc::PTRACE_SEIZE, pid, 0, 0) })
}

fn write_memory(pid: i32) -> io::Result<()> {
    let byte = [0u8; 1];
    let local = libc::iovec {
        iov_base: byte.as_ptr().cast_mut().cast(),
        iov_len: 1,
    };
    let remote = libc::iovec {
        iov_base: 0x1000 as *mut libc::c_void,
        iov_len: 1,
    };
    // SAFETY: the local vector names one byte that is only read; the remote one is not ours.
    let written =
        unsafe { libc::process_vm_writev(pid, &raw const local, 1, &raw const remote, 1, 0) };
    checked(written as libc::c_long)
}

fn take_descriptor(pid: i32) -> io::Result<()> {
    // SAFETY: integers only.
    let process = unsafe { libc::syscall(libc::SYS_pidfd_open, pid, 0) };
    let process = own(descriptor(process)?);
    for number in 3..64 {
        // SAFETY: integers only.
        let taken = unsafe { libc::syscall(libc::SYS_pidfd_getfd, process.as_raw_fd(), number, 0) };
        match descriptor(taken) {
            Ok(fd) => {
                drop(own(fd));
                return Ok(());
            }
            Err(error) if error.raw_os_error() == Some(libc::EBADF) => {}
            Err(error) => return Err(error),
        }
    }
    Err(io::Error::from_raw_os_error(libc::EBADF))
}

fn limit(pid: i32) -> io::Result<()> {
    let limit = libc::rlimit {
        rlim_cur: 0,
        rlim_max: 0,
    };
    // SAFETY: the limit is read during the call, nothing is written.
    checked(
        unsafe {
            libc::prlimit(
                pid,
                libc::RLIMIT_CPU,
                &raw const limit,
                std::ptr::null_mut(),
            )
        }
        .into(),
    )
}

fn send(pid: i32, signal: i32) -> io::Result<()> {
    // SAFETY: integers only.
    checked(unsafe { libc::kill(pid, signal) }.into())
}

fn module() -> io::Result<()> {
    // As long as a module's head at least: less is refused before anybody is asked.
    let bytes = [0x7fu8; 4096];
    // SAFETY: bytes with their length, and an empty string.
    checked(unsafe {
        libc::syscall(
            libc::SYS_init_module,
            bytes.as_ptr(),
            bytes.len(),
            c"".as_ptr(),
        )
    })
}

fn module_file(path: &str) -> io::Result<()> {
    const COMPRESSED: libc::c_long = 4;
    let file = fs::File::open(path)?;
    let mut magic = [0; 4];
    let is_elf = file.read_at(&mut magic, 0)? == 4 && &magic == b"\x7fELF";
    let flags = if is_elf { 0 } else { COMPRESSED };
    // SAFETY: a descriptor, an empty string, and flags.
    checked(unsafe {
        libc::syscall(
            libc::SYS_finit_module,
            file.as_raw_fd(),
            c"".as_ptr(),
            flags,
        )
    })
}

fn kexec() -> io::Result<()> {
    let none = std::ptr::null::<libc::c_void>();
    // SAFETY: no segments, so the pointer is not followed.
    checked(unsafe { libc::syscall(libc::SYS_kexec_load, 0, 0, none, 0) })
}

fn kexec_file(path: &str) -> io::Result<()> {
    const KEXEC_FILE_NO_INITRAMFS: libc::c_long = 4;
    let file = fs::File::open(path)?;
    // SAFETY: descriptors and an empty string with its length.
    checked(unsafe {
        libc::syscall(
            libc::SYS_kexec_file_load,
            file.as_raw_fd(),
            -1,
            1,
            c"".as_ptr(),
            KEXEC_FILE_NO_INITRAMFS,
        )
    })
}

fn kexec_unload() -> io::Result<()> {
    const KEXEC_FILE_UNLOAD: libc::c_long = 1;
    // SAFETY: no descriptors, and an empty string with its length.
    checked(unsafe {
        libc::syscall(
            libc::SYS_kexec_file_load,
            -1,
            -1,
            1,
            c"".as_ptr(),
            KEXEC_FILE_UNLOAD,
        )
    })
}

/// The kernel binds if it is asked for both, and no tool asks for both.
fn bind_private(what: &str, over: &str) -> io::Result<()> {
    let (what, over) = (CString::new(what)?, CString::new(over)?);
    let flags = libc::MS_BIND | libc::MS_PRIVATE;
    // SAFETY: two strings that end; a bind takes neither a type nor data.
    let done = unsafe {
        libc::mount(
            what.as_ptr(),
            over.as_ptr(),
            std::ptr::null(),
            flags,
            std::ptr::null(),
        )
    };
    match done {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// A mount takes part in what happens to another from then on.
fn join_group(group: &str, mount: &str) -> io::Result<()> {
    const SET_GROUP: libc::c_long = 0x100;
    let (group, mount) = (CString::new(group)?, CString::new(mount)?);
    // SAFETY: strings that outlive the call, and integers.
    checked(unsafe {
        libc::syscall(
            libc::SYS_move_mount,
            libc::AT_FDCWD,
            group.as_ptr(),
            libc::AT_FDCWD,
            mount.as_ptr(),
            SET_GROUP,
        )
    })
}

fn port() -> io::Result<()> {
    // SAFETY: changes what this thread may do, nothing else.
    checked(unsafe { libc::ioperm(0x80, 1, 1) }.into())
}

fn ports() -> io::Result<()> {
    // SAFETY: changes what this thread may do, nothing else.
    checked(unsafe { libc::iopl(3) }.into())
}

/// The kernel's `union bpf_attr`, as words.
type Attr = [u64; 16];

fn bpf(command: libc::c_long, attr: &mut Attr) -> io::Result<i32> {
    // SAFETY: a block of the size that is passed; what it points to outlives the call.
    descriptor(unsafe {
        libc::syscall(libc::SYS_bpf, command, attr.as_mut_ptr(), size_of::<Attr>())
    })
}

fn descriptor(result: libc::c_long) -> io::Result<i32> {
    checked(result)?;
    i32::try_from(result).map_err(io::Error::other)
}

fn own(fd: i32) -> OwnedFd {
    // SAFETY: the kernel just gave us this descriptor; nobody else owns it.
    unsafe { OwnedFd::from_raw_fd(fd) }
}

fn checked(result: libc::c_long) -> io::Result<()> {
    if result < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(())
    }
}

const BPF_PROG_LOAD: libc::c_long = 5;
const BPF_OBJ_GET: libc::c_long = 7;
const BPF_PROG_GET_NEXT_ID: libc::c_long = 11;
const BPF_MAP_GET_NEXT_ID: libc::c_long = 12;
const BPF_PROG_GET_FD_BY_ID: libc::c_long = 13;
const BPF_MAP_GET_FD_BY_ID: libc::c_long = 14;
const BPF_LINK_GET_FD_BY_ID: libc::c_long = 30;
const BPF_LINK_GET_NEXT_ID: libc::c_long = 31;
const BPF_LINK_DETACH: libc::c_long = 34;
