//! Ways around the measurement of what runs: other people's memory, files without a name, formats that
//! lead elsewhere. `docs/threat-model.md` lists them all.

use super::{memory::CODE, tried::Try, *};

/// Where the program lies that tries them, as another program of the workload.
pub(super) const PROBE: &str = "/opt/agent/bypass";

/// Loads a policy that lists it.
pub(super) fn load(guest: &mut Guest, spec: &Spec) -> Result<Rc<Kit>> {
    let measured = guest
        .run(&["governor", "measure", PROBE, CODE])?
        .ok()?
        .text();
    let planner = format!("{measured}\n{}", spec.planner);
    super::load(
        guest,
        &Spec {
            planner,
            ..spec.clone()
        },
    )
}

pub(super) fn expect(guest: &mut Guest, argv: &[&str], expected: i32, what: &str) -> Result<()> {
    let mut command = vec![PROBE];
    command.extend(argv);
    let output = in_zone(guest, AGENTS_SLICE, &command)?;
    ensure!(
        output.code == expected,
        "{what}: expected {expected}, it ended with {}: {}",
        output.code,
        output.text()
    );
    Ok(())
}

/// Nobody writes the memory of work, takes its descriptors or steers it, from outside or inside.
pub(super) fn tracing(guest: &mut Guest) -> Result<()> {
    load(guest, &kept::watching())?;
    let agent = guest.kept::<Kit>()?.user;
    expect(guest, &["trace-me"], REFUSED, "asking to be traced")?;
    for way in ["trace", "memory-of", "write-into", "descriptor-of"] {
        let outside = guest.run_as(agent, &[PROBE, "with-child", way])?.code;
        ensure!(outside == 0, "{way} a child, in no zone: {outside}");
        expect(guest, &["with-child", way], REFUSED, way)?;
    }
    // Who may do anything else to it.
    guest
        .sh(&format!(
            "systemd-run --quiet --collect --unit=worker --slice={AGENTS_SLICE} --uid={USER} \
             --property=Type=exec {AGENT} hold"
        ))?
        .ok()?;
    let show = ["systemctl", "show", "-p", "MainPID", "--value", "worker"];
    let worker = guest.run(&show)?.ok()?.text();
    let seen = (|| {
        // Whoever may not attach is told EACCES by the memory file.
        for (way, refused) in [
            ("trace", REFUSED),
            ("memory-of", 113),
            ("write-into", REFUSED),
            ("descriptor-of", REFUSED),
        ] {
            let root = guest.run(&[PROBE, way, &worker])?.code;
            ensure!(root == refused, "root, {way}: {root}");
        }
        let watched = in_zone(guest, kept::WATCHED_SLICE, &[PROBE, "trace", &worker])?.code;
        ensure!(watched == REFUSED, "from an observed zone: {watched}");
        // What the kernel shows of it, it shows.
        let read = format!("grep -q = /proc/{worker}/environ && readlink /proc/{worker}/exe");
        let shown = guest.sh(&read)?;
        ensure!(shown.code == 0, "nothing is to be read of it");
        Ok(())
    })();
    guest.run(&["systemctl", "stop", "worker"])?;
    seen?;
    // The same, of what no zone has a say in.
    guest
        .sh(&format!(
            "systemd-run --quiet --collect --unit=free --uid={USER} --property=Type=exec {AGENT} hold"
        ))?
        .ok()?;
    let show = ["systemctl", "show", "-p", "MainPID", "--value", "free"];
    let free = guest.run(&show)?.ok()?.text();
    let watched = in_zone(guest, kept::WATCHED_SLICE, &[PROBE, "trace", &free])?.code;
    guest.run(&["systemctl", "stop", "free"])?.ok()?;
    ensure!(watched == 0, "from an observed zone, elsewhere: {watched}");
    let procs = "/sys/fs/cgroup/governed.slice/governed-agents.slice/traced";
    guest.sh(&format!("mkdir -p {procs}"))?.ok()?;
    let traced = [
        PROBE,
        "traced",
        &format!("{procs}/cgroup.procs"),
        AGENT,
        "hello",
    ];
    let refused = guest.run(&traced)?.code;
    let elsewhere = [
        PROBE,
        "traced",
        "/sys/fs/cgroup/cgroup.procs",
        AGENT,
        "hello",
    ];
    let control = guest.run(&elsewhere)?.code;
    guest.sh(&format!("rmdir {procs}"))?.ok()?;
    ensure!(control == 0, "traced before, in no zone: {control}");
    ensure!(refused == REFUSED, "work that was traced before: {refused}");
    Ok(())
}

