//! What the kernel programs read of the kernel's own types: where a field lies, and which number a name has.
//! The programs have the same list.

use super::btf::FieldSize;

/// The programs' globals and the fields they stand for.
pub(super) const OFFSETS: &[(&str, &str, &str, FieldSize)] = &[
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
    ("OFF_UNIX_DENTRY", "unix_sock", "path.dentry", POINTER),
    ("OFF_UNIX_ADDRESS", "unix_sock", "addr", POINTER),
    ("OFF_ADDRESS_LEN", "unix_address", "len", WORD),
    // As many bytes as the length says.
    (
        "OFF_ADDRESS_NAME",
        "unix_address",
        "name",
        FieldSize::AtLeast(0),
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
    ("OFF_REGS_CALL", "pt_regs", CALL, REGISTER),
    ("OFF_REGS_FIRST", "pt_regs", FIRST, REGISTER),
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
    ("OFF_QSTR_NAME", "qstr", "name", POINTER),
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
pub(super) const ENUMERATORS: &[(&str, &str, &str)] = &[
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

/// The number of the system call, and its first argument as i386 passes it.
const CALL: &str = "orig_ax";
const FIRST: &str = "bx";
const READ: &str = "kernel_read_file_id";
const LOAD: &str = "kernel_load_data_id";
const POINTER: FieldSize = FieldSize::Exactly(8);
const WORD: FieldSize = FieldSize::Exactly(4);
const REGISTER: FieldSize = FieldSize::Exactly(8);
