//! What happens when something the daemon needs is missing or damaged.

use super::*;

/// What the daemon that runs has said.
const OF_THIS_DAEMON: &str =
    "journalctl -o cat --no-pager _PID=$(systemctl show governor --value -p MainPID)";

pub(super) fn full_disk(guest: &mut Guest) -> Result<()> {
    let kit = loaded(guest)?;
    guest
        .sh("systemctl stop governor && cd /var/lib/governor && \
             size=$(( $(stat -c %s ledger/ledger) / 1024 + 2048 )) && cp ledger/ledger /root/ledger && \
             mount -t tmpfs -o size=${size}k tmpfs ledger && cp /root/ledger ledger/ledger && \
             systemctl start governor")?
        .ok()
        .context("putting the ledger on a small disk")?;
    let outcome = (|| {
        kit.load(
            guest,
            &Spec {
                lease: "6s",
                every: "1s",
                ..Spec::default()
            },
        )?;
        guest
            .sh("dd if=/dev/zero of=/var/lib/governor/ledger/filler bs=4k status=none; true")?
            .ok()?;
        // What is left of the ledger's last page still takes a record or two; after the first that
        // it does not take, none fits until there is room for many.
        let again = kit.signed(&Spec {
            lease: "6s",
            every: "1s",
            ..Spec::default()
        })?;
        let mut refused = kit.offer(guest, &again)?;
        for _ in 0..20 {
            if refused.code != 0 {
                break;
            }
            refused = kit.offer(guest, &again)?;
        }
        ensure!(
            refused.code == 1,
            "a reload without a record: {} {}",
            refused.code,
            refused.text()
        );
        // A short record may still find room, and clears it until the next one finds none.
        guest
            .wait_until("governor status --json | grep -q ledger-unwritable")
            .context("waiting for the reason")?;
        for _ in 0..5 {
            let said = status::of(guest)?;
            ensure!(
                said.reasons().contains("ledger-unwritable"),
                "{}",
                said.reasons()
            );
            guest.sh("sleep 0.5")?.ok()?;
        }
        let said = guest.sh(&format!("{OF_THIS_DAEMON} | grep -c 'could not append'"))?;
        ensure!(
            matches!(said.text().parse(), Ok(1..=3)),
            "it says at each try that it cannot write: {}",
            said.text()
        );
        guest
            .wait_until(
                "systemd-run --quiet --wait --pipe --collect --slice=governed-agents.slice \
             --uid=agent -- /opt/agent/agent hello; test $? = 203",
            )
            .context("waiting for the lease to run out")?;
        guest.run(&["systemctl", "restart", "governor"])?.ok()?;
        let none = guest.run(&["governor", "status"])?;
        ensure!(none.code == 3, "{}", none.text());
        guest
            .run(&["rm", "/var/lib/governor/ledger/filler"])?
            .ok()?;
        guest
            .wait_until("governor policy show")
            .context("waiting for the kept policy to come back by itself")?;
        guest
            .wait_until("governor attest now")
            .context("waiting for trust to come back")?;
        ensure!(hello(guest)? == 0, "work does not go on");
        Ok(())
    })();
    guest
        .sh(
            "systemctl stop governor && cd /var/lib/governor && cp ledger/ledger /root/ledger && \
             umount ledger && cp /root/ledger ledger/ledger && systemctl start governor",
        )?
        .ok()
        .context("taking the small disk away")?;
    outcome
}

/// What the kernel does to file systems on which it met errors, by hand.
pub(super) fn read_only(guest: &mut Guest) -> Result<()> {
    let kit = guest.kept::<Kit>()?;
    let spec = Spec {
        lease: "60s",
        every: "1s",
        ..Spec::default()
    };
    kit.load(guest, &spec)?;
    guest.sh("echo u > /proc/sysrq-trigger")?.ok()?;
    let noticed = guest.wait_until("governor status --json | grep -q ledger-unwritable");
    let ro = guest.sh("findmnt -no OPTIONS / | grep -qw ro")?.code;
    guest.run(&["mount", "-o", "remount,rw", "/"])?.ok()?;
    noticed.context("waiting for a record that cannot be written")?;
    ensure!(ro == 0, "the root file system is not read-only");
    // Linux 6.1 lets whoever had the file open write on.
    if guest.kernel() != "6.1" {
        let said = guest.sh(&format!("{OF_THIS_DAEMON} | grep 'undoing it: '"))?;
        said.ok().context("failing to undo the write as well")?;
    }
    guest
        .wait_until("governor attest now")
        .context("waiting for trust to come back")?;
    guest
        .sh(&format!(
            "{OF_THIS_DAEMON} | grep 'records are written again, after'"
        ))?
        .ok()
        .context("saying when it ends")?;
    let said = status::of(guest)?;
    ensure!(!said.reasons().contains("ledger"), "{}", said.reasons());
    ensure!(hello(guest)? == 0, "work does not go on");
    Ok(())
}

