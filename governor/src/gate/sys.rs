//! System calls of the BPF interface that the library has no safe form of.
//!
//! Promises: every attribute block is zeroed beyond what is set, and outlives its call. Each function
//! is one command; what the kernel answers is returned as it is.

use std::{
    io,
    os::fd::{AsRawFd as _, BorrowedFd, FromRawFd as _, OwnedFd},
};

const BPF_MAP_LOOKUP_ELEM: libc::c_long = 1;
const BPF_MAP_UPDATE_ELEM: libc::c_long = 2;
const BPF_MAP_DELETE_ELEM: libc::c_long = 3;
const BPF_PROG_ATTACH: libc::c_long = 8;
const BPF_PROG_DETACH: libc::c_long = 9;
const BPF_PROG_QUERY: libc::c_long = 16;
const BPF_MAP_FREEZE: libc::c_long = 22;
const BPF_MAP_LOOKUP_BATCH: libc::c_long = 24;
const BPF_MAP_UPDATE_BATCH: libc::c_long = 26;
const BPF_LINK_CREATE: libc::c_long = 28;
const BPF_ITER_CREATE: libc::c_long = 33;
const BPF_LSM_MAC: u32 = 27;
const BPF_TRACE_ITER: u32 = 28;
const BPF_CGROUP_SYSCTL: u32 = 18;
const BPF_F_ALLOW_MULTI: u32 = 2;

/// The kernel's `union bpf_attr`, as words; larger than any command needs.
type Attr = [u64; 16];

fn bpf(command: libc::c_long, attr: &mut Attr) -> io::Result<()> {
    number_from(command, attr).map(drop)
}

/// For commands that answer with a number of their own.
fn number_from(command: libc::c_long, attr: &mut Attr) -> io::Result<i32> {
    // SAFETY: the block is initialised memory of the size that is passed; whatever it points to is
    // kept alive by the caller for the length of this call.
    let result =
        unsafe { libc::syscall(libc::SYS_bpf, command, attr.as_mut_ptr(), size_of::<Attr>()) };
    match i32::try_from(result) {
        Ok(number) if number >= 0 => Ok(number),
        Ok(_) | Err(_) => Err(io::Error::last_os_error()),
    }
}

