//! Where the running kernel keeps the fields the programs read, and the typed loads themselves.
//!
//! Every offset is a read-only global that the loader sets from the kernel's own BTF before the
//! programs are verified; the verifier then sees a constant and checks the load against the type.
//! An offset left at zero was never set: the loader refuses to load in that case.

use core::ffi::c_void;

use aya_ebpf::Global;

macro_rules! offsets {
    ($($name:ident)+) => {
        $(#[unsafe(no_mangle)] pub(crate) static $name: Global<u64> = Global::new(0);)+
    };
}

// `OFF_<STRUCT>_<FIELD>`; the loader has the same list with the BTF names.
offsets! {
    OFF_BPRM_FILE
    OFF_BPRM_BUF
    OFF_BPRM_NAME
    OFF_FILE_INODE
    OFF_FILE_PATH
    OFF_FILE_FLAGS
    OFF_INODE_NLINK
    OFF_INODE_WRITERS
    OFF_INODE_OWNER
    OFF_IATTR_VALID
    OFF_INODE_SB
    OFF_SB_FLAGS
    OFF_SB_USERS
    OFF_VMA_FLAGS
    OFF_VMA_FILE
    OFF_SOCKET_SK
    OFF_SOCKET_TYPE
    OFF_SOCK_FAMILY
    OFF_SOCK_PROTOCOL
    OFF_UNIX_DENTRY
    OFF_UNIX_ADDRESS
    OFF_ADDRESS_LEN
    OFF_ADDRESS_NAME
    OFF_MSG_NAME
    OFF_MSG_NAMELEN
    OFF_MSG_CONTROLLEN
    OFF_REGS_CALL
    OFF_REGS_FIRST
    OFF_TASK_STORAGE
    OFF_TASK_TGID
    OFF_TASK_PID
    OFF_TASK_STARTED
    OFF_TASK_EXIT
    OFF_TASK_CGROUPS
    OFF_CGROUPS_UNIFIED
    OFF_LIST_SEQ
    OFF_TASK_PARENT
    OFF_TASK_PTRACE
    OFF_TASK_CRED
    OFF_CRED_UID
    OFF_CRED_EFFECTIVE
    OFF_CRED_USERS
    OFF_USERS_LEVEL
    OFF_TASK_NSPROXY
    OFF_NSPROXY_MNT
    OFF_MNTNS_NUMBER
    OFF_NSPROXY_NET
    OFF_NET_NUMBER
    OFF_BPRM_UNSAFE
    OFF_FILE_MODE
    OFF_FILE_DENTRY
    OFF_INODE_NUMBER
    OFF_INODE_MODE
    OFF_INODE_SIZE
    OFF_INODE_DEVICE
    OFF_SB_DEVICE
    OFF_SB_MAGIC
    OFF_SB_BDEV
    OFF_BDEV_DISK
    OFF_DISK_MAJOR
    OFF_DENTRY_INODE
    OFF_DENTRY_PARENT
    OFF_DENTRY_NAME
    OFF_QSTR_NAME
    OFF_PATH_DENTRY
    OFF_PATH_MNT
    OFF_MNT_ROOT
    OFF_MOUNT_PART
    OFF_MOUNT_ID
    OFF_MOUNT_PARENT
    OFF_MOUNT_OVER
    OFF_MOUNT_BELOW
    OFF_MOUNT_BESIDE
    OFF_MOUNT_PEERS
    OFF_MOUNT_MASTER
    OFF_MOUNT_SLAVES
    OFF_MOUNT_SLAVE
    OFF_MAP_ID
    OFF_PROG_AUX
    OFF_AUX_ID
    OFF_CGROUP_KN
    OFF_CGROUP_ROOT
    OFF_KN_ID
    OFF_ROOT_HIERARCHY
}

// `ENUM_<ENUM>_<NAME>`: numbers that the kernel gives to names.
offsets! {
    ENUM_LOCKDOWN_NONE
    ENUM_LOCKDOWN_MODULE_SIGNATURE
    ENUM_LOCKDOWN_KEXEC
    ENUM_LOCKDOWN_INTEGRITY_MAX
    ENUM_READING_MODULE
    ENUM_READING_KEXEC_IMAGE
    ENUM_READING_KEXEC_INITRAMFS
    ENUM_READING_POLICY
    ENUM_LOADING_MODULE
    ENUM_LOADING_KEXEC_IMAGE
    ENUM_LOADING_KEXEC_INITRAMFS
    ENUM_LOADING_POLICY
}

/// The field's value. `T` has the field's size; the loader checked that against BTF.
///
/// # Safety
/// `base` is a kernel pointer that the verifier knows the type of, and `offset` names a field of
/// that type.
#[inline(always)]
pub(crate) unsafe fn load<T: Copy>(base: *const c_void, offset: &Global<u64>) -> T {
    // SAFETY: the verifier checks this very load against the kernel's type; a load it cannot
    // prove is a program that does not load.
    unsafe {
        base.cast::<u8>()
            .add(offset.load() as usize)
            .cast::<T>()
            .read_volatile()
    }
}
