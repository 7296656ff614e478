//! The steps of the story, in order. The tests tell the same story, so it cannot drift from them.

use super::Story;
use crate::{
    guest::{Guest, Output},
    kit::{AGENT, AGENTS_SLICE, ALLOWED, ELSEWHERE, Kit, Spec, in_zone},
    status,
};
use anyhow::{Context as _, Result};
use std::time::{Duration, Instant};

/// A service whose program the kernel would not execute, as systemd reports it (EXIT_EXEC).
const DENIED: &str = "203";
/// The workload reached its end.
const RAN: &str = "0";
/// The workload was refused by the kernel with EPERM.
const REFUSED: &str = "101";

/// Tells the whole story in a guest that has just had the package installed.
pub(crate) fn tell(guest: &mut Guest, story: &mut Story) -> Result<()> {
    before_policy(guest, story)?;
    let kit = trust(guest, story)?;
    observe_then_enforce(guest, story, &kit)?;
    reload(guest, story, &kit)?;
    without_the_daemon(guest, story, &kit)?;
    trust_is_lost(guest, story, &kit)
}

fn before_policy(guest: &mut Guest, story: &mut Story) -> Result<()> {
    story.chapter("1. no policy, no trust: nothing runs in a governed slice");
    let active = guest.run(&["systemctl", "is-active", "governor"])?.text();
    story.step("governor.service is up", "active", active);
    let said = status::of(guest)?;
    story.step("trust", "unattested", said.trust());
    story.step("policy", "none", said.policy());
    guest
        .run(&["useradd", "--system", crate::kit::USER])?
        .ok()?;
    let denied = code(&in_zone(guest, AGENTS_SLICE, &["/usr/bin/id"])?);
    story.step("a program below governed.slice", DENIED, denied);
    let outside = guest.run(&["/usr/bin/id", "-u"])?;
    story.step("the same program outside", "0", outside.text());
    Ok(())
}

fn trust(guest: &mut Guest, story: &mut Story) -> Result<Kit> {
    story.chapter("2. baseline in the guest, signature on the host, quote, lease, entries");
    let kit = Kit::new(guest)?;
    let policy = kit.signed(&Spec {
        mode: "observe",
        ..short_lease()
    })?;
    let loaded = kit.offer(guest, &policy)?;
    story.step(
        "the policy signed on the host is loaded",
        RAN,
        code(&loaded),
    );
    let keys =
        guest.sh("grep -rl 'OPENSSH PRIVATE KEY' /root /etc /var /opt 2>/dev/null | wc -l")?;
    story.step("private keys in the guest", "0", keys.text());
    let fresh = guest.run(&["governor", "attest", "now"])?;
    story.step("a quote is appraised", RAN, code(&fresh));
    let said = status::of(guest)?;
    story.step("trust", "trusted", said.trust());
    let lease = said.number(&["trust", "lease_left_ms"]);
    story.judge(
        "a lease runs",
        "1 to 10000 ms left",
        &format!("{lease} ms"),
        (1..=10_000).contains(&lease),
    );
    let rows = said.number(&["policy", "rows"]);
    story.judge(
        "entries stand in the kernel's map",
        "more than 0",
        &rows.to_string(),
        rows > 0,
    );
    Ok(kit)
}

