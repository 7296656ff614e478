//! What the guard has to know of the host: mounts, devices, cgroups and the files we have mapped.
//!
//! Reads and reports. Device numbers are the kernel's own: `major << 20 | minor`, as `mountinfo` shows
//! them, which is not what `stat` says on every file system.

use std::{
    collections::BTreeSet,
    fs,
    os::unix::fs::{DirEntryExt as _, MetadataExt as _},
    path::{Path, PathBuf},
};

use super::GateError;
use crate::{
    bundle::{self, Empty},
    maps::{self, Mapped},
};

const MOUNTS: &str = "/proc/self/mountinfo";
const MOUNTS_OF_INIT: &str = "/proc/1/mountinfo";
const KIND_BTRFS: &str = "btrfs";
/// Devices whose content is a file, and another host's.
const LOOP: u32 = 7;
const NBD: u32 = 43;
const BTRFS: &str = "/sys/fs/btrfs";
/// Kinds that have a directory for each of their file systems which is called as its device is.
const NAMED: [&str; 4] = [
    "/sys/fs/ext4",
    "/sys/fs/xfs",
    "/sys/fs/f2fs",
    "/sys/fs/nilfs2",
];
pub(super) const BLOCK: &str = "/sys/class/block";

/// A directory that something could be mounted over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Step {
    pub(super) device: u32,
    pub(super) inode: u64,
}

/// The cgroup of our own service below the root, like `/system.slice/governor.service`.
pub(super) fn own_cgroup() -> Result<String, GateError> {
    let path = cgroup_of(Path::new("/proc/self/cgroup"))?;
    let is_service = path.ends_with(".service") && nix::unistd::getppid().as_raw() == 1;
    if is_service {
        Ok(path)
    } else {
        Err(GateError::Invalid(format!(
            "the gate guards a daemon that the first process starts in a cgroup of its own, and this \
             one runs in `{path}`: start it as a systemd service"
        )))
    }
}

/// The cgroup in the unified hierarchy that one of these files tells.
pub(super) fn cgroup_of(path: &Path) -> Result<String, GateError> {
    let text = read(path)?;
    let path = text.lines().find_map(|line| line.strip_prefix("0::"));
    Ok(path.unwrap_or_default().to_owned())
}

/// Which mounts the first process sees, as a number.
pub(super) fn mount_namespace_of_init() -> Result<u64, GateError> {
    let path = Path::new("/proc/1/ns/mnt");
    let metadata = fs::metadata(path).map_err(failed(path))?;
    Ok(metadata.ino())
}

/// The device of what is mounted at `point`.
pub(super) fn device_of_mount(point: &Path) -> Result<u32, GateError> {
    let text = read(Path::new(MOUNTS))?;
    mounts(&text)
        .filter(|mount| Path::new(&mount.point) == point)
        .last()
        .map(|mount| mount.device)
        .ok_or_else(|| GateError::Invalid(format!("nothing is mounted at `{}`", point.display())))
}

/// From the root to `path`: at each mount the directory that it covers, and what stands there now. Not
/// what is on btrfs: subvolumes share a device and use numbers again, each for its root the same.
pub(super) fn way_to(path: &Path) -> Result<Vec<Step>, GateError> {
    let text = read(Path::new(MOUNTS))?;
    let all: Vec<Mount> = mounts(&text).collect();
    let mounted = |at: &Path| all.iter().rfind(|mount| Path::new(&mount.point) == at);
    let mut steps: Vec<Step> = Vec::new();
    let mut add = |mount: &Mount, inode: u64| {
        let device = mount.device;
        let step = Step { device, inode };
        if mount.kind != KIND_BTRFS && steps.last() != Some(&step) {
            steps.push(step);
        }
    };
    let mut on = None;
    let ways: Vec<&Path> = path.ancestors().collect();
    for at in ways.into_iter().rev() {
        if let (Some(mount), Some(covered)) = (on, entry_inode(at)?) {
            add(mount, covered);
        }
        on = mounted(at).or(on);
        let Some(mount) = on else {
            return Err(GateError::Invalid("nothing is mounted at `/`".to_owned()));
        };
        add(mount, fs::metadata(at).map_err(failed(at))?.ino());
    }
    Ok(steps)
}

