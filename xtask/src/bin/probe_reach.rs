//! What root tries against a gate with kernel programs of its own and with calls that no shell has:
//! each command does one thing and ends with 0 only if it was done, else with 100 plus the error number
//! that the kernel gave. As the first process it lets go of the gate and becomes what it replaced.

use std::{
    ffi::CString,
    fs,
    io::{self, BufRead as _, Write as _},
    os::{
        fd::{AsRawFd as _, FromRawFd as _, OwnedFd},
        unix::process::CommandExt as _,
    },
    process::{Command, ExitCode},
};

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    if std::process::id() == 1 {
        return as_the_first_process(&args);
    }
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    let done = match args.as_slice() {
        ["override", "attach"] => override_setting(attach_to_cgroup),
        ["override", "link"] => override_setting(link_to_cgroup),
        ["detach-setting"] => detach_setting(),
        ["update", pin] => update(pin),
        ["modify-return", function] => ride(TRACING, MODIFY_RETURN, function),
        ["lsm", hook] => ride(LSM, LSM_MAC, hook),
        ["extend"] => extend(),
        ["kprobe"] => load(KPROBE, 0, 0, &[set(0, 0), EXIT]).map(drop),
        ["write-user"] => write_user(),
        ["map-device", path] => map_device(path),
        ["tkill", pid, signal] => both(pid, signal).and_then(thread_signal),
        ["pidfd", pid, signal] => both(pid, signal).and_then(pidfd_signal),
        ["queue", pid, signal] => both(pid, signal).and_then(queue_signal),
        ["mount-new", to] => mount_new(to),
        ["mount-clone", from, to] => mount_clone(from, to),
        ["mount-move", from, to] => mount_move(from, to),
        ["hold", ask, answer] => hold(ask, answer),
        ["ask", ask, answer, what] => have_done(ask, answer, what),
        _ => {
            eprintln!("probe_reach: what is `{}`?", args.join(" "));
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

/// In the place of the first process: unmounts the pins, kills the daemon that a file names, and goes on
/// as the program that was there before.
fn as_the_first_process(args: &[String]) -> ExitCode {
    // SAFETY: a string that outlives the call.
    let gone = unsafe { libc::umount2(c"/sys/fs/bpf".as_ptr(), libc::MNT_DETACH) };
    let daemon = fs::read_to_string("/run/attack-daemon").unwrap_or_default();
    let killed = daemon
        .trim()
        .parse()
        // SAFETY: integers only.
        .map(|pid| unsafe { libc::kill(pid, libc::SIGKILL) });
    let said = format!("unmounted {gone}, killed {killed:?}\n");
    let _nobody_to_tell = fs::write("/run/attack-first", said);
    let mut real = Command::new("/root/systemd.real");
    let _not_executed = real.arg0("/lib/systemd/systemd").args(args).exec();
    ExitCode::FAILURE
}

fn both(pid: &str, signal: &str) -> io::Result<(i32, i32)> {
    let number = |text: &str| text.parse().map_err(io::Error::other);
    Ok((number(pid)?, number(signal)?))
}

/// Takes hold of what a guard that is armed later does not give, and uses it when told to, for ever.
fn hold(ask: &str, answer: &str) -> io::Result<()> {
    let mut switch = fs::OpenOptions::new().write(true).open(SWITCH)?;
    let overriding = overriding()?;
    let riding = load(
        TRACING,
        MODIFY_RETURN,
        type_of("security_bprm_committed_creds")?,
        &[set(0, 0), EXIT],
    )?;
    // Both ends of both, so that they stay while nobody is at the other.
    let both = |path| fs::OpenOptions::new().read(true).write(true).open(path);
    let (asked, mut answers) = (io::BufReader::new(both(ask)?), both(answer)?);
    println!("holding");
    for what in asked.lines() {
        let done = match what?.as_str() {
            "here" => Ok(()),
            "write" => switch.write_all(b"0\n"),
            "attach" => with_it_there(attach_to_cgroup, &overriding),
            "detach" => detach_from_cgroup(&root_cgroup()?, &overriding),
            "link" => with_it_there(link_to_cgroup, &overriding),
            "ride" => put_in_place(&riding),
            other => Err(io::Error::other(format!("asked for `{other}`"))),
        };
        let number = match done {
            Ok(()) => 0,
            Err(error) => 100 + error.raw_os_error().unwrap_or(99),
        };
        writeln!(answers, "{number}")?;
    }
    Ok(())
}

/// Has the one who holds do it.
fn have_done(ask: &str, answer: &str, what: &str) -> io::Result<()> {
    fs::OpenOptions::new()
        .write(true)
        .open(ask)?
        .write_all(format!("{what}\n").as_bytes())?;
    let mut said = String::new();
    io::BufReader::new(fs::File::open(answer)?).read_line(&mut said)?;
    match said.trim().parse().map_err(io::Error::other)? {
        0 => Ok(()),
        number => Err(io::Error::from_raw_os_error(number - 100)),
    }
}

/// A way to put a program at a cgroup. What it answers keeps the program there, if anything has to.
type Attach = fn(&OwnedFd, &OwnedFd) -> io::Result<OwnedFd>;

/// Attaches a program to the root cgroup that takes back what others refused, then writes the switch.
fn override_setting(attach: Attach) -> io::Result<()> {
    with_it_there(attach, &overriding()?)
}

fn with_it_there(attach: Attach, program: &OwnedFd) -> io::Result<()> {
    let _there = attach(&root_cgroup()?, program)?;
    flip()
}

fn overriding() -> io::Result<OwnedFd> {
    const SET_RETVAL: u64 = 187;
    let program = [set(1, 0), call(SET_RETVAL), set(0, 1), EXIT];
    load(CGROUP_SYSCTL, AT_SYSCTL, 0, &program)
}

fn flip() -> io::Result<()> {
    fs::write(SWITCH, "0")
}

fn attach_to_cgroup(cgroup: &OwnedFd, program: &OwnedFd) -> io::Result<OwnedFd> {
    const ALLOW_MULTI: u64 = 2;
    let mut attr: Attr = [0; 16];
    attr[0] = word(cgroup) | word(program) << 32;
    attr[1] = AT_SYSCTL | ALLOW_MULTI << 32;
    bpf(BPF_PROG_ATTACH, &mut attr)
}

fn detach_from_cgroup(cgroup: &OwnedFd, program: &OwnedFd) -> io::Result<()> {
    let mut attr: Attr = [0; 16];
    attr[0] = word(cgroup) | word(program) << 32;
    attr[1] = AT_SYSCTL;
    bpf(BPF_PROG_DETACH, &mut attr).map(drop)
}

fn link_to_cgroup(cgroup: &OwnedFd, program: &OwnedFd) -> io::Result<OwnedFd> {
    let mut attr: Attr = [0; 16];
    attr[0] = word(program) | word(cgroup) << 32;
    attr[1] = AT_SYSCTL;
    bpf(BPF_LINK_CREATE, &mut attr)
}

/// Takes off whatever is at the root cgroup, without a descriptor of it.
fn detach_setting() -> io::Result<()> {
    let mut attr: Attr = [0; 16];
    attr[0] = word(&root_cgroup()?);
    attr[1] = AT_SYSCTL;
    bpf(BPF_PROG_DETACH, &mut attr).map(drop)
}

/// Has a function of ours ready for the place of one in a program that is loaded: one of ours too, for the gate's
/// are not to be had.
fn extend() -> io::Result<()> {
    let target = load(SOCKET_FILTER, 0, 0, &[set(0, 0), EXIT])?;
    let mut attr = loading(EXTENSION, &[set(0, 0), EXIT]);
    attr[13] = 1 << 32;
    attr[14] = word(&target);
    bpf(BPF_PROG_LOAD, &mut attr).map(drop)
}

/// Loads a program that writes to user space, of a type that nobody minds otherwise, as the same without that call
/// shows.
fn write_user() -> io::Result<()> {
    let loads = |program: &[u64]| {
        let mut attr = loading(SYSCALL, program);
        attr[5] = SLEEPABLE << 32;
        bpf(BPF_PROG_LOAD, &mut attr)
    };
    let mut harmless = WRITE_USER;
    harmless[5] = set(0, 0);
    let other = |error: io::Error| format!("without it: {:?}", error.raw_os_error());
    loads(&harmless).map_err(|error| io::Error::other(other(error)))?;
    loads(&WRITE_USER).map(drop)
}

/// Puts a program that allows everything in the place of a pinned link's.
fn update(pin: &str) -> io::Result<()> {
    let path = CString::new(pin).map_err(io::Error::other)?;
    let mut attr: Attr = [0; 16];
    attr[0] = path.as_ptr() as u64;
    let link = bpf(BPF_OBJ_GET, &mut attr)?;
    let program = load(SOCKET_FILTER, 0, 0, &[set(0, 0), EXIT])?;
    let mut attr: Attr = [0; 16];
    attr[0] = word(&link) | word(&program) << 32;
    bpf(BPF_LINK_UPDATE, &mut attr).map(drop)
}

/// Loads and attaches a program that rides on a kernel function.
fn ride(kind: u64, attach: u64, function: &str) -> io::Result<()> {
    put_in_place(&load(kind, attach, type_of(function)?, &[set(0, 0), EXIT])?)
}

fn put_in_place(program: &OwnedFd) -> io::Result<()> {
    let mut attr: Attr = [0; 16];
    attr[1] = word(program);
    bpf(BPF_RAW_TRACEPOINT_OPEN, &mut attr).map(drop)
}

fn load(kind: u64, attach: u64, function: u64, program: &[u64]) -> io::Result<OwnedFd> {
    let mut attr = loading(kind, program);
    attr[8] = attach << 32;
    attr[13] = function << 32;
    bpf(BPF_PROG_LOAD, &mut attr)
}

/// What the kernel has to know of any program.
fn loading(kind: u64, program: &[u64]) -> Attr {
    let mut attr: Attr = [0; 16];
    attr[0] = kind | (program.len() as u64) << 32;
    attr[1] = program.as_ptr() as u64;
    attr[2] = c"GPL".as_ptr() as u64;
    attr
}

/// The number that the kernel's own type information gives a function.
fn type_of(function: &str) -> io::Result<u64> {
    const FUNC: u32 = 12;
    let bytes = fs::read("/sys/kernel/btf/vmlinux")?;
    let word = |at: usize| -> io::Result<u32> {
        let bytes = bytes.get(at..at + 4).and_then(|four| four.try_into().ok());
        let bytes = bytes.ok_or_else(|| io::Error::other("short type information"))?;
        Ok(u32::from_le_bytes(bytes))
    };
    let head = word(4)? as usize;
    let (mut at, end) = (
        head + word(8)? as usize,
        head + (word(8)? + word(12)?) as usize,
    );
    let strings = head + word(16)? as usize;
    let wanted = [function.as_bytes(), b"\0"].concat();
    let mut id = 1;
    while at < end {
        let (name, info) = (word(at)? as usize, word(at + 4)?);
        let (kind, count) = (info >> 24 & 0x1f, (info & 0xffff) as usize);
        let is_it = bytes
            .get(strings + name..)
            .is_some_and(|rest| rest.starts_with(&wanted));
        if kind == FUNC && is_it {
            return Ok(id);
        }
        at += 12
            + match kind {
                1 | 14 | 17 => 4,
                3 => 12,
                4 | 5 | 15 | 19 => 12 * count,
                6 | 13 => 8 * count,
                _ => 0,
            };
        id += 1;
    }
    Err(io::Error::from_raw_os_error(libc::ENOENT))
}

fn thread_signal((pid, signal): (i32, i32)) -> io::Result<()> {
    // SAFETY: integers only.
    checked(unsafe { libc::syscall(libc::SYS_tgkill, pid, pid, signal) }).map(drop)
}

fn pidfd_signal((pid, signal): (i32, i32)) -> io::Result<()> {
    // SAFETY: integers only.
    let process = own(checked(unsafe {
        libc::syscall(libc::SYS_pidfd_open, pid, 0)
    })?);
    let none = std::ptr::null::<libc::c_void>();
    // SAFETY: a descriptor of ours, integers, and no information beside the signal.
    checked(unsafe {
        libc::syscall(
            libc::SYS_pidfd_send_signal,
            process.as_raw_fd(),
            signal,
            none,
            0,
        )
    })
    .map(drop)
}

fn queue_signal((pid, signal): (i32, i32)) -> io::Result<()> {
    let value = libc::sigval {
        sival_ptr: std::ptr::null_mut(),
    };
    // SAFETY: integers only.
    checked(unsafe { libc::sigqueue(pid, signal, value) }.into()).map(drop)
}

fn mount_new(to: &str) -> io::Result<()> {
    const CREATE: libc::c_long = 6;
    let none = std::ptr::null::<libc::c_char>();
    // SAFETY: a string that outlives the call.
    let context = own(checked(unsafe {
        libc::syscall(libc::SYS_fsopen, c"tmpfs".as_ptr(), 0)
    })?);
    // SAFETY: a descriptor of ours; this command takes no name and no value.
    checked(unsafe {
        libc::syscall(
            libc::SYS_fsconfig,
            context.as_raw_fd(),
            CREATE,
            none,
            none,
            0,
        )
    })?;
    // SAFETY: a descriptor of ours and flags.
    let mount = own(checked(unsafe {
        libc::syscall(libc::SYS_fsmount, context.as_raw_fd(), 0, 0)
    })?);
    put_mount(&mount, to)
}

fn mount_clone(from: &str, to: &str) -> io::Result<()> {
    const CLONE: libc::c_long = 1;
    let from = CString::new(from).map_err(io::Error::other)?;
    // SAFETY: a string that outlives the call.
    let mount = own(checked(unsafe {
        libc::syscall(libc::SYS_open_tree, libc::AT_FDCWD, from.as_ptr(), CLONE)
    })?);
    put_mount(&mount, to)
}

fn put_mount(mount: &OwnedFd, to: &str) -> io::Result<()> {
    const FROM_EMPTY_PATH: libc::c_long = 4;
    let to = CString::new(to).map_err(io::Error::other)?;
    // SAFETY: a descriptor of ours and strings that outlive the call.
    checked(unsafe {
        libc::syscall(
            libc::SYS_move_mount,
            mount.as_raw_fd(),
            c"".as_ptr(),
            libc::AT_FDCWD,
            to.as_ptr(),
            FROM_EMPTY_PATH,
        )
    })
    .map(drop)
}

fn mount_move(from: &str, to: &str) -> io::Result<()> {
    let from = CString::new(from).map_err(io::Error::other)?;
    let to = CString::new(to).map_err(io::Error::other)?;
    // SAFETY: strings that outlive the call.
    checked(unsafe {
        libc::syscall(
            libc::SYS_move_mount,
            libc::AT_FDCWD,
            from.as_ptr(),
            libc::AT_FDCWD,
            to.as_ptr(),
            0,
        )
    })
    .map(drop)
}

/// Has a device's memory as its own, as who drives it from user space does.
fn map_device(path: &str) -> io::Result<()> {
    let device = fs::OpenOptions::new().read(true).write(true).open(path)?;
    let may = libc::PROT_READ | libc::PROT_WRITE;
    // SAFETY: a new mapping, of a descriptor of ours, which nothing is read from or written to.
    let mapped = unsafe {
        libc::mmap(
            std::ptr::null_mut(),
            4096,
            may,
            libc::MAP_SHARED,
            device.as_raw_fd(),
            0,
        )
    };
    if mapped == libc::MAP_FAILED {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}

fn root_cgroup() -> io::Result<OwnedFd> {
    fs::File::open("/sys/fs/cgroup").map(OwnedFd::from)
}

/// The kernel's `union bpf_attr`, as words.
type Attr = [u64; 16];

/// For commands whose answer is a descriptor, or nothing worth having.
fn bpf(command: libc::c_long, attr: &mut Attr) -> io::Result<OwnedFd> {
    // SAFETY: a block of the size that is passed; what it points to outlives the call.
    let answer =
        unsafe { libc::syscall(libc::SYS_bpf, command, attr.as_mut_ptr(), size_of::<Attr>()) };
    let answer = checked(answer)?;
    if answer == 0 {
        return fs::File::open("/dev/null").map(OwnedFd::from);
    }
    Ok(own(answer))
}

fn word(fd: &OwnedFd) -> u64 {
    u64::from(fd.as_raw_fd().cast_unsigned())
}

fn own(fd: libc::c_long) -> OwnedFd {
    let fd = i32::try_from(fd).unwrap_or(-1);
    // SAFETY: the kernel just gave us this descriptor; nobody else owns it.
    unsafe { OwnedFd::from_raw_fd(fd) }
}

fn checked(result: libc::c_long) -> io::Result<libc::c_long> {
    if result < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(result)
    }
}

/// Puts a number into a register.
const fn set(register: u64, number: u64) -> u64 {
    0xb7 | register << 8 | number << 32
}

const fn call(helper: u64) -> u64 {
    0x85 | helper << 32
}

const EXIT: u64 = 0x95;

/// Writes eight bytes from its own stack to address zero of whoever it meets.
const WRITE_USER: [u64; 8] = [
    0x7a | 0x0a << 8 | 0xfff8 << 16,
    set(1, 0),
    0xbf | 0xa2 << 8,
    0x07 | 0x02 << 8 | 0xffff_fff8 << 32,
    set(3, 8),
    call(36),
    set(0, 0),
    EXIT,
];

const SWITCH: &str = "/proc/sys/kernel/ftrace_enabled";

const SOCKET_FILTER: u64 = 1;
const KPROBE: u64 = 2;
const CGROUP_SYSCTL: u64 = 23;
const TRACING: u64 = 26;
const EXTENSION: u64 = 28;
const SYSCALL: u64 = 31;
/// `BPF_F_SLEEPABLE`.
const SLEEPABLE: u64 = 1 << 4;
const LSM: u64 = 29;
const AT_SYSCTL: u64 = 18;
const MODIFY_RETURN: u64 = 26;
const LSM_MAC: u64 = 27;

const BPF_PROG_LOAD: libc::c_long = 5;
const BPF_OBJ_GET: libc::c_long = 7;
const BPF_PROG_ATTACH: libc::c_long = 8;
const BPF_PROG_DETACH: libc::c_long = 9;
const BPF_RAW_TRACEPOINT_OPEN: libc::c_long = 17;
const BPF_LINK_CREATE: libc::c_long = 28;
const BPF_LINK_UPDATE: libc::c_long = 29;
