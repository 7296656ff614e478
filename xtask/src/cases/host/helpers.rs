//! What the kernel itself starts: for a program that crashed, a module that it lacks, a key that it does not
//! know. They are children of the kernel's own threads, in no cgroup but the root, and carry no label.

use super::*;

/// How the kernel is told what to start, and brought to do so.
struct Helper {
    set: &'static str,
    trigger: &'static str,
    unset: &'static str,
}

/// A program and a script that no policy lists; each leaves `MARK`.
const MAKE: &str = "cd /root && rm -f helper helping && cp /bin/sh helper && echo >> helper && \
                    printf '#!/bin/sh\\n: > /run/helped\\n' > helping && chmod 755 helping";
const MARK: &str = "/run/helped";

const CRASHED: &str = "sh -c 'kill -SEGV $$'; true";
const HELPERS: [Helper; 3] = [
    Helper {
        set: "echo '|/root/helper -c :>/run/helped' > /proc/sys/kernel/core_pattern",
        trigger: CRASHED,
        unset: "echo core > /proc/sys/kernel/core_pattern",
    },
    Helper {
        set: "cp /proc/sys/kernel/modprobe /run/modprobe && echo /root/helping > /proc/sys/kernel/modprobe",
        trigger: "mount -t unheard-of none /mnt; true",
        unset: "cat /run/modprobe > /proc/sys/kernel/modprobe",
    },
    Helper {
        set: "cp /root/helping /sbin/request-key",
        // That nobody knew a key is remembered for a minute.
        trigger: "perl -e '@asked = (\"user\", \"unheard-of-$$\", \"\"); syscall(249, @asked, 0)'",
        unset: "rm /sbin/request-key",
    },
];
/// What survives, told to leave the mark.
const LISTED: Helper = Helper {
    set: "echo '|/bin/sh -c :>/run/helped' > /proc/sys/kernel/core_pattern",
    trigger: CRASHED,
    unset: "echo core > /proc/sys/kernel/core_pattern",
};

pub(super) fn judged(guest: &mut Guest) -> Result<()> {
    guest.sh(MAKE)?.ok()?;
    for helper in &HELPERS {
        helper.runs(guest).context("before the host is a zone")?;
    }
    let host = load(guest)?;
    for helper in &HELPERS {
        helper.is_refused(guest)?;
    }
    LISTED.runs(guest).context("what survives")?;
    host.free(guest)?;
    guest
        .sh("rm /root/helper /root/helping /run/modprobe")?
        .ok()
        .map(drop)
}

impl Helper {
    fn runs(&self, guest: &mut Guest) -> Result<()> {
        self.started(guest)?;
        // For what crashed the kernel waits until it is executed, and no longer.
        guest
            .wait_until(&format!("test -e {MARK}"))
            .context(self.set)?;
        guest.run(&["rm", MARK])?.ok().map(drop)
    }

    fn is_refused(&self, guest: &mut Guest) -> Result<()> {
        let before = gate::counted(guest, "not-authorized")?;
        self.started(guest)?;
        let after = gate::counted(guest, "not-authorized")?;
        let left = guest.run(&["test", "-e", MARK])?.code == 0;
        ensure!(
            after > before && !left,
            "`{}`: {before} denials before, {after} after, and the mark is there: {left}",
            self.set
        );
        Ok(())
    }

    fn started(&self, guest: &mut Guest) -> Result<()> {
        for doing in [self.set, self.trigger, self.unset] {
            guest.sh(doing)?.ok().context(doing)?;
        }
        Ok(())
    }
}
