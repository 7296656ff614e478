//! What this host can enforce, requirement by requirement.
//!
//! Reads and reports; changes nothing. What cannot be found out counts as not met.

use std::{fs, path::Path};

use nix::sys::statfs::{CGROUP2_SUPER_MAGIC, FsType, statfs};

use super::{GateError, btf::Types, load::HOOKS};

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
    let mut all = vec![kernel(), lsm(), types()];
    all.extend(hooks());
    all.extend([
        bpffs(),
        cgroup2(),
        ima(),
        ima_policy(),
        ftrace(),
        lockdown(),
        tpm(),
    ]);
    all
}

/// Fails unless programs at LSM hooks are called at all: attaching succeeds without.
pub(super) fn bpf_is_active() -> Result<(), GateError> {
    let active = fs::read_to_string(LSM).map_err(|source| GateError::Read {
        path: LSM.into(),
        source,
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

fn types() -> Requirement {
    match Types::of_running_kernel() {
        Ok(_) => requirement("btf", true, "/sys/kernel/btf/vmlinux".to_owned(), ""),
        Err(error) => requirement(
            "btf",
            false,
            error.to_string(),
            "use a kernel built with CONFIG_DEBUG_INFO_BTF",
        ),
    }
}

fn hooks() -> Vec<Requirement> {
    let Ok(types) = Types::of_running_kernel() else {
        return Vec::new();
    };
    HOOKS
        .iter()
        .map(|hook| match hook.unsupported(&types) {
            None => requirement(hook.name, true, "present".to_owned(), ""),
            Some(reason) => requirement(
                hook.name,
                false,
                reason,
                "use a supported kernel: Debian's 6.1 or 6.12",
            ),
        })
        .collect()
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
    let ok = Path::new("/sys/kernel/security/ima").is_dir()
        || Path::new("/sys/kernel/security/integrity/ima").is_dir();
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
    let fix =
        "remove IMA rules that measure or appraise executables (`ima_policy=` on the command line)";
    let command_line = read("/proc/cmdline");
    if let Some(word) = command_line
        .split_whitespace()
        .find(|word| word.starts_with("ima_policy="))
    {
        return requirement("ima-policy", false, word.to_owned(), fix);
    }
    if let Some(word) = command_line
        .split_whitespace()
        .find(|word| word.starts_with("ima_hash=") && *word != "ima_hash=sha256")
    {
        return requirement(
            "ima-policy",
            false,
            word.to_owned(),
            "remove `ima_hash=` from the command line",
        );
    }
    let rules = fs::read_to_string("/sys/kernel/security/ima/policy").unwrap_or_default();
    let stale = rules.lines().find(|rule| {
        let acts = rule.starts_with("measure") || rule.starts_with("appraise");
        let about_files = [
            "BPRM_CHECK",
            "MMAP_CHECK",
            "FILE_CHECK",
            "FILE_MMAP",
            "PATH_CHECK",
        ];
        acts && (!rule.contains("func=") || about_files.iter().any(|func| rule.contains(func)))
    });
    match stale {
        Some(rule) => requirement("ima-policy", false, rule.to_owned(), fix),
        None => requirement(
            "ima-policy",
            true,
            "no rule about executables is known".to_owned(),
            "",
        ),
    }
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
        "boot with `lockdown=integrity`: under confidentiality only executions are governed",
    )
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

const LSM: &str = "/sys/kernel/security/lsm";
