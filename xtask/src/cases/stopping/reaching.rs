//! Whom a stop reaches.

use super::*;

pub(super) fn computing(guest: &mut Guest) -> Result<()> {
    load(guest, &Spec::default())?;
    let job = start(guest, "spin", &["spin"], "spinning")?;
    let tasks = guest.sh(&format!("wc -l < {}/cgroup.procs", cgroup("spin")))?;
    ensure!(
        tasks.text() == "2",
        "the child is missing: {}",
        tasks.text()
    );
    by_hand(guest, "pause")?.ok()?;
    ensure!(is_frozen(guest, &cgroup("spin"))?, "it computes on");
    by_hand(guest, "resume")?.ok()?;
    let killed = by_hand(guest, "kill")?.ok()?.text();
    ensure!(killed.contains("1 killed"), "{killed}");
    ensure!(guest.wait(job, BOUND)?.code != 0, "it was not killed");
    ensure!(running(guest, "spin")?.is_empty(), "a child goes on");
    Ok(())
}

pub(super) fn leaderless(guest: &mut Guest) -> Result<()> {
    load(guest, &Spec::default())?;
    let job = start(guest, "leaderless", &["leaderless"], "holding")?;
    let pid = main_pid(guest, "leaderless")?;
    guest.wait_until(&format!("grep -q '^State:.Z' /proc/{pid}/status"))?;
    by_hand(guest, "pause")?.ok()?;
    ensure!(is_frozen(guest, &cgroup("leaderless"))?, "it goes on");
    by_hand(guest, "resume")?.ok()?;
    let killed = by_hand(guest, "kill")?.ok()?.text();
    ensure!(killed.contains("1 killed"), "{killed}");
    ensure!(guest.wait(job, BOUND)?.code != 0, "it was not killed");
    Ok(())
}

pub(super) fn moved(guest: &mut Guest) -> Result<()> {
    load(guest, &Spec::default())?;
    let job = start(guest, "spin", &["spin"], "spinning")?;
    move_out(guest)?;
    let paused = by_hand(guest, "pause")?.ok()?.text();
    ensure!(paused.starts_with("2 paused"), "{paused}");
    for pid in running(guest, "spin")? {
        let within = guest
            .sh(&format!("cut -d: -f3 /proc/{pid}/cgroup"))?
            .ok()?
            .text();
        ensure!(
            within.contains("governed-agents.slice/governor-held-"),
            "{within}"
        );
        ensure!(
            is_frozen(guest, &format!("/sys/fs/cgroup{within}"))?,
            "it computes on"
        );
    }
    let resumed = by_hand(guest, "resume")?.ok()?.text();
    ensure!(resumed.contains("2 go on"), "{resumed}");
    move_out(guest)?;
    let killed = by_hand(guest, "kill")?.ok()?.text();
    ensure!(killed.contains("2 killed"), "{killed}");
    guest.wait(job, BOUND)?;
    ensure!(running(guest, "spin")?.is_empty(), "it goes on");
    guest.wait_until(&format!("! ls -d {ZONE}/governor-held-* 2> /dev/null"))
}

/// Below its zone, in a cgroup that no path names: each level has a name of 250 characters.
pub(super) fn too_deep(guest: &mut Guest) -> Result<()> {
    load(guest, &frozen_by_policy())?;
    let job = start(guest, "spin", &["spin"], "spinning")?;
    let pids = running(guest, "spin")?;
    let top = format!("{ZONE}/deep");
    let dig = "for (1..17) { mkdir $n; chdir $n or die } \
               for (@ARGV) { open F, \">cgroup.procs\"; print F $_; close F or die }";
    let dig = format!(
        "mkdir {top} && cd {top} && perl -e '$n = \"d\" x 250; {dig}' {}",
        pids.join(" ")
    );
    guest.sh(&dig)?.ok()?;
    let stopped = stopped_though_deep(guest);
    // The service manager takes away no more than it can name.
    guest
        .sh(&format!(
            "governor kill --all --reason 'the case is over'; find {top} -depth -type d -delete"
        ))?
        .ok()?;
    guest.wait(job, BOUND)?;
    stopped
}

fn stopped_though_deep(guest: &mut Guest) -> Result<()> {
    let paused = by_hand(guest, "pause")?.ok()?.text();
    ensure!(paused.starts_with("2 paused"), "{paused}");
    let said = status::of(guest)?.reasons();
    ensure!(said.is_empty(), "{said}");
    for pid in running(guest, "spin")? {
        let stat = guest
            .sh(&format!("cut -d: -f3 /proc/{pid}/cgroup"))?
            .ok()?
            .text();
        ensure!(
            is_frozen(guest, &format!("/sys/fs/cgroup{stat}"))?,
            "{stat}"
        );
    }
    let resumed = by_hand(guest, "resume")?.ok()?.text();
    ensure!(resumed.contains("2 go on"), "{resumed}");
    let killed = by_hand(guest, "kill")?.ok()?.text();
    ensure!(killed.contains("2 killed"), "{killed}");
    ensure!(running(guest, "spin")?.is_empty(), "it goes on");
    Ok(())
}