/// Mounts that stand on the way to any of these directories, or did before something was mounted over
/// them: those that the first process sees. Not our own copies of them: their numbers are given to
/// others as soon as we end.
pub(super) fn mounts_above(paths: &[&Path]) -> Result<BTreeSet<u64>, GateError> {
    let text = read(Path::new(MOUNTS_OF_INIT))?;
    Ok(above(&text, paths).into_iter().collect())
}

fn above(text: &str, paths: &[&Path]) -> Vec<u64> {
    mounts(text)
        .filter(|mount| paths.iter().any(|path| path.starts_with(&mount.point)))
        .map(|mount| mount.id)
        .collect()
}

/// The number that the directory above knows `path` by: that of the covered one, if it is a mount.
fn entry_inode(path: &Path) -> Result<Option<u64>, GateError> {
    let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
        return Ok(None);
    };
    for entry in fs::read_dir(parent).map_err(failed(parent))? {
        let entry = entry.map_err(failed(parent))?;
        if entry.file_name() == name {
            return Ok(Some(entry.ino()));
        }
    }
    Ok(None)
}

/// `root` and every directory below it.
pub(super) fn directories_below(root: &Path) -> Result<Vec<PathBuf>, GateError> {
    let mut found = vec![root.to_owned()];
    let mut next = 0;
    while let Some(dir) = found.get(next).cloned() {
        next += 1;
        for entry in fs::read_dir(&dir).map_err(failed(&dir))? {
            let entry = entry.map_err(failed(&dir))?;
            if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                found.push(entry.path());
            }
        }
    }
    Ok(found)
}

/// Block devices that file systems are mounted from, and the devices those lie on: what the first process
/// sees mounted, and what is mounted in any namespace of those kinds that say so. Also the devices that these
/// lie on which are swapped to.
pub(super) fn devices(swaps: &BTreeSet<u32>) -> Result<BTreeSet<u32>, GateError> {
    let text = read(Path::new(MOUNTS_OF_INIT))?;
    let mut open: Vec<u32> = mounts(&text)
        .map(|mount| mount.device)
        .filter(|device| device >> 20 != 0)
        .collect();
    let members = members(Path::new(BTRFS))?;
    if members.is_empty() && mounts(&text).any(|mount| mount.kind == KIND_BTRFS) {
        return Err(GateError::Invalid(format!(
            "btrfs is mounted, and `{BTRFS}` names none of its devices: they cannot be guarded"
        )));
    }
    open.extend(members);
    for kind in NAMED {
        open.extend(named(Path::new(kind), Path::new(BLOCK))?);
    }
    open.extend(swaps.iter().flat_map(|device| lies_on(*device)));
    let mut found = BTreeSet::new();
    while let Some(device) = open.pop() {
        if found.insert(device) {
            open.extend(lies_on(device));
        }
    }
    Ok(found)
}

/// Devices of every btrfs that is mounted anywhere: mounts of it show a number that is no device's.
fn members(dir: &Path) -> Result<Vec<u32>, GateError> {
    let mut found = Vec::new();
    for system in entries(dir)? {
        for member in entries(&system.join("devices"))? {
            let number = member.join("dev");
            let text = read(&number)?;
            let device = device(text.trim()).ok_or_else(|| {
                let (text, path) = (text.trim(), number.display());
                GateError::Invalid(format!("`{path}` says `{text}`, which is no device"))
            })?;
            found.push(device);
        }
    }
    Ok(found)
}