fn observe_then_enforce(guest: &mut Guest, story: &mut Story, kit: &Kit) -> Result<()> {
    story.chapter("3. observe, then enforce");
    story.step(
        "observed: the workload",
        RAN,
        run(guest, &[AGENT, "hello"])?,
    );
    story.step(
        "observed: an unknown program",
        RAN,
        run(guest, &["/usr/bin/id"])?,
    );
    let events = guest
        .run(&["governor", "events", "--denials", "--json"])?
        .text();
    let recorded = events
        .lines()
        .any(|line| line.contains("would-deny") && line.contains("/id"));
    story.step(
        "it is recorded that it would have been denied",
        true,
        recorded,
    );

    let policy = kit.signed(&short_lease())?;
    story.step(
        "the policy is reloaded into enforce",
        RAN,
        code(&kit.offer(guest, &policy)?),
    );
    kit.trusted(guest)?;
    listen(guest)?;
    story.step(
        "the workload runs in its zone",
        RAN,
        run(guest, &[AGENT, "hello"])?,
    );
    story.step(
        "it connects where it may",
        RAN,
        run(guest, &[AGENT, "tcp", ALLOWED])?,
    );
    story.step(
        "it connects elsewhere",
        REFUSED,
        run(guest, &[AGENT, "tcp", ELSEWHERE])?,
    );
    story.step(
        "a datagram where it may",
        RAN,
        run(guest, &[AGENT, "udp", "127.0.0.1:5353"])?,
    );
    story.step(
        "a datagram elsewhere",
        REFUSED,
        run(guest, &[AGENT, "udp", "127.0.0.2:5353"])?,
    );
    story.step("an unknown program", DENIED, run(guest, &["/usr/bin/id"])?);
    let loader = "/lib64/ld-linux-x86-64.so.2";
    story.step(
        "the same through ld.so",
        DENIED,
        run(guest, &[loader, "/usr/bin/id"])?,
    );
    guest
        .sh(&format!(
            "cp {AGENT} /opt/agent/other-name; cp {AGENT} /opt/agent/changed; \
             printf x | dd of=/opt/agent/changed bs=1 seek=$(($(stat -c %s {AGENT}) - 1)) \
             conv=notrunc status=none"
        ))?
        .ok()
        .context("copying the workload")?;
    story.step(
        "one byte changed",
        DENIED,
        run(guest, &["/opt/agent/changed", "hello"])?,
    );
    story.step(
        "another name",
        RAN,
        run(guest, &["/opt/agent/other-name", "hello"])?,
    );
    Ok(())
}

fn reload(guest: &mut Guest, story: &mut Story, kit: &Kit) -> Result<()> {
    story.chapter("4. the next policy holds at once; bad ones change nothing");
    let lower = kit.signed(&short_lease())?;
    let next = kit.signed(&Spec {
        allowed: "127.0.0.2/32",
        ..short_lease()
    })?;
    story.step(
        "the next serial is loaded",
        RAN,
        code(&kit.offer(guest, &next)?),
    );
    story.step("now allowed", RAN, run(guest, &[AGENT, "tcp", ELSEWHERE])?);
    story.step("now denied", REFUSED, run(guest, &[AGENT, "tcp", ALLOWED])?);

    story.step("a lower serial", "3", code(&kit.offer(guest, &lower)?));
    let broken = kit.signed(&short_lease())?;
    let sums = std::fs::read_to_string(broken.join("SHA256SUMS"))?;
    std::fs::write(broken.join("SHA256SUMS"), format!("{sums}\n"))?;
    story.step("a broken signature", "5", code(&kit.offer(guest, &broken)?));
    let unlisted = kit.signed(&short_lease())?;
    std::fs::write(unlisted.join("extra.toml"), "")?;
    story.step(
        "a file that is not listed",
        "5",
        code(&kit.offer(guest, &unlisted)?),
    );
    let stranger = kit.write(&short_lease())?;
    kit.sign_with(&stranger, &kit.stranger()?)?;
    story.step(
        "a key nobody trusts",
        "5",
        code(&kit.offer(guest, &stranger)?),
    );
    story.step(
        "the old policy goes on: allowed",
        RAN,
        run(guest, &[AGENT, "tcp", ELSEWHERE])?,
    );
    story.step(
        "the old policy goes on: denied",
        REFUSED,
        run(guest, &[AGENT, "tcp", ALLOWED])?,
    );
    Ok(())
}

