//! What this host can enforce, requirement by requirement.
//!
//! Reads and reports; changes nothing. What cannot be found out counts as not met.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, ErrorKind},
    os::fd::OwnedFd,
    path::Path,
};

use nix::sys::statfs::{CGROUP2_SUPER_MAGIC, FsType, fstatfs, statfs};
use rustix::{
    fs::{AtFlags, Mode, OFlags, StatxFlags},
    io::Errno,
};

use super::{
    GateError, asked,
    btf::Types,
    hosts,
    load::{HOOKS, POST_OPEN, RECALLED_OPEN},
};

/// One thing the gate needs.
#[derive(Clone, Debug)]
pub struct Requirement {
    pub name: &'static str,
    pub ok: bool,
    /// What was found.
    pub detail: String,
    /// What to do about it; empty when nothing is to be done.
    pub fix: String,
}

/// Every requirement, met or not.
pub fn probe() -> Vec<Requirement> {
    let mut all = vec![kernel(), lsm()];
    all.extend(types());
    all.extend([
        bpffs(),
        cgroup2(),
        ima(),
        ima_policy(),
        busy(),
        ftrace(),
        lockdown(),
        own_files(),
        tpm(),
    ]);
    all
}

/// Fails unless programs at LSM hooks are called at all: attaching succeeds without.
pub(super) fn bpf_is_active() -> Result<(), GateError> {
    let active = fs::read_to_string(LSM).map_err(|error| GateError::Read {
        path: LSM.into(),
        error,
    })?;
    if active.trim().split(',').any(|name| name == "bpf") {
        Ok(())
    } else {
        Err(GateError::BpfNotActive {
            active: active.trim().to_owned(),
        })
    }
}

fn kernel() -> Requirement {
    let release = read("/proc/sys/kernel/osrelease");
    let mut numbers = release
        .split(|c: char| !c.is_ascii_digit())
        .map_while(|n| n.parse::<u32>().ok());
    let version = (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0));
    requirement(
        "kernel",
        version >= (6, 1),
        release,
        "run Linux 6.1 or newer",
    )
}

fn lsm() -> Requirement {
    match bpf_is_active() {
        Ok(()) => requirement("bpf-lsm", true, read(LSM), ""),
        Err(GateError::BpfNotActive { active }) => {
            let fix = format!("add `lsm={active},bpf` to the kernel command line and reboot");
            requirement("bpf-lsm", false, format!("active: {active}"), &fix)
        }
        Err(error) => requirement(
            "bpf-lsm",
            false,
            error.to_string(),
            "mount securityfs: `mount -t securityfs securityfs /sys/kernel/security`",
        ),
    }
}

/// Fails when IMA is known to keep digests of executables, or somebody sees to it that it is not known: the
/// kernel would hand out what it keeps instead of reading the file.
pub(super) fn digests_are_fresh() -> Result<(), GateError> {
    match followed() {
        Ok(()) => Ok(()),
        Err(Followed::Rule(rule, fix)) => Err(GateError::Ima { rule, fix }),
        Err(Followed::Unknown(why, fix)) => Err(GateError::ImaUnknown { why, fix }),
    }
}

/// What the kernel's types tell: that they are there, and what can be attached to.
fn types() -> Vec<Requirement> {
    let types = match Types::of_running_kernel() {
        Ok(types) => types,
        Err(error) => {
            let fix = "use a kernel built with CONFIG_DEBUG_INFO_BTF";
            return vec![requirement("btf", false, error.to_string(), fix)];
        }
    };
    let mut all = vec![
        requirement("btf", true, "/sys/kernel/btf/vmlinux".to_owned(), ""),
        every_program(&types),
    ];
    all.extend(hooks(&types));
    all
}

fn every_program(types: &Types) -> Requirement {
    let ok = types.runs_every_program();
    let detail = if ok {
        "programs run also while they run on the same CPU"
    } else {
        "a program is left out while it runs on the same CPU, and what it was asked about is let through"
    };
    let fix = "use Linux 6.2 or newer, or 6.1.54 or newer";
    requirement("every-program-runs", ok, detail.to_owned(), fix)
}