/// Devices of every file system of a kind. What is beside them there (`features`, `stats`) is no device's
/// name.
fn named(kind: &Path, block: &Path) -> Result<Vec<u32>, GateError> {
    let systems = entries(kind)?;
    let device = |system: &PathBuf| number_in(&block.join(system.file_name()?));
    Ok(systems.iter().filter_map(device).collect())
}

/// What is in a directory; nothing, where there is no such directory.
fn entries(dir: &Path) -> Result<Vec<PathBuf>, GateError> {
    let entries = match fs::read_dir(dir) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries.map_err(failed(dir))?,
    };
    entries
        .map(|entry| Ok(entry.map_err(failed(dir))?.path()))
        .collect()
}

/// The whole disk of a partition, and the parts of a mapped device.
fn lies_on(device: u32) -> Vec<u32> {
    let dir = PathBuf::from(format!(
        "/sys/dev/block/{}:{}",
        device >> 20,
        device & 0xf_ffff
    ));
    let mut found = Vec::new();
    if dir.join("partition").exists()
        && let Ok(real) = fs::canonicalize(&dir)
    {
        found.extend(real.parent().and_then(number_in));
    }
    for slave in fs::read_dir(dir.join("slaves"))
        .into_iter()
        .flatten()
        .flatten()
    {
        found.extend(number_in(&slave.path()));
    }
    found
}

pub(super) fn number_in(dir: &Path) -> Option<u32> {
    device(fs::read_to_string(dir.join("dev")).ok()?.trim())
}

/// Digests of the files this process has mapped executable.
pub(super) fn mapped_by_us() -> Result<BTreeSet<[u8; 32]>, GateError> {
    require_local()?;
    digests(&our_files()?, "what is mapped")
}

fn our_files() -> Result<Vec<PathBuf>, GateError> {
    let text = read(Path::new("/proc/self/maps"))?;
    let files: BTreeSet<&str> = executable(&text).map(|mapped| mapped.path).collect();
    Ok(files.into_iter().map(PathBuf::from).collect())
}

/// The guard would take us for ourselves when we are started once more, as far as it depends on where our files
/// are.
pub(super) fn require_local() -> Result<(), GateError> {
    if let Some((file, kind)) = not_local()? {
        return Err(GateError::Invalid(format!(
            "`{}` is on `{kind}`, where the kernel may read something else each time: a guard takes the daemon for itself \
             only where it and its libraries are on a disk's own file system, or in memory; move them there",
            file.display()
        )));
    }
    Ok(())
}

/// One of our files that is where the guard would not look, and what it is on.
pub(super) fn not_local() -> Result<Option<(PathBuf, String)>, GateError> {
    let files = our_files()?;
    let mounts = read(Path::new(MOUNTS))?;
    Ok(elsewhere(&mounts, &files).map(|(file, kind)| (file.clone(), kind)))
}

/// One that is not on a file system of a disk or in memory, and what it is on. The kernel's programs would not take
/// what is there for the daemon (`is_local`), and the next one would be shut out.
fn elsewhere<'f>(text: &str, files: &'f [PathBuf]) -> Option<(&'f PathBuf, String)> {
    let all: Vec<Mount> = mounts(text).collect();
    let on = |file: &PathBuf| {
        let above = all.iter().filter(|mount| file.starts_with(&mount.point));
        let mount = above.max_by_key(|mount| mount.point.len())?;
        let is_local = match mount.kind.as_str() {
            KIND_BTRFS | "tmpfs" | "ramfs" | "rootfs" => true,
            "fuseblk" => false,
            _ => !matches!(mount.device >> 20, 0 | LOOP | NBD),
        };
        (!is_local).then(|| mount.kind.clone())
    };
    files.iter().find_map(|file| Some((file, on(file)?)))
}

