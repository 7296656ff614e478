//! A file system in user space that holds one program: `probe_fuse FILE DIR` mounts it at `DIR` for everybody and
//! answers the kernel with the content of `FILE`, until it is unmounted. As `linux/fuse.h` lays it out, 7.31.

use std::{
    ffi::CString,
    fs,
    io::{self, Read as _, Write as _},
    os::fd::AsRawFd as _,
    process::ExitCode,
};

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [file, dir] = args.as_slice() else {
        eprintln!("usage: probe_fuse FILE DIR");
        return ExitCode::from(2);
    };
    match serve(file, dir) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

fn serve(file: &str, dir: &str) -> io::Result<()> {
    let content = fs::read(file)?;
    let mut device = fs::OpenOptions::new()
        .read(true)
        .write(true)
        .open("/dev/fuse")?;
    let options = format!(
        "fd={},rootmode=40000,user_id=0,group_id=0,allow_other",
        device.as_raw_fd()
    );
    let (to, options) = (CString::new(dir)?, CString::new(options)?);
    // SAFETY: strings that outlive the call.
    let mounted = unsafe {
        libc::mount(
            c"probe".as_ptr(),
            to.as_ptr(),
            c"fuse".as_ptr(),
            0,
            options.as_ptr().cast(),
        )
    };
    if mounted != 0 {
        return Err(io::Error::last_os_error());
    }
    println!("mounted");
    let mut request = vec![0u8; 1 << 20];
    loop {
        let length = match device.read(&mut request) {
            Ok(length) => length,
            // Unmounted.
            Err(error) if error.raw_os_error() == Some(libc::ENODEV) => return Ok(()),
            Err(error) => return Err(error),
        };
        let Some(answer) = answer(&request[..length], &content) else {
            continue;
        };
        device.write_all(&answer)?;
    }
}

/// What the kernel is told; nothing where it waits for nothing.
fn answer(request: &[u8], content: &[u8]) -> Option<Vec<u8>> {
    let word = |at: usize| u32::from_ne_bytes(request[at..at + 4].try_into().unwrap_or_default());
    let long = |at: usize| u64::from_ne_bytes(request[at..at + 8].try_into().unwrap_or_default());
    let (operation, unique, node) = (word(4), long(8), long(16));
    let said = match operation {
        FORGET | BATCH_FORGET => return None,
        INIT => Ok(initial()),
        LOOKUP if request[HEADER..].starts_with(b"program\0") => Ok(entry(content.len())),
        LOOKUP => Err(libc::ENOENT),
        GETATTR => {
            let mut said = vec![0; 16];
            said.extend(attributes(node, content.len()));
            Ok(said)
        }
        OPEN | OPENDIR => Ok(vec![0; 16]),
        READ => {
            let from = usize::try_from(long(HEADER + 8)).unwrap_or(usize::MAX);
            let rest = content.get(from..).unwrap_or_default();
            let wanted = word(HEADER + 16) as usize;
            Ok(rest[..rest.len().min(wanted)].to_vec())
        }
        RELEASE | RELEASEDIR | FLUSH => Ok(Vec::new()),
        _ => Err(libc::ENOSYS),
    };
    let (error, body) = match said {
        Ok(body) => (0, body),
        Err(number) => (-number, Vec::new()),
    };
    let mut answer = Vec::new();
    let length = u32::try_from(16 + body.len()).unwrap_or(u32::MAX);
    answer.extend(length.to_ne_bytes());
    answer.extend(error.to_ne_bytes());
    answer.extend(unique.to_ne_bytes());
    answer.extend(body);
    Some(answer)
}

fn initial() -> Vec<u8> {
    let mut said = Vec::new();
    for word in [7u32, 31, 65536, 0] {
        said.extend(word.to_ne_bytes());
    }
    // So many requests in the background, and when that is too many.
    for short in [12u16, 9] {
        said.extend(short.to_ne_bytes());
    }
    // Longest write, grain of time.
    for word in [65536u32, 1] {
        said.extend(word.to_ne_bytes());
    }
    said.resize(64, 0);
    said
}

fn entry(size: usize) -> Vec<u8> {
    let mut said = Vec::new();
    said.extend(PROGRAM.to_ne_bytes());
    said.resize(40, 0);
    said.extend(attributes(PROGRAM, size));
    said
}

fn attributes(node: u64, size: usize) -> Vec<u8> {
    let (mode, size) = if node == PROGRAM {
        (libc::S_IFREG | 0o755, size as u64)
    } else {
        (libc::S_IFDIR | 0o755, 0)
    };
    let mut said = Vec::new();
    for long in [node, size, size.div_ceil(512), 0, 0, 0] {
        said.extend(long.to_ne_bytes());
    }
    // Parts of seconds, rights, links, owner, group, device, block, flags.
    for word in [0, 0, 0, mode, 1, 0, 0, 0, 4096, 0] {
        said.extend(word.to_ne_bytes());
    }
    said
}

/// The root is 1.
const PROGRAM: u64 = 2;
const HEADER: usize = 40;
const LOOKUP: u32 = 1;
const FORGET: u32 = 2;
const GETATTR: u32 = 3;
const OPEN: u32 = 14;
const READ: u32 = 15;
const RELEASE: u32 = 18;
const FLUSH: u32 = 25;
const INIT: u32 = 26;
const OPENDIR: u32 = 27;
const RELEASEDIR: u32 = 29;
const BATCH_FORGET: u32 = 42;
