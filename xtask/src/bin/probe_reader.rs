//! Opens files in every way that a workload has, and has an interpreter open something else than what was
//! checked.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Read as _, Seek as _, Write as _},
    os::{
        fd::{AsRawFd as _, FromRawFd as _},
        unix::fs::{OpenOptionsExt as _, symlink},
    },
    process::{Command, ExitCode, ExitStatus},
    ptr, thread,
    time::Duration,
};

use io_uring::{IoUring, opcode, squeue::Flags, types::Fd};

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    let done = match args.as_slice() {
        ["open", ways @ ..] => {
            for way in ways {
                println!("{} {way}", number(open(way)));
            }
            Ok(0)
        }
        ["race", path, text, count] => race(path, text, count),
        ["swapped", "link", script, other] => linked(script, other),
        ["swapped", "bind", script, other] => bound(script, other),
        ["format", script, interpreter] => format(script, interpreter),
        _ => {
            eprintln!("probe_reader: what is `{}`?", args.join(" "));
            return ExitCode::from(2);
        }
    };
    match done {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            println!("{error}");
            let number = error
                .raw_os_error()
                .and_then(|number| u8::try_from(100 + number).ok());
            ExitCode::from(number.unwrap_or(99))
        }
    }
}

/// Zero, or the kernel's number for what went wrong.
fn number(done: io::Result<File>) -> i32 {
    match done {
        Ok(_) => 0,
        Err(error) => error.raw_os_error().unwrap_or(-1),
    }
}

/// `HOW:PATH`, or a path that is opened for reading.
fn open(way: &str) -> io::Result<File> {
    let mut options = OpenOptions::new();
    match way.split_once(':') {
        None => options
            .read(true)
            .custom_flags(libc::O_NONBLOCK | libc::O_NOCTTY)
            .open(way),
        Some(("write", path)) => options.write(true).create(true).open(path),
        Some(("both", path)) => options.read(true).write(true).open(path),
        // Only the name first, and what it stands for then.
        Some(("again", path)) => again(&options.read(true).custom_flags(libc::O_PATH).open(path)?),
        Some(("nameless", dir)) => {
            options
                .write(true)
                .custom_flags(libc::O_TMPFILE)
                .mode(0o600);
            filled(options.open(dir)?)
        }
        Some(("memory", name)) => {
            let name = std::ffi::CString::new(name)?;
            // SAFETY: a string that ends.
            let made = unsafe { libc::memfd_create(name.as_ptr(), 0) };
            if made < 0 {
                return Err(io::Error::last_os_error());
            }
            // SAFETY: a descriptor that was made for us.
            filled(unsafe { File::from_raw_fd(made) })
        }
        Some((how, path)) => match how
            .strip_prefix("ring-")
            .and_then(|how| how.split_once('-'))
        {
            Some((by, "read")) => ring(by, libc::O_RDONLY, path),
            Some((by, "write")) => ring(by, libc::O_WRONLY, path),
            _ => Err(io::Error::other(format!("what is `{how}`?"))),
        },
    }
}

/// By a ring that is shared with the kernel: the task that asks opens it, or a thread of the kernel that works
/// for it, or one that looks for work itself.
fn ring(by: &str, access: i32, path: &str) -> io::Result<File> {
    let mut builder = IoUring::builder();
    let flags = match by {
        "task" => Flags::empty(),
        "worker" => Flags::ASYNC,
        "poller" => {
            builder.setup_sqpoll(IDLE);
            Flags::empty()
        }
        _ => return Err(io::Error::other(format!("what is `{by}`?"))),
    };
    let mut ring: IoUring = builder.build(1)?;
    let path = std::ffi::CString::new(path)?;
    let open = opcode::OpenAt::new(Fd(libc::AT_FDCWD), path.as_ptr()).flags(access);
    let entry = open.build().flags(flags);
    // SAFETY: the path outlives the answer, which is waited for below.
    unsafe { ring.submission().push(&entry) }.map_err(io::Error::other)?;
    ring.submit_and_wait(1)?;
    let answer = ring.completion().next().map(|answer| answer.result());
    let fd = answer.ok_or_else(|| io::Error::other("no answer"))?;
    if fd < 0 {
        return Err(io::Error::from_raw_os_error(-fd));
    }
    // SAFETY: a descriptor that the kernel just made for us.
    Ok(unsafe { File::from_raw_fd(fd) })
}

