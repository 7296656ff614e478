//! What the kernel itself starts: for a program that crashed, a module that it lacks, a key that it does not
//! know. They are children of the kernel's own threads, in no cgroup but the root, and carry no label.

use super::*;

/// How the kernel is told what to start, and brought to do so.
struct Helper {
    set: &'static str,
    trigger: &'static str,
    /// What whoever needed it is told, with or without it.
    says: &'static str,
    unset: &'static str,
}

/// A program and a script that no policy lists; each leaves `MARK`.
const MAKE: &str = "cd /root && rm -f helper helping && cp /bin/sh helper && echo >> helper && \
                    printf '#!/bin/sh\\n: > /run/helped\\n' > helping && chmod 755 helping";
const MARK: &str = "/run/helped";

const CRASHED: &str = "sh -c 'kill -SEGV $$'; echo ended with $?";
/// With the name that each has where it is refused.
const HELPERS: [(Helper, &str); 3] = [
    (
        Helper {
            set: "echo '|/root/helper -c :>/run/helped' > /proc/sys/kernel/core_pattern",
            trigger: CRASHED,
            says: "ended with 139",
            unset: "echo core > /proc/sys/kernel/core_pattern",
        },
        "/root/helper",
    ),
    (
        Helper {
            set: "cp /proc/sys/kernel/modprobe /run/modprobe && echo /root/helping > /proc/sys/kernel/modprobe",
            trigger: "mount -t unheard-of none /mnt",
            says: "unknown filesystem type",
            unset: "cat /run/modprobe > /proc/sys/kernel/modprobe",
        },
        "/root/helping",
    ),
    (
        Helper {
            set: "cp /root/helping /sbin/request-key",
            // That nobody knew a key is remembered for a minute.
            trigger: "perl -e '@asked = (\"user\", \"unheard-of-$$\", \"\"); syscall(249, @asked, 0); print \"asked: $!\"'",
            says: "asked: ",
            unset: "rm /sbin/request-key",
        },
        "/sbin/request-key",
    ),
];
/// What survives, told to leave the mark.
const LISTED: Helper = Helper {
    set: "echo '|/bin/sh -c :>/run/helped' > /proc/sys/kernel/core_pattern",
    trigger: CRASHED,
    says: "ended with 139",
    unset: "echo core > /proc/sys/kernel/core_pattern",
};

pub(super) fn judged(guest: &mut Guest) -> Result<()> {
    guest.sh(MAKE)?.ok()?;
    for (helper, _) in &HELPERS {
        must_run(guest, helper).context("before the host is a zone")?;
    }
    let host = load(guest)?;
    let refused = HELPERS
        .iter()
        .map(|(helper, name)| must_not_run(guest, helper, name));
    let outcome: Result<Vec<()>> = refused.collect();
    let listed = must_run(guest, &LISTED).context("what survives");
    host.free(guest)?;
    guest.sh("rm /root/helper /root/helping")?.ok()?;
    outcome.and(listed)
}

fn must_run(guest: &mut Guest, helper: &Helper) -> Result<()> {
    call(guest, helper)?;
    // For what crashed the kernel waits until it is executed, and no longer.
    guest
        .wait_until(&format!("test -e {MARK}"))
        .context(helper.set)?;
    guest.run(&["rm", MARK])?.ok().map(drop)
}

fn must_not_run(guest: &mut Guest, helper: &Helper, name: &str) -> Result<()> {
    call(guest, helper)?;
    guest
        .wait_until(&format!("governor events | grep -q '{name}'"))
        .with_context(|| format!("nothing is said of `{name}`"))?;
    ensure!(
        guest.run(&["test", "-e", MARK])?.code != 0,
        "`{}` was executed",
        helper.set
    );
    Ok(())
}

/// Has the kernel start it, once. Whatever comes of it, the kernel starts what it did before from then on.
fn call(guest: &mut Guest, helper: &Helper) -> Result<()> {
    guest.sh(helper.set)?.ok().context(helper.set)?;
    let called = guest.sh(helper.trigger);
    guest.sh(helper.unset)?.ok().context(helper.unset)?;
    let called = called?;
    let said = format!("{}{}", called.text(), called.errors());
    ensure!(
        said.contains(helper.says),
        "`{}` did not get as far: {said}",
        helper.trigger
    );
    Ok(())
}
