//! The daemon as a process.

use super::*;

pub(super) fn touched(guest: &mut Guest) -> Result<()> {
    armed(guest)?;
    let pid = daemon(guest)?;
    for what in ["attach", "memory", "write", "descriptor", "limit"] {
        refused(guest, &format!("{ROOT} {what} {pid}"), Costs::Nothing)?;
    }
    for signal in [9, 15, 19, 6] {
        refused(
            guest,
            &format!("{ROOT} signal {pid} {signal}"),
            Costs::Nothing,
        )?;
    }
    refused(guest, &format!("{ROOT} attach 1"), Costs::Nothing)?;
    // Looking is allowed, and so is what does no harm.
    guest
        .sh(&format!(
            "{ROOT} signal {pid} 0 && {ROOT} signal {pid} 18 && ls -l /proc/{pid}/exe"
        ))?
        .ok()?;
    // Others are traced as ever.
    guest
        .sh(&format!("sleep 60 & {ROOT} attach $! && kill $!"))?
        .ok()?;
    ensure!(daemon(guest)? == pid, "the daemon is another one");
    Ok(())
}

/// Between being made and executing something: then it holds what the daemon holds, and may share its memory.
pub(super) fn offspring(guest: &mut Guest) -> Result<()> {
    armed(guest)?;
    // Whoever would trace it waits for the exec, on some kernels.
    let tried = "for what in descriptor memory write; do \
                 echo $what $(/root/probe_root $what $WAITING); done";
    let job = guest.spawn(&[WRITER, "amid-again", "/usr/bin/governor", "sh", "-c", tried])?;
    guest.wait_for_output(job, b"watching", zone::BOUND)?;
    // Its canary is what it makes.
    guest.run(&["systemctl", "restart", "governor"])?.ok()?;
    let said = guest.wait(job, zone::BOUND)?.ok()?.text();
    for what in ["descriptor", "memory", "write"] {
        let refused = said.lines().any(|line| {
            line.strip_prefix(what)
                .is_some_and(|rest| rest.contains("not permitted") || rest.contains("denied"))
        });
        ensure!(refused, "`{what}` was not refused: {said}");
    }
    guest.kept::<crate::kit::Kit>()?.trusted(guest)?;
    works(guest)
}

pub(super) fn restarted(guest: &mut Guest) -> Result<()> {
    armed(guest)?;
    let kit = guest.kept::<crate::kit::Kit>()?;
    let before = trips(guest)?;
    guest.run(&["systemctl", "restart", "governor"])?.ok()?;
    kit.trusted(guest)?;
    ensure!(hello(guest)? == 0, "work does not go on after a restart");
    ensure!(trips(guest)? == before, "the daemon alarmed itself");
    // Beside the one that runs, it does not get as far as the gate.
    let pid = daemon(guest)?;
    let beside = guest.sh("/usr/bin/governor daemon")?;
    ensure!(
        beside.code == 1
            && beside.errors().contains(&format!(
                "another daemon has `/sys/fs/bpf/governor`: process {pid}"
            )),
        "beside {pid}: {} {}",
        beside.code,
        beside.errors()
    );
    ensure!(trips(guest)? == before, "it reached for the gate");
    // By hand, not by the first process.
    guest.run(&["systemctl", "stop", "governor"])?.ok()?;
    let by_hand = guest.sh("/usr/bin/governor daemon")?;
    guest.run(&["systemctl", "start", "governor"])?.ok()?;
    ensure!(
        by_hand.code == 1 && by_hand.errors().contains("does not take this process"),
        "by hand: {} {}",
        by_hand.code,
        by_hand.errors()
    );
    // A stranger that asks for the gate's maps is an alarm, whatever it calls itself.
    locked(guest)?;
    // Started right, and not the program that policy lists.
    guest
        .sh(
            "cp /usr/bin/governor /root/other && echo >> /root/other && \
             mkdir -p /run/systemd/system/governor.service.d && \
             printf '[Service]\\nExecStart=\\nExecStart=/root/other daemon\\nProtectHome=no\\n' \
             > /run/systemd/system/governor.service.d/other.conf && systemctl daemon-reload",
        )?
        .ok()?;
    let other = guest.run(&["systemctl", "restart", "governor"])?;
    let journal = guest.sh("journalctl -u governor --no-pager -n 40")?.text();
    // Started right, listed, and with something unlisted in it: the loader takes nothing from the
    // environment.
    guest
        .sh(
            "printf '[Service]\\nEnvironment=LD_PRELOAD=/usr/lib/x86_64-linux-gnu/libutil.so.1\\n' \
             > /run/systemd/system/governor.service.d/other.conf && systemctl daemon-reload && \
             systemctl reset-failed governor; systemctl restart governor",
        )?
        .ok()
        .context("with a library in the environment")?;
    crate::kit::unlock(guest)?;
    kit.trusted(guest)?;
    let pid = daemon(guest)?;
    let maps = guest.sh(&format!("cat /proc/{pid}/maps"))?.text();
    guest
        .sh(
            "rm -r /run/systemd/system/governor.service.d && systemctl daemon-reload && \
             systemctl restart governor",
        )?
        .ok()?;
    kit.trusted(guest)?;
    ensure!(
        other.code != 0 && journal.contains("does not take this process"),
        "another program as the daemon: {} {journal}",
        other.code
    );
    ensure!(!maps.contains("libutil"), "the environment was heard");
    works(guest)
}

