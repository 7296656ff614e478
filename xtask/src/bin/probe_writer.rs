//! Changes files in every way that leaves the path alone: the content of a file that was measured
//! becomes another, or may have. It ends with 0, or with 100 plus the error number that the kernel gave.

use std::{
    ffi::CString,
    fs::{self, File, OpenOptions, Permissions},
    io::{self, Read as _, Write as _},
    os::{
        fd::{AsRawFd as _, FromRawFd as _},
        unix::fs::{FileExt as _, MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _},
    },
    process::{Command, ExitCode},
    ptr,
    time::Duration,
};

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    let done = match args.as_slice() {
        ["open", path] => writable(path).map(drop),
        ["write", path] => write(path),
        ["map", path] => map(path),
        ["shorten", path] => shorten(path),
        ["empty", path] => empty(path),
        ["take", way, path, other] => writable(path).and_then(|file| take(&file, way, other)),
        // By a descriptor that cannot write.
        ["take-reading", way, path, other] => {
            File::open(path).and_then(|file| take(&file, way, other))
        }
        ["mark", path] => mark(path),
        ["hold", path] => hold(path),
        ["flip", path, one, other] => flip(path, one, other),
        ["turn", path, one, other] => turn(path, one, other),
        ["watch", path] => watch(path),
        ["refuse", path] => refuse(path),
        ["amid", path, command, operands @ ..] => amid(path, |_| true, command, operands),
        ["amid-again", path, command, operands @ ..] => {
            let is_it = |pid| fs::read_link(format!("/proc/{pid}/exe"));
            let again = |pid| is_it(pid).is_ok_and(|exe| exe == std::path::Path::new(path));
            amid(path, again, command, operands)
        }
        _ => {
            eprintln!("probe_writer: what is `{}`?", args.join(" "));
            return ExitCode::from(2);
        }
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            let number = error.raw_os_error().unwrap_or(99);
            ExitCode::from(u8::try_from(100 + number).unwrap_or(u8::MAX))
        }
    }
}

fn writable(path: &str) -> io::Result<File> {
    OpenOptions::new().read(true).write(true).open(path)
}

/// Turns the last byte over, and puts the time of the change back.
fn write(path: &str) -> io::Result<()> {
    let file = writable(path)?;
    let before = file.metadata()?;
    let at = before.len() - 1;
    let mut byte = [0];
    file.read_exact_at(&mut byte, at)?;
    file.write_all_at(&[!byte[0]], at)?;
    file.set_modified(before.modified()?)
}

/// The same through shared memory, with the file closed before anything is written.
fn map(path: &str) -> io::Result<()> {
    let file = writable(path)?;
    let before = file.metadata()?;
    let length = usize::try_from(before.len()).map_err(io::Error::other)?;
    let protection = libc::PROT_READ | libc::PROT_WRITE;
    // SAFETY: the kernel chooses the address, so no memory of ours is replaced.
    let at = unsafe {
        libc::mmap(
            ptr::null_mut(),
            length,
            protection,
            libc::MAP_SHARED,
            file.as_raw_fd(),
            0,
        )
    };
    if at == libc::MAP_FAILED {
        return Err(io::Error::last_os_error());
    }
    drop(file);
    // SAFETY: the last byte of what was just mapped.
    let last = unsafe { at.cast::<u8>().add(length - 1) };
    // SAFETY: as above; nobody else in this process knows it.
    let byte = unsafe { last.read_volatile() };
    // SAFETY: as above.
    unsafe { last.write_volatile(!byte) };
    // SAFETY: what was mapped above, whole.
    if unsafe { libc::munmap(at, length) } != 0 {
        return Err(io::Error::last_os_error());
    }
    File::open(path)?.set_modified(before.modified()?)
}

