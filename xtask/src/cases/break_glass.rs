//! `governor break-glass`, through the real command line: with everything lost but root and a key, and
//! with nothing lost, where it must cost trust and leave alone what it is not for.

use super::{Case, Suite, gate};
use crate::{
    guest::{BootOptions, Guest, JobId, Output},
    kit::{AGENT, AGENTS_SLICE, Kit, Spec, in_zone},
    process, status,
};
use anyhow::{Context as _, Result, ensure};

use gate::{BOUND, NOT_EXECUTED};

pub(crate) const SUITE: Suite = Suite {
    name: "break-glass",
    options: BootOptions::new,
    kernels: super::Kernels::Every,
    prepare,
    cases: &[
        Case {
            name: "with_tpm_policy_and_ledger_lost_it_works_and_ends_by_itself",
            run: everything_lost,
        },
        Case {
            name: "nobody_without_the_right_key_breaks_it",
            run: credentials,
        },
        Case {
            name: "it_costs_trust_and_what_is_revoked_or_the_gates_own_stays",
            run: nothing_lost,
        },
        Case {
            name: "the_kernel_reported_no_fault",
            run: gate::no_fault,
        },
    ],
};

/// The key in the guest, and who may break the glass there.
const KEY: &str = "/root/glass";
const KEYS: &str = "/etc/governor/break_glass_keys";
/// What no policy here lists.
const UNKNOWN: &str = "/usr/bin/id";
/// Below the governed slice, and no policy here names it.
const NOWHERE: &str = "governed-nowhere.slice";
/// A program that goes on, and that no policy here lists.
const LASTING: &str = "/usr/bin/sleep";

fn prepare(guest: &mut Guest) -> Result<()> {
    gate::prepare(guest)?;
    make_key(guest)
}

/// A key that may break the glass, for a daemon whose guard is not armed yet.
pub(super) fn make_key(guest: &mut Guest) -> Result<()> {
    guest
        .sh(&format!(
            "ssh-keygen -q -t ed25519 -N '' -C glass -f {KEY} && cat {KEY}.pub >> {KEYS} && \
             systemctl restart governor"
        ))?
        .ok()
        .context("making a break-glass key")
        .map(drop)
}

/// No policy, no TPM, no room for a record.
fn everything_lost(guest: &mut Guest) -> Result<()> {
    let policy = status::of(guest)?.policy();
    guest
        .sh("systemctl stop governor; rm -rf /root/state; cp -a /var/lib/governor /root/state")?
        .ok()?;
    if policy != "none" {
        guest.sh("rm -rf /var/lib/governor/*; sync")?.ok()?;
        guest.reboot()?;
    }
    let outcome = (|| {
        lose_everything(guest)?;
        ensure!(
            unknown(guest)? == NOT_EXECUTED,
            "something runs to begin with"
        );
        works_and_is_written_down_later(guest)?;
        ends_without_a_daemon(guest)
    })();
    guest
        .sh("systemctl stop governor; umount /var/lib/governor/ledger; \
             cp /root/conf /etc/governor/governor.toml; rm -rf /var/lib/governor/*; \
             cp -a /root/state/. /var/lib/governor/; sync")?
        .ok()
        .context("putting everything back")?;
    // The kernel knows of a longer ledger; another boot knows of none.
    guest.reboot()?;
    outcome
}

fn lose_everything(guest: &mut Guest) -> Result<()> {
    guest
        .sh("cp /etc/governor/governor.toml /root/conf && \
             printf '[tpm]\\ntcti = \"device:/dev/tpm-none\"\\n' > /etc/governor/governor.toml && \
             systemctl stop governor && cd /var/lib/governor && cp ledger/ledger /root/ledger && \
             mount -t tmpfs -o size=4m tmpfs ledger && cp /root/ledger ledger/ledger && \
             systemctl start governor && \
             { dd if=/dev/zero of=ledger/filler bs=4k status=none || true; }")?
        .ok()
        .context("putting the ledger on a small disk and filling it")?;
    // What is left of the last page takes a record or two, and so many denials do not fit into it.
    let cgroup = "/sys/fs/cgroup/governed.slice/denied";
    let tried = format!(
        "mkdir -p {cgroup}; sh -c 'echo $$ > {cgroup}/cgroup.procs; for i in $(seq 16); do {UNKNOWN}; \
         done'; rmdir {cgroup}; governor status --json | grep -q ledger-unwritable"
    );
    guest
        .wait_until(&tried)
        .context("waiting until no record fits")
}

