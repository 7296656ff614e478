//! Modules and kernels that policy lists: loaded from where the kernel reads the same twice, and from nowhere else.

use super::*;
use crate::image::{self, Kernel, Wanted};

const DIR: &str = "/opt/listed";
const MODULE: &str = "/opt/listed/dummy.ko";
const OTHER: &str = "/opt/listed/other.ko";
const KERNEL: &str = "/opt/listed/kernel";

pub(super) fn loaded(guest: &mut Guest) -> Result<()> {
    armed(guest)?;
    let kernel = Kernel::ALL
        .into_iter()
        .find(|one| one.name() == guest.kernel());
    let source = image::kernel::fetch(&Wanted::Debian(kernel.context("a kernel of ours")?))?;
    guest.run(&["mkdir", "-p", DIR])?.ok()?;
    guest.put_file(&source.vmlinuz, KERNEL)?;
    let lines = guest
        .sh(&format!(
            "cp $(find /lib/modules/$(uname -r) -name 'dummy.ko*') {MODULE} && \
             cp {MODULE} {OTHER} && echo >> {OTHER} && sha256sum {MODULE} {KERNEL}"
        ))?
        .ok()
        .context("preparing what is loaded")?
        .text();
    let (module, kernel) = lines.split_once('\n').context("two lines")?;
    let spec = Spec {
        governor: "modules = [\"late\"]\nkexec = [\"next\"]\n",
        sets: vec![
            ("late", format!("{module}\n")),
            ("next", format!("{kernel}\n")),
        ],
        ..Spec::default()
    };
    zone::load(guest, &spec)?;
    let before = trips(guest)?;
    for what in [
        format!("{ROOT} module-file {MODULE} && grep -q '^dummy ' /proc/modules && rmmod dummy"),
        format!("{ROOT} kexec-file {KERNEL} && {ROOT} kexec-unload"),
    ] {
        guest.sh(&what)?.ok().with_context(|| format!("`{what}`"))?;
    }
    ensure!(trips(guest)? == before, "what is listed raised an alarm");
    let other = format!("{ROOT} module-file {OTHER}");
    refused(guest, &other, Costs::Nothing)?;
    let elsewhere = guest
        .sh(&format!(
            "mkdir -p /mnt/over /mnt/loop /mnt/empty && \
             mount -t overlay -o lowerdir={DIR}:/mnt/empty overlay /mnt/over && \
             truncate -s 32M /root/listed.img && mkfs.ext4 -q /root/listed.img && \
             mount -o loop /root/listed.img /mnt/loop && cp {MODULE} /mnt/loop/ && sync"
        ))
        .and_then(|done| done.ok())
        .context("mounting what lies elsewhere")
        .and_then(|_| {
            // The same bytes: where these lie they may be others when the kernel comes to load them.
            for place in ["over", "loop"] {
                let what = format!("{ROOT} module-file /mnt/{place}/dummy.ko");
                refused(guest, &what, Costs::Nothing)?;
            }
            Ok(())
        });
    guest.sh("umount /mnt/over; umount /mnt/loop; rm -f /root/listed.img; rm -r /opt/listed")?;
    elsewhere?;
    works(guest)
}
