//! From the embedded object to attached hooks: offsets, verification, attachment.
//!
//! Promises: the programs are loaded with the running kernel's own offsets or not at all, and reuse
//! the maps that are pinned. A hook that cannot be attached is named, with the kernel's reason.

use std::path::Path;

use aya::{
    Btf, Ebpf, EbpfLoader,
    maps::{Array, MapData},
    programs::{CgroupSysctl, Iter, Program, ProgramError, ProgramFd, links::FdLink},
};

use super::{
    GateError,
    btf::{FieldSize, Types},
    error::whole,
    pins,
};

/// A hook, its program's name, and what the kernel must say about it.
#[derive(Debug)]
pub(super) struct Hook {
    /// Of the program, its pin, and in what is said of it.
    pub(super) name: &'static str,
    /// What the kernel calls the place: the same, but where a second program is attached to one.
    at: &'static str,
    pub(super) kind: Kind,
}

#[derive(Debug)]
pub(super) enum Kind {
    /// A program at the root cgroup, called when a setting is read or written.
    Sysctl,
    /// An LSM hook with this many arguments.
    Lsm(u32),
    /// One that kernels pass different arguments: a program for each number of them.
    LsmBy(&'static [(u32, &'static str)]),
    Tracepoint,
    /// A program that the daemon has go over this kind of object.
    Iterator(&'static str),
}

/// Every hook, in the order in which they are attached: labels and measurements before what leans
/// on them, and whoever notices writers before all. Each is needed.
pub(super) const HOOKS: &[Hook] = &[
    hook("file_open", Kind::Lsm(1)),
    hook(
        "inode_setattr",
        Kind::LsmBy(&[(2, "inode_setattr_plain"), (3, "inode_setattr_mapped")]),
    ),
    hook("task_alloc", Kind::Lsm(2)),
    hook("bprm_creds_for_exec", Kind::Lsm(1)),
    hook("bprm_committed_creds", Kind::Lsm(1)),
    hook("mmap_file", Kind::Lsm(4)),
    hook("file_mprotect", Kind::Lsm(3)),
    hook("socket_create", Kind::Lsm(4)),
    hook("socket_setsockopt", Kind::Lsm(3)),
    hook("socket_connect", Kind::Lsm(3)),
    hook("socket_sendmsg", Kind::Lsm(3)),
    hook("bprm_check_security", Kind::Lsm(1)),
    hook("cgroup_mkdir", Kind::Tracepoint),
    hook("cgroup_rmdir", Kind::Tracepoint),
    hook("sysctl", Kind::Sysctl),
    hook("bpf_map", Kind::Lsm(2)),
    hook("bpf_prog", Kind::Lsm(1)),
    hook("bpf", Kind::Lsm(3)),
    hook("task_kill", Kind::Lsm(4)),
    hook("ptrace_access_check", Kind::Lsm(2)),
    hook("ptrace_traceme", Kind::Lsm(1)),
    hook("task_setrlimit", Kind::Lsm(3)),
    hook("inode_unlink", Kind::Lsm(2)),
    hook("inode_create", Kind::Lsm(3)),
    hook("inode_mkdir", Kind::Lsm(3)),
    hook("inode_symlink", Kind::Lsm(3)),
    hook("inode_link", Kind::Lsm(3)),
    hook("inode_rename", Kind::Lsm(4)),
    hook("inode_rmdir", Kind::Lsm(2)),
    hook("sb_umount", Kind::Lsm(2)),
    hook("sb_mount", Kind::Lsm(5)),
    hook("move_mount", Kind::Lsm(2)),
    hook("sb_pivotroot", Kind::Lsm(2)),
    hook("kernel_read_file", Kind::Lsm(3)),
    hook("kernel_load_data", Kind::Lsm(2)),
    hook("kernel_module_request", Kind::Lsm(1)),
    hook("locked_down", Kind::Lsm(1)),
    hook("labelled_tasks", Kind::Iterator("task")),
];

/// Where a file that was opened can be measured; see `opens`.
pub(super) const POST_OPEN: Hook = hook("file_post_open", Kind::Lsm(2));

/// Where it cannot be yet, so that it must be known; see `opens`.
pub(super) const RECALLED_OPEN: Hook = Hook {
    name: "file_open_recalled",
    ..hook("file_open", Kind::Lsm(1))
};