/// Takes the last byte away, by path.
fn shorten(path: &str) -> io::Result<()> {
    let length = i64::try_from(std::fs::metadata(path)?.len()).map_err(io::Error::other)?;
    let path = CString::new(path).map_err(io::Error::other)?;
    // SAFETY: a string that ends, and a number.
    match unsafe { libc::truncate(path.as_ptr(), length - 1) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Empties it through a descriptor that cannot write.
fn empty(path: &str) -> io::Result<()> {
    let file = OpenOptions::new()
        .read(true)
        .custom_flags(libc::O_TRUNC)
        .open(path)?;
    match file.metadata()?.len() {
        0 => Ok(()),
        length => Err(io::Error::other(format!("{length} bytes are left"))),
    }
}

/// Gives it the content of another file of the same size without writing a byte, and puts the time of the
/// change back.
fn take(file: &File, way: &str, other: &str) -> io::Result<()> {
    let before = file.metadata()?;
    match way {
        "copy" => copy(file, &File::open(other)?)?,
        "clone" => clone(file, &File::open(other)?)?,
        "exchange" => exchange(file, &writable(other)?)?,
        "exchange-on-xfs" => exchange_on_xfs(file, &writable(other)?)?,
        _ => return Err(io::Error::other(format!("what is `{way}`?"))),
    }
    file.set_modified(before.modified()?)
}

fn copy(file: &File, other: &File) -> io::Result<()> {
    let mut left = usize::try_from(other.metadata()?.len()).map_err(io::Error::other)?;
    while left > 0 {
        // SAFETY: two descriptors that are open, and no offsets but their own.
        let copied = unsafe {
            libc::copy_file_range(
                other.as_raw_fd(),
                ptr::null_mut(),
                file.as_raw_fd(),
                ptr::null_mut(),
                left,
                0,
            )
        };
        match usize::try_from(copied) {
            Ok(0) => return Err(io::Error::other(format!("{left} bytes are left"))),
            Ok(copied) => left -= copied,
            Err(_) => return Err(io::Error::last_os_error()),
        }
    }
    Ok(())
}

/// The blocks of the other file become its own too.
fn clone(file: &File, other: &File) -> io::Result<()> {
    // SAFETY: two descriptors that are open.
    match unsafe { libc::ioctl(file.as_raw_fd(), libc::FICLONE, other.as_raw_fd()) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// The files exchange their blocks, as when one is defragmented by help of another: what the other had is
/// written to the blocks it gets, and those that it had are handed over with all that they hold.
fn exchange(file: &File, other: &File) -> io::Result<()> {
    #[repr(C)]
    struct Exchange {
        reserved: u32,
        with: u32,
        from: u64,
        to: u64,
        count: u64,
        moved: u64,
    }
    // `_IOWR('f', 15, struct move_extent)` of the kernel's fs/ext4/ext4.h.
    const EXT4_IOC_MOVE_EXT: libc::c_ulong = 0xc028_660f;
    const BLOCK: u64 = 4096;
    other.sync_all()?;
    file.sync_all()?;
    let blocks = other.metadata()?.len().div_ceil(BLOCK);
    let mut done = 0;
    while done < blocks {
        let mut exchange = Exchange {
            reserved: 0,
            with: file.as_raw_fd().cast_unsigned(),
            from: done,
            to: done,
            count: blocks - done,
            moved: 0,
        };
        // SAFETY: the kernel reads and writes that structure, which outlives the call.
        let result =
            unsafe { libc::ioctl(other.as_raw_fd(), EXT4_IOC_MOVE_EXT, &raw mut exchange) };
        if result != 0 {
            return Err(io::Error::last_os_error());
        }
        if exchange.moved == 0 {
            return Err(io::Error::other(format!("{done} of {blocks} blocks")));
        }
        done += exchange.moved;
    }
    // What was read of it before is in memory still.
    for file in [other, file] {
        forget(file)?;
    }
    Ok(())
}

/// All that they have, at once. The kernel wants to be told when the file was changed last, so that nobody changed
/// it meanwhile.
fn exchange_on_xfs(file: &File, other: &File) -> io::Result<()> {
    // `_IOWR('X', 109, struct xfs_swapext)` of the kernel's fs/xfs/libxfs/xfs_fs.h, and where in it is what.
    const XFS_IOC_SWAPEXT: libc::c_ulong = 0xc0c0_586d;
    const LENGTH: usize = 32;
    const CHANGED: usize = 112;
    const CHANGED_STATUS: usize = 128;
    for file in [other, file] {
        forget(file)?;
    }
    let known = file.metadata()?;
    let mut asked = [0u8; 192];
    let mut put = |at: usize, value: i64| asked[at..at + 8].copy_from_slice(&value.to_ne_bytes());
    put(8, file.as_raw_fd().into());
    put(16, other.as_raw_fd().into());
    put(LENGTH, known.size().cast_signed());
    put(CHANGED, known.mtime());
    put(CHANGED + 8, known.mtime_nsec());
    put(CHANGED_STATUS, known.ctime());
    put(CHANGED_STATUS + 8, known.ctime_nsec());
    // SAFETY: the kernel reads that structure, which outlives the call.
    match unsafe { libc::ioctl(file.as_raw_fd(), XFS_IOC_SWAPEXT, asked.as_mut_ptr()) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Has the kernel keep nothing of it in memory.
fn forget(file: &File) -> io::Result<()> {
    file.sync_all()?;
    // SAFETY: numbers.
    match unsafe { libc::posix_fadvise(file.as_raw_fd(), 0, 0, libc::POSIX_FADV_DONTNEED) } {
        0 => Ok(()),
        error => Err(io::Error::from_raw_os_error(error)),
    }
}

/// Says of it that its digest is SHA-512, and another one at that, where the kernel looks for such a word.
fn mark(path: &str) -> io::Result<()> {
    const NAME: &std::ffi::CStr = c"security.ima";
    // A digest with the number of its algorithm: `IMA_XATTR_DIGEST_NG`, `HASH_ALGO_SHA512`.
    let mut value = vec![4u8, 6];
    value.resize(2 + 64, 0xab);
    let path = CString::new(path).map_err(io::Error::other)?;
    // SAFETY: strings that end, and a value of that length.
    let set = unsafe {
        libc::setxattr(
            path.as_ptr(),
            NAME.as_ptr(),
            value.as_ptr().cast(),
            value.len(),
            0,
        )
    };
    if set != 0 {
        return Err(io::Error::last_os_error());
    }
    let mut found = vec![0u8; value.len()];
    // SAFETY: strings that end, and room of that length.
    let length = unsafe {
        libc::getxattr(
            path.as_ptr(),
            NAME.as_ptr(),
            found.as_mut_ptr().cast(),
            found.len(),
        )
    };
    if length < 0 {
        return Err(io::Error::last_os_error());
    }
    if found != value {
        return Err(io::Error::other("the kernel says something else"));
    }
    Ok(())
}

/// Has it open for writing for as long as it lives, and changes nothing.
fn hold(path: &str) -> io::Result<()> {
    let file = writable(path)?;
    println!("open");
    io::stdout().flush()?;
    loop {
        std::thread::park();
        file.metadata()?;
    }
}

/// Gives it the content of one file, then of the other, for as long as it lives.
fn flip(path: &str, one: &str, other: &str) -> io::Result<()> {
    let contents = [std::fs::read(one)?, std::fs::read(other)?];
    println!("flipping");
    io::stdout().flush()?;
    for (content, pause) in contents.iter().cycle().zip((0..40).cycle()) {
        // Of every length, so that whoever executes it meets each moment of a change.
        std::thread::sleep(Duration::from_millis(pause * 25));
        let mut file = match File::create(path) {
            // It runs, or ran: another takes its place.
            Err(error) if error.kind() == io::ErrorKind::ExecutableFileBusy => {
                std::fs::remove_file(path)?;
                File::create(path)?
            }
            file => file?,
        };
        file.set_permissions(Permissions::from_mode(0o755))?;
        file.write_all(content)?;
    }
    Ok(())
}

/// Has it open for writing again and again, while it holds what one file does, then another of the same
/// length, then the one once more, for as long as it lives. Its length stays what it is.
fn turn(path: &str, one: &str, other: &str) -> io::Result<()> {
    let contents = [std::fs::read(one)?, std::fs::read(other)?];
    println!("turning");
    io::stdout().flush()?;
    // Of every length, and of another in each place the next time round.
    let mut pauses = (0..41).cycle().map(|step| Duration::from_millis(step * 5));
    let mut pause = || std::thread::sleep(pauses.next().unwrap_or_default());
    loop {
        pause();
        let file = match writable(path) {
            // It is mapped, or was: another takes its place.
            Err(error) if error.kind() == io::ErrorKind::ExecutableFileBusy => {
                std::fs::remove_file(path)?;
                std::fs::copy(one, path)?;
                continue;
            }
            file => file?,
        };
        pause();
        file.write_all_at(&contents[1], 0)?;
        pause();
        file.write_all_at(&contents[0], 0)?;
        pause();
    }
}

/// Is asked about a file before its content is used: a mark for which Linux 6.12 lets whole file systems
/// be written while they are executed.
fn watch(path: &str) -> io::Result<()> {
    let event = libc::FAN_ONDIR | libc::FAN_OPEN;
    let _group = marked(libc::FAN_CLASS_PRE_CONTENT, event, path)?;
    println!("watching");
    io::stdout().flush()?;
    loop {
        std::thread::park();
    }
}

/// Lets nobody execute the file, until it is ended.
fn refuse(path: &str) -> io::Result<()> {
    let mut group = marked(libc::FAN_CLASS_CONTENT, libc::FAN_OPEN_EXEC_PERM, path)?;
    println!("refusing");
    io::stdout().flush()?;
    loop {
        let (opened, _) = next(&mut group)?;
        answer(&mut group, &opened, libc::FAN_DENY)?;
    }
}

/// The next file that somebody opens, and who.
fn next(group: &mut File) -> io::Result<(File, i32)> {
    let mut event = libc::fanotify_event_metadata {
        event_len: 0,
        vers: 0,
        reserved: 0,
        metadata_len: 0,
        mask: 0,
        fd: 0,
        pid: 0,
    };
    // SAFETY: integers only, and the slice ends before they do.
    let bytes =
        unsafe { std::slice::from_raw_parts_mut((&raw mut event).cast(), size_of_val(&event)) };
    group.read_exact(bytes)?;
    // SAFETY: the kernel just gave us this descriptor; nobody else owns it.
    Ok((unsafe { File::from_raw_fd(event.fd) }, event.pid))
}

fn answer(group: &mut File, opened: &File, say: u32) -> io::Result<()> {
    let mut answer = opened.as_raw_fd().to_ne_bytes().to_vec();
    answer.extend(say.to_ne_bytes());
    group.write_all(&answer)
}

/// Keeps the first one waiting of those who are meant and open the file to execute it, until a command has come to
/// its end, which finds its number in `WAITING`.
fn amid(
    path: &str,
    meant: impl Fn(i32) -> bool,
    command: &str,
    operands: &[&str],
) -> io::Result<()> {
    let mut group = marked(libc::FAN_CLASS_CONTENT, libc::FAN_OPEN_EXEC_PERM, path)?;
    println!("watching");
    io::stdout().flush()?;
    loop {
        let (opened, pid) = next(&mut group)?;
        let is_meant = meant(pid);
        let done = is_meant.then(|| {
            let waiting = pid.to_string();
            let mut command = Command::new(command);
            command.args(operands).env("WAITING", waiting).status()
        });
        answer(&mut group, &opened, libc::FAN_ALLOW)?;
        match done {
            None => {}
            Some(done) => match done? {
                status if status.success() => return Ok(()),
                status => {
                    return Err(io::Error::other(format!("`{command}` ended with {status}")));
                }
            },
        }
    }
}

fn marked(class: u32, event: u64, path: &str) -> io::Result<File> {
    let reading = libc::O_RDONLY.cast_unsigned();
    // SAFETY: two numbers.
    let group = unsafe { libc::fanotify_init(class | libc::FAN_CLOEXEC, reading) };
    if group < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the kernel just gave us this descriptor; nobody else owns it.
    let file = unsafe { File::from_raw_fd(group) };
    let path = CString::new(path).map_err(io::Error::other)?;
    // SAFETY: numbers, and a string that ends.
    let marked = unsafe {
        libc::fanotify_mark(
            group,
            libc::FAN_MARK_ADD,
            event,
            libc::AT_FDCWD,
            path.as_ptr(),
        )
    };
    if marked < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(file)
}