fn works_and_is_written_down_later(guest: &mut Guest) -> Result<()> {
    let reason = "the host lost everything";
    let broken = break_it(guest, reason, "1h")?;
    ensure!(broken.code == 0, "{} {}", broken.text(), broken.errors());
    ensure!(
        broken
            .errors()
            .contains("the record could not be written and is owed"),
        "nobody is told of the record: {}",
        broken.errors()
    );
    ensure!(unknown(guest)? == 0, "an unknown program does not run");
    let journal = guest
        .sh("journalctl -u governor -p err -o cat")?
        .ok()?
        .text();
    ensure!(
        journal.contains("THE GLASS IS BROKEN"),
        "the journal does not say so: {journal}"
    );
    let said = guest.run(&["governor", "status"])?;
    ensure!(
        said.code == 3 && said.text().starts_with("THE GLASS IS BROKEN"),
        "status: {} {}",
        said.code,
        said.text()
    );
    let said = status::of(guest)?;
    ensure!(
        said.text(&["break_glass", "owed"]) == "true" && said.reasons().contains(reason),
        "{}",
        said.reasons()
    );
    let written = format!("grep -aq '{reason}' /var/lib/governor/ledger/ledger");
    ensure!(
        guest.sh(&written)?.code != 0,
        "there was room for the record"
    );
    guest
        .run(&["rm", "/var/lib/governor/ledger/filler"])?
        .ok()?;
    guest
        .wait_until(&written)
        .context("waiting for the record")?;
    ensure!(
        status::of(guest)?.text(&["break_glass", "owed"]) == "false",
        "something is still owed"
    );
    mend(guest)?;
    ensure!(unknown(guest)? == NOT_EXECUTED, "it goes on after its end");
    Ok(())
}

/// The daemon is killed and stays away; the kernel ends it, and the next daemon stops what ran for it.
fn ends_without_a_daemon(guest: &mut Guest) -> Result<()> {
    let seconds = 30;
    let began = std::time::Instant::now();
    let broken = break_it(guest, "once more", &format!("{seconds}s"))?;
    ensure!(broken.code == 0, "{} {}", broken.text(), broken.errors());
    lasting(guest, AGENTS_SLICE)?;
    guest
        .sh("mkdir -p /run/systemd/system/governor.service.d && \
             printf '[Service]\\nRestart=no\\n' > /run/systemd/system/governor.service.d/hold.conf && \
             systemctl daemon-reload && systemctl kill --signal=KILL governor")?
        .ok()
        .context("killing the daemon")?;
    let outcome = (|| {
        let dead = guest.run(&["governor", "status"])?.code;
        ensure!(dead == 4, "somebody answers: {dead}");
        ensure!(unknown(guest)? == 0, "it took a daemon");
        let mut seen = 0;
        while seen != NOT_EXECUTED && began.elapsed() < BOUND {
            seen = unknown(guest)?;
        }
        ensure!(seen == NOT_EXECUTED, "it does not end: {seen}");
        ensure!(
            began.elapsed().as_secs() >= seconds,
            "it ended after {} s",
            began.elapsed().as_secs()
        );
        let running = guest.sh("systemctl is-active lasting")?.text();
        ensure!(running == "active", "who stopped it? it is {running}");
        Ok(())
    })();
    guest
        .sh(
            "rm /run/systemd/system/governor.service.d/hold.conf && systemctl daemon-reload && \
             systemctl start governor",
        )?
        .ok()
        .context("starting the daemon again")?;
    outcome?;
    gone(guest)?;
    ensure!(
        status::of(guest)?
            .text(&["break_glass", "until"])
            .is_empty(),
        "the next daemon did not deal with it"
    );
    Ok(())
}

