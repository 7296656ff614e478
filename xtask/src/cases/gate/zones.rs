//! Zones as they come and go, relax and end, and what stands outside of them.

use super::*;

pub(super) fn slice_made_again(guest: &mut Guest) -> Result<()> {
    load(guest, &Spec::default())?;
    for _ in 0..3 {
        guest.run(&["systemctl", "stop", AGENTS_SLICE])?.ok()?;
        let gone = guest.sh("! test -d /sys/fs/cgroup/governed.slice/governed-agents.slice")?;
        ensure!(gone.code == 0, "the slice is still there");
        let unknown = in_zone(guest, AGENTS_SLICE, &["/usr/bin/id"])?.code;
        ensure!(
            unknown == NOT_EXECUTED,
            "an unknown program in the new slice: {unknown}"
        );
        expect(guest, &["hello"], 0, "the workload in the new slice")?;
    }
    Ok(())
}

pub(super) fn unknown_slice(guest: &mut Guest) -> Result<()> {
    load(guest, &Spec::default())?;
    let denied = in_zone(guest, "governed-other.slice", &[AGENT, "hello"])?.code;
    ensure!(
        denied == NOT_EXECUTED,
        "in a slice that no policy names: {denied}"
    );
    let denied = in_zone(guest, "governed.slice", &[AGENT, "hello"])?.code;
    ensure!(denied == NOT_EXECUTED, "in the root slice itself: {denied}");
    Ok(())
}

pub(super) fn policy_class(guest: &mut Guest) -> Result<()> {
    let kit = load(
        guest,
        &Spec {
            on_revoke: "deny",
            ..Spec::default()
        },
    )?;
    // A reference that nothing can match: the host cannot be trusted under this policy.
    let dir = kit.write(&Spec::default())?;
    let path = dir.join("reference.toml");
    let text = std::fs::read_to_string(&path)?;
    let other = format!("9 = \"{}\"", "ab".repeat(32));
    let changed: Vec<&str> = text
        .lines()
        .map(|line| {
            if line.starts_with("9 =") {
                other.as_str()
            } else {
                line
            }
        })
        .collect();
    std::fs::write(&path, changed.join("\n"))?;
    kit.sign(&dir)?;
    kit.offer(guest, &dir)?.ok()?;
    let code = guest.run(&["governor", "attest", "now"])?.code;
    ensure!(code == 3, "the host must not be trusted: {code}");
    let attested = agent(guest, &["hello"])?;
    ensure!(attested == NOT_EXECUTED, "attested work: {attested}");
    let policy = in_zone(guest, TOOLS_SLICE, &[AGENT, "hello"])?.code;
    ensure!(policy == 0, "policy-class work: {policy}");
    Ok(())
}

pub(super) fn status_says_what_the_kernel_decides(guest: &mut Guest) -> Result<()> {
    load(guest, &Spec::default())?;
    let status = |guest: &mut Guest| guest.run(&["governor", "status"]);
    let may = status(guest)?;
    ensure!(may.code == 0, "{}", may.text());
    let all = guest
        .run(&["governor", "revoke", "--all", "--reason", "drill"])?
        .ok()?
        .text();
    ensure!(!all.contains("revoked 0 rows"), "{all}");
    let tools = in_zone(guest, TOOLS_SLICE, &[AGENT, "hello"])?.code;
    ensure!(tools == NOT_EXECUTED, "policy-class work: {tools}");
    let not = status(guest)?;
    ensure!(not.code == 3, "{}", not.text());
    for words in ["may NOT run", "operator-revoked", "0 of 1"] {
        ensure!(not.text().contains(words), "no `{words}`: {}", not.text());
    }
    ensure!(!not.text().contains("goes on"), "{}", not.text());
    load(guest, &Spec::default())?;
    let again = status(guest)?;
    ensure!(again.code == 0, "{}", again.text());
    Ok(())
}