/// The kernel writes through this file where memory is read-only.
pub(super) fn own_memory(guest: &mut Guest) -> Result<()> {
    let tries = [
        &[PROBE, "own-memory"][..],
        &[PROBE, "own-memory", "thread"],
        &[PROBE, "own-memory", "other-thread"],
        &[PROBE, "own-memory", "sharer"],
    ];
    load(guest, &Spec::default())?;
    for argv in tries {
        Try::refused(argv, WRITTEN).in_zone(guest, AGENTS_SLICE)?;
    }
    let spec = Spec {
        mode: "observe",
        ..Spec::default()
    };
    load(guest, &spec)?;
    for argv in tries {
        Try::let_be(argv).in_zone(guest, AGENTS_SLICE)?;
    }
    Ok(())
}

/// What may be read becomes what may be executed, and then the kernel maps it anew.
pub(super) fn remapped(guest: &mut Guest) -> Result<()> {
    let copy = "/opt/agent/own/id";
    guest
        .sh(&format!("cp /usr/bin/id {copy} && chown {USER} {copy}"))?
        .ok()?;
    let argv = ["remapped", copy];
    let observed = Spec {
        mode: "observe",
        ..Spec::default()
    };
    load(guest, &observed)?;
    expect(guest, &argv, 0, "while the zone is observed")?;
    load(guest, &Spec::default())?;
    expect(guest, &argv, REFUSED, "what is not listed")?;
    guest.run(&["rm", copy])?.ok().map(drop)
}

/// An overlay that the workload mounts for itself, over what it may write.
pub(super) fn own_file_systems(guest: &mut Guest) -> Result<()> {
    load(guest, &Spec::default())?;
    let dir = "/opt/agent/own/mounted";
    guest
        .sh(&format!(
            "mkdir -p {dir}/lower {dir}/none {dir}/merged && cp {AGENT} {dir}/lower/ && chown -R {USER} {dir}"
        ))?
        .ok()?;
    let options = format!("lowerdir={dir}/lower:{dir}/none");
    let merged = format!("{dir}/merged/agent");
    let argv = ["own-overlay", &options, &merged];
    Try::refused(&[&[PROBE][..], &argv].concat(), "no-stable-file").in_zone(guest, AGENTS_SLICE)?;
    guest.run(&["rm", "-r", dir])?.ok().map(drop)
}

/// Whoever answers for a file system in user space may say another thing each time it is asked.
pub(super) fn user_space_file_systems(guest: &mut Guest) -> Result<()> {
    load(guest, &Spec::default())?;
    let (probe, dir) = ("/opt/agent/probe_fuse", "/opt/agent/fuse");
    guest.put_file(&compile::probe("probe_fuse")?, probe)?;
    guest
        .sh(&format!("chmod 755 {probe}; mkdir -p {dir}"))?
        .ok()?;
    let job = guest.spawn(&[probe, AGENT, dir])?;
    guest.wait_for_output(job, b"mounted", BOUND)?;
    let program = format!("{dir}/program");
    let outcome = Try::refused(&[&program, "hello"], "no-stable-file")
        .ends(0, NOT_EXECUTED)
        .in_zone(guest, AGENTS_SLICE)
        .and_then(|()| {
            Try::refused(&[AGENT, "map", &program], "no-stable-file").in_zone(guest, AGENTS_SLICE)
        });
    guest.run(&["umount", dir])?.ok()?;
    guest.wait(job, BOUND)?.ok()?;
    outcome
}

