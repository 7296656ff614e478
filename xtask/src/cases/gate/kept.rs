//! Digests that the kernel keeps: a file is read once, and never again believed once it may have
//! changed.

use super::{tried::counted, *};

/// How often files were read, and digests recalled.
pub(super) fn measured(guest: &mut Guest) -> Result<(u64, u64)> {
    let said = status::of(guest)?;
    let number = |name| said.number(&["measurements", name]);
    Ok((number("hashed"), number("recalled")))
}

pub(super) fn read_once(guest: &mut Guest) -> Result<()> {
    load(guest, &Spec::default())?;
    expect(guest, &["hello"], 0, "the first time")?;
    let (hashed, recalled) = measured(guest)?;
    for _ in 0..3 {
        expect(guest, &["hello"], 0, "once more")?;
    }
    let (again, since) = measured(guest)?;
    ensure!(
        again == hashed && since >= recalled + 3,
        "{hashed} files had been read and {recalled} digests recalled, then {again} and {since}"
    );
    // The maps outlive the daemon.
    guest.run(&["systemctl", "restart", "governor"])?.ok()?;
    guest.kept::<Kit>()?.trusted(guest)?;
    let (hashed, _) = measured(guest)?;
    expect(guest, &["hello"], 0, "after a restart")?;
    let (again, _) = measured(guest)?;
    ensure!(again == hashed, "a restart forgot: {hashed}, {again}");
    // Whatever shakes trust takes them away. Nobody reads this one before it is executed.
    let path = "/opt/agent/kept";
    guest.sh(&format!("cp {AGENT} {path}"))?.ok()?;
    started(guest, path, true, "not listed by its path")?;
    let (again, _) = measured(guest)?;
    // Who is turned away has nobody read it again.
    for _ in 0..3 {
        let writer = guest.run(&[WRITER, "open", path])?.code;
        ensure!(writer != 0, "a writer was let");
        started(guest, path, true, "after a writer was turned away")?;
    }
    let (after, _) = measured(guest)?;
    ensure!(after == again, "writers had it read: {again}, {after}");
    guest
        .run(&["governor", "revoke", "--all", "--reason", "drill"])?
        .ok()?;
    load(guest, &Spec::default())?;
    started(guest, path, true, "with trust again")?;
    let (after, _) = measured(guest)?;
    guest.run(&["rm", path])?.ok()?;
    ensure!(after > again, "nothing was read again: {again}, {after}");
    Ok(())
}

/// What ran in an observed zone is held for nobody, so it can be changed.
pub(super) fn changes_are_noticed(guest: &mut Guest) -> Result<()> {
    load(guest, &watching())?;
    let path = "/opt/agent/kept";
    for way in ["write", "map", "shorten", "empty"] {
        guest
            .sh(&format!("rm -f {path} && cp {AGENT} {path}"))?
            .ok()?;
        recalled(guest, path)?;
        guest
            .run(&[WRITER, way, path])?
            .ok()
            .with_context(|| format!("changing it by `{way}`"))?;
        started(guest, path, false, way)?;
        // An empty file would not be executed in any case, and may be mapped.
        expect(guest, &["map", path], REFUSED, way)?;
    }
    // What was opened for writing and not changed is measured again, and is what it was.
    guest.sh(&format!("rm {path} && cp {AGENT} {path}"))?.ok()?;
    watched(guest, path)?;
    let (hashed, _) = measured(guest)?;
    guest.run(&[WRITER, "open", path])?.ok()?;
    started(guest, path, true, "opened and left alone")?;
    let (again, _) = measured(guest)?;
    ensure!(again > hashed, "it was not read again");
    // While somebody may write it is refused, and not read for that.
    guest.sh(&format!("rm {path} && cp {AGENT} {path}"))?.ok()?;
    let job = guest.spawn(&[WRITER, "hold", path])?;
    guest.wait_for_output(job, b"open", BOUND)?;
    for _ in 0..2 {
        let (hashed, _) = measured(guest)?;
        expect(guest, &["map", path], REFUSED, "what somebody may write")?;
        let (again, _) = measured(guest)?;
        ensure!(again == hashed, "who writes has others read it");
    }
    guest.kill(job, 9)?;
    guest.wait(job, BOUND)?;
    guest.run(&["rm", path])?.ok().map(drop)
}