/// Digests of what the first process has mapped executable, its program among them, and of what it
/// becomes when the host goes down. Files that were replaced are read where they are still mapped.
pub(super) fn mapped_by_first() -> Result<BTreeSet<[u8; 32]>, GateError> {
    let text = read(Path::new("/proc/1/maps"))?;
    let mut files: Vec<PathBuf> = executable(&text)
        .map(|Mapped { from, to, .. }| format!("/proc/1/map_files/{from:x}-{to:x}").into())
        .collect();
    let program = fs::read_link("/proc/1/exe").map_err(failed(Path::new("/proc/1/exe")))?;
    let last = program.with_file_name("systemd-shutdown");
    files.extend(last.is_file().then_some(last));
    digests(&files, "what the first process is")
}

fn executable(maps: &str) -> impl Iterator<Item = Mapped<'_>> {
    maps::files(maps).filter(|mapped| mapped.is_executable)
}

fn digests(files: &[PathBuf], what: &str) -> Result<BTreeSet<[u8; 32]>, GateError> {
    // Bit by bit: a large allocation would teach the allocator to keep large ones.
    let measured = bundle::measure(files, Empty::NotListed)
        .map_err(|error| GateError::Invalid(format!("measuring {what}: {error:#}")))?;
    Ok(measured.iter().map(|file| *file.digest.bytes()).collect())
}

pub(super) struct Mount {
    id: u64,
    pub(super) device: u32,
    pub(super) point: String,
    kind: String,
}

/// `mountinfo`: number, parent, device, root, mount point, and more that is not needed. Spaces in names
/// are written `\040`; no name that is looked for has one.
pub(super) fn mounts(text: &str) -> impl Iterator<Item = Mount> + '_ {
    text.lines().filter_map(|line| {
        let mut fields = line.split(' ');
        let id = fields.next()?.parse().ok()?;
        let device = device(fields.nth(1)?)?;
        let point = fields.nth(1)?.to_owned();
        let kind = fields.skip_while(|field| *field != "-").nth(1)?.to_owned();
        Some(Mount {
            id,
            device,
            point,
            kind,
        })
    })
}

/// `major:minor` as the kernel keeps it.
fn device(text: &str) -> Option<u32> {
    let (major, minor) = text.split_once(':')?;
    number(major.parse().ok()?, minor.parse().ok()?)
}

pub(super) fn number(major: u32, minor: u32) -> Option<u32> {
    // Twelve bits and twenty, or one device would have another's number.
    (major < 1 << 12 && minor < 1 << 20).then_some(major << 20 | minor)
}

fn read(path: &Path) -> Result<String, GateError> {
    fs::read_to_string(path).map_err(failed(path))
}