/// For commands that answer with a new descriptor.
fn descriptor_from(command: libc::c_long, attr: &mut Attr) -> io::Result<OwnedFd> {
    let fd = number_from(command, attr)?;
    // SAFETY: the kernel just gave us this descriptor; nobody else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// A descriptor as the kernel wants it in an attribute block.
fn number(fd: BorrowedFd<'_>) -> u64 {
    u64::from(fd.as_raw_fd().cast_unsigned())
}

/// Reads the value behind a descriptor that is the key, as in storage of tasks. `value` has the size
/// that the map itself reports, rounded up to eight.
pub(super) fn lookup_by_fd(
    map: BorrowedFd<'_>,
    key: BorrowedFd<'_>,
    value: &mut [u8],
) -> io::Result<()> {
    let key = key.as_raw_fd();
    let mut attr: Attr = [0; 16];
    [attr[0], attr[1], attr[2]] = [
        number(map),
        (&raw const key) as u64,
        value.as_mut_ptr() as u64,
    ];
    bpf(BPF_MAP_LOOKUP_ELEM, &mut attr)
}

/// Writes it.
pub(super) fn update_by_fd(
    map: BorrowedFd<'_>,
    key: BorrowedFd<'_>,
    value: &[u8],
) -> io::Result<()> {
    let key = key.as_raw_fd();
    let mut attr: Attr = [0; 16];
    [attr[0], attr[1], attr[2]] = [number(map), (&raw const key) as u64, value.as_ptr() as u64];
    bpf(BPF_MAP_UPDATE_ELEM, &mut attr)
}

/// Removes it.
pub(super) fn delete_by_fd(map: BorrowedFd<'_>, key: BorrowedFd<'_>) -> io::Result<()> {
    let key = key.as_raw_fd();
    let mut attr: Attr = [0; 16];
    [attr[0], attr[1]] = [number(map), (&raw const key) as u64];
    bpf(BPF_MAP_DELETE_ELEM, &mut attr)
}

/// Stores entries in a hash map whose keys and values have these sizes, in one call. What is there
/// under such a key is replaced: this call takes no flag that would refuse it.
pub(super) fn store_batch<const K: usize, const V: usize>(
    map: BorrowedFd<'_>,
    keys: &[[u8; K]],
    values: &[[u8; V]],
) -> io::Result<()> {
    let count = batch(keys.len(), values.len())?;
    let mut attr: Attr = [0; 16];
    [attr[2], attr[3]] = [keys.as_ptr() as u64, values.as_ptr() as u64];
    attr[4] = u64::from(count) | number(map) << 32;
    bpf(BPF_MAP_UPDATE_BATCH, &mut attr)?;
    // The kernel says how many it stored.
    if attr[4] & u64::from(u32::MAX) == u64::from(count) {
        Ok(())
    } else {
        Err(io::ErrorKind::WriteZero.into())
    }
}

/// Reads entries of a hash map whose keys and values have these sizes, as many as there is room for, from
/// `from` on (`None`: the beginning). How many there were, and where to go on; `None`: those were the last.
pub(super) fn read_batch<const K: usize, const V: usize>(
    map: BorrowedFd<'_>,
    from: Option<u32>,
    keys: &mut [[u8; K]],
    values: &mut [[u8; V]],
) -> io::Result<(usize, Option<u32>)> {
    let room = batch(keys.len(), values.len())?;
    let mut next = 0u32;
    let mut attr: Attr = [0; 16];
    attr[0] = from.as_ref().map_or(0, |from| &raw const *from as u64);
    attr[1] = &raw mut next as u64;
    [attr[2], attr[3]] = [keys.as_mut_ptr() as u64, values.as_mut_ptr() as u64];
    attr[4] = u64::from(room) | number(map) << 32;
    let next = match bpf(BPF_MAP_LOOKUP_BATCH, &mut attr) {
        Ok(()) => Some(next),
        // Behind the last; the count is told all the same.
        Err(error) if error.raw_os_error() == Some(libc::ENOENT) => None,
        Err(error) => return Err(error),
    };
    let count = (attr[4] & u64::from(u32::MAX)) as usize;
    if count > keys.len() {
        return Err(io::ErrorKind::InvalidData.into());
    }
    Ok((count, next))
}

fn batch(keys: usize, values: usize) -> io::Result<u32> {
    let count = u32::try_from(keys).ok().filter(|_| keys == values);
    count.ok_or_else(|| io::ErrorKind::InvalidInput.into())
}

/// From here on no process changes the map, through no descriptor.
pub(super) fn freeze(map: BorrowedFd<'_>) -> io::Result<()> {
    let mut attr: Attr = [0; 16];
    attr[0] = number(map);
    bpf(BPF_MAP_FREEZE, &mut attr)
}

/// Attaches a program to a cgroup, beside others, for as long as the cgroup lives. There is no link
/// that could be detached: taking it off takes a descriptor of the program.
pub(super) fn attach_sysctl(cgroup: BorrowedFd<'_>, program: BorrowedFd<'_>) -> io::Result<()> {
    let mut attr: Attr = [0; 16];
    attr[0] = number(cgroup) | number(program) << 32;
    attr[1] = u64::from(BPF_CGROUP_SYSCTL) | u64::from(BPF_F_ALLOW_MULTI) << 32;
    bpf(BPF_PROG_ATTACH, &mut attr)
}

/// Takes it off again.
pub(super) fn detach_sysctl(cgroup: BorrowedFd<'_>, program: BorrowedFd<'_>) -> io::Result<()> {
    let mut attr: Attr = [0; 16];
    attr[0] = number(cgroup) | number(program) << 32;
    attr[1] = u64::from(BPF_CGROUP_SYSCTL);
    bpf(BPF_PROG_DETACH, &mut attr)
}

/// Attaches a program to the hook that it was loaded for, until the descriptor is closed.
pub(super) fn link_lsm(program: BorrowedFd<'_>) -> io::Result<OwnedFd> {
    let mut attr: Attr = [0; 16];
    [attr[0], attr[1]] = [number(program), u64::from(BPF_LSM_MAC)];
    descriptor_from(BPF_LINK_CREATE, &mut attr)
}

/// A link to a program that lists something. The kernel forgets it with its descriptor.
pub(super) fn link_iterator(program: BorrowedFd<'_>) -> io::Result<OwnedFd> {
    let mut attr: Attr = [0; 16];
    [attr[0], attr[1]] = [number(program), u64::from(BPF_TRACE_ITER)];
    descriptor_from(BPF_LINK_CREATE, &mut attr)
}

/// One list, from its beginning; it stays with the program that the link has now.
pub(super) fn begin_iterator(link: BorrowedFd<'_>) -> io::Result<OwnedFd> {
    let mut attr: Attr = [0; 16];
    attr[0] = number(link);
    descriptor_from(BPF_ITER_CREATE, &mut attr)
}

/// Ids of the programs attached to a cgroup itself.
pub(super) fn attached_sysctl(cgroup: BorrowedFd<'_>) -> io::Result<Vec<u32>> {
    let mut ids = [0u32; 64];
    let mut attr: Attr = [0; 16];
    attr[0] = number(cgroup) | u64::from(BPF_CGROUP_SYSCTL) << 32;
    [attr[2], attr[3]] = [ids.as_mut_ptr() as u64, ids.len() as u64];
    bpf(BPF_PROG_QUERY, &mut attr)?;
    let count = usize::try_from(attr[3] & 0xffff_ffff).unwrap_or(0);
    Ok(ids.iter().take(count).copied().collect())
}
