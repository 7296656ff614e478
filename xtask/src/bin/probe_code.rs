//! Tries to have memory executed that nobody measured. It does one thing and ends with 0, or with 100 plus the
//! error number that the kernel gave.

use std::{
    fs::{File, OpenOptions},
    io::{self, Write as _},
    os::{
        fd::{AsRawFd as _, FromRawFd as _},
        unix::fs::OpenOptionsExt as _,
    },
    process::ExitCode,
    ptr,
};

use libc::{MAP_ANONYMOUS, MAP_PRIVATE, PROT_EXEC, PROT_READ, PROT_WRITE, c_void};

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    let done = match args.as_slice() {
        ["anonymous"] => anonymous(PROT_READ | PROT_EXEC).map(drop),
        ["anonymous-then-code"] => anonymous(PROT_READ | PROT_WRITE).and_then(code),
        // Without a key, which every processor has.
        ["anonymous-then-code-by-key"] => anonymous(PROT_READ | PROT_WRITE).and_then(by_key),
        ["anonymous-implied"] => implied().and_then(|()| anonymous(PROT_READ).map(drop)),
        ["shared-then-code"] => shared().and_then(code),
        ["file-then-code", path] => open(path).and_then(|file| read_then_code(&file)),
        ["file-then-code-by-key", path] => {
            open(path).and_then(|file| map(Some(&file), PROT_READ).and_then(by_key))
        }
        ["file-moved-then-code", path] => open(path).and_then(|file| moved_then_code(&file)),
        ["file-written-then-code", path] => open(path).and_then(|file| written_then_code(&file)),
        ["file-implied", path] => implied().and_then(|()| {
            let file = open(path)?;
            map(Some(&file), PROT_READ).map(drop)
        }),
        ["code-then-written"] => own_code_writable(),
        ["memory", path] => memory(path).and_then(|file| mapped(&file)),
        ["nameless", dir, path] => nameless(dir, path).and_then(|file| mapped(&file)),
        ["removed", path] => removed(path).and_then(|file| mapped(&file)),
        ["shared-memory"] => shared_memory(),
        ["filler"] => filler(),
        _ => {
            eprintln!("probe_code: what is `{}`?", args.join(" "));
            return ExitCode::from(2);
        }
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            println!("{error}");
            let number = error.raw_os_error().unwrap_or(99);
            ExitCode::from(u8::try_from(100 + number).unwrap_or(u8::MAX))
        }
    }
}

/// What fills pages when they are touched, as any user may make it.
fn filler() -> io::Result<()> {
    // SAFETY: an integer only.
    let fd = unsafe { libc::syscall(libc::SYS_userfaultfd, USER_MODE_ONLY) };
    let fd = i32::try_from(fd).map_err(io::Error::other)?;
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the kernel just gave us this descriptor; nobody else owns it.
    drop(unsafe { File::from_raw_fd(fd) });
    Ok(())
}

fn open(path: &str) -> io::Result<File> {
    File::open(path)
}

/// A private mapping of one page.
fn map(file: Option<&File>, protection: i32) -> io::Result<*mut c_void> {
    let (flags, fd) = match file {
        Some(file) => (MAP_PRIVATE, file.as_raw_fd()),
        None => (MAP_PRIVATE | MAP_ANONYMOUS, -1),
    };
    // SAFETY: the kernel chooses the address, so no memory of ours is replaced.
    let at = unsafe { libc::mmap(ptr::null_mut(), PAGE, protection, flags, fd, 0) };
    if at == libc::MAP_FAILED {
        return Err(io::Error::last_os_error());
    }
    Ok(at)
}

fn anonymous(protection: i32) -> io::Result<*mut c_void> {
    map(None, protection)
}

/// Anonymous to whoever has it; the kernel keeps a file for it.
fn shared() -> io::Result<*mut c_void> {
    let (protection, flags) = (PROT_READ | PROT_WRITE, libc::MAP_SHARED | MAP_ANONYMOUS);
    // SAFETY: the kernel chooses the address, so no memory of ours is replaced.
    let at = unsafe { libc::mmap(ptr::null_mut(), PAGE, protection, flags, -1, 0) };
    if at == libc::MAP_FAILED {
        return Err(io::Error::last_os_error());
    }
    Ok(at)
}

/// As a loader maps code.
fn mapped(file: &File) -> io::Result<()> {
    map(Some(file), PROT_READ | PROT_EXEC).map(drop)
}