pub(super) fn run_verb(guest: &mut Guest) -> Result<()> {
    load(guest, &Spec::default())?;
    let ran = guest.run(&["governor", "run", "--zone", "agents", "--", AGENT, "hello"])?;
    ensure!(ran.code == 0, "{} {}", ran.text(), ran.errors());
    let denied = guest.run(&["governor", "run", "--zone", "agents", "--", "/usr/bin/id"])?;
    ensure!(
        denied.code == 3,
        "an unknown program: {} {}",
        denied.code,
        denied.errors()
    );
    let nowhere = guest.run(&["governor", "run", "--zone", "nowhere", "--", AGENT, "hello"])?;
    ensure!(nowhere.code != 0, "a zone that does not exist");
    let job = guest.spawn(&["governor", "run", "--zone", "agents", "--", AGENT, "hold"])?;
    guest.wait_for_output(job, b"holding", BOUND)?;
    let cgroup = guest.sh("cat /proc/$(pgrep -x agent)/cgroup")?.ok()?.text();
    guest.kill(job, 9)?;
    ensure!(
        cgroup.contains("governed-agents.slice/governor-run-"),
        "it runs in {cgroup}"
    );
    Ok(())
}

/// A program that runs only because its zone is observed is nobody once the zone enforces.
pub(super) fn observed_leftovers(guest: &mut Guest) -> Result<()> {
    let kit = load(
        guest,
        &Spec {
            mode: "observe",
            ..Spec::default()
        },
    )?;
    guest
        .sh("rm -f /run/go /run/ended; mkfifo /run/go")?
        .ok()
        .context("making a pipe to hold a shell at")?;
    let slice = format!("--slice={AGENTS_SLICE}");
    // A shell, which no set lists, waits until it is told to go on.
    let script = format!("echo waiting; read go < /run/go; {AGENT} hello; echo \"ended $?\"");
    let job = guest.spawn(&[
        "systemd-run",
        "--quiet",
        "--wait",
        "--pipe",
        "--collect",
        &slice,
        "--",
        "/bin/sh",
        "-c",
        &script,
    ])?;
    let policy = kit.signed(&Spec::default())?;
    guest.wait_for_output(job, b"waiting", BOUND)?;
    kit.offer(guest, &policy)?.ok()?;
    kit.trusted(guest)?;
    guest.sh("echo go > /run/go")?.ok()?;
    let said = guest.wait(job, BOUND)?;
    ensure!(
        said.text().contains("ended ") && !said.text().contains("ended 0"),
        "what ran while observed started the workload: {}",
        said.text()
    );
    Ok(())
}

/// The kernel itself ends observing: nobody has to be there.
pub(super) fn observing_ends_without_a_daemon(guest: &mut Guest) -> Result<()> {
    load(guest, &Spec::default())?;
    guest
        .run(&["governor", "observe", "--zone", "agents", "--for", "4s"])?
        .ok()
        .context("observing")?;
    let first = in_zone(guest, AGENTS_SLICE, &["/usr/bin/id"])?.code;
    guest.run(&["systemctl", "stop", "governor"])?.ok()?;
    let mut last = 0;
    let began = std::time::Instant::now();
    while last != NOT_EXECUTED && began.elapsed() < BOUND {
        last = in_zone(guest, AGENTS_SLICE, &["/usr/bin/id"])?.code;
    }
    guest.run(&["systemctl", "start", "governor"])?.ok()?;
    ensure!(
        first == 0,
        "while observed, an unknown program ended with {first}"
    );
    ensure!(
        last == NOT_EXECUTED,
        "after it, an unknown program ended with {last}"
    );
    Ok(())
}