/// Opens it until it was opened, and refused, so many times. Whoever may open it reads what is listed, and goes
/// on reading that.
fn race(path: &str, text: &str, count: &str) -> io::Result<u8> {
    let count: u32 = count.parse().map_err(io::Error::other)?;
    let (mut opened, mut refused) = (0, 0);
    while opened < count || refused < count {
        match File::open(path) {
            Ok(mut file) => {
                for _ in 0..READINGS {
                    let mut found = String::new();
                    file.rewind()?;
                    file.read_to_string(&mut found)?;
                    if found != text {
                        println!("after {opened}: `{found}`");
                        return Ok(97);
                    }
                    thread::sleep(PAUSE);
                }
                opened += 1;
            }
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => refused += 1,
            // Another one is about to take its place.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
        thread::sleep(PAUSE);
    }
    Ok(0)
}

/// Text of its own, to be opened by what stands for a descriptor.
fn filled(mut file: File) -> io::Result<File> {
    file.write_all(b"exit 9\n")?;
    again(&file)
}

fn again(file: &File) -> io::Result<File> {
    File::open(format!("/proc/self/fd/{}", file.as_raw_fd()))
}

/// Starts a listed script by a link, which is another one when its interpreter opens it.
fn linked(script: &str, other: &str) -> io::Result<u8> {
    let link = format!("{script}.link");
    let next = format!("{script}.next");
    let point = |to: &str, at: &str| -> io::Result<()> {
        let _none = fs::remove_file(&next);
        symlink(to, &next)?;
        if at == next {
            Ok(())
        } else {
            fs::rename(&next, at)
        }
    };
    until_swapped(|| {
        point(script, &link)?;
        point(other, &next)?;
        swap(&link, || fs::rename(&next, &link))
    })
}

/// The same by a mount in a namespace of its own.
fn bound(script: &str, other: &str) -> io::Result<u8> {
    // SAFETY: it takes a number.
    checked(unsafe { libc::unshare(libc::CLONE_NEWUSER | libc::CLONE_NEWNS) })?;
    let text = |text: &str| std::ffi::CString::new(text).map_err(io::Error::other);
    let (at, over) = (text(script)?, text(other)?);
    until_swapped(|| {
        let status = swap(script, || {
            let (none, nothing) = (ptr::null(), ptr::null());
            // SAFETY: strings that end.
            checked(unsafe {
                libc::mount(over.as_ptr(), at.as_ptr(), none, libc::MS_BIND, nothing)
            })
        })?;
        // SAFETY: a string that ends.
        checked(unsafe { libc::umount2(at.as_ptr(), libc::MNT_DETACH) })?;
        Ok(status)
    })
}

/// Has the kernel hand a file to an interpreter by a format of its own, in namespaces of its own.
fn format(script: &str, interpreter: &str) -> io::Result<u8> {
    // SAFETY: it takes no argument.
    let user = unsafe { libc::geteuid() };
    // SAFETY: nor does this.
    let group = unsafe { libc::getegid() };
    // SAFETY: it takes a number.
    checked(unsafe { libc::unshare(libc::CLONE_NEWUSER | libc::CLONE_NEWNS) })?;
    fs::write("/proc/self/uid_map", format!("0 {user} 1"))?;
    fs::write("/proc/self/setgroups", "deny")?;
    fs::write("/proc/self/gid_map", format!("0 {group} 1"))?;
    let (kind, at) = (
        c"binfmt_misc".as_ptr(),
        c"/proc/sys/fs/binfmt_misc".as_ptr(),
    );
    // SAFETY: strings that end.
    checked(unsafe { libc::mount(kind, at, kind, 0, ptr::null()) })?;
    let text = fs::read_to_string(script)?;
    let begins = text.lines().next().unwrap_or_default();
    let rule = format!(":own:M::{begins}::{interpreter}:");
    fs::write("/proc/sys/fs/binfmt_misc/register", rule)?;
    let status = Command::new(script).status()?;
    u8::try_from(status.code().unwrap_or(98)).map_err(io::Error::other)
}

/// What starts it goes on when the kernel has checked the file and before the interpreter runs: they share
/// their memory until then.
fn swap(script: &str, change: impl FnOnce() -> io::Result<()>) -> io::Result<ExitStatus> {
    let mut child = Command::new(script).spawn()?;
    let changed = change();
    let status = child.wait()?;
    changed.map(|()| status)
}

/// Until the change came before the interpreter opened the script. The code that it ended with.
fn until_swapped(mut attempt: impl FnMut() -> io::Result<ExitStatus>) -> io::Result<u8> {
    for _ in 0..ATTEMPTS {
        let code = attempt()?.code().unwrap_or(98);
        if code != UNCHANGED {
            return u8::try_from(code).map_err(io::Error::other);
        }
    }
    Err(io::Error::other("the interpreter was always faster"))
}

fn checked(result: i32) -> io::Result<()> {
    if result == -1 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}

/// For how long the kernel's thread looks for work, in milliseconds.
const IDLE: u32 = 1000;
const ATTEMPTS: u32 = 50;
/// For as long as whoever changes it is not likely to wait.
const READINGS: u32 = 60;
/// Refusals are told, and nobody is to be flooded with them.
const PAUSE: Duration = Duration::from_millis(5);
/// What the listed script ends with.
const UNCHANGED: i32 = 7;