fn credentials(guest: &mut Guest) -> Result<()> {
    let kit = guest.kept::<Kit>()?;
    guest
        .sh(&format!(
            "mv {KEYS} /root/keys && systemctl restart governor"
        ))?
        .ok()?;
    let (none, doctor) = (
        break_it(guest, "drill", "1m")?,
        guest.run(&["governor", "doctor"])?,
    );
    guest
        .sh(&format!(
            "mv /root/keys {KEYS} && systemctl restart governor"
        ))?
        .ok()?;
    ensure!(
        none.code == 3 && none.errors().contains(KEYS),
        "without keys: {} {}",
        none.code,
        none.errors()
    );
    ensure!(
        doctor.code == 0 && doctor.text().contains("note     break-glass: `/etc"),
        "doctor without keys: {} {}",
        doctor.code,
        doctor.text()
    );
    guest
        .sh("ssh-keygen -q -t ed25519 -N '' -f /root/stranger")?
        .ok()?;
    // The key that signs policies, where it must never be; it is good for nothing here.
    guest.put_file(&kit.key(), "/root/policy_key")?;
    for key in ["/root/stranger", "/root/policy_key"] {
        let refused = break_with(guest, key, "drill", "1m")?;
        ensure!(
            refused.code == 5 && refused.errors().contains("not trusted"),
            "with `{key}`: {} {}",
            refused.code,
            refused.errors()
        );
    }
    let too_long = break_it(guest, "drill", "5h")?;
    ensure!(
        too_long.code == 2 && too_long.errors().contains("14400 s"),
        "{} {}",
        too_long.code,
        too_long.errors()
    );
    guest
        .sh(&format!("cp {KEY} /tmp/glass && chown agent /tmp/glass"))?
        .ok()?;
    let agent = guest
        .sh("runuser -u agent -- governor break-glass --reason drill --for 1m --key /tmp/glass")?;
    ensure!(agent.code == 4, "a user: {} {}", agent.code, agent.errors());
    ensure!(unknown(guest)? == NOT_EXECUTED, "one of them broke it");
    let refused = status::of(guest)?.number(&["break_glass", "refused"]);
    ensure!(refused == 2, "{refused} tries are counted");
    elsewhere(guest, &kit)
}

/// Signed by `ssh-keygen`, on the machine that has the key; once, and not again.
fn elsewhere(guest: &mut Guest, kit: &Kit) -> Result<()> {
    let asked = [
        "governor",
        "break-glass",
        "--reason",
        "drill",
        "--for",
        "1m",
    ];
    let with = |how: &'static str, file: &'static str| [&asked[..], &[how, file]].concat();
    guest
        .run(&with("--challenge-out", "/root/challenge"))?
        .ok()?;
    let (here, key) = (kit.path("challenge"), kit.path("glass"));
    for (from, to) in [("/root/challenge", &here), (KEY, &key)] {
        let bytes = guest.get(from)?;
        std::fs::write(to, bytes).with_context(|| format!("writing `{}`", to.display()))?;
    }
    let owner = std::os::unix::fs::PermissionsExt::from_mode(0o600);
    std::fs::set_permissions(&key, owner)?;
    let mut sign = process::command("ssh-keygen");
    sign.args(["-q", "-Y", "sign", "-n", "governor-break-glass@v1", "-f"]);
    process::capture(sign.arg(&key).arg(&here)).context("signing with ssh-keygen")?;
    guest.put_file(&kit.path("challenge.sig"), "/root/challenge.sig")?;
    let signed = with("--signature", "/root/challenge.sig");
    guest.run(&signed)?.ok().context("breaking the glass")?;
    ensure!(unknown(guest)? == 0, "an unknown program does not run");
    let twice = break_it(guest, "more", "2h")?;
    ensure!(
        twice.code == 3 && twice.errors().contains("not made longer"),
        "{} {}",
        twice.code,
        twice.errors()
    );
    mend(guest)?;
    let replayed = guest.run(&signed)?;
    ensure!(
        replayed.code == 3 && replayed.errors().contains("no challenge is open"),
        "a replay: {} {}",
        replayed.code,
        replayed.errors()
    );
    ensure!(unknown(guest)? == NOT_EXECUTED, "a replay broke it");
    Ok(())
}

/// On a host that has all it needs.
fn nothing_lost(guest: &mut Guest) -> Result<()> {
    let kit = gate::load(guest, &Spec::default())?;
    let doomed = "/opt/agent/glass-doomed";
    guest
        .sh(&format!("cp {UNKNOWN} {doomed}; printf x >> {doomed}"))?
        .ok()?;
    let measured = guest.run(&["governor", "measure", doomed])?.ok()?.text();
    let digest = measured.split(' ').next().unwrap_or_default();
    let revoke = [
        "governor", "revoke", "--digest", digest, "--reason", "drill",
    ];
    guest.run(&revoke)?.ok().context("revoking")?;
    let work = work(guest)?;
    let broken = break_it(guest, "a drill", "1h")?;
    ensure!(broken.code == 0, "{} {}", broken.text(), broken.errors());
    let outcome = while_broken(guest, doomed);
    lasting(guest, NOWHERE)?;
    mend(guest)?;
    outcome?;
    ensure!(unknown(guest)? == NOT_EXECUTED, "it goes on after its end");
    gone(guest)?;
    let ended = guest.wait(work, BOUND)?;
    ensure!(ended.code != 0, "attested work outlived its authorization");
    kit.trusted(guest).context("getting trust back")?;
    gate::expect(guest, &["hello"], 0, "the workload, with trust again")?;
    ensure!(
        unknown(guest)? == NOT_EXECUTED,
        "an unknown program, with trust again"
    );
    Ok(())
}