/// A policy that gives the zone another cgroup leaves what runs in the old one, and a stop finds it.
pub(super) fn zone_elsewhere(guest: &mut Guest) -> Result<()> {
    let kit = load(guest, &Spec::default())?;
    let job = start(guest, "spin", &["spin"], "spinning")?;
    let dir = kit.write(&Spec::default())?;
    let path = dir.join("policy.toml");
    let text = std::fs::read_to_string(&path)?;
    let elsewhere = text.replace("governed-agents.slice", "governed-elsewhere.slice");
    ensure!(elsewhere != text, "the zone is not where it was");
    std::fs::write(&path, elsewhere)?;
    kit.sign(&dir)?;
    kit.offer(guest, &dir)?.ok()?;
    kit.trusted(guest)?;
    let killed = by_hand(guest, "kill")?.ok()?.text();
    ensure!(killed.contains("2 killed"), "{killed}");
    guest.wait(job, BOUND)?;
    ensure!(running(guest, "spin")?.is_empty(), "it goes on");
    kit.load(guest, &Spec::default())
}

pub(super) fn revoked(guest: &mut Guest) -> Result<()> {
    let kit = load(guest, &Spec::default())?;
    let job = start(guest, "spin", &["spin"], "spinning")?;
    move_out(guest)?;
    kit.distrust(guest, &Spec::default())?;
    guest.wait(job, BOUND)?;
    ensure!(running(guest, "spin")?.is_empty(), "it goes on");
    kit.load(guest, &Spec::default())
}

pub(super) fn quarantined(guest: &mut Guest) -> Result<()> {
    load(guest, &Spec::default())?;
    for verb in ["quarantine", "kill"] {
        let witness = witness(guest, ALLOWED)?;
        let job = start(guest, "stay", &["stay", ALLOWED], "holding")?;
        guest.wait_for_output(witness, b"accepted", BOUND)?;
        by_hand(guest, "pause")?.ok()?;
        let open = connections(guest)?;
        ensure!(open == "1", "pausing closed it: {open}");
        let held = by_hand(guest, verb)?.ok()?.text();
        if verb == "quarantine" {
            ensure!(held.contains("1 connections closed"), "{held}");
            ensure!(is_frozen(guest, &cgroup("stay"))?, "it is not frozen");
        }
        let seen = guest.wait(witness, BOUND)?.ok()?.text();
        let expected = match verb {
            "quarantine" => "reset",
            _ => "ended",
        };
        ensure!(
            seen.lines().any(|line| line == expected),
            "{verb}: the peer saw `{seen}`"
        );
        if verb == "quarantine" {
            by_hand(guest, "resume")?.ok()?;
            ensure!(!is_frozen(guest, &cgroup("stay"))?, "it does not go on");
        }
        end(guest, vec![job])?;
    }
    Ok(())
}

/// Policy quarantines as an operator does: trust that returns lets go of what is frozen, and not of this.
pub(super) fn quarantined_by_policy(guest: &mut Guest) -> Result<()> {
    let spec = Spec {
        on_revoke: "quarantine",
        thaw: true,
        ..Spec::default()
    };
    let kit = load(guest, &spec)?;
    let peer = witness(guest, ALLOWED)?;
    let job = start(guest, "stay", &["stay", ALLOWED], "holding")?;
    guest.wait_for_output(peer, b"accepted", BOUND)?;
    kit.distrust(guest, &spec)?;
    ensure!(is_frozen(guest, &cgroup("stay"))?, "it goes on untrusted");
    cut_off(guest, peer)?;
    until_thawed(guest, |guest| kit.load(guest, &spec))?;
    ensure!(is_frozen(guest, &cgroup("stay"))?, "it goes on by itself");
    let resumed = by_hand(guest, "resume")?.ok()?.text();
    ensure!(resumed.contains("1 go on, 0 stay held"), "{resumed}");
    end(guest, vec![job])
}

/// The kernel tells of connections one network namespace at a time. What is in another one than the
/// daemon is looked for there.
pub(super) fn apart(guest: &mut Guest) -> Result<()> {
    load(guest, &Spec::default())?;
    guest
        .sh(&format!(
            "ip netns add {APART} && ip -n {APART} link set lo up"
        ))?
        .ok()?;
    let witness = guest.spawn(&["ip", "netns", "exec", APART, AGENT, "witness", ALLOWED])?;
    guest.wait_for_output(witness, b"listening", BOUND)?;
    let there = format!("NetworkNamespacePath=/run/netns/{APART}");
    let job = start_with(guest, &there, "stay", &["stay", ALLOWED], "holding")?;
    guest.wait_for_output(witness, b"accepted", BOUND)?;
    ensure!(connections(guest)? == "0", "it is in this namespace");
    let held = by_hand(guest, "quarantine")?.ok()?.text();
    ensure!(held.contains("1 connections closed"), "{held}");
    cut_off(guest, witness)?;
    end(guest, vec![job])?;
    guest.run(&["ip", "netns", "delete", APART])?.ok().map(drop)
}

/// A network namespace.
const APART: &str = "apart";

/// Processes of the agent that do this.
fn running(guest: &mut Guest, what: &str) -> Result<Vec<String>> {
    let found = guest.run(&["pgrep", "-f", &format!("^{AGENT} {what}$")])?;
    Ok(found.text().lines().map(str::to_owned).collect())
}

/// Takes every one of them out of the zone, as root can.
fn move_out(guest: &mut Guest) -> Result<()> {
    guest.sh(&format!("mkdir -p {ELSEWHERE}"))?.ok()?;
    let pids = running(guest, "spin")?;
    ensure!(pids.len() == 2, "{pids:?}");
    for pid in pids {
        guest
            .sh(&format!("echo {pid} > {ELSEWHERE}/cgroup.procs"))?
            .ok()
            .context("moving it out")?;
    }
    Ok(())
}
