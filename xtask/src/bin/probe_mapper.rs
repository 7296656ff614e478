//! Maps files to execute them while others change them, or in a way that the kernel does not measure, and
//! looks at what it got. It ends with 0, or with 100 plus the error number that the kernel gave.

use std::{
    fs::{self, File, OpenOptions},
    io,
    os::{fd::AsRawFd as _, unix::fs::OpenOptionsExt as _},
    process::ExitCode,
    ptr, thread,
    time::Duration,
};

use libc::{MAP_PRIVATE, PROT_EXEC, PROT_READ, c_int, c_void};

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    let done = match args.as_slice() {
        ["direct", path] => direct(path),
        ["race", path, good, count] => race(path, good, count),
        ["lose", path, good] => lose(path, good),
        _ => {
            eprintln!("probe_mapper: what is `{}`?", args.join(" "));
            return ExitCode::from(2);
        }
    };
    match done {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            println!("{error}");
            let number = error.raw_os_error().unwrap_or(99);
            ExitCode::from(u8::try_from(100 + number).unwrap_or(u8::MAX))
        }
    }
}

/// By a descriptor that reads past the kernel's memory of the file, which it measures nothing through.
fn direct(path: &str) -> io::Result<u8> {
    let mut options = OpenOptions::new();
    let file = options.read(true).custom_flags(libc::O_DIRECT).open(path)?;
    map(&file, 1).map(|_at| 0)
}

/// Maps it until it was mapped, and refused, so many times. Whatever was mapped must be the good content, and
/// stay so.
fn race(path: &str, good: &str, count: &str) -> io::Result<u8> {
    let count: u32 = count.parse().map_err(io::Error::other)?;
    let good = fs::read(good)?;
    let (mut mapped, mut refused) = (0, 0);
    while mapped < count || refused < count {
        match look(path, &good)? {
            Seen::Nothing => {}
            Seen::Refusal => refused += 1,
            Seen::Other => {
                println!("after {mapped}: it was another from the start");
                return Ok(OTHER);
            }
            Seen::Good => mapped += 1,
        }
        thread::sleep(PAUSE);
    }
    Ok(0)
}

/// Maps it until what was mapped was the good content and became another.
fn lose(path: &str, good: &str) -> io::Result<u8> {
    let good = fs::read(good)?;
    loop {
        look(path, &good)?;
        thread::sleep(PAUSE);
    }
}

enum Seen {
    /// Another file was about to take its place.
    Nothing,
    Refusal,
    Other,
    Good,
}

/// Ends the process if it changes while it is looked at.
fn look(path: &str, good: &[u8]) -> io::Result<Seen> {
    let file = match File::open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Seen::Nothing),
        file => file?,
    };
    // SAFETY: the handler ends the process and does nothing else.
    unsafe { libc::signal(libc::SIGBUS, gone as *const () as libc::sighandler_t) };
    let at = match map(&file, good.len()) {
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => return Ok(Seen::Refusal),
        at => at?,
    };
    drop(file);
    // SAFETY: as many bytes as both have; where the file has none any more a signal ends the process.
    let is_good = || unsafe { libc::memcmp(at, good.as_ptr().cast(), good.len()) } == 0;
    let mut seen = Seen::Other;
    for reading in 0..READINGS {
        if is_good() {
            seen = Seen::Good;
        } else if reading == 0 {
            break;
        } else {
            println!("it became another");
            std::process::exit(CHANGED);
        }
        thread::sleep(PAUSE);
    }
    // SAFETY: what was mapped above, whole, and nothing refers to it any more.
    match unsafe { libc::munmap(at, good.len()) } {
        0 => Ok(seen),
        _ => Err(io::Error::last_os_error()),
    }
}

/// The file ends before what is read of it.
extern "C" fn gone(_signal: c_int) {
    // SAFETY: ends the process, and may be called at any moment.
    unsafe { libc::_exit(CHANGED) };
}

fn map(file: &File, length: usize) -> io::Result<*mut c_void> {
    let protection = PROT_READ | PROT_EXEC;
    // SAFETY: the kernel chooses the address, so no memory of ours is replaced.
    let at = unsafe {
        libc::mmap(
            ptr::null_mut(),
            length,
            protection,
            MAP_PRIVATE,
            file.as_raw_fd(),
            0,
        )
    };
    if at == libc::MAP_FAILED {
        return Err(io::Error::last_os_error());
    }
    Ok(at)
}

/// For as long as whoever changes it is not likely to wait.
const READINGS: u32 = 60;
const PAUSE: Duration = Duration::from_millis(5);
/// How it ends when it was let map what is not good, and when that became something else.
const OTHER: u8 = 97;
const CHANGED: i32 = 96;