fn hooks(types: &Types) -> Vec<Requirement> {
    HOOKS
        .iter()
        .chain([&asked::HOOK])
        .map(|hook| match hook.unsupported(types) {
            None => requirement(hook.name, true, "present".to_owned(), ""),
            Some(reason) => requirement(
                hook.name,
                false,
                reason,
                "use a supported kernel: Debian's 6.1 or 6.12",
            ),
        })
        .chain([opened(types)])
        .collect()
}

/// Not needed unless a policy says so.
fn opened(types: &Types) -> Requirement {
    let detail = match (
        POST_OPEN.unsupported(types),
        RECALLED_OPEN.unsupported(types),
    ) {
        (None, _) => "present".to_owned(),
        (Some(reason), None) => format!(
            "{reason}, so with `opens = \"listed\"` only files are opened that were measured ahead, by their path"
        ),
        (Some(reason), Some(_)) => {
            format!("{reason}, so a policy with `opens = \"listed\"` is refused")
        }
    };
    requirement(POST_OPEN.name, true, detail, "")
}

fn bpffs() -> Requirement {
    let ok = is_on("/sys/fs/bpf", FsType(0xcafe_4a11));
    requirement(
        "bpffs",
        ok,
        "/sys/fs/bpf".to_owned(),
        "`mount -t bpf bpf /sys/fs/bpf`",
    )
}

fn cgroup2() -> Requirement {
    let ok = is_on("/sys/fs/cgroup", CGROUP2_SUPER_MAGIC);
    let fix = "boot with `systemd.unified_cgroup_hierarchy=1`";
    requirement("cgroup2", ok, "/sys/fs/cgroup".to_owned(), fix)
}

fn ima() -> Requirement {
    let ok = Path::new(SECURITY).join(IMA).is_dir();
    let detail = if ok {
        "present"
    } else {
        "the kernel's file hashing is not there"
    };
    requirement(
        "ima",
        ok,
        detail.to_owned(),
        "use a kernel built with CONFIG_IMA, hash sha256",
    )
}

/// With a policy that measures what is executed, the kernel hands out stored digests instead of
/// reading the file.
fn ima_policy() -> Requirement {
    match followed() {
        Ok(()) => requirement(
            "ima-policy",
            true,
            "no rule about executables is known".to_owned(),
            "",
        ),
        Err(Followed::Rule(detail, fix) | Followed::Unknown(detail, fix)) => {
            requirement("ima-policy", false, detail, fix)
        }
    }
}