pub(super) fn no_tpm(guest: &mut Guest) -> Result<()> {
    let kit = guest.kept::<Kit>()?;
    kit.load(
        guest,
        &Spec {
            lease: "6s",
            every: "2s",
            ..Spec::default()
        },
    )?;
    guest
        .sh("cp /etc/governor/governor.toml /root/conf && \
             printf '[tpm]\\ntcti = \"device:/dev/tpm-none\"\\n' > /etc/governor/governor.toml && \
             systemctl restart governor")?
        .ok()?;
    let asked = guest.run(&["governor", "attest", "now"])?;
    let said = status::of(guest)?;
    // The lease of the daemon before ends by itself.
    guest.sh("sleep 7")?.ok()?;
    let denied = hello(guest)?;
    guest
        .sh("cp /root/conf /etc/governor/governor.toml && systemctl restart governor")?
        .ok()?;
    ensure!(asked.code == 3, "{} {}", asked.code, asked.text());
    ensure!(
        said.reasons().contains("tpm-unavailable"),
        "{}",
        said.reasons()
    );
    ensure!(denied == 203, "attested work without a TPM: {denied}");
    kit.trusted(guest)
}

/// The lease that runs is no answer to whoever asks for another appraisal.
pub(super) fn tpm_taken_away(guest: &mut Guest) -> Result<()> {
    let kit = guest.kept::<Kit>()?;
    kit.load(
        guest,
        &Spec {
            lease: "60s",
            every: "30s",
            ..Spec::default()
        },
    )?;
    guest
        .sh(
            "ls -d /sys/bus/*/drivers/tpm*/*:* > /root/tpm && test -s /root/tpm && \
             while read d; do echo $(basename $d) > $(dirname $d)/unbind; done < /root/tpm",
        )?
        .ok()
        .context("taking the TPM away")?;
    let asked = guest.run(&["governor", "attest", "now"])?;
    let said = status::of(guest)?;
    // A TPM that was let go of is found again by a boot only.
    guest.reboot()?;
    ensure!(
        asked.code == 3 && asked.text().contains("NOT appraised"),
        "{} {}",
        asked.code,
        asked.text()
    );
    ensure!(
        said.trust() == "trusted",
        "the lease runs: {}",
        said.trust()
    );
    kit.trusted(guest)
}

pub(super) fn damaged_ledger(guest: &mut Guest) -> Result<()> {
    let kit = loaded(guest)?;
    let file = "/var/lib/governor/ledger/ledger";
    guest.sh(&format!(
        "systemctl stop governor; cp {file} /root/ledger; \
             printf x | dd of={file} bs=1 seek=100 conv=notrunc status=none; \
             systemctl start governor"
    ))?;
    let said = status::of(guest)?;
    let denied = hello(guest)?;
    guest
        .sh(&format!(
            "systemctl stop governor; cp /root/ledger {file}; systemctl start governor"
        ))?
        .ok()?;
    let put_back = status::of(guest)?;
    guest
        .run(&["governor", "unlock", "--reason", "drill"])?
        .ok()?;
    ensure!(
        said.reasons().contains("ledger-contradiction") && said.reasons().contains("checksum"),
        "{}",
        said.reasons()
    );
    ensure!(denied == 203, "the workload on a damaged ledger: {denied}");
    ensure!(
        put_back.reasons().contains("ledger-contradiction"),
        "putting it back cleared it: {}",
        put_back.reasons()
    );
    kit.load(guest, &Spec::default())
}

/// What runs keeps the numbers of names that an unreadable ledger took with it: nobody else gets them.
pub(super) fn names_lost(guest: &mut Guest) -> Result<()> {
    let kit = loaded(guest)?;
    let job = guest.spawn(&[
        "systemd-run",
        "--quiet",
        "--wait",
        "--pipe",
        "--collect",
        "--unit=nameless",
        &format!("--slice={TOOLS_SLICE}"),
        &format!("--uid={USER}"),
        "--",
        AGENT,
        "hold",
    ])?;
    guest.wait_for_output(job, b"holding", Duration::from_secs(30))?;
    let touch = |guest: &mut Guest, verb: &str| {
        let argv = ["governor", verb, "--workload", "tool", "--reason", "drill"];
        Ok::<_, anyhow::Error>(guest.run(&argv)?.ok()?.text())
    };
    let (known, resumed) = (touch(guest, "pause")?, touch(guest, "resume")?);
    let file = "/var/lib/governor/ledger/ledger";
    guest.sh(&format!(
        "systemctl stop governor; printf x | dd of={file} bs=1 seek=100 conv=notrunc status=none; \
         systemctl start governor"
    ))?;
    let locked = status::of(guest)?.trust();
    kit.load(guest, &Spec::default())?;
    let nameless = touch(guest, "pause")?;
    let runs = guest.run(&["systemctl", "is-active", "nameless"])?.code;
    guest.run(&["systemctl", "stop", "nameless"])?.ok()?;
    guest.wait(job, Duration::from_secs(30))?;
    ensure!(
        known.starts_with("1 paused") && resumed.contains("1 go on"),
        "{known} {resumed}"
    );
    ensure!(locked == "locked" && runs == 0, "{locked} {runs}");
    ensure!(
        nameless.starts_with("nothing of it runs"),
        "it became another workload: {nameless}"
    );
    Ok(())
}

