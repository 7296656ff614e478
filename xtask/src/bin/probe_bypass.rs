//! Tries to run, or make of itself, something else than what was listed. It does one thing and ends with 0,
//! or with 100 plus the error number that the kernel gave.

use std::{
    ffi::{CStr, CString},
    fs::{File, OpenOptions},
    io::{self, Write as _},
    os::{
        fd::AsRawFd as _,
        unix::{
            fs::{FileExt as _, OpenOptionsExt as _, PermissionsExt as _},
            process::CommandExt as _,
        },
    },
    process::{Command, ExitCode},
    ptr,
};

use libc::{MAP_PRIVATE, MAP_SHARED, PROT_EXEC, PROT_READ, PROT_WRITE, c_void};

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    let done = match args.as_slice() {
        ["map", path] => mapped(path),
        ["load", path] => load(path),
        ["written-then-mapped", path] => written(path).and_then(|_file| mapped(path)),
        ["shared-then-mapped", path] => shared(path).and_then(|()| mapped(path)),
        ["write", path] => written(path).map(drop),
        ["truncate", path] => truncate(path),
        ["empty", path] => emptied(path),
        // As the interpreter of a script, which is told the script's path.
        ["rewrite", script] => written(script).map(drop),
        ["own-memory"] => own_memory("/proc/self/mem"),
        ["own-memory", "thread"] => in_thread(|| own_memory("/proc/thread-self/mem")),
        ["own-memory", "other-thread"] => {
            let first = format!("/proc/self/task/{}/mem", std::process::id());
            in_thread(move || own_memory(&first))
        }
        ["own-memory", "sharer"] => own_memory_by_sharer(),
        ["trace-me"] => ptrace(libc::PTRACE_TRACEME, 0),
        ["trace", pid] => number(pid).and_then(|pid| ptrace(libc::PTRACE_SEIZE, pid)),
        ["memory-of", pid] => memory_of(pid),
        ["write-into", pid] => number(pid).and_then(write_into),
        ["descriptor-of", pid] => number(pid).and_then(descriptor_of),
        ["with-child", way] => with_child(way),
        ["traced", procs, path, rest @ ..] => return traced(procs, path, rest),
        ["remapped", path] => remapped(path),
        ["nameless", dir, path] => nameless(dir, path),
        ["removed", path] => removed(path),
        ["quotas-in", device, path] => quotas_in(device, path),
        ["by-descriptor", path] => by_descriptor(path),
        ["by-thread", path, rest @ ..] => {
            let mut command = Command::new(path);
            command.args(rest);
            in_thread(move || Err(command.exec()))
        }
        ["bound", path, other] => bound(path, other),
        ["below", dir, path] => below(dir, path),
        ["called", dir, name, rest @ ..] => called(dir, name, rest),
        ["failed-then-mapped", program, path] => failed(program).and_then(|()| mapped(path)),
        ["own-overlay", options, path] => own_overlay(options, path),
        _ => {
            eprintln!("probe_bypass: what is `{}`?", args.join(" "));
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

/// Executes what lies in a directory by that very name, which no path leads to.
fn called(dir: &str, name: &str, rest: &[&str]) -> io::Result<()> {
    std::env::set_current_dir(dir)?;
    let name = CString::new(name)?;
    let rest = rest.iter().map(|word| CString::new(*word));
    let rest = rest.collect::<Result<Vec<_>, _>>()?;
    let words = [&name].into_iter().chain(&rest);
    let mut argv: Vec<*const libc::c_char> = words.map(|word| word.as_ptr()).collect();
    argv.push(ptr::null());
    // SAFETY: strings that end, in a list that ends.
    checked(unsafe { libc::execv(name.as_ptr(), argv.as_ptr()) }).map(drop)
}

/// Goes on after an exec that began well and came to nothing.
fn failed(program: &str) -> io::Result<()> {
    let error = Command::new(program).exec();
    if error.kind() == io::ErrorKind::NotFound {
        Ok(())
    } else {
        Err(error)
    }
}

fn number(text: &str) -> io::Result<i32> {
    text.parse().map_err(io::Error::other)
}

/// What a system call returned, or its error.
fn checked(result: impl Into<i64>) -> io::Result<i64> {
    match result.into() {
        -1 => Err(io::Error::last_os_error()),
        value => Ok(value),
    }
}

fn map(file: &File, protection: i32, flags: i32) -> io::Result<*mut c_void> {
    // SAFETY: the kernel chooses the address, so no memory of ours is replaced.
    let at = unsafe { libc::mmap(ptr::null_mut(), 1, protection, flags, file.as_raw_fd(), 0) };
    if at == libc::MAP_FAILED {
        return Err(io::Error::last_os_error());
    }
    Ok(at)
}

/// As a loader maps code.
fn mapped(path: &str) -> io::Result<()> {
    map(&File::open(path)?, PROT_READ | PROT_EXEC, MAP_PRIVATE).map(drop)
}

/// As a program loads a library.
fn load(path: &str) -> io::Result<()> {
    let path = CString::new(path).map_err(io::Error::other)?;
    // SAFETY: a string that ends; the libraries of the tests do nothing when they are loaded.
    let handle = unsafe { libc::dlopen(path.as_ptr(), libc::RTLD_NOW) };
    if !handle.is_null() {
        return Ok(());
    }
    // SAFETY: nobody else loads anything here, so it speaks of the call above.
    let why = unsafe { libc::dlerror() };
    // SAFETY: a string that ends, and there is one after a failure.
    let why = unsafe { CStr::from_ptr(why) };
    Err(io::Error::other(why.to_string_lossy().into_owned()))
}

/// Opened for writing, and written.
fn written(path: &str) -> io::Result<File> {
    let file = OpenOptions::new().read(true).write(true).open(path)?;
    let mut byte = [0];
    file.read_exact_at(&mut byte, 0)?;
    file.write_all_at(&byte, 0)?;
    Ok(file)
}

/// Mapped to be written, with no descriptor left.
fn shared(path: &str) -> io::Result<()> {
    let file = OpenOptions::new().read(true).write(true).open(path)?;
    map(&file, PROT_READ | PROT_WRITE, MAP_SHARED).map(drop)
}

/// By its path, to the length that it has.
fn truncate(path: &str) -> io::Result<()> {
    let length = i64::try_from(std::fs::metadata(path)?.len()).map_err(io::Error::other)?;
    let path = CString::new(path).map_err(io::Error::other)?;
    // SAFETY: a string that ends, and a number.
    checked(unsafe { libc::truncate(path.as_ptr(), length) }).map(drop)
}

/// Through a descriptor that cannot write.
fn emptied(path: &str) -> io::Result<()> {
    let mut options = OpenOptions::new();
    options.read(true).custom_flags(libc::O_TRUNC);
    options.open(path).map(drop)
}

/// Writes over its own code, which is mapped read-only.
fn own_memory(path: &str) -> io::Result<()> {
    let file = OpenOptions::new().write(true).open(path)?;
    // With what is there, so that it goes on.
    let code = number as *const u8;
    // SAFETY: the first byte of a function of ours.
    let byte = unsafe { code.read_volatile() };
    file.write_all_at(&[byte], code as u64)
}

/// By another process with the same memory: the kernel asks nobody whether it may trace that.
fn own_memory_by_sharer() -> io::Result<()> {
    extern "C" fn written(path: *mut c_void) -> i32 {
        // SAFETY: the string that whoever cloned this waits with.
        let path = unsafe { CStr::from_ptr(path.cast()) };
        let done = own_memory(&path.to_string_lossy());
        done.err()
            .map_or(0, |error| error.raw_os_error().unwrap_or(99))
    }
    let path = CString::new(format!("/proc/{}/mem", std::process::id()))?;
    let mut stack = vec![0u128; 1 << 14];
    let top = stack.as_mut_ptr_range().end;
    let (flags, path) = (libc::CLONE_VM | libc::SIGCHLD, path.as_ptr().cast_mut());
    // SAFETY: this process waits meanwhile, with the string and the stack, so nobody else uses its memory.
    let child = unsafe { libc::clone(written, top.cast(), flags, path.cast()) };
    checked(child)?;
    let mut status = 0;
    // SAFETY: our own child, and a number of ours.
    checked(unsafe { libc::waitpid(child, &raw mut status, 0) })?;
    match libc::WEXITSTATUS(status) {
        0 if libc::WIFEXITED(status) => Ok(()),
        number => Err(io::Error::from_raw_os_error(number)),
    }
}

/// Not in the thread that the process began with.
fn in_thread(act: impl FnOnce() -> io::Result<()> + Send) -> io::Result<()> {
    std::thread::scope(|scope| scope.spawn(act).join())
        .unwrap_or_else(|_| Err(io::Error::other("the thread panicked")))
}

/// Has the kernel keep quotas of a file system in that file of it, for a moment.
fn quotas_in(device: &str, path: &str) -> io::Result<()> {
    let (device, path) = (CString::new(device)?, CString::new(path)?);
    let quotas = |command: i32, file: *mut libc::c_char| {
        // Of users, in the oldest form, which takes any file of a fitting length.
        let command = libc::QCMD(command, libc::USRQUOTA);
        // SAFETY: strings that end, and numbers.
        checked(unsafe { libc::quotactl(command, device.as_ptr(), libc::QFMT_VFS_OLD, file) })
    };
    quotas(libc::Q_QUOTAON, path.as_ptr().cast_mut())?;
    quotas(libc::Q_QUOTAOFF, ptr::null_mut()).map(drop)
}

/// Executes what a descriptor stands for that can do nothing else.
fn by_descriptor(path: &str) -> io::Result<()> {
    let mut options = OpenOptions::new();
    let file = options.read(true).custom_flags(libc::O_PATH).open(path)?;
    let (path, argv) = (c"".as_ptr(), [c"program".as_ptr(), ptr::null()]);
    let environment: [*const libc::c_char; 1] = [ptr::null()];
    // SAFETY: a string that ends, and lists of such that end.
    let result = unsafe {
        libc::syscall(
            libc::SYS_execveat,
            file.as_raw_fd(),
            path,
            argv.as_ptr(),
            environment.as_ptr(),
            libc::AT_EMPTY_PATH,
        )
    };
    checked(result).map(drop)
}

/// Executes a path below which another file was mounted, in namespaces of its own.
fn bound(path: &str, other: &str) -> io::Result<()> {
    // SAFETY: it takes a number.
    checked(unsafe { libc::unshare(libc::CLONE_NEWUSER | libc::CLONE_NEWNS) })?;
    let (at, over) = (CString::new(path)?, CString::new(other)?);
    let (none, nothing) = (ptr::null(), ptr::null());
    // SAFETY: strings that end.
    checked(unsafe { libc::mount(over.as_ptr(), at.as_ptr(), none, libc::MS_BIND, nothing) })?;
    Err(Command::new(path).exec())
}

/// Executes a path of another root, which a namespace of its own lets it have.
fn below(dir: &str, path: &str) -> io::Result<()> {
    // SAFETY: it takes a number.
    checked(unsafe { libc::unshare(libc::CLONE_NEWUSER) })?;
    std::os::unix::fs::chroot(dir)?;
    Err(Command::new(path).exec())
}

fn ptrace(request: libc::c_uint, pid: i32) -> io::Result<()> {
    let nothing: *mut c_void = ptr::null_mut();
    // SAFETY: a request that takes no memory of ours.
    checked(unsafe { libc::ptrace(request, pid, nothing, nothing) }).map(drop)
}

fn memory_of(pid: &str) -> io::Result<()> {
    let path = format!("/proc/{pid}/mem");
    OpenOptions::new().write(true).open(path).map(drop)
}

/// Writes where a process that came of this one by `fork` has the same byte.
fn write_into(pid: i32) -> io::Result<()> {
    let mut byte = [1u8];
    let from = libc::iovec {
        iov_base: byte.as_mut_ptr().cast(),
        iov_len: 1,
    };
    let to = libc::iovec {
        iov_base: ptr::from_ref(&from).cast_mut().cast(),
        iov_len: 1,
    };
    // SAFETY: both descriptions outlive the call, and what is written lies in another process.
    let result = unsafe { libc::process_vm_writev(pid, &raw const from, 1, &raw const to, 1, 0) };
    checked(i64::try_from(result).map_err(io::Error::other)?).map(drop)
}

fn descriptor_of(pid: i32) -> io::Result<()> {
    // SAFETY: two numbers.
    let held = checked(unsafe { libc::syscall(libc::SYS_pidfd_open, pid, 0) })?;
    // SAFETY: three numbers.
    checked(unsafe { libc::syscall(libc::SYS_pidfd_getfd, held, 0, 0) }).map(drop)
}

/// Does it to a child, which waits.
fn with_child(way: &str) -> io::Result<()> {
    // SAFETY: nothing else runs in this process, so the child finds nothing half done.
    let child = unsafe { libc::fork() };
    if child == 0 {
        loop {
            // SAFETY: it takes nothing and waits for a signal.
            unsafe { libc::pause() };
        }
    }
    let child = i32::try_from(checked(child)?).map_err(io::Error::other)?;
    let done = match way {
        "trace" => ptrace(libc::PTRACE_SEIZE, child),
        "memory-of" => memory_of(&child.to_string()),
        "write-into" => write_into(child),
        "descriptor-of" => descriptor_of(child),
        _ => Err(io::Error::other(format!("what is `{way}`?"))),
    };
    // SAFETY: our own child, by number.
    checked(unsafe { libc::kill(child, libc::SIGKILL) })?;
    done
}

/// Executes in another cgroup what this process traces from before; 0 if it came to run.
fn traced(procs: &str, path: &str, rest: &[&str]) -> ExitCode {
    let mut command = Command::new(path);
    let procs = procs.to_owned();
    command.args(rest);
    // SAFETY: what it does is two system calls and a small file; nobody else runs in this process.
    unsafe {
        command.pre_exec(move || {
            File::create(&procs)?.write_all(b"0")?;
            ptrace(libc::PTRACE_TRACEME, 0)
        });
    }
    match command.spawn() {
        Ok(mut child) => {
            let (killed, ended) = (child.kill(), child.wait());
            ExitCode::from(u8::from(killed.and(ended.map(drop)).is_err()))
        }
        Err(error) => {
            let number = error.raw_os_error().unwrap_or(99);
            ExitCode::from(u8::try_from(100 + number).unwrap_or(u8::MAX))
        }
    }
}

/// Maps a file to be read, and has the kernel map it once more at the same place, now that what may be
/// read may be executed.
fn remapped(path: &str) -> io::Result<()> {
    // What cannot be written is not shared, and only what is shared is mapped anew.
    let file = OpenOptions::new().read(true).write(true).open(path)?;
    let at = map(&file, PROT_READ, MAP_SHARED)?;
    // SAFETY: a number; it changes what this process may ask for, and no memory.
    checked(unsafe { libc::personality(libc::READ_IMPLIES_EXEC as libc::c_ulong) })?;
    let (whole, protection, page, flags) = (4096, 0, 0, 0);
    // SAFETY: the pages of the mapping made above, which nothing points into.
    checked(unsafe {
        libc::syscall(
            libc::SYS_remap_file_pages,
            at,
            whole,
            protection,
            page,
            flags,
        )
    })?;
    let maps = std::fs::read_to_string("/proc/self/maps")?;
    let begins = format!("{:x}-", at as usize);
    let line = maps.lines().find(|line| line.starts_with(&begins));
    match line {
        Some(line) if line.contains(" r-xs ") => Ok(()),
        line => Err(io::Error::other(format!("not executable: {line:?}"))),
    }
}

/// Executes a copy that never had a name, from a file system that has names.
fn nameless(dir: &str, path: &str) -> io::Result<()> {
    let mut options = OpenOptions::new();
    options
        .read(true)
        .write(true)
        .custom_flags(libc::O_TMPFILE)
        .mode(0o700);
    let mut copy = options.open(dir)?;
    copy.write_all(&std::fs::read(path)?)?;
    execute(&reopened(copy)?)
}

/// Executes a file whose last name is gone.
fn removed(path: &str) -> io::Result<()> {
    let file = File::open(path)?;
    std::fs::remove_file(path)?;
    execute(&file)
}

/// Executes a file of an overlay that it mounts itself, as root of a user namespace of its own.
fn own_overlay(options: &str, path: &str) -> io::Result<()> {
    // SAFETY: it takes a number.
    checked(unsafe { libc::unshare(libc::CLONE_NEWUSER | libc::CLONE_NEWNS) })?;
    let path = std::path::Path::new(path);
    let at = path.parent().unwrap_or(path);
    let text = |text: &str| CString::new(text).map_err(io::Error::other);
    let (options, at) = (text(options)?, text(&at.to_string_lossy())?);
    let (kind, data) = (c"overlay".as_ptr(), options.as_ptr().cast());
    // SAFETY: strings that end.
    checked(unsafe { libc::mount(kind, at.as_ptr(), kind, 0, data) })?;
    execute(&File::open(path)?)
}

/// The same file, held by nobody who may write it.
fn reopened(file: File) -> io::Result<File> {
    file.set_permissions(std::fs::Permissions::from_mode(0o755))?;
    let reader = File::open(format!("/proc/self/fd/{}", file.as_raw_fd()))?;
    drop(file);
    Ok(reader)
}

fn execute(file: &File) -> io::Result<()> {
    let path = format!("/proc/self/fd/{}", file.as_raw_fd());
    Err(Command::new(path).arg("hello").exec())
}
