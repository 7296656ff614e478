//! The initramfs: a static busybox, the virtio modules the kernel does not have built in, and the
//! guest agent with its unit, which is copied into the root on each boot so that neither a new agent
//! nor a new kernel costs a new root file system. The archive is byte for byte reproducible, because
//! firmware measures it into PCR 9.

use super::kernel::{self, Source};
use crate::{paths, process};
use anyhow::{Context, Result};
use std::path::{Path, PathBuf};

/// Printed first of all: the probe for a working accelerator waits for it.
pub(crate) const MARKER: &str = "initramfs: started";

pub(crate) fn build(source: &Source) -> Result<PathBuf> {
    let agent = crate::compile::agent()?;
    let busybox = busybox()?;
    let mut archive = Archive::default();
    for dir in ["bin", "dev", "proc", "sys", "root", "lib", "lib/modules"] {
        archive.add(dir, 0o040_755, b"");
    }
    archive.add("bin/busybox", 0o100_755, &read(&busybox)?);
    archive.add("agent", 0o100_755, &read(&agent)?);
    archive.add("agent.service", 0o100_644, UNIT.as_bytes());
    let mut order = Vec::new();
    for wanted in MODULES {
        for path in with_dependencies(&source.tree, wanted)? {
            if !order.contains(&path) {
                order.push(path);
            }
        }
    }
    let mut list = String::new();
    for path in &order {
        let stem = path
            .file_name()
            .and_then(|name| name.to_str())
            .unwrap_or("")
            .to_owned();
        let name = stem.trim_end_matches(".xz").trim_end_matches(".zst");
        archive.add(&format!("lib/modules/{name}"), 0o100_644, &module(path)?);
        list.push_str(&format!("/lib/modules/{name}\n"));
    }
    archive.add("modules", 0o100_644, list.as_bytes());
    archive.add(
        "init",
        0o100_755,
        INIT.replace("@MARKER@", MARKER).as_bytes(),
    );
    let bytes = archive.finish();
    let key = paths::key(&[&bytes]);
    let file = source
        .cache
        .join(format!("initramfs-{}.cpio", key.get(..12).unwrap_or(&key)));
    if !file.is_file() {
        paths::write_whole(&file, &bytes)?;
    }
    Ok(file)
}

fn busybox() -> Result<PathBuf> {
    let dir = paths::ensure(paths::vm().join("busybox"))?;
    let file = dir.join("bin/busybox");
    if !file.is_file() {
        kernel::unpacked("busybox-static", &dir)?;
    }
    Ok(file)
}

/// The module's files, what it needs first; nothing if the kernel has it built in.
fn with_dependencies(tree: &Path, name: &str) -> Result<Vec<PathBuf>> {
    let table = std::fs::read_to_string(tree.join("modules.dep"))
        .with_context(|| format!("reading the module table of `{}`", tree.display()))?;
    for line in table.lines() {
        let Some((file, needs)) = line.split_once(':') else {
            continue;
        };
        let base = file.rsplit('/').next().unwrap_or(file);
        if base.split('.').next() == Some(name) {
            let mut files: Vec<PathBuf> = needs
                .split_whitespace()
                .rev()
                .map(|need| tree.join(need))
                .collect();
            files.push(tree.join(file));
            return Ok(files);
        }
    }
    Ok(Vec::new())
}

fn module(path: &Path) -> Result<Vec<u8>> {
    let tool = match path.extension().and_then(|end| end.to_str()) {
        Some("xz") => "xz",
        Some("zst") => "zstd",
        _ => return read(path),
    };
    let output = process::command(tool)
        .args(["-dc"])
        .arg(path)
        .output()
        .with_context(|| format!("unpacking `{}` with {tool}", path.display()))?;
    anyhow::ensure!(
        output.status.success(),
        "unpacking `{}` with {tool} failed",
        path.display()
    );
    Ok(output.stdout)
}

fn read(path: &Path) -> Result<Vec<u8>> {
    std::fs::read(path).with_context(|| format!("reading `{}`", path.display()))
}

/// A cpio archive in the "newc" form, with fixed owners and times.
#[derive(Default)]
struct Archive {
    bytes: Vec<u8>,
    inode: usize,
}

impl Archive {
    fn add(&mut self, name: &str, mode: usize, content: &[u8]) {
        self.inode += 1;
        let links = if mode & 0o040_000 != 0 { 2 } else { 1 };
        let fields = [
            self.inode,
            mode,
            0,
            0,
            links,
            0,
            content.len(),
            0,
            0,
            0,
            0,
            name.len() + 1,
            0,
        ];
        self.bytes.extend_from_slice(b"070701");
        for field in fields {
            self.bytes
                .extend_from_slice(format!("{field:08x}").as_bytes());
        }
        self.bytes.extend_from_slice(name.as_bytes());
        self.bytes.push(0);
        self.pad();
        self.bytes.extend_from_slice(content);
        self.pad();
    }

    fn pad(&mut self) {
        self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
    }

    fn finish(mut self) -> Vec<u8> {
        self.inode = 0;
        self.add("TRAILER!!!", 0, b"");
        self.bytes
    }
}

const MODULES: &[&str] = &["virtio_pci", "virtio_blk", "virtio_console", "ext4"];

const INIT: &str = r#"#!/bin/busybox sh
b=/bin/busybox
$b mount -t proc proc /proc
$b mount -t sysfs sys /sys
$b mount -t devtmpfs dev /dev
$b echo "@MARKER@" > /dev/console
for word in $($b cat /proc/cmdline); do
    if [ "$word" = guest.probe ]; then $b poweroff -f; fi
done
for module in $($b cat /modules); do $b insmod "$module"; done
$b mount -t ext4 -o rw,noatime /dev/vda /root || $b echo "initramfs: no root file system" > /dev/console
$b mkdir -p /root/usr/lib/modules
$b mount -t ext4 -o ro /dev/vdb /root/usr/lib/modules
$b echo 8d7b3a2c4e5f60718293a4b5c6d7e8f9 > /root/etc/machine-id
$b rm -f /root/usr/local/sbin/guest-agent
$b cp /agent /root/usr/local/sbin/guest-agent
$b cp /agent.service /root/etc/systemd/system/guest-agent.service
$b mkdir -p /root/etc/systemd/system/sysinit.target.wants
$b ln -sf /etc/systemd/system/guest-agent.service /root/etc/systemd/system/sysinit.target.wants/
$b umount /sys /proc
$b mount -o move /dev /root/dev
exec $b switch_root /root /lib/systemd/systemd
"#;

/// Early, but with local file systems; its commands are to outlive it, and the kernel is not to
/// choose it when memory runs out.
const UNIT: &str = "[Unit]
Description=Test agent of the host
DefaultDependencies=no
After=local-fs.target systemd-tmpfiles-setup-dev.service
StartLimitIntervalSec=0

[Service]
ExecStart=/usr/local/sbin/guest-agent
UnsetEnvironment=INVOCATION_ID JOURNAL_STREAM SYSTEMD_EXEC_PID
Environment=HOME=/root USER=root LANG=C.UTF-8 PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
Restart=always
RestartSec=0
KillMode=process
OOMScoreAdjust=-1000
TasksMax=infinity
LimitMEMLOCK=infinity
StandardOutput=null
StandardError=journal+console
";
