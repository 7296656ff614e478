//! Files that are changed while they are mapped, below their file system, or by other means than writing; and
//! what is said of their digests by others.

use super::{
    kept::{WRITER, measured, recalled, started, watching},
    tried::counted,
    *,
};

/// Where the program lies that maps files, as a program of the workload.
pub(super) const MAPPER: &str = "/opt/agent/mapper";

/// Digests are kept on disks only, of file systems that change no content past the inode.
pub(super) fn below(guest: &mut Guest) -> Result<()> {
    load(guest, &Spec::default())?;
    guest.run(&["truncate", "-s", "64M", "/root/disk"])?.ok()?;
    // The first two differ by nothing but their device.
    for (disk, is_kept) in [
        ("mkfs.ext4 -q /dev/ram0 64M && mount /dev/ram0", true),
        ("mkfs.ext4 -q /root/disk && mount -o loop /root/disk", false),
        ("mkfs.btrfs -q -f /dev/ram1 && mount /dev/ram1", false),
        (&format!("{MAKE_XFS} /dev/ram2 && mount /dev/ram2"), true),
    ] {
        on_a_disk(guest, disk, |guest| again(guest, disk, is_kept))?;
    }
    guest.run(&["rm", "/root/disk"])?.ok()?;
    at_another_end(guest)
}

/// The same file is started and mapped, and mapped again.
fn again(guest: &mut Guest, disk: &str, is_kept: bool) -> Result<()> {
    started(guest, ON_DISK, true, disk)?;
    expect(guest, &["map", ON_DISK], 0, disk)?;
    let (hashed, _) = measured(guest)?;
    expect(guest, &["map", ON_DISK], 0, disk)?;
    let (again, _) = measured(guest)?;
    ensure!(
        (again == hashed) == is_kept,
        "`{disk}`: {hashed} files were read, then {again}"
    );
    Ok(())
}

/// A network block device, whose other end writes.
fn at_another_end(guest: &mut Guest) -> Result<()> {
    guest.put_file(&compile::probe("probe_nbd")?, SERVER)?;
    guest
        .sh(&format!("chmod 755 {SERVER} && truncate -s 64M {SERVED}"))?
        .ok()?;
    let job = guest.spawn(&[SERVER, SERVED, "/dev/nbd0"])?;
    let disk = "udevadm settle && mkfs.ext4 -q /dev/nbd0 >&2 && mount /dev/nbd0";
    let outcome = guest
        .wait_for_output(job, b"serving", BOUND)
        .and_then(|()| {
            on_a_disk(guest, disk, |guest| {
                again(guest, disk, false)?;
                guest.put("/root/other-end.py", 0o644, OTHER_END.as_bytes())?;
                let change = format!("sync && python3 /root/other-end.py {AGENT} {SERVED}");
                guest
                    .sh(&change)?
                    .ok()
                    .context("writing at the other end")?;
                guest.sh("echo 1 > /proc/sys/vm/drop_caches")?.ok()?;
                let before = counted(guest, "not-authorized")?;
                started(guest, ON_DISK, false, "as it is now")?;
                expect(guest, &["map", ON_DISK], REFUSED, "as it is now")?;
                let after = counted(guest, "not-authorized")?;
                ensure!(after == before + 2, "refused for another reason");
                Ok(())
            })
        });
    guest.kill(job, 15)?;
    guest.wait(job, BOUND)?;
    guest
        .run(&["rm", SERVED, SERVER, "/root/other-end.py"])?
        .ok()?;
    outcome
}

/// One byte of it, wherever it lies in there.
const OTHER_END: &str = "
import sys
program = open(sys.argv[1], 'rb').read()
page = len(program) // 8192 * 4096
with open(sys.argv[2], 'r+b') as served:
    at = served.read().index(program[page:page + 4096]) + 100
    served.seek(at)
    byte = served.read(1)[0]
    served.seek(at)
    served.write(bytes([byte ^ 255]))
";

/// A file gets the content of another without a byte being written: its blocks are shared, or exchanged.
pub(super) fn taken(guest: &mut Guest) -> Result<()> {
    load(guest, &watching())?;
    for way in ["copy", "exchange"] {
        takes(guest, "/opt/agent", way)?;
    }
    let disk = format!("{MAKE_XFS} /dev/ram3 && mount /dev/ram3");
    on_a_disk(guest, &disk, |guest| {
        for way in ["copy", "clone", "exchange-on-xfs"] {
            takes(guest, DISK, way)?;
        }
        Ok(())
    })
}