/// A policy cannot govern what this host does not let be governed.
pub(super) fn zones_stay_below_the_root(guest: &mut Guest) -> Result<()> {
    let kit = load(guest, &Spec::default())?;
    let dir = kit.write(&Spec::default())?;
    let path = dir.join("policy.toml");
    let text = std::fs::read_to_string(&path)?.replace(
        "governed.slice/governed-tools.slice",
        "system.slice/ssh.service",
    );
    std::fs::write(&path, text)?;
    kit.sign(&dir)?;
    let answer = kit.offer(guest, &dir)?;
    ensure!(
        answer.code != 0 && answer.errors().contains("system.slice/ssh.service"),
        "{} {}",
        answer.code,
        answer.errors()
    );
    Ok(())
}

/// Starts a program that is in no zone, and moves it into a cgroup; its number.
pub(crate) fn moved_into(guest: &mut Guest, cgroup: &str) -> Result<String> {
    // Moved before it is executed, it would be somebody in a zone who executes what is not listed.
    let moved = guest
        .sh(&format!(
            "mkdir -p {cgroup}; sleep 600 > /dev/null 2>&1 & \
             until grep -q sleep /proc/$!/comm; do sleep 0.05; done; \
             echo $! > {cgroup}/cgroup.procs; echo $!"
        ))?
        .ok()
        .context("moving a process into a zone")?;
    Ok(moved.text())
}

/// What was moved in carries no label: it is told, and goes on as little as it did before.
pub(super) fn moved_in(guest: &mut Guest) -> Result<()> {
    let kit = load(guest, &Spec::default())?;
    ensure!(agent(guest, &["hello"])? == 0, "the zone is not there");
    let zone = "/sys/fs/cgroup/governed.slice/governed-agents.slice/moved";
    let moved = moved_into(guest, zone)?;
    // Whoever has only just begun may be about to execute what a service manager made it for.
    guest.wait_until("governor status | grep 'in zone `agents`'")?;
    let told = guest.run(&["governor", "status"])?.text();
    // What it executes is judged: a shell that was moved in stays what it is.
    let moves = format!("echo $$ > {zone}/cgroup.procs && ! /usr/bin/id && {AGENT} hello");
    let started = guest.run(&["sh", "-c", &moves])?;
    kit.load(guest, &Spec::default())?;
    let recorded = "import hashlib, sys; d = hashlib.sha256(open('/usr/bin/sleep', 'rb').read()).digest(); \
                    sys.exit(d not in open('/var/lib/governor/ledger/ledger', 'rb').read())";
    let recorded = guest.wait_until(&format!("python3 -c \"{recorded}\""));
    guest
        .sh(&format!(
            "kill {moved}; while ! rmdir {zone}; do sleep 0.1; done"
        ))?
        .ok()?;
    let after = guest.run(&["governor", "status"])?.text();
    let line = told.lines().find(|line| line.contains("in zone `agents`"));
    ensure!(
        line.is_some_and(|line| line.contains(&format!("1 in zone `agents`: {moved} /usr/bin/"))),
        "{told}"
    );
    recorded.context("waiting for the record of what it runs")?;
    ensure!(
        started.code == 0 && started.errors().contains("/usr/bin/id: "),
        "what somebody starts who was moved in: {} {}",
        started.text(),
        started.errors()
    );
    ensure!(!after.contains("no label"), "it is gone: {after}");
    Ok(())
}

/// The policy that the project shows others does what it says.
pub(super) fn example(guest: &mut Guest) -> Result<()> {
    let kit = guest.kept::<Kit>()?;
    let dir = kit.example(guest)?;
    kit.offer(guest, &dir)?
        .ok()
        .context("loading the example")?;
    kit.trusted(guest)?;
    ensure!(agent(guest, &["hello"])? == 0, "the planner does not run");
    let unknown = in_zone(guest, AGENTS_SLICE, &["/usr/bin/id"])?.code;
    ensure!(unknown == NOT_EXECUTED, "an unknown program: {unknown}");
    let elsewhere = agent(guest, &["tcp", ALLOWED])?;
    ensure!(
        elsewhere == REFUSED,
        "a destination it does not list: {elsewhere}"
    );
    Ok(())
}
