//! Ways around the measurement of what runs: other people's memory, files without a name, formats that
//! lead elsewhere. `docs/threat-model.md` lists them all.

use super::*;

/// Where the program lies that tries them, as another program of the workload.
pub(super) const PROBE: &str = "/opt/agent/bypass";

/// Loads a policy that lists it.
pub(super) fn load(guest: &mut Guest, spec: &Spec) -> Result<Rc<Kit>> {
    let measured = guest.run(&["governor", "measure", PROBE])?.ok()?.text();
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
    let agent = guest.run(&["id", "-u", USER])?.ok()?.text();
    let agent = agent.parse().context("the user's number")?;
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
    load(guest, &Spec::default())?;
    let outside = guest.run(&[PROBE, "own-memory"])?.code;
    ensure!(outside == 0, "in no zone: {outside}");
    expect(guest, &["own-memory"], REFUSED, "its own code")?;
    let spec = Spec {
        mode: "observe",
        ..Spec::default()
    };
    load(guest, &spec)?;
    expect(guest, &["own-memory"], 0, "where it is only observed")
}

pub(super) fn without_a_name(guest: &mut Guest) -> Result<()> {
    load(guest, &Spec::default())?;
    expect(guest, &["shared-memory"], REFUSED, "shared memory")?;
    for dir in ["/opt/agent/own", "/dev/shm"] {
        expect(guest, &["nameless", dir, AGENT], REFUSED, dir)?;
        let copy = format!("{dir}/copy");
        guest
            .sh(&format!("cp {AGENT} {copy} && chown {USER} {copy}"))?
            .ok()?;
        expect(guest, &["removed", &copy], REFUSED, &copy)?;
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
    let user = guest.run(&["id", "-u", USER])?.ok()?.text();
    let user = user.parse().context("the user's number")?;
    let command = [&[PROBE][..], &argv].concat();
    let outside = guest.run_as(user, &command)?;
    ensure!(outside.code == 0, "in no zone: {}", outside.text());
    let unstable = |guest: &mut Guest| -> Result<u64> {
        let said = status::of(guest)?;
        Ok(said.counts().get("no-stable-file").copied().unwrap_or(0))
    };
    let before = unstable(guest)?;
    expect(guest, &argv, REFUSED, "an overlay of its own")?;
    let after = unstable(guest)?;
    ensure!(
        after > before,
        "refused for another reason: {before}, {after}"
    );
    guest.run(&["rm", "-r", dir])?.ok().map(drop)
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

/// A format that leads to an interpreter of root's choice.
pub(super) fn other_formats(guest: &mut Guest) -> Result<()> {
    let (odd, listed) = ("/opt/agent/own/odd", "/opt/agent/own/listed");
    let wide = "/opt/agent/own/wide";
    guest.put(wide, 0o755, &program_of_32_bits(7))?;
    let narrow = "/opt/agent/own/narrow";
    guest.put(narrow, 0o755, &program_of_32_bits(9))?;
    guest
        .sh(&format!(
            "printf 'ODD\\n' > {odd} && printf 'ODD listed\\n' > {listed} && chmod 755 {odd} {listed} && \
             mount -t binfmt_misc none /proc/sys/fs/binfmt_misc 2>/dev/null; \
             echo ':odd:M::ODD::/usr/bin/true:' > /proc/sys/fs/binfmt_misc/register"
        ))?
        .ok()
        .context("registering a format")?;
    let outcome = (|| {
        let spec = Spec {
            planner: guest
                .run(&["governor", "measure", listed, narrow])?
                .ok()?
                .text(),
            ..Spec::default()
        };
        load(guest, &spec)?;
        for (path, outside, inside) in [
            (odd, 0, NOT_EXECUTED),
            // The file is listed, and what the kernel hands it to is not.
            (listed, 0, NOT_EXECUTED),
            (wide, 7, NOT_EXECUTED),
            (narrow, 9, 9),
        ] {
            let free = guest.run(&[path])?.code;
            ensure!(free == outside, "`{path}` in no zone: {free}");
            let code = in_zone(guest, AGENTS_SLICE, &[path])?.code;
            ensure!(code == inside, "`{path}` in a zone: {code}");
        }
        Ok(())
    })();
    guest.sh("echo -1 > /proc/sys/fs/binfmt_misc/odd")?.ok()?;
    outcome
}

/// The smallest program for an x86 of 32 bits: it ends with that code.
fn program_of_32_bits(code: u8) -> Vec<u8> {
    const BASE: u32 = 0x0804_8000;
    let mut bytes = b"\x7fELF\x01\x01\x01".to_vec();
    bytes.resize(16, 0);
    let half = |bytes: &mut Vec<u8>, value: u16| bytes.extend(value.to_le_bytes());
    let word = |bytes: &mut Vec<u8>, value: u32| bytes.extend(value.to_le_bytes());
    // An executable, for the 386.
    half(&mut bytes, 2);
    half(&mut bytes, 3);
    for value in [1, BASE + 84, 52, 0, 0] {
        word(&mut bytes, value);
    }
    // The header's size, one program header of its size, no sections.
    for value in [52, 32, 1, 0, 0, 0] {
        half(&mut bytes, value);
    }
    // All of it, to be read and executed.
    for value in [1, 0, BASE, BASE, 96, 96, 5, 0x1000] {
        word(&mut bytes, value);
    }
    // mov ebx, code; mov eax, 1 (exit); int 0x80.
    bytes.extend([0xbb, code, 0, 0, 0, 0xb8, 1, 0, 0, 0, 0xcd, 0x80]);
    bytes
}

/// What programs of the tests name as their loader, and a name of the same length.
const LOADER: &str = "/lib64/ld-linux-x86-64.so.2";
const OTHER_LOADER: &str = "/opt/agent/own/loader-64.so";
const OTHER_LIBRARY: &str = "/opt/agent/own/other.so";
const _: () = assert!(LOADER.len() == OTHER_LOADER.len());