fn takes(guest: &mut Guest, dir: &str, way: &str) -> Result<()> {
    let (path, other) = (&format!("{dir}/taking"), &format!("{dir}/other"));
    let same = |guest: &mut Guest, as_what: &str, when: &str| -> Result<()> {
        let code = guest.run(&["cmp", path, as_what])?.code;
        ensure!(code == 0, "`{way}` in {dir}, {when}: not as `{as_what}`");
        Ok(())
    };
    guest
        .sh(&format!(
            "rm -f {path} {other} && cp {AGENT} {path} && cp {AGENT} {other}"
        ))?
        .ok()?;
    guest.run(&[WRITER, "write", other])?.ok()?;
    recalled(guest, path)?;
    // Not by whoever may only read it, for nobody notices that one.
    let code = guest.run(&[WRITER, "take-reading", way, path, other])?.code;
    ensure!(code == NOT_FOR_WRITING, "{way} by a reader: {code}");
    same(guest, AGENT, "by a reader")?;
    recalled(guest, path)?;
    guest
        .run(&[WRITER, "take", way, path, other])?
        .ok()
        .with_context(|| format!("changing it by `{way}`"))?;
    let free = guest.run(&[path, "hello"])?.code;
    ensure!(free == 0, "what was changed, in no zone: {free}");
    let before = counted(guest, "not-authorized")?;
    started(guest, path, false, way)?;
    expect(guest, &["map", path], REFUSED, way)?;
    let after = counted(guest, "not-authorized")?;
    ensure!(
        after == before + 2,
        "refused for another reason: {before}, then {after}"
    );
    // Whichever it was that the kernel had in memory then.
    let differs = guest.run(&["cmp", "-s", path, AGENT])?.code;
    ensure!(differs == 1, "`{way}` in {dir} changed nothing: {differs}");
    // And not of what a zone let run.
    guest.sh(&format!("rm {path} && cp {AGENT} {path}"))?.ok()?;
    started(guest, path, true, "as it was")?;
    let code = guest.run(&[WRITER, "take", way, path, other])?.code;
    ensure!(code == BUSY, "{way}, of what is held: {code}");
    same(guest, AGENT, "while it is held")?;
    started(guest, path, true, "as it still is")?;
    guest.run(&["rm", path, other])?.ok().map(drop)
}

/// Content that changes all the time, and is mapped all the time: what was mapped is listed, and stays it.
pub(super) fn no_mapping_is_raced(guest: &mut Guest) -> Result<()> {
    load_mapper(guest)?;
    // Long, so that measuring it takes its time, and in no page as the other one.
    guest
        .sh(&format!(
            "cp $(ldd {AGENT} | grep -o '/[^ ]*libc\\.so[^ ]*') {GOOD}"
        ))?
        .ok()?;
    let mut other = guest.get(GOOD)?;
    for byte in other.iter_mut().step_by(4096) {
        *byte = !*byte;
    }
    guest.put(UNLISTED, 0o755, &other)?;
    guest.sh(&format!("cp {GOOD} {RACED}"))?.ok()?;
    // Emptied and filled anew while nobody looks, and written in place while it holds what is listed. It holds
    // the other only while it is open for writing, when nobody reads it.
    let outcome = mapped_amid(guest, "flip", "not-authorized")
        .and_then(|()| mapped_amid(guest, "turn", "being-written"));
    guest.run(&["rm", "-f", RACED, GOOD, UNLISTED])?.ok()?;
    outcome
}

fn mapped_amid(guest: &mut Guest, way: &str, reason: &str) -> Result<()> {
    guest
        .sh(&format!("rm -f {RACED} && cp {GOOD} {RACED}"))?
        .ok()?;
    let job = guest.spawn(&[WRITER, way, RACED, GOOD, UNLISTED])?;
    guest.wait_for_output(job, b"ing", BOUND)?;
    let outcome = (|| {
        let outside = guest.run(&[MAPPER, "lose", RACED, GOOD])?;
        ensure!(
            outside.code == CHANGED,
            "{way}, in no zone: {} {}",
            outside.code,
            outside.text()
        );
        let before = counted(guest, reason)?;
        let argv = [MAPPER, "race", RACED, GOOD, RACES];
        let raced = in_zone(guest, AGENTS_SLICE, &argv)?;
        ensure!(raced.code == 0, "{way}: {} {}", raced.code, raced.text());
        let after = counted(guest, reason)?;
        ensure!(
            after > before,
            "{way}: not refused as `{reason}`: {before}, then {after}"
        );
        Ok(())
    })();
    guest.kill(job, 9)?;
    guest.wait(job, BOUND)?;
    outcome
}