pub(super) const fn hook(name: &'static str, kind: Kind) -> Hook {
    Hook {
        name,
        at: name,
        kind,
    }
}

impl Hook {
    /// Whether the program hangs on the root cgroup instead of on a link.
    pub(super) fn is_sysctl(&self) -> bool {
        matches!(self.kind, Kind::Sysctl)
    }

    /// Whether the program hangs on nothing and runs when the daemon reads its list.
    pub(super) fn is_list(&self) -> bool {
        matches!(self.kind, Kind::Iterator(_))
    }

    /// The name of the program that this kernel takes.
    fn program(&self, types: &Types) -> &'static str {
        let Kind::LsmBy(programs) = self.kind else {
            return self.name;
        };
        let actual = types.arguments(&format!("bpf_lsm_{}", self.at));
        let fits = programs
            .iter()
            .find(|(expected, _)| Some(*expected) == actual);
        fits.map_or(self.name, |(_, program)| program)
    }

    /// Why this kernel cannot carry the hook; `None`: it can, as far as its types say.
    pub(super) fn unsupported(&self, types: &Types) -> Option<String> {
        match self.kind {
            Kind::Lsm(expected) => match types.arguments(&format!("bpf_lsm_{}", self.at)) {
                None => Some("this kernel has no such hook".to_owned()),
                Some(actual) if actual != expected => Some(format!(
                    "this kernel passes {actual} arguments, not {expected}"
                )),
                Some(_) => None,
            },
            Kind::LsmBy(programs) => match types.arguments(&format!("bpf_lsm_{}", self.at)) {
                None => Some("this kernel has no such hook".to_owned()),
                Some(actual) if !programs.iter().any(|(expected, _)| *expected == actual) => Some(
                    format!("this kernel passes {actual} arguments, which no program takes"),
                ),
                Some(_) => None,
            },
            Kind::Tracepoint if types.has_tracepoint(self.at) => None,
            Kind::Tracepoint => Some("this kernel has no such tracepoint".to_owned()),
            Kind::Iterator(over) => match types.arguments(&format!("bpf_iter_{over}")) {
                Some(_) => None,
                None => Some("this kernel has no such list".to_owned()),
            },
            // Whether settings can be guarded shows when the program is loaded.
            Kind::Sysctl => None,
        }
    }
}

/// The object, its offsets set and its maps made or reused from `maps`.
pub(super) struct Loaded {
    programs: Ebpf,
    types: Types,
    btf: Btf,
}

impl Loaded {
    pub(super) fn with_maps(object: &[u8], maps: &Path) -> Result<Self, GateError> {
        let types = Types::of_running_kernel()?;
        if !types.runs_every_program() {
            return Err(GateError::SkipsPrograms);
        }
        let offsets = OFFSETS
            .iter()
            .map(|(global, structure, field, size)| {
                Ok((*global, types.offset(structure, field, *size)?))
            })
            .collect::<Result<Vec<_>, GateError>>()?;
        let numbers = ENUMERATORS
            .iter()
            .map(|(global, enumeration, name)| Ok((*global, types.enumerator(enumeration, name)?)))
            .collect::<Result<Vec<_>, GateError>>()?;
        let btf = Btf::from_sys_fs().map_err(|error| GateError::Btf(whole(&error)))?;
        let mut loader = EbpfLoader::new();
        loader.btf(Some(&btf)).allow_unsupported_maps();
        for (global, offset) in offsets.iter().chain(&numbers) {
            loader.override_global(global, offset, true);
        }
        for name in pins::MAPS {
            loader.map_pin_path(name, maps.join(name));
        }
        let programs = loader
            .load(object)
            .map_err(|error| GateError::Object(Box::new(error)))?;
        Ok(Self {
            programs,
            types,
            btf,
        })
    }

    /// Whether this kernel carries the hook, as far as its types say.
    pub(super) fn carries(&self, hook: &Hook) -> bool {
        hook.unsupported(&self.types).is_none()
    }

    /// Loads the program that guards settings.
    pub(super) fn sysctl(&mut self, name: &str) -> Result<&mut CgroupSysctl, String> {
        let program = self
            .programs
            .program_mut(name)
            .ok_or("the object has no such program")?;
        let Program::CgroupSysctl(program) = program else {
            return Err("the object's program is of another kind".to_owned());
        };
        program.load().map_err(|error| describe(&error))?;
        Ok(program)
    }