/// Whoever writes below an overlay is seen by the inode below only.
pub(super) fn overlays_are_read_each_time(guest: &mut Guest) -> Result<()> {
    load(guest, &watching())?;
    not_copied_up(guest)?;
    guest
        .sh(&format!(
            "mkdir -p /opt/o/lower /opt/o/upper /opt/o/work /opt/o/merged && cp {AGENT} /opt/o/lower/ && \
             mount -t overlay overlay -o lowerdir=/opt/o/lower,upperdir=/opt/o/upper,workdir=/opt/o/work \
             /opt/o/merged && chmod 755 /opt/o/merged/agent && touch /opt/o/merged/agent"
        ))?
        .ok()?;
    let merged = "/opt/o/merged/agent";
    for _ in 0..2 {
        watched(guest, merged)?;
    }
    let (hashed, _) = measured(guest)?;
    watched(guest, merged)?;
    let (again, _) = measured(guest)?;
    guest.run(&[WRITER, "write", "/opt/o/upper/agent"])?.ok()?;
    let changed = started(guest, merged, false, "changed below the overlay");
    // And the other way: the overlay changes the file below, and opens it for nobody.
    let upper = "/opt/o/upper/agent";
    guest.sh(&format!("cp {AGENT} {upper}"))?.ok()?;
    let resized = watched(guest, upper).and_then(|()| {
        guest.run(&[WRITER, "shorten", merged])?.ok()?;
        started(guest, upper, false, "shortened through the overlay")
    });
    guest.sh("umount /opt/o/merged && rm -r /opt/o")?.ok()?;
    ensure!(again > hashed, "a digest was kept for a file of an overlay");
    changed.and(resized)
}

/// The same for a file that the overlay did not copy up: it shows the one in its lower directory.
fn not_copied_up(guest: &mut Guest) -> Result<()> {
    let (lower, merged) = ("/opt/o/lower/agent", "/opt/o/merged/agent");
    guest
        .sh(&format!(
            "mkdir -p /opt/o/lower /opt/o/none /opt/o/merged && cp {AGENT} {lower} && \
             mount -t overlay overlay -o lowerdir=/opt/o/lower:/opt/o/none /opt/o/merged"
        ))?
        .ok()?;
    let outcome = (|| {
        for _ in 0..2 {
            watched(guest, merged)?;
        }
        // Also the inode of the overlay that is held is not the one that is written.
        started(guest, merged, true, "of the lower directory")?;
        guest.run(&[WRITER, "write", lower])?.ok()?;
        let free = guest.run(&[merged, "hello"])?.code;
        ensure!(free == 0, "what was changed, in no zone: {free}");
        let before = counted(guest, "not-authorized")?;
        started(guest, merged, false, "changed in the lower directory")?;
        expect(guest, &["map", merged], REFUSED, "of the lower directory")?;
        let after = counted(guest, "not-authorized")?;
        ensure!(
            after == before + 2,
            "refused for another reason: {before}, then {after}"
        );
        Ok(())
    })();
    guest.sh("umount /opt/o/merged && rm -r /opt/o")?.ok()?;
    outcome
}

/// Pages of a file can be held writable without the file; so what others may write is not kept.
pub(super) fn what_others_may_write_is_read_each_time(guest: &mut Guest) -> Result<()> {
    load(guest, &Spec::default())?;
    for (path, make) in [
        ("/opt/agent/theirs", format!("chown {USER}")),
        ("/opt/agent/ours", "chmod 775".to_owned()),
        ("/dev/shm/memory", "chmod 755".to_owned()),
    ] {
        guest
            .sh(&format!("cp {AGENT} {path} && {make} {path}"))?
            .ok()?;
        expect(guest, &["map", path], 0, path)?;
        let (hashed, _) = measured(guest)?;
        expect(guest, &["map", path], 0, path)?;
        let (again, _) = measured(guest)?;
        guest.run(&["rm", path])?.ok()?;
        ensure!(again > hashed, "the digest of `{path}` was kept");
    }
    Ok(())
}

/// Whoever may make a file could have the kernel read holes for years.
pub(super) fn what_is_too_long_is_not_read(guest: &mut Guest) -> Result<()> {
    load(guest, &Spec::default())?;
    for (path, length) in [("/opt/agent/long", "5G"), ("/dev/shm/long", "4E")] {
        guest
            .sh(&format!(
                "cp {AGENT} {path} && truncate -s {length} {path} && chmod 755 {path}"
            ))?
            .ok()?;
        let (hashed, _) = measured(guest)?;
        expect(guest, &["map", path], REFUSED, path)?;
        let (again, _) = measured(guest)?;
        started(guest, path, false, "too long")?;
        guest.run(&["rm", path])?.ok()?;
        ensure!(
            again <= hashed + 1,
            "`{path}` was read: {hashed}, then {again}"
        );
    }
    Ok(())
}