pub(super) fn refuses_to_pretend(guest: &mut Guest) -> Result<()> {
    let doctor = guest.run(&["governor", "doctor"])?;
    ensure!(doctor.code != 0, "doctor is content: {}", doctor.text());
    ensure!(
        doctor.text().contains("lsm"),
        "doctor does not say how: {}",
        doctor.text()
    );
    let log = does_not_start(guest)?;
    ensure!(log.contains("bpf"), "the journal does not say why: {log}");
    Ok(())
}

pub(super) fn names_the_hook(guest: &mut Guest) -> Result<()> {
    let lockdown = guest.get("/sys/kernel/security/lockdown")?;
    ensure!(
        String::from_utf8_lossy(&lockdown).contains("[confidentiality]"),
        "the kernel is not locked down"
    );
    let log = does_not_start(guest)?;
    ensure!(
        log.contains("hook `file_open` cannot be attached"),
        "the journal does not name the hook: {log}"
    );
    let job = guest.run(&["systemctl", "start", "governed.slice"])?;
    ensure!(job.code != 0, "the governed slice starts without a gate");
    Ok(())
}

/// What the host says of itself would leave digests stale, or of another kind.
pub(super) fn names_what_makes_digests_wrong(guest: &mut Guest) -> Result<()> {
    let word = wrong(guest)?;
    let doctor = guest.run(&["governor", "doctor"])?;
    let named = doctor
        .text()
        .contains(&format!("MISSING  ima-policy: {word}"));
    ensure!(doctor.code != 0 && named, "{}", doctor.text());
    refuses(guest, &format!("IMA follows `{word}`"))
}

/// And where the host says something else, it shows when it is tried.
pub(super) fn notices_wrong_digests(guest: &mut Guest) -> Result<()> {
    let word = wrong(guest)?;
    guest
        .sh(&format!(
            "sed 's/{word}//' /proc/cmdline > /root/cmdline && mount --bind /root/cmdline /proc/cmdline"
        ))?
        .ok()?;
    let doctor = guest.run(&["governor", "doctor"])?.text();
    let seen = if word.starts_with("ima_hash") {
        refuses(guest, "which is not SHA-256")
    } else {
        refuses(guest, "is not the one of what it holds")
    };
    guest.run(&["umount", "/proc/cmdline"])?.ok()?;
    ensure!(doctor.contains("ok       ima-policy"), "{doctor}");
    seen
}

/// The same, where the trial has no disk: it is made in memory, which policies leave out. So nothing is granted
/// before it was made on a disk, and there it notices.
pub(super) fn notices_them_on_a_disk_only(guest: &mut Guest) -> Result<()> {
    notices_wrong_digests(guest)?;
    let word = wrong(guest)?;
    guest
        .sh(&format!(
            "mkdir -p -m 700 {STATE} && sed 's/{word}//' /proc/cmdline > /root/cmdline && \
             mount --bind /root/cmdline /proc/cmdline"
        ))?
        .ok()?;
    let outcome = [
        (format!("chattr +i {STATE}"), format!("chattr -i {STATE}")),
        (
            format!("mount -t tmpfs -o mode=700 none {STATE}"),
            format!("umount {STATE}"),
        ),
    ]
    .iter()
    .try_for_each(|(take, give)| {
        let seen = starts_and_records_nothing(guest, take, give);
        guest.sh(&format!(
            "systemctl stop governor; {give}; rm -r /sys/fs/bpf/governor"
        ))?;
        seen.with_context(|| format!("after `{take}`"))
    });
    guest.run(&["umount", "/proc/cmdline"])?.ok()?;
    outcome
}

