//! Which accelerator QEMU may use. KVM can be present and broken (the guest stops in its first
//! instructions and QEMU hangs), so it is used only after a probe boot has reached user space; with
//! any doubt the answer is emulation. The answer is cached until the probe's kernel changes.

use crate::image::Image;
use crate::{paths, process};
use std::io::{BufRead, BufReader};
use std::process::Stdio;
use std::sync::mpsc::channel;
use std::time::Duration;

pub(crate) fn choose(image: &Image) -> &'static [&'static str] {
    let cache = paths::vm().join("accelerator");
    let _lock = paths::lock("accelerator");
    let kvm = match std::fs::read_to_string(&cache).as_deref() {
        Ok("kvm") => true,
        Ok("tcg") => false,
        _ => {
            let works = probe(image).unwrap_or(false);
            let _only_slower = paths::write_whole(&cache, if works { b"kvm" } else { b"tcg" });
            eprintln!(
                "accelerator: {}",
                if works {
                    "kvm"
                } else {
                    "none that works, emulating"
                }
            );
            works
        }
    };
    if kvm {
        &["-accel", "kvm", "-cpu", "host"]
    } else {
        &["-accel", "tcg,thread=single", "-cpu", "max"]
    }
}

/// Boots the kernel to the first line of its initramfs.
fn probe(image: &Image) -> Option<bool> {
    std::fs::OpenOptions::new()
        .read(true)
        .write(true)
        .open("/dev/kvm")
        .ok()?;
    let mut child = process::command("qemu-system-x86_64")
        .args([
            "-accel",
            "kvm",
            "-cpu",
            "host",
            "-m",
            "512",
            "-nodefaults",
            "-no-user-config",
        ])
        .args([
            "-display",
            "none",
            "-nic",
            "none",
            "-no-reboot",
            "-serial",
            "stdio",
        ])
        .arg("-kernel")
        .arg(&image.source.vmlinuz)
        .arg("-initrd")
        .arg(&image.initramfs)
        .args(["-append", "console=ttyS0 quiet panic=-1 guest.probe"])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .ok()?;
    let console = child.stdout.take()?;
    let (sender, reached) = channel();
    std::thread::spawn(move || {
        for line in BufReader::new(console).lines().map_while(Result::ok) {
            if line.contains(crate::image::MARKER) {
                let _too_late = sender.send(());
            }
        }
    });
    let works = reached.recv_timeout(Duration::from_secs(8)).is_ok();
    let _ended_already = child.kill();
    child.wait().ok()?;
    Some(works)
}