fn without_the_daemon(guest: &mut Guest, story: &mut Story, kit: &Kit) -> Result<()> {
    story.chapter("5. the daemon is killed; enforcement and the lease are the kernel's");
    guest
        .sh("mkdir -p /run/systemd/system/governor.service.d && \
             printf '[Service]\\nRestart=no\\n' > /run/systemd/system/governor.service.d/hold.conf && \
             systemctl daemon-reload")?
        .ok()
        .context("holding back the restart")?;
    kit.trusted(guest)?;
    guest
        .run(&["systemctl", "kill", "--signal=KILL", "governor"])?
        .ok()?;
    let killed = Instant::now();
    story.step(
        "the workload, on the running lease",
        RAN,
        run(guest, &[AGENT, "hello"])?,
    );
    story.step("an unknown program", DENIED, run(guest, &["/usr/bin/id"])?);
    let mut last = String::new();
    while last != DENIED && killed.elapsed() < Duration::from_secs(60) {
        last = run(guest, &[AGENT, "hello"])?;
    }
    story.step("the workload, once the lease ran out", DENIED, last);
    let unreachable = code(&guest.run(&["governor", "status"])?);
    story.step("governor status says that nobody answers", "4", unreachable);
    guest
        .sh(
            "rm -r /run/systemd/system/governor.service.d && systemctl daemon-reload && \
             systemctl reset-failed governor; systemctl start governor",
        )?
        .ok()
        .context("releasing the restart")?;
    kit.trusted(guest)?;
    let said = status::of(guest)?;
    story.step(
        "it adopted what was pinned",
        "true",
        said.text(&["daemon", "adopted"]),
    );
    story.step(
        "the workload runs again",
        RAN,
        run(guest, &[AGENT, "hello"])?,
    );
    Ok(())
}

fn trust_is_lost(guest: &mut Guest, story: &mut Story, kit: &Kit) -> Result<()> {
    story.chapter("6. a quoted register changes: revoked, stopped, and said why");
    kit.trusted(guest)?;
    let slice = format!("--slice={AGENTS_SLICE}");
    let user = format!("--uid={}", crate::kit::USER);
    let job = guest.spawn(&[
        "systemd-run",
        "--quiet",
        "--wait",
        "--pipe",
        "--collect",
        &slice,
        &user,
        "--",
        AGENT,
        "hold",
    ])?;
    guest.wait_for_output(job, b"holding", Duration::from_secs(30))?;
    guest
        .sh("tpm2_pcrextend 14:sha256=$(printf unexpected | sha256sum | cut -d' ' -f1)")?
        .ok()
        .context("extending PCR 14")?;
    let ended = guest.wait(job, Duration::from_secs(60))?;
    story.judge(
        "the running workload is killed",
        "a failure",
        &code(&ended),
        ended.code != 0,
    );
    story.step("a new execution", DENIED, run(guest, &[AGENT, "hello"])?);
    let output = guest.run(&["governor", "status"])?;
    story.step("governor status", "3", code(&output));
    let said = status::of(guest)?;
    story.step("trust", "degraded", said.trust());
    let reasons = said.reasons();
    story.judge(
        "the reason",
        "names PCR 14",
        &reasons,
        reasons.contains("14"),
    );
    let clears = said.remedies();
    story.judge(
        "what clears it",
        "a reboot or new reference values",
        &clears,
        clears.contains("reboot"),
    );
    Ok(())
}

/// Listeners at both addresses, outside every zone.
fn listen(guest: &mut Guest) -> Result<()> {
    for at in [ALLOWED, ELSEWHERE] {
        let job = guest.spawn(&[AGENT, "serve", at])?;
        guest.wait_for_output(job, b"listening", Duration::from_secs(30))?;
    }
    Ok(())
}

fn short_lease() -> Spec {
    Spec {
        lease: "10s",
        every: "2s",
        ..Spec::default()
    }
}

fn run(guest: &mut Guest, argv: &[&str]) -> Result<String> {
    Ok(code(&in_zone(guest, AGENTS_SLICE, argv)?))
}

fn code(output: &Output) -> String {
    output.code.to_string()
}
