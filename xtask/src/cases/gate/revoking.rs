//! Taking authorizations back: by hand, with what runs, and by the kernel's own alarm.

use super::*;

pub(super) fn revoked(guest: &mut Guest) -> Result<()> {
    // Content of its own, for a revocation is for good.
    guest
        .sh(&format!(
            "cp {AGENT} /opt/agent/doomed; printf x >> /opt/agent/doomed"
        ))?
        .ok()?;
    let planner = guest
        .run(&["governor", "measure", "/opt/agent/doomed"])?
        .ok()?
        .text();
    let digest = planner.split(' ').next().unwrap_or_default().to_owned();
    load(
        guest,
        &Spec {
            planner: format!("{planner}\n"),
            ..Spec::default()
        },
    )?;
    let slice = format!("--slice={AGENTS_SLICE}");
    let user = format!("--uid={USER}");
    let job = guest.spawn(&[
        "systemd-run",
        "--quiet",
        "--wait",
        "--pipe",
        "--collect",
        &slice,
        &user,
        "--",
        "/opt/agent/doomed",
        "hold",
    ])?;
    guest.wait_for_output(job, b"holding", BOUND)?;
    let answer = guest.run(&[
        "governor", "revoke", "--digest", &digest, "--reason", "drill",
    ])?;
    ensure!(answer.code == 0, "{} {}", answer.text(), answer.errors());
    let denied = in_zone(guest, AGENTS_SLICE, &["/opt/agent/doomed", "hello"])?.code;
    ensure!(denied == NOT_EXECUTED, "the very next execution: {denied}");
    let ended = guest.wait(job, BOUND)?;
    ensure!(ended.code != 0, "the running copy goes on");
    guest.run(&["systemctl", "restart", "governor"])?.ok()?;
    load(
        guest,
        &Spec {
            planner: format!("{planner}\n"),
            ..Spec::default()
        },
    )?;
    let denied = in_zone(guest, AGENTS_SLICE, &["/opt/agent/doomed", "hello"])?.code;
    ensure!(denied == NOT_EXECUTED, "after restart and reload: {denied}");
    expect(guest, &["hello"], 0, "the other content")
}

/// More than the kernel takes or gives at once.
pub(super) fn many(guest: &mut Guest) -> Result<()> {
    let digest = |number: u32| format!("{number:08x}").repeat(8);
    let lines: Vec<String> = (1..=5_000)
        .map(|number| format!("{}  f\n", digest(number)))
        .collect();
    let rows =
        |guest: &mut Guest| -> Result<u64> { Ok(status::of(guest)?.number(&["policy", "rows"])) };
    load(guest, &Spec::default())?;
    let few = rows(guest)?;
    load(
        guest,
        &Spec {
            planner: lines.concat(),
            ..Spec::default()
        },
    )?;
    let all = rows(guest)?;
    // In each of two zones each may be started, and be mapped.
    ensure!(
        all == few + 20_000,
        "{few} rows, and with 5000 more digests {all}"
    );
    expect(guest, &["hello"], 0, "among many")?;
    // What the kernel's own table had more before than it has now: what it may be started by, in each
    // zone.
    let digest = digest(1_234);
    let revoke = [
        "governor", "revoke", "--json", "--reason", "drill", "--digest", &digest,
    ];
    let revoked = status::parse(&guest.run(&revoke)?)?.number(&["rows"]);
    ensure!(revoked == 2, "{revoked} rows revoked");
    expect(guest, &["hello"], 0, "beside what was revoked")?;
    load(guest, &Spec::default())?;
    ensure!(rows(guest)? == few, "the table before is not back");
    Ok(())
}

pub(super) fn frozen(guest: &mut Guest) -> Result<()> {
    let kit = load(
        guest,
        &Spec {
            on_revoke: "freeze",
            ..Spec::default()
        },
    )?;
    let slice = format!("--slice={AGENTS_SLICE}");
    let user = format!("--uid={USER}");
    let job = guest.spawn(&[
        "systemd-run",
        "--quiet",
        "--wait",
        "--pipe",
        "--unit=hold",
        &slice,
        &user,
        "--",
        AGENT,
        "hold",
    ])?;
    guest.wait_for_output(job, b"holding", BOUND)?;
    kit.distrust(
        guest,
        &Spec {
            on_revoke: "freeze",
            ..Spec::default()
        },
    )?;
    let events = guest
        .sh("cat /sys/fs/cgroup/governed.slice/governed-agents.slice/hold.service/cgroup.events")?
        .ok()?
        .text();
    guest.run(&["systemctl", "kill", "--signal=KILL", "hold"])?;
    guest.sh(
        "echo 0 > /sys/fs/cgroup/governed.slice/governed-agents.slice/hold.service/cgroup.freeze",
    )?;
    guest.wait(job, BOUND)?;
    guest.run(&["systemctl", "reset-failed", "hold"])?;
    ensure!(events.contains("frozen 1"), "{events}");
    Ok(())
}