fn while_broken(guest: &mut Guest, doomed: &str) -> Result<()> {
    ensure!(unknown(guest)? == 0, "an unknown program does not run");
    gate::expect(guest, &["hello"], 0, "the workload")?;
    for slice in [AGENTS_SLICE, NOWHERE] {
        let revoked = in_zone(guest, slice, &[doomed])?.code;
        ensure!(
            revoked == NOT_EXECUTED,
            "what is revoked, in {slice}: {revoked}"
        );
    }
    let unnamed = in_zone(guest, NOWHERE, &[UNKNOWN])?.code;
    ensure!(
        unnamed == 0,
        "an unknown program where no policy names the zone: {unnamed}"
    );
    let pid = guest.run(&["systemctl", "show", "governor", "--value", "-p", "MainPID"])?;
    let kill = guest.run(&["kill", "-9", &pid.ok()?.text()])?;
    ensure!(kill.code != 0, "root killed the daemon");
    let told = guest.run(&["governor", "explain", UNKNOWN, "--zone", "agents"])?;
    ensure!(
        told.text().contains("would-deny"),
        "explain: {}",
        told.text()
    );
    let asked = guest.run(&["governor", "attest", "now"])?.code;
    let said = status::of(guest)?;
    ensure!(
        asked == 3
            && said.trust() == "degraded"
            && said.reasons().contains("break-glass: by uid 0"),
        "a quote gave trust: {asked}, {}: {}",
        said.trust(),
        said.reasons()
    );
    // Another daemon takes it over, with its end.
    let until = said.text(&["break_glass", "until"]);
    guest.run(&["systemctl", "restart", "governor"])?.ok()?;
    let said = status::of(guest)?;
    let left = said.number(&["break_glass", "left_ms"]);
    ensure!(
        (1..=3_600_000).contains(&left)
            && said.text(&["break_glass", "key"]).starts_with("SHA256:"),
        "after a restart {left} ms are left until {}, before {until}",
        said.text(&["break_glass", "until"])
    );
    ensure!(unknown(guest)? == 0, "a restart ended it");
    Ok(())
}

/// The listed workload, running.
fn work(guest: &mut Guest) -> Result<JobId> {
    let slice = format!("--slice={AGENTS_SLICE}");
    let job = guest.spawn(&[
        "systemd-run",
        "--quiet",
        "--wait",
        "--pipe",
        "--collect",
        &slice,
        "--uid=agent",
        "--",
        AGENT,
        "hold",
    ])?;
    guest.wait_for_output(job, b"holding", BOUND)?;
    Ok(job)
}

pub(super) fn break_it(guest: &mut Guest, reason: &str, time: &str) -> Result<Output> {
    break_with(guest, KEY, reason, time)
}

fn break_with(guest: &mut Guest, key: &str, reason: &str, time: &str) -> Result<Output> {
    guest.run(&[
        "governor",
        "break-glass",
        "--reason",
        reason,
        "--for",
        time,
        "--key",
        key,
    ])
}

pub(super) fn mend(guest: &mut Guest) -> Result<()> {
    let end = ["governor", "break-glass", "--end", "--reason", "over"];
    guest
        .run(&end)?
        .ok()
        .context("ending break-glass")
        .map(drop)
}

/// How an unknown program ends in the agents' slice.
fn unknown(guest: &mut Guest) -> Result<i32> {
    Ok(in_zone(guest, AGENTS_SLICE, &[UNKNOWN])?.code)
}

/// Starts an unknown program that goes on.
pub(super) fn lasting(guest: &mut Guest, slice: &str) -> Result<()> {
    guest
        .sh(&format!(
            "systemd-run --quiet --collect --unit=lasting --slice={slice} --uid=agent -- {LASTING} 1d && \
             systemctl is-active lasting"
        ))?
        .ok()
        .context("starting something that lasts")
        .map(drop)
}

/// It is stopped.
pub(super) fn gone(guest: &mut Guest) -> Result<()> {
    guest
        .wait_until("! systemctl is-active lasting")
        .context("waiting for what ran only for break-glass to be stopped")
}
