//! What operators mean by zone and by digest: that is held or revoked, and nothing else.

use super::*;
use crate::kit::in_zone;
use gate::NOT_EXECUTED;

/// Two contents of one workload, and one of the two in another zone.
pub(super) fn held(guest: &mut Guest) -> Result<()> {
    let (path, line) = copy(guest, "other")?;
    let other = digest(&line);
    let spec = Spec {
        planner: line,
        allowed: "127.0.0.0/8",
        ..frozen_by_policy()
    };
    load(guest, &spec)?;
    let agent = guest.run(&["governor", "measure", AGENT])?.ok()?.text();
    let agent = digest(&agent);
    let (first, second) = (witness(guest, ALLOWED)?, witness(guest, SECOND)?);
    let agents = [
        hold(guest, AGENTS_SLICE, "agent", &[AGENT, "stay", ALLOWED])?,
        hold(guest, AGENTS_SLICE, "other", &[&path, "stay", SECOND])?,
    ];
    let tool = hold(guest, TOOLS_SLICE, "tool", &[AGENT, "hold"])?;

    let agents_alone = [true, true, false];
    let zone = ["--zone", "agents"];
    holds(guest, "pause", &zone, "2 paused", agents_alone)?;
    let open = connections(guest)?;
    ensure!(open == "2", "pausing left {open} connections of two");
    holds(guest, "resume", &zone, "2 go on", [false; 3])?;

    let other_alone = [false, true, false];
    let meant = ["--digest", &other];
    let closed = "1 quarantined, 0 killed, 1 connections closed";
    holds(guest, "quarantine", &meant, closed, other_alone)?;
    cut_off(guest, second)?;
    let open = connections(guest)?;
    ensure!(open == "1", "of another content {open} connections stand");

    // A digest is meant in every zone.
    let meant = ["--digest", &agent];
    holds(guest, "pause", &meant, "2 paused", [true; 3])?;
    holds(guest, "resume", &meant, "2 go on", other_alone)?;

    let closed = "1 connections closed";
    holds(guest, "quarantine", &["--all"], closed, [true; 3])?;
    cut_off(guest, first)?;
    let tools = ["--zone", "tools"];
    holds(guest, "resume", &tools, "1 go on", agents_alone)?;

    let pid = main_pid(guest, "tool")?;
    told(guest, "kill", &zone, "2 killed")?;
    for job in agents {
        ensure!(guest.wait(job, BOUND)?.code != 0, "it was not killed");
    }
    let now = main_pid(guest, "tool")?;
    ensure!(pid != "0" && now == pid, "the other zone's ended");
    end(guest, vec![tool])
}

/// The same content in two zones, of which one is revoked for good: a zone that no other case has.
pub(super) fn revoked(guest: &mut Guest) -> Result<()> {
    let (path, line) = copy(guest, "twice")?;
    let spec = Spec {
        tables: TWICE,
        sets: vec![("twice", line)],
        ..Spec::default()
    };
    let kit = load(guest, &spec)?;
    let doomed = hold(guest, DOOMED, "doomed", &[&path, "hold"])?;
    let spared = hold(guest, AGENTS_SLICE, "spared", &[&path, "hold"])?;
    told(guest, "revoke", &["--zone", "doomed"], "1 killed")?;
    let code = |guest: &mut Guest, slice| -> Result<i32> {
        Ok(in_zone(guest, slice, &[&path, "hello"])?.code)
    };
    let again = code(guest, DOOMED)?;
    ensure!(again == NOT_EXECUTED, "the very next execution: {again}");
    ensure!(guest.wait(doomed, BOUND)?.code != 0, "the copy goes on");
    ensure!(main_pid(guest, "spared")? != "0", "the other zone's ended");
    kit.load(guest, &spec)?;
    let again = code(guest, DOOMED)?;
    ensure!(again == NOT_EXECUTED, "under the next policy: {again}");
    let other = code(guest, AGENTS_SLICE)?;
    ensure!(other == 0, "in the other zone: {other}");
    end(guest, vec![spared])
}

/// Has an operator's verb done, and its answer says this.
fn told(guest: &mut Guest, verb: &str, meant: &[&str], says: &str) -> Result<()> {
    let argv = [&["governor", verb, "--reason", "drill"], meant].concat();
    let said = guest.run(&argv)?.ok()?.text();
    ensure!(said.contains(says), "{verb} {}: {said}", meant.join(" "));
    Ok(())
}

/// The same, and after it the kernel holds these of the agent, the other content and the other zone's.
fn holds(
    guest: &mut Guest,
    verb: &str,
    meant: &[&str],
    says: &str,
    expected: [bool; 3],
) -> Result<()> {
    told(guest, verb, meant, says)?;
    let tool = format!("/sys/fs/cgroup/governed.slice/{TOOLS_SLICE}/tool.service");
    let mut frozen = [false; 3];
    let dirs = [cgroup("agent"), cgroup("other"), tool];
    for (frozen, dir) in frozen.iter_mut().zip(dirs) {
        *frozen = is_frozen(guest, &dir)?;
    }
    let meant = meant.join(" ");
    ensure!(
        frozen == expected,
        "{verb} {meant}: frozen are {frozen:?}, not {expected:?}"
    );
    Ok(())
}

const DOOMED: &str = "governed-doomed.slice";
const TWICE: &str = r#"
[zone.doomed]
cgroup = "governed.slice/governed-doomed.slice"
families = ["unix"]

[workload.doomed]
zone = "doomed"
exec = ["twice"]
libraries = ["os-libraries"]
started_by = ["operator"]
user = ["agent"]

[workload.spared]
zone = "agents"
exec = ["twice"]
libraries = ["os-libraries"]
started_by = ["operator"]
user = ["agent"]
"#;