fn read_then_code(file: &File) -> io::Result<()> {
    map(Some(file), PROT_READ).and_then(code)
}

/// The same at another place, where it may be executed as little.
fn moved_then_code(file: &File) -> io::Result<()> {
    let at = map(Some(file), PROT_READ)?;
    let to = anonymous(PROT_READ)?;
    let flags = libc::MREMAP_MAYMOVE | libc::MREMAP_FIXED;
    // SAFETY: both pages were mapped for this, and nothing points into either.
    let at = unsafe { libc::mremap(at, PAGE, PAGE, flags, to) };
    if at == libc::MAP_FAILED {
        return Err(io::Error::other("it was not moved"));
    }
    code(at)
}

/// The page is ours alone when it was written, and no file has it any more.
fn written_then_code(file: &File) -> io::Result<()> {
    let at = map(Some(file), PROT_READ | PROT_WRITE)?;
    // SAFETY: a page that was mapped to be written, and that nothing else points into.
    unsafe { at.cast::<u8>().write_volatile(0xc3) };
    code(at)
}

/// Makes a page executable.
fn code(at: *mut c_void) -> io::Result<()> {
    // SAFETY: the page was mapped for this, and nothing points into it.
    checked(unsafe { libc::mprotect(at, PAGE, PROT_READ | PROT_EXEC) })
}

fn by_key(at: *mut c_void) -> io::Result<()> {
    let (protection, no_key) = (PROT_READ | PROT_EXEC, -1);
    // SAFETY: the page was mapped for this, and nothing points into it.
    let result = unsafe { libc::syscall(libc::SYS_pkey_mprotect, at, PAGE, protection, no_key) };
    checked(i32::try_from(result).map_err(io::Error::other)?)
}

/// Whatever may be read may be executed from now on, as old programs have it.
fn implied() -> io::Result<()> {
    // SAFETY: a number; it changes what this process may ask for, and no memory.
    checked(unsafe { libc::personality(libc::READ_IMPLIES_EXEC as libc::c_ulong) })
}

/// Its own code becomes writable and stays executable.
fn own_code_writable() -> io::Result<()> {
    let page = (implied as *const () as usize) & !(PAGE - 1);
    let at = page as *mut c_void;
    // SAFETY: a page of our own code, which stays what it is.
    checked(unsafe { libc::mprotect(at, PAGE, PROT_READ | PROT_WRITE | PROT_EXEC) })
}

/// A copy that no file system has, still to be written by whoever made it.
fn memory(path: &str) -> io::Result<File> {
    // SAFETY: a string that ends, and a number.
    let fd = unsafe { libc::memfd_create(c"copy".as_ptr(), 0) };
    checked(fd)?;
    // SAFETY: the kernel just gave us this descriptor; nobody else owns it.
    let mut file = unsafe { File::from_raw_fd(fd) };
    file.write_all(&std::fs::read(path)?)?;
    Ok(file)
}

/// A copy that never had a name, on a file system that has names, and that nobody may write any more.
fn nameless(dir: &str, path: &str) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.read(true).write(true).mode(0o700);
    let mut copy = options.custom_flags(libc::O_TMPFILE).open(dir)?;
    copy.write_all(&std::fs::read(path)?)?;
    File::open(format!("/proc/self/fd/{}", copy.as_raw_fd()))
}

/// A file whose last name is gone.
fn removed(path: &str) -> io::Result<File> {
    let file = File::open(path)?;
    std::fs::remove_file(path)?;
    Ok(file)
}

/// Attaches shared memory of System V to execute it.
fn shared_memory() -> io::Result<()> {
    // SAFETY: three numbers.
    let id = unsafe { libc::shmget(libc::IPC_PRIVATE, PAGE, 0o700) };
    checked(id)?;
    // SAFETY: the kernel chooses the address.
    let at = unsafe { libc::shmat(id, ptr::null(), libc::SHM_EXEC | libc::SHM_RDONLY) };
    let refused = io::Error::last_os_error();
    // SAFETY: our own segment, which goes when nobody has it attached.
    checked(unsafe { libc::shmctl(id, libc::IPC_RMID, ptr::null_mut()) })?;
    if at as isize == -1 {
        return Err(refused);
    }
    Ok(())
}

fn checked(result: i32) -> io::Result<()> {
    if result == -1 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}

/// Faults of the kernel itself are not to be handled (`UFFD_USER_MODE_ONLY`).
const USER_MODE_ONLY: i32 = 1;
const PAGE: usize = 4096;