fn starts_and_records_nothing(guest: &mut Guest, take: &str, give: &str) -> Result<()> {
    guest
        .sh(&format!("{take} && systemctl start governor"))?
        .ok()
        .context("starting without a disk")?;
    let said = status::of(guest)?.reasons();
    ensure!(
        said.contains("ledger-unwritable") && said.contains("no directory on a disk"),
        "it records what it likes: {said}"
    );
    if give.starts_with("chattr") {
        // It tries again by itself.
        guest.sh(give)?.ok()?;
        guest
            .wait_until("governor status --json | grep -q 'is not the one of what it holds'")
            .context("waiting for the trial on the disk")?;
        let said = status::of(guest)?.reasons();
        ensure!(said.contains("ledger-unwritable"), "{said}");
    }
    let records = status::of(guest)?.number(&["ledger", "records"]);
    ensure!(records == 0, "{records} records were made");
    Ok(())
}

/// A policy whose rules a trial does not meet, and something else in the place where the kernel would say that
/// there is one.
pub(super) fn names_what_covers_the_policy(guest: &mut Guest) -> Result<()> {
    let word = wrong(guest)?;
    guest
        .sh(&format!(
            "sed 's/{word}//' /proc/cmdline > /root/cmdline && mount --bind /root/cmdline /proc/cmdline && \
             cd {IMA} && echo 'measure func=BPRM_CHECK' > policy && ! test -e policy"
        ))?
        .ok()?;
    let outcome = (|| {
        refuses(guest, "does not show which")?;
        for (what, place) in [
            (
                format!("mount -t tmpfs none {IMA} && touch {IMA}/policy"),
                format!("{IMA}` is not"),
            ),
            // A file of the right file system in the place of the one that is looked for.
            (
                format!(
                    "mount -t tmpfs none {IMA} && touch {IMA}/policy && \
                     mount --bind /sys/kernel/security/lockdown {IMA}/policy"
                ),
                format!("{IMA}` is not"),
            ),
            (
                format!(
                    "cp /sys/kernel/security/lsm /root/lsm && mount -t tmpfs none /sys/kernel/security && \
                     mkdir -p {IMA} && touch {IMA}/policy && cp /root/lsm /sys/kernel/security/lsm"
                ),
                "/sys/kernel/security` is not".to_owned(),
            ),
        ] {
            guest.sh(&what)?.ok().with_context(|| what.clone())?;
            let seen = refuses(guest, &place);
            let doctor = guest.run(&["governor", "doctor"])?.text();
            guest
                .sh(&format!(
                    "umount -l {IMA} 2> /dev/null || umount -l /sys/kernel/security"
                ))?
                .ok()?;
            seen.with_context(|| what.clone())?;
            ensure!(
                doctor.contains("MISSING  ima-policy: "),
                "`{what}`: {doctor}"
            );
        }
        Ok(())
    })();
    guest.run(&["umount", "/proc/cmdline"])?.ok()?;
    outcome
}

/// A policy that came after the boot, and that this kernel shows to nobody.
pub(super) fn names_a_policy_that_is_not_shown(guest: &mut Guest) -> Result<()> {
    let word = wrong(guest)?;
    guest
        .sh(&format!(
            "sed 's/{word}//' /proc/cmdline > /root/cmdline && mount --bind /root/cmdline /proc/cmdline && \
             cd /sys/kernel/security/ima && echo 'measure func=MODULE_CHECK' > policy && ! test -e policy"
        ))?
        .ok()?;
    let seen = refuses(guest, "does not show which");
    guest.run(&["umount", "/proc/cmdline"])?.ok()?;
    seen
}

/// The word of the command line that this boot has for it.
fn wrong(guest: &mut Guest) -> Result<String> {
    let words = guest
        .sh("tr ' ' '\\n' < /proc/cmdline | grep ^ima_")?
        .ok()?;
    Ok(words.text())
}

/// What the journal says of a service that must not start.
fn does_not_start(guest: &mut Guest) -> Result<String> {
    let start = guest.run(&["systemctl", "start", "governor"])?;
    ensure!(start.code != 0, "the service started");
    guest.run(&["systemctl", "stop", "governor"])?;
    let log = guest.run(&["journalctl", "-u", "governor", "-o", "cat"])?;
    Ok(log.text())
}

const STATE: &str = "/var/lib/governor";
const IMA: &str = "/sys/kernel/security/integrity/ima";

/// Whether it does not start, and says why.
fn refuses(guest: &mut Guest, why: &str) -> Result<()> {
    let log = does_not_start(guest)?;
    ensure!(log.contains(why), "the journal does not say why: {log}");
    let left = guest.sh("ls -A /sys/fs/bpf/governor /var/lib/governor/trial 2>/dev/null")?;
    ensure!(left.text().is_empty(), "something is left: {}", left.text());
    Ok(())
}