    /// Loads a program that makes a list.
    pub(super) fn list(&mut self, hook: &Hook) -> Result<&mut Iter, String> {
        let program = program(&mut self.programs, &self.types, hook)?;
        let (Program::Iter(program), Kind::Iterator(over)) = (program, &hook.kind) else {
            return Err("the object's program is of another kind".to_owned());
        };
        program
            .load(over, &self.btf)
            .map_err(|error| describe(&error))?;
        Ok(program)
    }

    /// A map of the object that is not pinned, for as long as it is held.
    pub(super) fn take(&mut self, name: &'static str) -> Result<Array<MapData, u64>, GateError> {
        let map = self.programs.take_map(name);
        let map = map.ok_or_else(|| GateError::Invalid(format!("there is no map `{name}`")))?;
        Array::try_from(map).map_err(GateError::map(name, "taking hold of it"))
    }

    /// Loads a program that is attached later, and again and again; its id besides.
    pub(super) fn program(&mut self, hook: &Hook) -> Result<(ProgramFd, u32), String> {
        let program = program(&mut self.programs, &self.types, hook)?;
        let Program::Lsm(program) = program else {
            return Err("the object's program is of another kind".to_owned());
        };
        program
            .load(hook.at, &self.btf)
            .map_err(|error| describe(&error))?;
        let id = program.info().map_err(|error| describe(&error))?.id();
        let fd = program.fd().map_err(|error| describe(&error))?;
        let held = fd.try_clone();
        held.map(|fd| (fd, id))
            .map_err(|error| format!("it cannot be held: {error}"))
    }

    /// Loads and attaches one hook's program.
    pub(super) fn attach(&mut self, hook: &Hook) -> Result<FdLink, String> {
        let program = program(&mut self.programs, &self.types, hook)?;
        let attached = match (&hook.kind, program) {
            (Kind::Lsm(_) | Kind::LsmBy(_), Program::Lsm(program)) => program
                .load(hook.at, &self.btf)
                .and_then(|()| program.attach())
                .and_then(|link| program.take_link(link))
                .map(FdLink::from),
            (Kind::Tracepoint, Program::BtfTracePoint(program)) => program
                .load(hook.at, &self.btf)
                .and_then(|()| program.attach())
                .and_then(|link| program.take_link(link))
                .map(FdLink::from),
            _ => return Err("the object's program is of another kind".to_owned()),
        };
        attached.map_err(|error| describe(&error))
    }
}

/// The hook's program, not loaded yet; or why this kernel cannot carry it.
fn program<'a>(
    programs: &'a mut Ebpf,
    types: &Types,
    hook: &Hook,
) -> Result<&'a mut Program, String> {
    if let Some(reason) = hook.unsupported(types) {
        return Err(reason);
    }
    let missing = "the object has no such program";
    programs
        .program_mut(hook.program(types))
        .ok_or_else(|| missing.to_owned())
}

/// The verifier's last words, not its whole log.
fn describe(error: &ProgramError) -> String {
    if let ProgramError::LoadError {
        io_error,
        verifier_log,
    } = error
    {
        let log = verifier_log.to_string();
        let tail: Vec<&str> = log
            .lines()
            .rev()
            .filter(|line| !line.is_empty())
            .take(12)
            .collect();
        let tail: Vec<&str> = tail.into_iter().rev().collect();
        return format!(
            "the kernel refused the program: {io_error}; verifier: {}",
            tail.join(" | ")
        );
    }
    whole(error)
}

