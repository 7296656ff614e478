//! The guests' root file system: Debian 12 with systemd, made by mmdebstrap from the mirrors that
//! this host already uses, as an ext4 image and without mounting anything. It holds no kernel, no
//! agent and no governor: those arrive at boot, so this slow part is made once.

use crate::progress::Step;
use crate::{paths, process, tools};
use anyhow::{Context, Result, bail};
use std::fmt::Write as _;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

pub(crate) fn build() -> Result<PathBuf> {
    let recipe = format!("{SUITE} {} {SETUP} {SIZE} v3", PACKAGES.join(","));
    let key = paths::key(&[recipe.as_bytes()]);
    let dir = paths::ensure(paths::vm())?;
    let image = dir.join(format!("rootfs-{}.img", key.get(..12).unwrap_or(&key)));
    if image.is_file() {
        return Ok(image);
    }
    let tree = dir.join(format!("rootfs-{}", std::process::id()));
    let aside = dir.join("rootfs.img.new");
    let made = tree_of_packages(&tree).and_then(|()| {
        let mut pack = as_root(super::ext4(&tree, &aside, "rootfs", SIZE));
        process::run("packing the guest's root file system", &mut pack)
    });
    let mut sweep = process::command("rm");
    sweep.args(["-rf", "--one-file-system"]).arg(&tree);
    let swept = process::run("removing the unpacked tree", &mut as_root(sweep));
    made?;
    swept?;
    std::fs::rename(&aside, &image).context("renaming the root file system image")?;
    Ok(image)
}

fn tree_of_packages(tree: &Path) -> Result<()> {
    let step = Step::start("making the guest's root file system");
    let mirrors = mirrors()?;
    let mut bootstrap = process::command("mmdebstrap");
    bootstrap
        .args([
            "--quiet",
            "--variant=minbase",
            "--format=directory",
            "--mode=root",
        ])
        .arg(format!("--include={}", PACKAGES.join(",")))
        .args([
            "--dpkgopt=path-exclude=/usr/share/locale/*",
            "--dpkgopt=path-exclude=/usr/share/doc/*",
        ])
        .args([
            "--dpkgopt=force-unsafe-io",
            "--aptopt=Acquire::Languages \"none\"",
        ])
        .arg(format!("--customize-hook=chroot \"$1\" sh -ec '{SETUP}'"))
        .arg(SUITE)
        .arg(tree);
    bootstrap_from(&mirrors, bootstrap, step)
}

/// Runs mmdebstrap with the mirrors on its standard input, or with its own default if there are none.
fn bootstrap_from(mirrors: &str, mut bootstrap: Command, step: Step) -> Result<()> {
    if !mirrors.is_empty() {
        bootstrap.arg("-");
    }
    let mut child = as_root(bootstrap)
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .context("starting mmdebstrap")?;
    let mut stdin = child
        .stdin
        .take()
        .context("mmdebstrap has no standard input")?;
    stdin
        .write_all(mirrors.as_bytes())
        .context("giving mmdebstrap its mirrors")?;
    drop(stdin);
    let output = child.wait_with_output().context("waiting for mmdebstrap")?;
    if !output.status.success() {
        step.failed();
        bail!(
            "mmdebstrap ended with {}\n{}",
            output.status,
            process::tail(&output.stderr, 40)
        );
    }
    step.done();
    Ok(())
}

/// Packages of the guests' release and what they need, unpacked and not configured: for hosts whose
/// own apt does not know them.
pub(super) fn extract(packages: &str, dir: &Path) -> Result<()> {
    let step = Step::start(&format!("fetching {packages}"));
    let mut bootstrap = process::command("mmdebstrap");
    bootstrap
        .args([
            "--quiet",
            "--variant=extract",
            "--format=directory",
            "--mode=root",
        ])
        .arg(format!("--include={packages}"))
        .arg(SUITE)
        .arg(dir);
    bootstrap_from(&mirrors()?, bootstrap, step)
}

/// The Debian archives that this host's apt is configured with, as one-line sources; none on another
/// distribution.
fn mirrors() -> Result<String> {
    let listing = process::capture(process::command("apt-get").args([
        "indextargets",
        "--format",
        "$(ORIGIN)|$(REPO_URI)|$(RELEASE)|$(COMPONENT)",
        "Created-By: Packages",
    ]))?;
    let mut sources = String::new();
    for line in listing.lines() {
        let fields: Vec<&str> = line.split('|').collect();
        if let [origin, uri, release, component] = fields.as_slice()
            && *origin == "Debian"
            && release.starts_with(SUITE)
        {
            let _infallible = writeln!(sources, "deb {uri} {release} {component}");
        }
    }
    Ok(sources)
}