/// Content that changes all the time, and execs all the time: whatever ran was listed.
pub(super) fn no_race_is_won(guest: &mut Guest) -> Result<()> {
    load(guest, &Spec::default())?;
    guest
        .sh(&format!(
            "cp {AGENT} /opt/agent/longer && printf x >> /opt/agent/longer && cp {AGENT} {RACED}"
        ))?
        .ok()?;
    let listed = guest.run(&["stat", "-c", "%s", AGENT])?.ok()?.text();
    let job = guest.spawn(&[WRITER, "flip", RACED, AGENT, "/opt/agent/longer"])?;
    guest.wait_for_output(job, b"flipping", BOUND)?;
    // The shell goes into the zone and has no label there, as an operator's. While somebody writes, or
    // nothing is there, the kernel starts nothing, and that is no race.
    let shell = format!(
        "mkdir -p {LEAF} && echo $$ > {LEAF}/cgroup.procs && ran=0 && denied=0 && \
         while [ $ran -lt {RACES} ] || [ $denied -lt {RACES} ]; do \
         if said=$({RACED} size 2>&1); then ran=$((ran + 1)); echo \"$said\"; \
         else case $said in *permitted) denied=$((denied + 1)) ;; esac; fi; done"
    );
    let ran = guest.sh(&shell);
    guest.kill(job, 9)?;
    guest.wait(job, BOUND)?;
    let ran = ran?.ok()?.text();
    let sizes = ran.lines().filter(|line| *line != "done");
    let (good, bad): (Vec<&str>, Vec<&str>) = sizes.partition(|line| *line == listed);
    ensure!(
        bad.is_empty() && good.len() >= RACES,
        "content that nobody listed ran: {bad:?}, beside {}",
        good.len()
    );
    // And when nobody writes any more each kind is judged as what it is.
    for (content, allowed) in [(AGENT, true), ("/opt/agent/longer", false), (AGENT, true)] {
        guest
            .sh(&format!("rm -f {RACED} && cp {content} {RACED}"))?
            .ok()?;
        for _ in 0..2 {
            started(guest, RACED, allowed, content)?;
        }
    }
    guest
        .sh(&format!("rm {RACED} /opt/agent/longer; rmdir {LEAF}"))?
        .ok()
        .map(drop)
}

/// Whether the kernel starts it in the zone.
pub(super) fn started(guest: &mut Guest, path: &str, allowed: bool, what: &str) -> Result<()> {
    let code = in_zone(guest, AGENTS_SLICE, &[path, "hello"])?.code;
    let expected = if allowed { 0 } else { NOT_EXECUTED };
    ensure!(code == expected, "`{path}`, {what}: {code}");
    Ok(())
}

/// A second zone, which measures whatever is started and keeps writers from nothing.
pub(super) fn watching() -> Spec {
    Spec {
        tables: "[zone.watched]\ncgroup = \"governed.slice/governed-watched.slice\"\nmode = \"observe\"\n",
        ..Spec::default()
    }
}

/// Runs it twice in the observed zone: the second time its digest is known, so whoever changes it then has
/// something to deceive.
pub(super) fn recalled(guest: &mut Guest, path: &str) -> Result<()> {
    watched(guest, path)?;
    let (hashed, _) = measured(guest)?;
    watched(guest, path)?;
    let (again, _) = measured(guest)?;
    ensure!(again == hashed, "no digest of `{path}` was kept");
    Ok(())
}

/// Runs it there.
fn watched(guest: &mut Guest, path: &str) -> Result<()> {
    let code = in_zone(guest, WATCHED_SLICE, &[path, "hello"])?.code;
    ensure!(code == 0, "`{path}` in an observed zone: {code}");
    Ok(())
}

pub(super) const WATCHED_SLICE: &str = "governed-watched.slice";
/// Changes files.
pub(super) const WRITER: &str = "/root/probe_writer";
const RACED: &str = "/opt/agent/raced";
/// How often each of them is to be judged at least.
const RACES: usize = 20;
const LEAF: &str = "/sys/fs/cgroup/governed.slice/governed-agents.slice/races";
