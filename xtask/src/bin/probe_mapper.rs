//! Maps files to execute them in a way that the kernel does not measure. It ends with 0, or with 100 plus the
//! error number that the kernel gave.

use std::{
    fs::{File, OpenOptions},
    io,
    os::{fd::AsRawFd as _, unix::fs::OpenOptionsExt as _},
    process::ExitCode,
    ptr,
};

use libc::{MAP_PRIVATE, PROT_EXEC, PROT_READ, c_void};

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    let done = match args.as_slice() {
        ["direct", path] => direct(path),
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