/// What IMA follows that it should not, or why that is not known; and what to do about it.
enum Followed {
    Rule(String, &'static str),
    Unknown(String, &'static str),
}

fn followed() -> Result<(), Followed> {
    let rules = match Rules::shown() {
        Ok(Rules::Read(rules)) => rules,
        // Nothing tells what the kernel follows; its measuring is tried besides.
        Ok(Rules::Unreadable | Rules::NoIma) => String::new(),
        Ok(Rules::NotShown) => {
            let why = "a policy was loaded, and this kernel does not show which";
            return Err(Followed::Unknown(
                why.to_owned(),
                "reboot, and load no IMA policy",
            ));
        }
        Err(why) => {
            let fix = "unmount what is mounted there, or reboot";
            return Err(Followed::Unknown(why, fix));
        }
    };
    match stale(&read("/proc/cmdline"), &rules) {
        Some((rule, fix)) => Err(Followed::Rule(rule.to_owned(), fix)),
        None => Ok(()),
    }
}

/// What the kernel shows of the rules that IMA follows.
#[derive(Debug)]
enum Rules {
    Read(String),
    /// There is a file, and it is not to be read.
    Unreadable,
    /// Kernels that neither show a policy nor take another let the file go with the first.
    NotShown,
    NoIma,
}

impl Rules {
    /// Or why what is there is not what the kernel shows: somebody mounted something over it.
    fn shown() -> Result<Self, String> {
        let mut at = SECURITY.to_owned();
        let failed = |at: &str, error: Errno| format!("opening `{at}`: {error}");
        let mut place = rustix::fs::open(&at, OFlags::PATH | OFlags::CLOEXEC, Mode::empty())
            .map_err(|error| failed(&at, error))?;
        let is_root = fstatfs(&place).is_ok_and(|found| found.filesystem_type() == SECURITYFS)
            && rustix::fs::fstat(&place).is_ok_and(|found| found.st_ino == SECURITYFS_ROOT);
        if !is_root {
            return Err(covered(&at));
        }
        // From there on through no other mount and no link: there is one such file system, and its names are
        // the kernel's. `openat2` would say that in one call, and a unit with `RestrictSUIDSGID=` is without it.
        let mount = mount_of(&place).map_err(|error| failed(&at, error))?;
        let step = |place: &OwnedFd, name: &str, at: &str| {
            let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            let next = match rustix::fs::openat(place, name, flags, Mode::empty()) {
                Err(Errno::NOENT) => return Ok(None),
                next => next.map_err(|error| failed(at, error))?,
            };
            let there = mount_of(&next).map_err(|error| failed(at, error))?;
            if there == mount {
                Ok(Some(next))
            } else {
                Err(covered(at))
            }
        };
        for name in IMA.split('/') {
            at = format!("{at}/{name}");
            match step(&place, name, &at)? {
                Some(next) => place = next,
                None => return Ok(Self::NoIma),
            }
        }
        at = format!("{at}/{POLICY}");
        if step(&place, POLICY, &at)?.is_none() {
            return Ok(Self::NotShown);
        }
        // Opening it to read is refused where the kernel shows nothing of it.
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let file = match rustix::fs::openat(&place, POLICY, flags, Mode::empty()) {
            Err(Errno::ACCESS | Errno::PERM) => return Ok(Self::Unreadable),
            file => file.map_err(|error| failed(&at, error))?,
        };
        if mount_of(&file) != Ok(mount) {
            return Err(covered(&at));
        }
        io::read_to_string(File::from(file))
            .map(Self::Read)
            .map_err(|error| format!("reading `{at}`: {error}"))
    }
}

fn covered(at: &str) -> String {
    format!("`{at}` is not the kernel's own")
}

/// The number of the mount that an opened file is of.
fn mount_of(place: &OwnedFd) -> Result<u64, Errno> {
    let found = rustix::fs::statx(place, c"", AtFlags::EMPTY_PATH, StatxFlags::MNT_ID)?;
    Ok(found.stx_mnt_id)
}

/// What makes digests stale or of another kind, and what to do about it. Rules about modules, kexec,
/// firmware and policy are welcome.
fn stale<'a>(command_line: &'a str, rules: &'a str) -> Option<(&'a str, &'static str)> {
    for word in command_line.split_whitespace() {
        if matches!(word, "ima_tcb" | "ima_appraise_tcb") {
            return Some((word, "remove it from the kernel command line and reboot"));
        }
        if let Some(policies) = word.strip_prefix("ima_policy=")
            && !policies
                .split('|')
                .all(|name| HARMLESS.contains(&name.trim_matches('"')))
        {
            let fix = "remove policies about executables from `ima_policy=` on the kernel command line and reboot";
            return Some((word, fix));
        }
        if word.starts_with("ima_hash=") && word != "ima_hash=sha256" {
            let fix = "remove `ima_hash=` from the kernel command line and reboot";
            return Some((word, fix));
        }
    }
    let rule = rules.lines().find(|rule| {
        let first = rule.split_whitespace().next().unwrap_or_default();
        KEEPING.contains(&first)
            && (!rule.contains("func=") || ABOUT_FILES.iter().any(|func| rule.contains(func)))
    })?;
    Some((
        rule,
        "take rules about executables out of the IMA policy and reboot",
    ))
}

/// Built-in policies that say nothing about what is executed.
const HARMLESS: &[&str] = &["secure_boot", "critical_data", "fail_securely"];
/// Actions for which the kernel keeps a file's digest.
const KEEPING: &[&str] = &["measure", "appraise", "audit", "hash"];
/// Events by which a rule meets executables, libraries or scripts.
const ABOUT_FILES: &[&str] = &[
    "func=BPRM_CHECK",
    "func=CREDS_CHECK",
    "func=MMAP_CHECK",
    "func=FILE_CHECK",
    "func=FILE_MMAP",
    "func=PATH_CHECK",
];

/// Whether the kernel keeps writers from a running program, as it shows with the one that asks.
pub fn busy() -> Requirement {
    // Opened it is changed by nobody: nothing is cut off and nothing written.
    let opened = OpenOptions::new().write(true).open("/proc/self/exe");
    let detail = match opened {
        Err(error) if error.kind() == ErrorKind::ExecutableFileBusy => {
            let detail = "running programs cannot be opened for writing";
            return requirement("text-busy", true, detail.to_owned(), "");
        }
        Err(error) => {
            format!("opening a running program for writing is refused otherwise: {error}")
        }
        Ok(_) => "a running program can be opened for writing".to_owned(),
    };
    requirement(
        "text-busy",
        false,
        detail,
        "end whoever watches that file system by fanotify marks of the class that comes before content",
    )
}

fn ftrace() -> Requirement {
    let value = read("/proc/sys/kernel/ftrace_enabled");
    requirement(
        "ftrace",
        value == "1",
        format!("kernel.ftrace_enabled = {value}"),
        "`sysctl kernel.ftrace_enabled=1`",
    )
}

fn lockdown() -> Requirement {
    let value = read("/sys/kernel/security/lockdown");
    let ok = !value.contains("[confidentiality]");
    requirement(
        "lockdown",
        ok,
        value,
        "boot with `lockdown=integrity`: under confidentiality the gate cannot be attached",
    )
}

/// The same files are the daemon's: it is the same program.
fn own_files() -> Requirement {
    let (ok, detail) = match hosts::not_local() {
        Ok(None) => (true, "on a disk's own file system, or in memory".to_owned()),
        Ok(Some((file, kind))) => (false, format!("`{}` is on `{kind}`", file.display())),
        Err(error) => (false, error.to_string()),
    };
    let fix = "move governor and its libraries to a disk's own file system, or to memory: elsewhere the kernel \
               may read something else each time, and a guard does not take the daemon for itself";
    requirement("own-files", ok, detail, fix)
}

fn tpm() -> Requirement {
    let ok = Path::new("/dev/tpmrm0").exists();
    let detail = if ok { "/dev/tpmrm0" } else { "no /dev/tpmrm0" };
    requirement(
        "tpm",
        ok,
        detail.to_owned(),
        "enable the TPM 2.0 in firmware; without one only policy-class zones work",
    )
}

fn is_on(path: &str, kind: FsType) -> bool {
    statfs(path).is_ok_and(|found| found.filesystem_type() == kind)
}

fn read(path: &str) -> String {
    fs::read_to_string(path).map_or_else(|error| error.to_string(), |text| text.trim().to_owned())
}

fn requirement(name: &'static str, ok: bool, detail: String, fix: &str) -> Requirement {
    Requirement {
        name,
        ok,
        detail,
        fix: if ok { String::new() } else { fix.to_owned() },
    }
}

const SECURITY: &str = "/sys/kernel/security";
/// Below that; `ima` there is a link to it.
const IMA: &str = "integrity/ima";
const POLICY: &str = "policy";
const SECURITYFS: FsType = FsType(0x7363_6673);
/// The inode that such a file system begins at.
const SECURITYFS_ROOT: u64 = 1;
const LSM: &str = "/sys/kernel/security/lsm";

#[cfg(test)]
mod tests {
    use super::*;