/// The programs' globals and the fields they stand for.
const OFFSETS: &[(&str, &str, &str, FieldSize)] = &[
    ("OFF_BPRM_FILE", "linux_binprm", "file", POINTER),
    ("OFF_BPRM_BUF", "linux_binprm", "buf", FieldSize::AtLeast(2)),
    ("OFF_BPRM_NAME", "linux_binprm", "filename", POINTER),
    ("OFF_FILE_INODE", "file", "f_inode", POINTER),
    ("OFF_FILE_PATH", "file", "f_path", FieldSize::Exactly(16)),
    ("OFF_FILE_FLAGS", "file", "f_flags", WORD),
    ("OFF_INODE_NLINK", "inode", "i_nlink", FieldSize::Exactly(4)),
    ("OFF_INODE_WRITERS", "inode", "i_writecount", WORD),
    ("OFF_INODE_OWNER", "inode", "i_uid", WORD),
    ("OFF_IATTR_VALID", "iattr", "ia_valid", WORD),
    ("OFF_INODE_SB", "inode", "i_sb", POINTER),
    (
        "OFF_SB_FLAGS",
        "super_block",
        "s_flags",
        FieldSize::Exactly(8),
    ),
    ("OFF_SB_USERS", "super_block", "s_user_ns", POINTER),
    (
        "OFF_VMA_FLAGS",
        "vm_area_struct",
        "vm_flags",
        FieldSize::Exactly(8),
    ),
    ("OFF_VMA_FILE", "vm_area_struct", "vm_file", POINTER),
    ("OFF_SOCKET_SK", "socket", "sk", POINTER),
    ("OFF_SOCKET_TYPE", "socket", "type", FieldSize::Exactly(2)),
    (
        "OFF_SOCK_FAMILY",
        "sock",
        "__sk_common.skc_family",
        FieldSize::Exactly(2),
    ),
    (
        "OFF_SOCK_PROTOCOL",
        "sock",
        "sk_protocol",
        FieldSize::Exactly(2),
    ),
    ("OFF_MSG_NAME", "msghdr", "msg_name", POINTER),
    (
        "OFF_MSG_NAMELEN",
        "msghdr",
        "msg_namelen",
        FieldSize::Exactly(4),
    ),
    (
        "OFF_MSG_CONTROLLEN",
        "msghdr",
        "msg_controllen",
        FieldSize::Exactly(8),
    ),
    ("OFF_TASK_STORAGE", "task_struct", "bpf_storage", POINTER),
    ("OFF_TASK_TGID", "task_struct", "tgid", WORD),
    ("OFF_TASK_PID", "task_struct", "pid", WORD),
    (
        "OFF_TASK_STARTED",
        "task_struct",
        "start_boottime",
        FieldSize::Exactly(8),
    ),
    ("OFF_TASK_EXIT", "task_struct", "exit_state", WORD),
    ("OFF_TASK_CGROUPS", "task_struct", "cgroups", POINTER),
    ("OFF_CGROUPS_UNIFIED", "css_set", "dfl_cgrp", POINTER),
    ("OFF_LIST_SEQ", "bpf_iter_meta", "seq", POINTER),
    ("OFF_TASK_PARENT", "task_struct", "real_parent", POINTER),
    ("OFF_TASK_PTRACE", "task_struct", "ptrace", WORD),
    ("OFF_TASK_CRED", "task_struct", "cred", POINTER),
    ("OFF_CRED_UID", "cred", "uid", WORD),
    (
        "OFF_CRED_EFFECTIVE",
        "cred",
        "cap_effective",
        FieldSize::Exactly(8),
    ),
    ("OFF_CRED_USERS", "cred", "user_ns", POINTER),
    ("OFF_USERS_LEVEL", "user_namespace", "level", WORD),
    ("OFF_TASK_NSPROXY", "task_struct", "nsproxy", POINTER),
    ("OFF_NSPROXY_MNT", "nsproxy", "mnt_ns", POINTER),
    ("OFF_MNTNS_NUMBER", "mnt_namespace", "ns.inum", WORD),
    ("OFF_NSPROXY_NET", "nsproxy", "net_ns", POINTER),
    ("OFF_NET_NUMBER", "net", "ns.inum", WORD),
    ("OFF_BPRM_UNSAFE", "linux_binprm", "unsafe", WORD),
    ("OFF_FILE_MODE", "file", "f_mode", WORD),
    ("OFF_FILE_DENTRY", "file", "f_path.dentry", POINTER),
    ("OFF_INODE_NUMBER", "inode", "i_ino", POINTER),
    ("OFF_INODE_MODE", "inode", "i_mode", FieldSize::Exactly(2)),
    ("OFF_INODE_SIZE", "inode", "i_size", FieldSize::Exactly(8)),
    ("OFF_INODE_DEVICE", "inode", "i_rdev", WORD),
    ("OFF_SB_DEVICE", "super_block", "s_dev", WORD),
    ("OFF_SB_MAGIC", "super_block", "s_magic", POINTER),
    ("OFF_SB_BDEV", "super_block", "s_bdev", POINTER),
    ("OFF_BDEV_DISK", "block_device", "bd_disk", POINTER),
    ("OFF_DISK_MAJOR", "gendisk", "major", WORD),
    ("OFF_DENTRY_INODE", "dentry", "d_inode", POINTER),
    ("OFF_DENTRY_PARENT", "dentry", "d_parent", POINTER),
    ("OFF_DENTRY_NAME", "dentry", "d_name.name", POINTER),
    ("OFF_PATH_DENTRY", "path", "dentry", POINTER),
    ("OFF_PATH_MNT", "path", "mnt", POINTER),
    ("OFF_MNT_ROOT", "vfsmount", "mnt_root", POINTER),
    ("OFF_MOUNT_PART", "mount", "mnt", FieldSize::AtLeast(16)),
    ("OFF_MOUNT_ID", "mount", "mnt_id", WORD),
    ("OFF_MOUNT_PARENT", "mount", "mnt_parent", POINTER),
    ("OFF_MOUNT_OVER", "mount", "mnt_mountpoint", POINTER),
    (
        "OFF_MOUNT_BELOW",
        "mount",
        "mnt_mounts",
        FieldSize::Exactly(16),
    ),
    (
        "OFF_MOUNT_BESIDE",
        "mount",
        "mnt_child",
        FieldSize::Exactly(16),
    ),
    (
        "OFF_MOUNT_PEERS",
        "mount",
        "mnt_share",
        FieldSize::Exactly(16),
    ),
    ("OFF_MOUNT_MASTER", "mount", "mnt_master", POINTER),
    // A ring, or a chain that ends.
    (
        "OFF_MOUNT_SLAVES",
        "mount",
        "mnt_slave_list",
        FieldSize::AtLeast(8),
    ),
    (
        "OFF_MOUNT_SLAVE",
        "mount",
        "mnt_slave",
        FieldSize::Exactly(16),
    ),
    ("OFF_MAP_ID", "bpf_map", "id", WORD),
    ("OFF_PROG_AUX", "bpf_prog", "aux", POINTER),
    ("OFF_AUX_ID", "bpf_prog_aux", "id", WORD),
    ("OFF_CGROUP_KN", "cgroup", "kn", POINTER),
    ("OFF_CGROUP_ROOT", "cgroup", "root", POINTER),
    ("OFF_KN_ID", "kernfs_node", "id", FieldSize::Exactly(8)),
    (
        "OFF_ROOT_HIERARCHY",
        "cgroup_root",
        "hierarchy_id",
        FieldSize::Exactly(4),
    ),
];