/// Whoever is root may have the first process execute itself again, with something in it.
pub(super) fn first_process(guest: &mut Guest) -> Result<()> {
    armed(guest)?;
    let kit = guest.kept::<crate::kit::Kit>()?;
    // As it was: it executes what it did, and keeps its exceptions.
    guest.run(&REEXEC)?.ok()?;
    let before = daemon(guest)?;
    guest.run(&KILL)?.ok()?;
    let other = format!(
        "now=$(systemctl show governor --value -p MainPID); test $now != {before} && test $now != 0 \
         && systemctl is-active --quiet governor"
    );
    guest
        .wait_until(&other)
        .context("waiting for another daemon")?;
    kit.trusted(guest)?;
    loses_its_exceptions_with(guest, LIBRARY)?;
    ensure!(hello(guest)? == 0, "work does not go on");
    works(guest)
}

/// Nothing of it is mapped as a program: it only has the loader make the stack executable.
pub(super) fn first_process_without_a_file(guest: &mut Guest) -> Result<()> {
    armed(guest)?;
    let library = guest.get(LIBRARY)?;
    guest.put("/root/libstack.so", 0o755, &without_code(&library)?)?;
    loses_its_exceptions_with(guest, "/root/libstack.so")?;
    works(guest)
}

/// It has none while this is in it, and has them again when it executes what it did before.
fn loses_its_exceptions_with(guest: &mut Guest, library: &str) -> Result<()> {
    let kit = guest.kept::<crate::kit::Kit>()?;
    let before = daemon(guest)?;
    guest
        .sh(&format!("echo {library} > /etc/ld.so.preload"))?
        .ok()?;
    let changed = guest.run(&REEXEC).and_then(|_| {
        let maps = guest.sh(&format!("grep -c {library} /proc/1/maps"))?.text();
        let killed = guest.run(&KILL)?;
        Ok((maps, killed.code, daemon(guest)?))
    });
    guest.run(&["rm", "-f", "/etc/ld.so.preload"])?.ok()?;
    guest.run(&REEXEC)?.ok()?;
    let (maps, code, after) = changed?;
    ensure!(maps != "0", "nothing was put into the first process");
    ensure!(
        code != 0 && after == before,
        "a first process with something in it ended the daemon: {code}, {before} {after}"
    );
    guest.run(&["systemctl", "restart", "governor"])?.ok()?;
    ensure!(daemon(guest)? != before, "it may not restart the daemon");
    kit.trusted(guest)
}

