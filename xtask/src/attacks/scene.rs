//! A guest in which root attacks: armed, trusted, with somebody in the zone who tries what no policy
//! lists all the time; and how it becomes that again after an attack.

use super::{
    Attack, Leaves,
    judge::{self, Seen},
    storms::{self, Load},
};
use crate::{
    compile,
    guest::{Guest, JobId},
    kit::{self, AGENTS_SLICE, Kit, Spec},
};
use anyhow::{Context as _, Result, ensure};
use std::{cell::Cell, rc::Rc, time::Duration};

/// What every attack may use: the daemon's process, its cgroup, a zone's, the pins, the drop-ins of the
/// unit, the probes, a cgroup of its own, and who took hold of things in time, while it lives. What comes of a
/// daemon that is started again, or told to load a policy, is for the judge to see. Without a daemon the process is
/// one that nobody has.
pub(crate) const PRELUDE: &str = "PID=$(systemctl show governor --value -p MainPID 2> /dev/null); \
     case $PID in ''|0) PID=4194000;; esac; \
     S=/sys/fs/cgroup/system.slice/governor.service; A=/sys/fs/cgroup/attack; \
     Z=/sys/fs/cgroup/governed.slice/governed-agents.slice; P=/sys/fs/bpf/governor; \
     D=/run/systemd/system/governor.service.d; R=/root/probe_root; X=/root/probe_reach; \
     restarted() { systemctl restart governor || echo it did not start; }; \
     reloaded() { governor policy reload /root/policy || echo it was not loaded; }; \
     held() { systemctl is-active --quiet attack-held || exit 90; \
     $X ask /run/attack-ask /run/attack-answer $1; }\n";
/// How that ends without whoever took hold of things.
pub(crate) const NO_HELPER: i32 = 90;

/// What policy lists, and what it does not: the smallest programs there are, alike but for a byte.
pub(crate) const LISTED: &str = "/opt/agent/listed";
pub(crate) const UNLISTED: &str = "/opt/agent/unlisted";
/// Starts programs in a zone.
pub(crate) const STORM: &str = "/root/probe_storm";

/// The kit, and who watches meanwhile.
#[derive(Debug)]
pub(crate) struct Scene {
    kit: Kit,
    watcher: Cell<Option<JobId>>,
}

/// Installs everything into a guest that has booted; it ends trusted and watched.
pub(crate) fn set(guest: &mut Guest) -> Result<Rc<Scene>> {
    crate::install::package(guest, &crate::paths::target().join("dist/governor.deb"))?;
    let kit = Kit::new(guest)?;
    for probe in ["probe_root", "probe_reach", "probe_storm"] {
        guest.put_file(&compile::probe(probe)?, &format!("/root/{probe}"))?;
    }
    guest.put(LISTED, 0o755, &smallest_program(1))?;
    guest.put(UNLISTED, 0o755, &smallest_program(2))?;
    guest.put("/etc/systemd/system/attack-held.service", 0o644, HELD)?;
    guest
        .sh(&format!(
            "chmod 755 /root/probe_* && echo msr > /etc/modules-load.d/attack.conf && modprobe msr && \
             {MOUNT} && systemctl daemon-reload && \
             systemctl enable --quiet --now attack-held"
        ))?
        .ok()
        .context("preparing what attacks lean on")?;
    let short = spec(guest)?;
    kit.load(guest, &short)?;
    let scene = Rc::new(Scene {
        kit,
        watcher: Cell::new(None),
    });
    guest.keep(Rc::<Scene>::clone(&scene));
    scene.watch(guest)?;
    Ok(scene)
}

/// Short, for much of what is tried ends with the lease.
fn spec(guest: &mut Guest) -> Result<Spec> {
    Ok(Spec {
        planner: guest.run(&["governor", "measure", LISTED])?.ok()?.text(),
        lease: "8s",
        every: "2s",
        on_revoke: "deny",
        ..Spec::default()
    })
}

/// The zone's cgroup that the judge and the watcher try from, by a mount that no attack is about.
pub(crate) fn leaf(name: &str) -> String {
    format!("/run/attack-cgroup/governed.slice/{AGENTS_SLICE}/{name}")
}