    fn found<'a>(line: &'a str, rules: &'a str) -> Option<&'a str> {
        stale(line, rules).map(|(rule, _)| rule)
    }

    #[test]
    fn only_rules_about_executables_make_digests_stale() {
        assert_eq!(found("quiet ima_policy=tcb ro", ""), Some("ima_policy=tcb"));
        assert_eq!(found("ima_policy=\"secure_boot|critical_data\"", ""), None);
        assert!(found("ima_policy=secure_boot|appraise_tcb", "").is_some());
        assert!(found("ima_tcb", "").is_some());
        assert!(found("ima_hash=sha512", "").is_some());
        assert_eq!(found("ima_hash=sha256", ""), None);
        let modules = "measure func=MODULE_CHECK\nappraise func=KEXEC_KERNEL_CHECK\n";
        assert_eq!(found("", modules), None);
        assert_eq!(found("", "dont_measure fsmagic=0x9fa0\n"), None);
        for rule in [
            "measure func=BPRM_CHECK mask=MAY_EXEC",
            "audit func=FILE_CHECK uid=0",
            "hash func=MMAP_CHECK",
            "appraise fowner=0",
        ] {
            let rules = format!("{modules}{rule}\n");
            assert_eq!(found("", &rules), Some(rule));
        }
    }
}