/// It takes the cgroup that it finds itself in for the root of all, and would start below it what is to be
/// governed. In the daemon's own it is no more the daemon than elsewhere, and no less itself.
pub(super) fn first_process_moved(guest: &mut Guest) -> Result<()> {
    armed(guest)?;
    let kit = guest.kept::<crate::kit::Kit>()?;
    let before = trips(guest)?;
    let harmless = "systemctl kill --kill-who=main -s WINCH governor";
    guest
        .sh(&format!("echo {LIBRARY} > /etc/ld.so.preload"))?
        .ok()?;
    guest.run(&REEXEC)?.ok()?;
    let changed = guest.sh(harmless)?.code;
    guest.run(&["rm", "-f", "/etc/ld.so.preload"])?.ok()?;
    let counted = trips(guest)?;
    guest
        .sh("echo 1 > /sys/fs/cgroup/system.slice/governor.service/cgroup.procs")?
        .ok()?;
    guest.run(&REEXEC)?.ok()?;
    let again = guest.sh(harmless)?.code;
    let after = trips(guest)?;
    let asked = guest.run(&["governor", "attest", "now"])?.code;
    guest
        .sh(
            "mkdir -p /sys/fs/cgroup/init.scope && echo 1 > /sys/fs/cgroup/init.scope/cgroup.procs && \
             systemctl daemon-reexec",
        )?
        .ok()
        .context("putting the first process back")?;
    ensure!(changed != 0, "it kept its exceptions with something in it");
    ensure!(again == 0, "it did not get them again: {again}");
    ensure!(
        counted == before && after > counted && asked == 3,
        "nobody noticed that it was moved: {before} {counted} {after} {asked}"
    );
    guest.run(&["systemctl", "restart", "governor"])?.ok()?;
    crate::kit::unlock(guest)?;
    kit.trusted(guest)?;
    works(guest)
}

/// A package restarts the service, and the first process, which is not what it was, cannot end the
/// daemon that runs: the next one must not meet it at the ledger.
pub(super) fn two_daemons(guest: &mut Guest) -> Result<()> {
    armed(guest)?;
    let kit = guest.kept::<crate::kit::Kit>()?;
    let before = daemon(guest)?;
    guest
        .sh(
            "echo /usr/lib/x86_64-linux-gnu/libutil.so.1 > /etc/ld.so.preload; \
             systemctl daemon-reexec; rm -f /etc/ld.so.preload",
        )?
        .ok()?;
    let restarted = guest.run(&["systemctl", "restart", "governor"])?;
    let journal = guest.sh("journalctl -u governor --no-pager -o cat -n 40")?;
    let (said, code) = (status::of(guest)?, hello(guest)?);
    // As it was, it ends the one that was left over, and the next start finds nobody.
    guest.run(&["systemctl", "daemon-reexec"])?.ok()?;
    let other = format!("! test -d /proc/{before} && systemctl is-active --quiet governor");
    guest
        .wait_until(&other)
        .context("waiting for another daemon")?;
    let refused = format!("another daemon has `/sys/fs/bpf/governor`: process {before}");
    ensure!(
        restarted.code != 0 && journal.text().contains(&refused),
        "a second daemon: {} {}",
        restarted.code,
        journal.text()
    );
    ensure!(
        said.trust() == "trusted" && code == 0,
        "beside a second daemon: {} {}, work {code}",
        said.trust(),
        said.reasons()
    );
    kit.trusted(guest)?;
    works(guest)
}

/// A library that nothing is executed from, and that says it needs an executable stack.
fn without_code(library: &[u8]) -> Result<Vec<u8>> {
    let mut bytes = library.to_vec();
    let word = |at: usize, size: usize| {
        let mut word = [0u8; 8];
        let found = library.get(at..at + size)?;
        word.get_mut(..size)?.copy_from_slice(found);
        usize::try_from(u64::from_le_bytes(word)).ok()
    };
    let mut set = |at: usize, to: u32| {
        let place = bytes.get_mut(at..at + 4)?;
        place.copy_from_slice(&to.to_le_bytes());
        Some(())
    };
    let mut change = || {
        let (first, size, count) = (word(0x20, 8)?, word(0x36, 2)?, word(0x38, 2)?);
        for segment in (0..count).map(|index| first + index * size) {
            match word(segment, 4)? {
                PT_LOAD => set(segment + 4, u32::try_from(word(segment + 4, 4)? & !1).ok()?)?,
                PT_GNU_STACK => set(segment + 4, 7)?,
                PT_DYNAMIC => {
                    let (start, bytes) = (word(segment + 8, 8)?, word(segment + 32, 8)?);
                    for entry in (start..start + bytes).step_by(16) {
                        if CALLED.contains(&word(entry, 4)?) {
                            set(entry, UNKNOWN)?;
                        }
                    }
                }
                _ => {}
            }
        }
        Some(())
    };
    change().context("the library is cut short")?;
    Ok(bytes)
}