impl Scene {
    /// A storm, which nobody else's tries are counted into; see [`storms::rage`].
    pub(crate) fn storm(&self, guest: &mut Guest, tries: u64) -> Result<String> {
        self.undisturbed(guest, |guest, kit| storms::rage(guest, kit, tries))
    }

    /// Many who start programs and change files, in the same way; see [`storms::load`].
    pub(crate) fn load(&self, guest: &mut Guest, load: &Load) -> Result<String> {
        self.undisturbed(guest, |guest, kit| storms::load(guest, kit, load))
    }

    fn undisturbed(
        &self,
        guest: &mut Guest,
        run: impl FnOnce(&mut Guest, &Kit) -> Result<String>,
    ) -> Result<String> {
        self.unwatch(guest);
        let said = run(guest, &self.kit)?;
        let short = spec(guest)?;
        self.kit.load(guest, &short)?;
        self.watch(guest)?;
        Ok(said)
    }

    fn unwatch(&self, guest: &mut Guest) {
        if let Some(job) = self.watcher.take() {
            // It may have ended, and the host's hand with it.
            drop(guest.kill(job, 9));
            drop(guest.wait(job, BOUND));
        }
    }

    /// Has somebody in the zone try what is not listed, again and again.
    fn watch(&self, guest: &mut Guest) -> Result<()> {
        self.unwatch(guest);
        let argv = [STORM, "watch", &leaf("watch"), UNLISTED, WATCHED];
        let job = guest.spawn(&argv)?;
        guest
            .wait_for_output(job, b"begun", BOUND)
            .context("waiting for the watcher's first try")?;
        self.watcher.set(Some(job));
        Ok(())
    }

    /// How often something that is not listed was started since the watcher began; its end, if it ended,
    /// is an attack's doing.
    pub(super) fn passed(&self, guest: &mut Guest) -> Result<u64> {
        let said = guest.sh(&format!("cat {WATCHED}"))?.ok()?.text();
        let word = |name: &str| {
            said.split_whitespace()
                .find_map(|word| word.strip_prefix(name)?.parse::<u64>().ok())
                .with_context(|| format!("no `{name}` in what the watcher wrote: `{said}`"))
        };
        ensure!(word("tries=")? > 0, "the watcher tried nothing");
        word("allowed=")
    }

    /// Takes back what attacks left, the last one's first: trusted, at work, and watched. `unchanged`: what was seen
    /// before and after them, if that was the same.
    pub(crate) fn restore(
        &self,
        guest: &mut Guest,
        attacks: &[&Attack],
        unchanged: Option<&Seen>,
    ) -> Result<()> {
        let leaves_nothing = |a: &&Attack| a.undo.is_empty() && a.leaves == Leaves::Nothing;
        if let Some(before) = unchanged
            && attacks.iter().all(leaves_nothing)
        {
            // Not only until its lease is over.
            let seen = self.trusted(guest)?;
            ensure!(seen == *before, "it is not {before:?} any more: {seen:?}");
            return self.watched(guest);
        }
        for attack in attacks
            .iter()
            .rev()
            .filter(|attack| !attack.undo.is_empty())
        {
            guest
                .sh(&format!("{PRELUDE}{}", attack.undo))?
                .ok()
                .with_context(|| format!("undoing `{}`", attack.name))?;
        }
        if attacks.iter().any(|a| a.leaves == Leaves::Traces) {
            return self.again(guest);
        }
        self.at_work(guest)
    }

    /// The same by a reboot, for what nothing else takes back.
    pub(crate) fn again(&self, guest: &mut Guest) -> Result<()> {
        guest.reboot()?;
        guest.sh(MOUNT)?.ok()?;
        self.at_work(guest)
    }

    /// Sees that whoever took hold of things in time is there, if one of the attacks asks for them. Nothing but a
    /// boot brings them back.
    pub(super) fn helped(&self, guest: &mut Guest, attacks: &[&Attack]) -> Result<()> {
        if !attacks.iter().any(|attack| attack.does.contains("held ")) {
            return Ok(());
        }
        let here = format!("{PRELUDE}held here");
        let here = ["timeout", "10", "sh", "-c", &here];
        if guest.run(&here)?.code == 0 {
            return Ok(());
        }
        self.again(guest)?;
        guest
            .run(&here)?
            .ok()
            .context("asking who took hold of things before the gate was armed")
            .map(drop)
    }