pub(super) fn failed(path: &Path) -> impl FnOnce(std::io::Error) -> GateError {
    let path = path.to_owned();
    move |error| GateError::Read { path, error }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "22 1 254:1 / / rw,relatime shared:1 - ext4 /dev/vda1 rw\n\
        25 22 0:22 / /sys rw,nosuid shared:7 - sysfs sysfs rw\n\
        30 25 0:31 / /sys/fs/bpf rw shared:9 - bpf bpf rw\n";

    #[test]
    fn mounts_are_read_with_the_kernels_own_numbers() {
        let all: Vec<(u32, String)> = mounts(TEXT).map(|m| (m.device, m.point)).collect();
        assert_eq!(
            all,
            [
                (254 << 20 | 1, "/".to_owned()),
                (22, "/sys".to_owned()),
                (31, "/sys/fs/bpf".to_owned()),
            ]
        );
        assert_eq!(device("8:x"), None);
        assert_eq!(device("4095:1048575"), Some(u32::MAX));
        assert_eq!(device("0:1048576"), None, "the number of 1:0");
        assert_eq!(device("4096:0"), None, "the number of 0:0");
    }

    #[test]
    fn mounts_on_a_way_are_told_from_those_beside_it() {
        let text = format!(
            "{TEXT}31 25 0:27 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n\
             32 25 0:28 / /sys/fs/b rw - tmpfs none rw\n\
             33 30 0:31 / /sys/fs/bpf rw - bpf bpf rw\n"
        );
        let paths = [Path::new("/sys/fs/bpf"), Path::new("/sys/fs/cgroup")];
        assert_eq!(above(&text, &paths), [22, 25, 30, 31, 33]);
        assert_eq!(above(&text, &paths[1..]), [22, 25, 31]);
    }

    #[test]
    fn files_that_may_read_otherwise_next_time_are_told() {
        let on = |line: &str| {
            let text = format!("{TEXT}40 22 {line}\n");
            let files = [PathBuf::from("/sys/x"), PathBuf::from("/opt/g/governor")];
            let files = &files[1..];
            elsewhere(&text, files).map(|(_, kind)| kind)
        };
        assert_eq!(on("0:50 / /elsewhere rw - overlay overlay rw"), None);
        for local in [
            "254:2 / /opt rw - xfs /dev/vda2 rw",
            "0:44 / /opt rw - btrfs /dev/vda2 rw",
            "0:45 / /opt/g rw - tmpfs none rw",
        ] {
            assert_eq!(on(local), None, "{local}");
        }
        for (other, kind) in [
            ("0:50 / /opt rw - overlay overlay rw", "overlay"),
            ("0:51 / /opt/g rw - nfs4 host:/x rw", "nfs4"),
            ("7:1 / /opt rw - ext4 /dev/loop1 rw", "ext4"),
            ("43:0 / /opt rw - ext4 /dev/nbd0 rw", "ext4"),
            ("254:3 / /opt rw - fuseblk /dev/vda3 rw", "fuseblk"),
        ] {
            assert_eq!(on(other).as_deref(), Some(kind), "{other}");
        }
    }

    #[test]
    fn devices_of_btrfs_are_found_or_it_is_an_error() {
        let dir = tempfile::tempdir().unwrap();
        assert!(members(&dir.path().join("none")).unwrap().is_empty());
        // As the kernel has it: what it can do, and a directory for each file system.
        fs::create_dir_all(dir.path().join("features")).unwrap();
        let member = dir.path().join("0b5f/devices/vdc");
        fs::create_dir_all(&member).unwrap();
        members(dir.path()).unwrap_err();
        fs::write(member.join("dev"), "254:32\n").unwrap();
        assert_eq!(members(dir.path()).unwrap(), [254 << 20 | 32]);
        fs::write(member.join("dev"), "vdc\n").unwrap();
        members(dir.path()).unwrap_err();
    }

    #[test]
    fn devices_are_found_by_the_names_of_their_file_systems() {
        let dir = tempfile::tempdir().unwrap();
        let (kind, block) = (dir.path().join("ext4"), dir.path().join("block"));
        assert!(named(&kind, &block).unwrap().is_empty());
        for name in ["features", "vda1", "cciss!c0d0", "gone"] {
            fs::create_dir_all(kind.join(name)).unwrap();
        }
        for (name, number) in [
            ("vda1", "254:1"),
            ("cciss!c0d0", "104:0"),
            ("vdb", "254:16"),
        ] {
            fs::create_dir_all(block.join(name)).unwrap();
            fs::write(block.join(name).join("dev"), number).unwrap();
        }
        let mut found = named(&kind, &block).unwrap();
        found.sort_unstable();
        assert_eq!(found, [104 << 20, 254 << 20 | 1]);
    }

    #[test]
    fn the_way_to_a_directory_begins_at_the_root() {
        let steps = way_to(Path::new("/proc")).unwrap();
        assert!(steps.len() >= 3, "{steps:?}");
        assert_eq!(
            steps.first().map(|s| s.device),
            device_of_mount(Path::new("/")).ok()
        );
    }

    #[test]
    fn our_own_program_is_among_what_we_mapped() {
        let own = fs::read("/proc/self/exe").unwrap();
        let own = governor_core::digest::Digest::of(&own);
        assert!(mapped_by_us().unwrap().contains(own.bytes()));
    }
}