/// Between the check and the point of no return, where the kernel opens the program's interpreter.
pub(super) fn amid_an_exec(guest: &mut Guest) -> Result<()> {
    let (program, interpreter) = ("/opt/agent/amid", "/opt/agent/ld.so");
    // As long as the path that it takes the place of.
    guest
        .sh(&format!(
            "cp /lib64/ld-linux-x86-64.so.2 {interpreter} && \
             sed 's#/lib64/ld-linux-x86-64.so.2#{interpreter}\\x0{}#' {AGENT} > {program} && \
             chmod 755 {program}",
            "\\x0".repeat(10)
        ))?
        .ok()?;
    let planner = guest.run(&["governor", "measure", program])?.ok()?.text();
    let digest = planner.split(' ').next().unwrap_or_default().to_owned();
    let spec = Spec {
        planner: format!("{planner}\n"),
        on_revoke: "deny",
        ..Spec::default()
    };
    load(guest, &spec)?;
    let revoke = [
        "governor", "revoke", "--digest", &digest, "--reason", "drill",
    ];
    for (meanwhile, expected) in [(&["true"][..], 0), (&revoke[..], 128 + 9)] {
        let mut command = vec![kept::WRITER, "amid", interpreter];
        command.extend(meanwhile);
        let job = guest.spawn(&command)?;
        guest.wait_for_output(job, b"watching", BOUND)?;
        expect(
            guest,
            &["spawn", program, "hello"],
            expected,
            "amid an exec",
        )?;
        guest.wait(job, BOUND)?.ok()?;
    }
    Ok(())
}

/// What is known of running work is not known for longer than it holds.
pub(super) fn while_it_runs(guest: &mut Guest) -> Result<()> {
    let doomed = "/opt/agent/known";
    guest
        .sh(&format!("cp {AGENT} {doomed}; printf y >> {doomed}"))?
        .ok()?;
    let planner = guest.run(&["governor", "measure", doomed])?.ok()?.text();
    let digest = planner.split(' ').next().unwrap_or_default().to_owned();
    let spec = Spec {
        planner: format!("{planner}\n"),
        on_revoke: "deny",
        memory: "any",
        ..Spec::default()
    };
    load(guest, &spec)?;
    let library = guest
        .sh(&format!("ldd {AGENT} | grep -o '/[^ ]*libgcc_s[^ ]*'"))?
        .ok()?
        .text();
    let tries = [
        (doomed, ["fork", ""]),
        (doomed, ["map", &library]),
        (AGENT, ["anonymous", ""]),
    ];
    let mut waiting = Vec::new();
    for (number, (program, what)) in tries.iter().cycle().take(6).enumerate() {
        let fifo = format!("/opt/agent/own/fifo{number}");
        guest
            .sh(&format!("mkfifo {fifo} && chown {USER} {fifo}"))?
            .ok()?;
        let slice = format!("--slice={AGENTS_SLICE}");
        let user = format!("--uid={USER}");
        let mut command = vec!["systemd-run", "--quiet", "--wait", "--pipe", "--collect"];
        command.extend([&slice, &user, "--", program, "after", &fifo]);
        command.extend(what.iter().filter(|word| !word.is_empty()));
        let job = guest.spawn(&command)?;
        guest.wait_for_output(job, b"waiting", BOUND)?;
        waiting.push((job, fifo, what.join(" ")));
    }
    let mut finish = |guest: &mut Guest, expected: i32| -> Result<()> {
        let (job, fifo, what) = waiting.remove(0);
        guest.sh(&format!(": > {fifo}; rm {fifo}"))?.ok()?;
        let ended = guest.wait(job, BOUND)?.code;
        ensure!(ended == expected, "{what}: {ended}, not {expected}");
        Ok(())
    };
    for _ in 0..3 {
        finish(guest, 0)?;
    }
    guest
        .run(&[
            "governor", "revoke", "--digest", &digest, "--reason", "drill",
        ])?
        .ok()?;
    finish(guest, REFUSED)?;
    finish(guest, REFUSED)?;
    let spec = Spec {
        memory: "w^x",
        ..spec
    };
    load(guest, &spec)?;
    finish(guest, REFUSED)
}

pub(super) fn trips(guest: &mut Guest) -> Result<()> {
    let kit = load(
        guest,
        &Spec {
            every: "10s",
            ..Spec::default()
        },
    )?;
    expect(guest, &["hello"], 0, "before")?;
    // Refused, and an alarm: the kernel raises the counter itself.
    let reach = "bpftool map dump pinned $(ls /sys/fs/bpf/governor/*/TRIPS | head -1)";
    let refused = guest.sh(reach)?.code;
    let denied = agent(guest, &["hello"])?;
    crate::kit::unlock(guest)?;
    kit.trusted(guest)?;
    ensure!(refused != 0, "a stranger read a map of the gate");
    ensure!(denied == NOT_EXECUTED, "the very next execution: {denied}");
    expect(
        guest,
        &["hello"],
        0,
        "after a quote that binds the new count",
    )
}