    fn at_work(&self, guest: &mut Guest) -> Result<()> {
        // One that is frozen or stopped in the middle of being replaced gets its turn first.
        guest
            .sh("systemctl reset-failed; systemctl is-active --quiet governor || systemctl start governor")?
            .ok()
            .context("bringing the daemon back")?;
        guest
            .wait_until("governor status --json | grep -q '\"trust\"'")
            .context("waiting for the daemon to answer")?;
        kit::unlock(guest)?;
        let seen = self.trusted(guest)?;
        ensure!(
            matches!(&seen, Seen { listed, trust, .. } if listed == "allowed" && trust == "trusted"),
            "it is not what it was: {seen:?}"
        );
        self.watched(guest)
    }

    /// What is to be seen with a lease that is new.
    fn trusted(&self, guest: &mut Guest) -> Result<Seen> {
        guest
            .wait_until("governor attest now")
            .context("waiting for trust")?;
        judge::look(guest)
    }

    /// Sees that somebody watches.
    fn watched(&self, guest: &mut Guest) -> Result<()> {
        let alive = "for p in $(cat /run/attack-cgroup/governed.slice/*/watch/cgroup.procs); do \
                     exit 0; done; exit 1";
        if guest.sh(alive)?.code != 0 {
            self.watch(guest)?;
        }
        Ok(())
    }
}

/// A program of a few instructions that ends with 0, for the processor and the kernel interface of the
/// guests. Programs with other numbers are other content.
pub(crate) fn smallest_program(number: u8) -> Vec<u8> {
    const AT: u64 = 0x40_0000;
    const HEADERS: u64 = 64 + 56;
    // mov eax, 60; xor edi, edi; syscall; and the number, which nothing executes.
    let code = [0xb8, 60, 0, 0, 0, 0x31, 0xff, 0x0f, 0x05, number];
    let mut file = b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0".to_vec();
    let halves = |words: &[u16]| words.iter().flat_map(|word| word.to_le_bytes()).collect();
    let head: Vec<u8> = halves(&[2, 62, 1, 0]);
    let tail: Vec<u8> = halves(&[64, 56, 1, 64, 0, 0]);
    file.extend(head);
    for word in [AT + HEADERS, 64, 0] {
        file.extend(word.to_le_bytes());
    }
    file.extend(0u32.to_le_bytes());
    file.extend(tail);
    // One part, readable and executable: the whole file.
    file.extend([1u32, 5].iter().flat_map(|word| word.to_le_bytes()));
    let size = HEADERS + code.len() as u64;
    for word in [0, AT, AT, size, size, 0x1000] {
        file.extend(word.to_le_bytes());
    }
    file.extend(code);
    file
}

const WATCHED: &str = "/run/attack-watched";
const BOUND: Duration = Duration::from_secs(60);
const MOUNT: &str = "mkdir -p /run/attack-cgroup && mount -t cgroup2 none /run/attack-cgroup && \
     systemctl start governed-agents.slice";
/// Somebody who took hold of things before the gate was armed, and uses them when asked. At each boot, for what
/// it takes is not to be had once a daemon has armed the gate again.
const HELD: &[u8] = b"[Unit]\nDefaultDependencies=no\nAfter=local-fs.target\nBefore=governor.service\n\
    [Service]\nTimeoutStartSec=60\n\
    ExecStartPre=/bin/sh -c 'rm -f /run/attack-ask /run/attack-answer; mkfifo /run/attack-ask /run/attack-answer'\n\
    ExecStart=/root/probe_reach hold /run/attack-ask /run/attack-answer\n\
    ExecStartPost=/root/probe_reach ask /run/attack-ask /run/attack-answer here\n\
    [Install]\nWantedBy=multi-user.target\n";

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn the_smallest_programs_run_and_differ() {
        let dir = crate::paths::ensure(crate::paths::target().join("smallest")).unwrap();
        let path = dir.join("program");
        assert_ne!(smallest_program(1), smallest_program(2));
        std::fs::write(&path, smallest_program(3)).unwrap();
        std::fs::set_permissions(&path, PermissionsExt::from_mode(0o755)).unwrap();
        let status = crate::process::command(path.to_str().unwrap()).status();
        assert!(status.unwrap().success());
    }
}