/// The programs' globals and the enumerators they stand for.
const ENUMERATORS: &[(&str, &str, &str)] = &[
    ("ENUM_LOCKDOWN_NONE", "lockdown_reason", "LOCKDOWN_NONE"),
    (
        "ENUM_LOCKDOWN_MODULE_SIGNATURE",
        "lockdown_reason",
        "LOCKDOWN_MODULE_SIGNATURE",
    ),
    ("ENUM_LOCKDOWN_KEXEC", "lockdown_reason", "LOCKDOWN_KEXEC"),
    (
        "ENUM_LOCKDOWN_INTEGRITY_MAX",
        "lockdown_reason",
        "LOCKDOWN_INTEGRITY_MAX",
    ),
    ("ENUM_READING_MODULE", READ, "READING_MODULE"),
    ("ENUM_READING_KEXEC_IMAGE", READ, "READING_KEXEC_IMAGE"),
    (
        "ENUM_READING_KEXEC_INITRAMFS",
        READ,
        "READING_KEXEC_INITRAMFS",
    ),
    ("ENUM_READING_POLICY", READ, "READING_POLICY"),
    ("ENUM_LOADING_MODULE", LOAD, "LOADING_MODULE"),
    ("ENUM_LOADING_KEXEC_IMAGE", LOAD, "LOADING_KEXEC_IMAGE"),
    (
        "ENUM_LOADING_KEXEC_INITRAMFS",
        LOAD,
        "LOADING_KEXEC_INITRAMFS",
    ),
    ("ENUM_LOADING_POLICY", LOAD, "LOADING_POLICY"),
];

const READ: &str = "kernel_read_file_id";
const LOAD: &str = "kernel_load_data_id";
const POINTER: FieldSize = FieldSize::Exactly(8);
const WORD: FieldSize = FieldSize::Exactly(4);