const LIBRARY: &str = "/usr/lib/x86_64-linux-gnu/libutil.so.1";
const REEXEC: [&str; 2] = ["systemctl", "daemon-reexec"];
const KILL: [&str; 5] = ["systemctl", "kill", "-s", "KILL", "governor"];
const PT_LOAD: usize = 1;
const PT_DYNAMIC: usize = 2;
const PT_GNU_STACK: usize = 0x6474_e551;
/// What the loader calls when it loads or unloads: functions and tables of them.
const CALLED: [usize; 6] = [12, 13, 25, 26, 27, 28];
/// No loader knows this entry.
const UNKNOWN: u32 = 0x6000_0100;

/// What an upgrade of a library does to a daemon that runs: its file has no name any more.
pub(super) fn library_replaced(guest: &mut Guest) -> Result<()> {
    armed(guest)?;
    let kit = guest.kept::<crate::kit::Kit>()?;
    let pid = daemon(guest)?;
    let replaced = guest
        .sh(&format!(
            "lib=$(grep -o '/[^ ]*libtss2-esys[^ ]*' /proc/{pid}/maps | head -n 1) && \
             cp -p $lib $lib.new && mv $lib.new $lib && grep -c '(deleted)' /proc/{pid}/maps"
        ))?
        .ok()
        .context("replacing a library that the daemon has mapped")?
        .text();
    ensure!(replaced.trim() != "0", "it is still the same file");
    kit.load(guest, &Spec::default())
        .context("loading a policy after it")?;
    works(guest)
}

pub(super) fn left_out(guest: &mut Guest) -> Result<()> {
    armed(guest)?;
    let kit = guest.kept::<crate::kit::Kit>()?;
    let without = kit.signed(&Spec {
        guarded: false,
        ..Spec::default()
    })?;
    let answer = kit.offer(guest, &without)?;
    ensure!(
        answer.code == 3 && answer.errors().contains("lists no daemon"),
        "a policy without a daemon: {} {}",
        answer.code,
        answer.errors()
    );
    let other = kit.write(&Spec::default())?;
    std::fs::write(
        other.join("sets/governor.sha256"),
        format!("{}  /usr/bin/governor\n", "5a".repeat(32)),
    )
    .context("listing another daemon")?;
    kit.sign(&other)?;
    let answer = kit.offer(guest, &other)?;
    ensure!(
        answer.code == 3 && answer.errors().contains("does not list this daemon"),
        "a policy with another daemon: {} {}",
        answer.code,
        answer.errors()
    );
    ensure!(hello(guest)? == 0, "the old policy does not go on");
    Ok(())
}

pub(super) fn configured(guest: &mut Guest) -> Result<()> {
    armed(guest)?;
    let kit = guest.kept::<crate::kit::Kit>()?;
    // A key that was added after the gate was armed signs nothing before the next boot.
    let stranger = kit.stranger()?;
    let dir = kit.write(&Spec::default())?;
    kit.sign_with(&dir, &stranger)?;
    guest.put_file(&stranger.with_extension("pub"), "/root/stranger.pub")?;
    guest
        .sh("cp /etc/governor/trusted_keys /root/keys && \
             cat /root/stranger.pub >> /etc/governor/trusted_keys")?
        .ok()?;
    let answer = kit.offer(guest, &dir)?;
    guest
        .sh("cat /root/keys > /etc/governor/trusted_keys")?
        .ok()?;
    ensure!(
        answer.code == 5,
        "a policy signed by a new key: {} {} {}",
        answer.code,
        answer.text(),
        answer.errors()
    );
    // Governing another slice would leave this one alone.
    guest
        .sh("cp /etc/governor/governor.toml /root/toml && \
             printf 'governed = \"other.slice\"\\n' > /etc/governor/governor.toml; \
             systemctl restart governor")
        .map(drop)?;
    let journal = guest.sh("journalctl -u governor --no-pager -n 20")?.text();
    let unlisted = crate::kit::in_zone(guest, AGENTS_SLICE, &["/usr/bin/id"])?.code;
    guest
        .sh("cat /root/toml > /etc/governor/governor.toml; systemctl restart governor")?
        .ok()?;
    ensure!(
        journal.contains("the configuration says `other.slice`") && unlisted == zone::NOT_EXECUTED,
        "{unlisted} {journal}"
    );
    kit.trusted(guest)?;
    ensure!(hello(guest)? == 0, "work does not go on");
    Ok(())
}
