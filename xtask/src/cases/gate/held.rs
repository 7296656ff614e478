//! What runs stays what was measured: whoever comes to write it is turned away, and what is being written
//! does not run.

use super::{super::break_glass, kept::WRITER, *};

/// A copy of a listed library that the workload's own user may write, in two kinds of file systems.
const COPIES: [&str; 2] = ["/opt/agent/own/lib.so", "/dev/shm/lib.so"];

pub(super) fn libraries(guest: &mut Guest) -> Result<()> {
    ways::load(guest, &Spec::default())?;
    for copy in COPIES {
        anew(guest, copy)?;
        ways::expect(guest, &["write", copy], 0, "a copy that nothing mapped")?;
        ways::expect(guest, &["load", copy], 0, "loading the copy")?;
        let (_, before) = turned_away(guest)?;
        // Whether or not anybody has it mapped still, and whoever asks.
        for way in ["write", "truncate", "empty", "shared-then-mapped"] {
            ways::expect(guest, &[way, copy], BUSY, way)?;
        }
        let root = guest.run(&[ways::PROBE, "write", copy])?.code;
        ensure!(root == BUSY, "root writes `{copy}`: {root}");
        let (_, after) = turned_away(guest)?;
        ensure!(after == before + 5, "{before} writers, then {after}");
        ways::expect(guest, &["load", copy], 0, "loading it once more")?;
        // As files are replaced: by another one of the same name.
        guest
            .sh(&format!(
                "cp {copy} {copy}.new && chown {USER} {copy}.new && mv {copy}.new {copy}"
            ))?
            .ok()?;
        ways::expect(guest, &["write", copy], 0, "what took its place")?;
        // Who came before is seen by whoever maps, with a descriptor and without.
        for way in ["written-then-mapped", "shared-then-mapped"] {
            anew(guest, copy)?;
            let (denied, _) = turned_away(guest)?;
            ways::expect(guest, &[way, copy], REFUSED, way)?;
            let (again, _) = turned_away(guest)?;
            ensure!(again == denied + 1, "{way}: refused for another reason");
            ways::expect(guest, &["map", copy], 0, "when nobody writes any more")?;
        }
    }
    Ok(())
}

/// Nothing that somebody says lets go of a file. The kernel does, when nobody uses it and it needs the memory.
pub(super) fn outlasting(guest: &mut Guest) -> Result<()> {
    let kit = ways::load(guest, &Spec::default())?;
    kit.trusted(guest)?;
    let copy = COPIES[0];
    anew(guest, copy)?;
    ways::expect(guest, &["load", copy], 0, "loading the copy")?;
    let written = |guest: &mut Guest, expected: i32, when: &str| -> Result<()> {
        let code = guest.run(&[ways::PROBE, "write", copy])?.code;
        ensure!(
            code == expected,
            "{when}: expected {expected}, a writer ended with {code}"
        );
        Ok(())
    };
    written(guest, BUSY, "after it was loaded")?;
    guest
        .run(&["governor", "revoke", "--all", "--reason", "drill"])?
        .ok()?;
    written(guest, BUSY, "with nothing authorized")?;
    // Neither policy lists the programs that loaded it.
    for mode in ["enforce", "observe"] {
        let other = Spec {
            mode,
            ..Spec::default()
        };
        load(guest, &other)?;
        written(guest, BUSY, &format!("another policy, zones {mode}"))?;
    }
    guest.run(&["systemctl", "restart", "governor"])?.ok()?;
    written(guest, BUSY, "another daemon")?;
    break_glass::break_it(guest, "drill", "1h")?.ok()?;
    let broken = written(guest, BUSY, "while the glass is broken");
    break_glass::mend(guest)?;
    broken?;
    written(guest, BUSY, "after that")?;
    let forgotten = format!(
        "sync && echo 3 > /proc/sys/vm/drop_caches && {} write {copy}",
        ways::PROBE
    );
    guest
        .wait_until(&forgotten)
        .context("waiting until the kernel forgets the file")?;
    guest.run(&["rm", copy])?.ok().map(drop)
}

/// The kernel lifts its own guard before the interpreter opens the script.
pub(super) fn scripts(guest: &mut Guest) -> Result<()> {
    let script = "/opt/agent/own/script";
    guest
        .sh(&format!(
            "printf '#!{} rewrite\\n' > {script} && chmod 755 {script} && chown {USER} {script}",
            ways::PROBE
        ))?
        .ok()?;
    let listed = guest.run(&["governor", "measure", script])?.ok()?.text();
    let probe = guest
        .run(&["governor", "measure", ways::PROBE])?
        .ok()?
        .text();
    let spec = Spec {
        tables: WITH_SCRIPTS,
        sets: vec![("scripts", listed), ("interpreters", probe)],
        ..Spec::default()
    };
    load(guest, &spec)?;
    let outside = guest.run(&[script])?.code;
    ensure!(outside == 0, "a script outside of zones: {outside}");
    let inside = in_zone(guest, SCRIPTS_SLICE, &[script])?.code;
    ensure!(inside == BUSY, "its interpreter rewrites it: {inside}");
    Ok(())
}

