//! What a workload is allowed and does too often: it is stopped, others and the host's trust are left alone.

use super::*;

pub(super) fn started(guest: &mut Guest) -> Result<()> {
    let (path, line) = copy(guest, "other")?;
    let spec = Spec {
        tables: SPAWNING,
        sets: vec![("calm", line)],
        thaw: true,
        ..frozen_by_policy()
    };
    let kit = load(guest, &spec)?;
    let met = |ledger: &ledger::Ledger| Ok(ledger.times("spawning"));
    let before = met(&ledger::of(guest)?)?;
    // Each starts two, of three that are too many.
    let twice = |path| [path, "spawn", path, "spawn", path, "hold"];
    let calm = hold(guest, AGENTS_SLICE, "calm", &twice(&path))?;
    let often = hold(guest, AGENTS_SLICE, "often", &twice(AGENT))?;
    ensure!(!is_frozen(guest, &cgroup("often"))?, "two were too many");
    // It may be frozen before it ends.
    let third = [AGENT, "spawn", AGENT, "hello"];
    let third = launch(guest, AGENTS_SLICE, NO_LIMIT, "third", &third)?;
    comes_to(guest, "often", "frozen 1").context("three are too many")?;
    is_told(guest, met, before)?;
    ensure!(!is_frozen(guest, &cgroup("calm"))?, "another is frozen");

    // What trust alone froze goes on by itself, also by the hand of the next daemon.
    kit.distrust(guest, &spec)?;
    ensure!(is_frozen(guest, &cgroup("calm"))?, "policy says freeze");
    guest.run(&["systemctl", "restart", "governor"])?.ok()?;
    until_thawed(guest, |guest| kit.load(guest, &spec))?;
    comes_to(guest, "calm", "frozen 0")?;
    ensure!(is_frozen(guest, &cgroup("often"))?, "it goes on by itself");
    let resumed = by_hand(guest, "resume")?.ok()?.text();
    ensure!(!resumed.contains(": 0 go on"), "it went on: {resumed}");
    ensure!(!is_frozen(guest, &cgroup("often"))?, "it does not go on");
    end(guest, vec![calm, often, third])
}

pub(super) fn connected(guest: &mut Guest) -> Result<()> {
    let (path, line) = copy(guest, "other")?;
    let spec = Spec {
        tables: CALLING,
        sets: vec![("calm", line)],
        on_revoke: "deny",
        ..Spec::default()
    };
    load(guest, &spec)?;
    let met = |ledger: &ledger::Ledger| Ok(ledger.times("calling"));
    let before = met(&ledger::of(guest)?)?;
    let (first, second) = (witness(guest, ALLOWED)?, witness(guest, SECOND)?);
    let often = start(guest, "often", &["stay", ALLOWED], "holding")?;
    let calm = hold(guest, AGENTS_SLICE, "calm", &[&path, "stay", SECOND])?;
    ensure!(!is_frozen(guest, &cgroup("often"))?, "one was too many");
    let again = [AGENT, "udp-connected", "127.0.0.1:5353"];
    let again = launch(guest, AGENTS_SLICE, NO_LIMIT, "again", &again)?;
    comes_to(guest, "often", "frozen 1").context("two are too many")?;
    cut_off(guest, first)?;
    is_told(guest, met, before)?;
    let open = connections(guest)?;
    ensure!(open == "1", "of another workload {open} connections stand");
    ensure!(!is_frozen(guest, &cgroup("calm"))?, "another is frozen");
    gate::expect(guest, &["hello"], 0, "a copy that is started now")?;
    end(guest, vec![often, calm, again])?;
    guest.wait(second, BOUND)?.ok().map(drop)
}

fn comes_to(guest: &mut Guest, unit: &str, state: &str) -> Result<()> {
    guest.wait_until(&format!("grep -q '{state}' {}/cgroup.events", cgroup(unit)))
}

/// It is in the record, and the host is trusted.
fn is_told(
    guest: &mut Guest,
    met: impl Fn(&ledger::Ledger) -> Result<u64>,
    before: u64,
) -> Result<()> {
    let after = ledger::when(guest, met, |after| *after > before)?;
    ensure!(after == before + 1, "{before} records, then {after}");
    let said = status::of(guest)?;
    let (trust, reasons) = (said.trust(), said.reasons());
    ensure!(trust == "trusted", "it took the host's trust: {reasons}");
    Ok(())
}

const SPAWNING: &str = r#"
[risk.spawning]
count = 3
of = "spawn"
within = "10m"
action = "freeze"

[workload.calm]
zone = "agents"
exec = ["calm"]
libraries = ["os-libraries"]
started_by = ["operator", "calm"]
user = ["agent"]
on_revoke = "freeze"
"#;
const CALLING: &str = r#"
[risk.calling]
count = 2
of = "connect"
within = "10m"
action = "quarantine"

[workload.calm]
zone = "agents"
exec = ["calm"]
libraries = ["os-libraries"]
started_by = ["operator"]
user = ["agent"]
on_revoke = "deny"
egress = [{ to = "127.0.0.2/32", ports = ["8443"], protocol = "tcp" }]
"#;