/// The loader as a program, as what a program names for itself, and what the environment has it load.
pub(super) fn loaders(guest: &mut Guest) -> Result<()> {
    let steered = "/opt/agent/own/steered";
    let mut program = guest.get(AGENT)?;
    let named = program
        .windows(LOADER.len())
        .position(|bytes| bytes == LOADER.as_bytes())
        .context("the agent names no loader")?;
    program
        .splice(named..named + LOADER.len(), OTHER_LOADER.bytes())
        .for_each(drop);
    guest.put(steered, 0o755, &program)?;
    guest
        .sh(&format!(
            "cp {LOADER} {OTHER_LOADER} && cp $(ldd {AGENT} | grep -o '/[^ ]*libgcc_s[^ ]*') \
             {OTHER_LIBRARY} && echo >> {OTHER_LIBRARY}"
        ))?
        .ok()?;
    let spec = Spec {
        planner: guest
            .run(&["governor", "measure", steered, LOADER])?
            .ok()?
            .text(),
        ..Spec::default()
    };
    load(guest, &spec)?;
    let run = |guest: &mut Guest, argv: &[&str]| -> Result<i32> {
        Ok(in_zone(guest, AGENTS_SLICE, argv)?.code)
    };
    let listed = run(guest, &[steered, "hello"])?;
    ensure!(listed == 0, "a listed loader under another name: {listed}");
    guest
        .sh(&format!(
            "cp {LOADER} {OTHER_LOADER}.new && echo >> {OTHER_LOADER}.new && mv {OTHER_LOADER}.new {OTHER_LOADER}"
        ))?
        .ok()?;
    let outside = guest.run(&[steered, "hello"])?.code;
    ensure!(outside == 0, "the other loader in no zone: {outside}");
    let unlisted = run(guest, &[steered, "hello"])?;
    ensure!(unlisted != 0, "an unlisted loader");
    let listed = run(guest, &[LOADER, AGENT, "hello"])?;
    ensure!(listed == 0, "a listed program by a listed loader: {listed}");
    let through = run(guest, &[LOADER, "/usr/bin/id"])?;
    ensure!(through == 127, "an unlisted program by it: {through}");
    for variable in ["LD_PRELOAD", "LD_AUDIT"] {
        let command = format!(
            "systemd-run --quiet --wait --pipe --collect --slice={AGENTS_SLICE} --uid={USER} \
             --setenv={variable}={OTHER_LIBRARY} -- {AGENT} hello 2>&1"
        );
        let said = guest.sh(&command)?.text();
        ensure!(said.contains("failed to map"), "{variable}: {said}");
    }
    expect(guest, &["load", OTHER_LIBRARY], 199, "loading it by name")
}