/// The kernel writes to a file in which it keeps quotas, and nobody opens it for that.
pub(super) fn quotas(guest: &mut Guest) -> Result<()> {
    load(guest, &Spec::default())?;
    let (image, dir) = ("/root/quotas.img", "/opt/agent/quotas");
    let (held, free) = (format!("{dir}/held"), format!("{dir}/free"));
    // Of a length that its records fit into, and nothing else is asked of it.
    guest
        .sh(&format!(
            "mkdir -p {dir} && truncate -s 64M {image} && mkfs.ext4 -q -F -O ^quota {image} && \
             mount -o loop,usrquota {image} {dir} && cp {AGENT} {held} && \
             truncate -s $(( ($(stat -c %s {held}) / 40 + 1) * 40 )) {held} && cp {held} {free}"
        ))?
        .ok()?;
    let outcome = (|| {
        let device = guest.sh(&format!("findmnt -no SOURCE {dir}"))?.ok()?.text();
        let spec = Spec {
            planner: guest.run(&["governor", "measure", &held])?.ok()?.text(),
            ..Spec::default()
        };
        load(guest, &spec)?;
        expect_run(guest, &held)?;
        for (path, expected) in [(&free, 0), (&held, 126)] {
            let code = guest.run(&[ways::PROBE, "quotas-in", &device, path])?;
            ensure!(
                code.code == expected,
                "quotas in `{path}`: {} {}",
                code.code,
                code.text()
            );
        }
        Ok(())
    })();
    guest
        .sh(&format!("umount {dir} && rm {image} && rmdir {dir}"))?
        .ok()?;
    outcome
}

fn expect_run(guest: &mut Guest, path: &str) -> Result<()> {
    let code = in_zone(guest, AGENTS_SLICE, &[path, "hello"])?.code;
    ensure!(code == 0, "`{path}` is not executed: {code}");
    Ok(())
}

/// A zone that only observes changes nothing for anybody.
pub(super) fn observed(guest: &mut Guest) -> Result<()> {
    let spec = Spec {
        mode: "observe",
        ..Spec::default()
    };
    ways::load(guest, &spec)?;
    for copy in COPIES {
        anew(guest, copy)?;
        for way in ["map", "write", "truncate", "written-then-mapped"] {
            ways::expect(guest, &[way, copy], 0, way)?;
        }
    }
    Ok(())
}

/// Linux 6.12 lifts its own guard from a whole file system for one mark of this kind.
pub(super) fn pre_content(guest: &mut Guest) -> Result<()> {
    ways::load(guest, &Spec::default())?;
    let free = "/opt/agent/own/free";
    guest.sh(&format!("cp /usr/bin/sleep {free}"))?.ok()?;
    let watcher = guest.spawn(&[WRITER, "watch", "/opt/agent/own"])?;
    guest.wait_for_output(watcher, b"watching", BOUND)?;
    let sleeper = guest.spawn(&[free, "600"])?;
    let outcome = (|| {
        let pid = guest.pid(sleeper)?;
        guest
            .sh(&format!(
                "until test $(readlink /proc/{pid}/exe) = {free}; do :; done"
            ))?
            .ok()?;
        let lifted = guest.run(&[ways::PROBE, "write", free])?.code;
        let expected = if guest.kernel() == "6.12" { 0 } else { BUSY };
        ensure!(lifted == expected, "a program that no zone runs: {lifted}");
        expect(guest, &["hello"], 0, "work")?;
        let held = guest.run(&[ways::PROBE, "write", AGENT])?.code;
        ensure!(held == BUSY, "the workload's program: {held}");
        // The daemon's own program is the kernel's to guard, and one that ran before the mark it guards on.
        // Where it does not, nobody says that it does.
        restarted(guest)?;
        let doctor = guest.run(&["governor", "doctor"])?.text();
        let missing = status::of(guest)?
            .missing()
            .contains(&"text-busy".to_owned());
        let said = doctor.contains("MISSING  text-busy");
        ensure!(
            missing == (lifted == 0) && said == missing,
            "status: {missing}, doctor: {doctor}"
        );
        let copy = "/opt/agent/own/agent";
        guest.sh(&format!("cp {AGENT} {copy}"))?.ok()?;
        let job = guest.spawn(&[WRITER, "hold", copy])?;
        guest.wait_for_output(job, b"open", BOUND)?;
        let written = in_zone(guest, AGENTS_SLICE, &[copy, "hello"])?.code;
        guest.kill(job, 9)?;
        guest.wait(job, BOUND)?;
        ensure!(written == NOT_EXECUTED, "what somebody writes: {written}");
        Ok(())
    })();
    for job in [sleeper, watcher] {
        guest.kill(job, 9)?;
        guest.wait(job, BOUND)?;
    }
    outcome.and(restarted(guest))
}

fn restarted(guest: &mut Guest) -> Result<()> {
    guest.run(&["systemctl", "restart", "governor"])?.ok()?;
    guest.kept::<Kit>()?.trusted(guest)
}

/// A copy that nothing is noted of yet.
fn anew(guest: &mut Guest, copy: &str) -> Result<()> {
    guest
        .sh(&format!(
            "rm -f {copy} && cp $(ldd {AGENT} | grep -o '/[^ ]*libgcc_s[^ ]*') {copy} && chown {USER} {copy}"
        ))?
        .ok()
        .map(drop)
}

/// How often something was not mapped or executed because somebody wrote it, and how many writers were
/// turned away.
fn turned_away(guest: &mut Guest) -> Result<(u64, u64)> {
    let said = status::of(guest)?;
    let denied = said.counts().get("being-written").copied().unwrap_or(0);
    Ok((denied, said.number(&["measurements", "turned_away"])))
}

/// The probe's exit code for ETXTBSY.
const BUSY: i32 = 126;
const SCRIPTS_SLICE: &str = "governed-scripts.slice";
const WITH_SCRIPTS: &str = r#"
[zone.scripts]
cgroup = "governed.slice/governed-scripts.slice"
requires = "policy"

[workload.scripted]
zone = "scripts"
exec = ["interpreters"]
libraries = ["os-libraries"]
scripts = ["scripts"]
started_by = ["operator"]
user = ["agent"]
"#;