/// The kernel measures nothing through a descriptor that reads past its memory of the file.
pub(super) fn direct(guest: &mut Guest) -> Result<()> {
    load_mapper(guest)?;
    let path = "/opt/agent/direct";
    let maps = [MAPPER, "direct", path];
    // No digest is kept of what others than root may write, and none of what nobody read.
    for owner in [USER, "root"] {
        guest
            .sh(&format!(
                "rm -f {path} && cp {AGENT} {path} && chown {owner} {path}"
            ))?
            .ok()?;
        let outside = guest.run(&maps)?;
        ensure!(outside.code == 0, "in no zone: {}", outside.text());
        let before = counted(guest, "not-measured")?;
        let inside = in_zone(guest, AGENTS_SLICE, &maps)?.code;
        let after = counted(guest, "not-measured")?;
        ensure!(
            inside == REFUSED && after == before + 1,
            "of {owner}: {inside}, {before} files were not measured, then {after}"
        );
        expect(guest, &["map", path], 0, "as a loader maps it")?;
    }
    // What is known of it need not be read.
    let known = in_zone(guest, AGENTS_SLICE, &maps)?.code;
    ensure!(known == 0, "what was measured before: {known}");
    guest.run(&["rm", path])?.ok().map(drop)
}

/// A file may name a digest and its algorithm to the kernel. The gate asks for none of it.
pub(super) fn marked(guest: &mut Guest) -> Result<()> {
    load(guest, &Spec::default())?;
    let path = "/opt/agent/marked";
    // Of root's the digest is kept, and of the user's it is not.
    for owner in ["root", USER] {
        guest
            .sh(&format!(
                "rm -f {path} && cp {AGENT} {path} && chown {owner} {path}"
            ))?
            .ok()?;
        guest.run(&[WRITER, "mark", path])?.ok()?;
        let (hashed, _) = measured(guest)?;
        for _ in 0..2 {
            started(guest, path, true, "listed, whatever it says of itself")?;
            expect(guest, &["map", path], 0, "mapping it")?;
        }
        let (again, _) = measured(guest)?;
        ensure!(again > hashed, "nothing was measured");
        let sum = guest.run(&["sha256sum", path])?.ok()?.text();
        let sum = sum.split(' ').next().context("a sum")?;
        let said = guest
            .run(&["governor", "explain", path, "--zone", "agents"])?
            .ok()?
            .text();
        ensure!(said.contains(&format!("sha256:{sum}")), "explain: {said}");
        // And what it says does not stand for content that nobody listed.
        guest
            .sh(&format!(
                "rm {path} && cp {AGENT} {path} && echo >> {path} && chown {owner} {path}"
            ))?
            .ok()?;
        guest.run(&[WRITER, "mark", path])?.ok()?;
        let before = counted(guest, "not-authorized")?;
        started(guest, path, false, "not listed")?;
        let after = counted(guest, "not-authorized")?;
        ensure!(after == before + 1, "refused for another reason");
    }
    guest.run(&["rm", path])?.ok().map(drop)
}

/// Loads a policy that lists the program that maps files.
fn load_mapper(guest: &mut Guest) -> Result<()> {
    let planner = guest.run(&["governor", "measure", MAPPER])?.ok()?.text();
    let spec = Spec {
        planner,
        ..Spec::default()
    };
    load(guest, &spec).map(drop)
}

/// Makes a file system, looks at a copy of the agent there, and takes it away. A device is not used again: the
/// guard may look after it for a moment longer.
fn on_a_disk(
    guest: &mut Guest,
    disk: &str,
    look: impl FnOnce(&mut Guest) -> Result<()>,
) -> Result<()> {
    guest
        .sh(&format!(
            "mkdir -p {DISK} && {disk} {DISK} && cp {AGENT} {ON_DISK}"
        ))?
        .ok()
        .with_context(|| format!("`{disk}`"))?;
    let outcome = look(guest);
    guest.sh(&format!("umount {DISK} && rmdir {DISK}"))?.ok()?;
    outcome
}

/// The probe's exit codes for EBADF and ETXTBSY, and for content that changed.
const NOT_FOR_WRITING: i32 = 109;
const BUSY: i32 = 126;
const CHANGED: i32 = 96;
const GOOD: &str = "/opt/agent/good.so";
const UNLISTED: &str = "/opt/agent/unlisted.so";
const RACED: &str = "/opt/agent/raced.so";
/// How often it is to be mapped, and refused.
const RACES: &str = "20";
const SERVER: &str = "/root/probe_nbd";
const SERVED: &str = "/root/served";
const DISK: &str = "/mnt/disk";
const ON_DISK: &str = "/mnt/disk/agent";