/// Formats that lead to an interpreter of root's choice: it is judged like any, and so is the file.
pub(super) fn other_formats(guest: &mut Guest) -> Result<()> {
    let (odd, listed) = ("/opt/agent/own/odd", "/opt/agent/own/listed");
    let gone = "/opt/agent/own/interpreter";
    guest
        .sh(&format!(
            "printf 'ODD\\n' > {odd} && printf 'ODD listed\\n' > {listed} && chmod 755 {odd} {listed} && \
             mount -t binfmt_misc none /proc/sys/fs/binfmt_misc 2>/dev/null; \
             cp {AGENT} {gone} && chown {USER} {gone}"
        ))?
        .ok()?;
    let spec = Spec {
        planner: guest.run(&["governor", "measure", listed])?.ok()?.text(),
        ..Spec::default()
    };
    load(guest, &spec)?;
    // What is handed to the agent ends with 2: it knows no such word.
    let said = 2;
    for (interpreter, flags, then, path, free, judged, why) in [
        (AGENT, "", "true", odd, said, NOT_EXECUTED, UNLISTED),
        (AGENT, "", "true", listed, said, said, ""),
        (
            "/usr/bin/true",
            "",
            "true",
            listed,
            0,
            NOT_EXECUTED,
            UNLISTED,
        ),
        // It is opened when it is registered.
        (AGENT, "F", "true", odd, said, NOT_EXECUTED, UNLISTED),
        (AGENT, "F", "true", listed, said, said, ""),
        (
            "/usr/bin/true",
            "F",
            "true",
            listed,
            0,
            NOT_EXECUTED,
            UNLISTED,
        ),
        (
            gone,
            "F",
            "rm /opt/agent/own/interpreter",
            listed,
            said,
            NOT_EXECUTED,
            "no-stable-file",
        ),
    ] {
        guest
            .sh(&format!(
                "echo ':odd:M::ODD::{interpreter}:{flags}' > /proc/sys/fs/binfmt_misc/register && {then}"
            ))?
            .ok()
            .context("registering a format")?;
        let tried = Try::refused(&[path], why)
            .ends(free, judged)
            .in_zone(guest, AGENTS_SLICE)
            .with_context(|| format!("by `{interpreter}`, `{flags}`"));
        guest.sh("echo -1 > /proc/sys/fs/binfmt_misc/odd")?.ok()?;
        tried?;
    }
    Ok(())
}

/// Programs of 32 bits are judged like any, and so is what they ask for in their own way.
pub(super) fn of_32_bits(guest: &mut Guest) -> Result<()> {
    let (wide, listed) = ("/opt/agent/own/wide", "/opt/agent/own/narrow");
    let page = [narrow::BASE, 4096, 7, 0, 0, 0];
    let anywhere = [0, 4096, 7, 0x22, u32::MAX, 0];
    let calls = [
        (
            "execve",
            narrow::calling(11, [0; 6], Some("/usr/bin/true")),
            UNLISTED,
        ),
        ("mmap2", narrow::calling(192, anywhere, None), WRITTEN),
        ("mprotect", narrow::calling(125, page, None), WRITTEN),
        ("ptrace", narrow::calling(26, [0; 6], None), "traced"),
        (
            "open",
            narrow::calling(5, [0, 1, 0, 0, 0, 0], Some("/proc/self/mem")),
            WRITTEN,
        ),
    ];
    let path = |name: &str| format!("/opt/agent/own/{name}");
    guest.put(wide, 0o755, &narrow::ending(7))?;
    guest.put(listed, 0o755, &narrow::ending(9))?;
    let mut measure = vec![
        "governor".to_owned(),
        "measure".to_owned(),
        listed.to_owned(),
    ];
    for (name, program, _) in &calls {
        guest.put(&path(name), 0o755, program)?;
        measure.push(path(name));
    }
    let measure: Vec<&str> = measure.iter().map(String::as_str).collect();
    let spec = Spec {
        planner: guest.run(&measure)?.ok()?.text(),
        ..Spec::default()
    };
    load(guest, &spec)?;
    Try::let_be(&[listed])
        .ends(9, 9)
        .in_zone(guest, AGENTS_SLICE)?;
    Try::refused(&[wide], UNLISTED)
        .ends(7, NOT_EXECUTED)
        .in_zone(guest, AGENTS_SLICE)?;
    for (name, _, why) in calls {
        // EPERM, as the program says it.
        Try::refused(&[&path(name)], why)
            .ends(0, 1)
            .in_zone(guest, AGENTS_SLICE)?;
    }
    Ok(())
}

const UNLISTED: &str = "not-authorized";
const WRITTEN: &str = "written-memory";
/// What programs of the tests name as their loader, and a name of the same length.
const LOADER: &str = "/lib64/ld-linux-x86-64.so.2";
const OTHER_LOADER: &str = "/opt/agent/own/loader-64.so";
const OTHER_LIBRARY: &str = "/opt/agent/own/other.so";
const _: () = assert!(LOADER.len() == OTHER_LOADER.len());