fn as_root(command: Command) -> Command {
    tools::privileged(command)
}

const SUITE: &str = "bookworm";

/// MiB; sparse, so only what is written takes space.
const SIZE: u64 = 2048;

const PACKAGES: &[&str] = &[
    "systemd",
    "systemd-sysv",
    "dbus",
    "udev",
    "kmod",
    "iproute2",
    "procps",
    "openssh-client",
    "openssl",
    "tpm2-tools",
    "libtss2-esys-3.0.2-0",
    "libtss2-mu0",
    "libtss2-tctildr0",
    "libtss2-tcti-device0",
    "bpftool",
    "python3-minimal",
    "libpython3-stdlib",
    "libcap2-bin",
    "strace",
    "e2fsprogs",
    "btrfs-progs",
    "xfsprogs",
    "dmsetup",
    "fsverity",
];

/// Run inside the new root. Units that a test machine does not need cost seconds each when the
/// processor is emulated; nothing here touches what governor leans on.
const SETUP: &str = r#"
echo guest > /etc/hostname
echo "127.0.0.1 localhost guest" > /etc/hosts
: > /etc/fstab
passwd -d root >/dev/null
systemctl --quiet mask getty@.service serial-getty@.service console-getty.service getty.target systemd-logind.service apt-daily.timer apt-daily-upgrade.timer dpkg-db-backup.timer e2scrub_all.timer e2scrub_reap.service fstrim.timer systemd-timesyncd.service systemd-networkd.service systemd-resolved.service systemd-pcrphase.service systemd-pcrphase-sysinit.service systemd-pcrmachine.service systemd-update-utmp.service systemd-update-utmp-runlevel.service systemd-hwdb-update.service ldconfig.service systemd-firstboot.service systemd-journal-flush.service systemd-random-seed.service systemd-binfmt.service systemd-machine-id-commit.service modprobe@configfs.service modprobe@dm_mod.service modprobe@efi_pstore.service modprobe@fuse.service modprobe@loop.service modprobe@drm.service dev-hugepages.mount dev-mqueue.mount sys-kernel-config.mount sys-fs-fuse-connections.mount proc-sys-fs-binfmt_misc.automount systemd-sysext.service systemd-boot-system-token.service systemd-pstore.service systemd-tmpfiles-setup-dev.service kmod-static-nodes.service systemd-sysusers.service systemd-remount-fs.service
mkdir -p /etc/systemd/system-generators /etc/systemd/system/systemd-udev-trigger.service.d
for generator in /lib/systemd/system-generators/*; do ln -s /dev/null "/etc/systemd/system-generators/${generator##*/}"; done
printf "[Service]\nExecStart=\nExecStart=-udevadm trigger --action=add --subsystem-match=block --subsystem-match=tpm --subsystem-match=tpmrm --subsystem-match=virtio-ports --subsystem-match=net\n" > /etc/systemd/system/systemd-udev-trigger.service.d/guest.conf
systemctl --quiet set-default multi-user.target
mkdir -p /etc/systemd/journald.conf.d /etc/systemd/system.conf.d
printf "[Journal]\nStorage=volatile\nForwardToConsole=no\nForwardToWall=no\nRateLimitBurst=0\n" > /etc/systemd/journald.conf.d/guest.conf
printf "[Manager]\nDefaultTimeoutStopSec=20s\nShowStatus=no\n" > /etc/systemd/system.conf.d/guest.conf
for module in kvm_amd kvm_intel powernow_k8 sp5100_tco iTCO_wdt aesni_intel ghash_clmulni_intel crc32_pclmul crct10dif_pclmul sha1_ssse3 sha256_ssse3 sha512_ssse3 crc32c_intel rapl intel_rapl_msr efi_pstore button evdev psmouse pcspkr lpc_ich i2c_i801 ahci qemu_fw_cfg; do echo "blacklist $module"; done > /etc/modprobe.d/guest.conf
rm -rf /var/lib/apt/lists /var/cache/apt /var/log/*.log
"#;
