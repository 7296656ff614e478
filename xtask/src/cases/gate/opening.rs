//! What a workload reads, where it opens only what is listed; and what it reads elsewhere.

use super::*;

/// Where the program lies that opens files, as a program of the workload.
pub(super) const READER: &str = "/opt/agent/reader";

/// A file that is listed is opened, and what is not, or has no content that lasts, is refused.
pub(super) fn listed(guest: &mut Guest) -> Result<()> {
    files(guest)?;
    let listed = spec(guest, LISTED)?;
    if !asks(guest) {
        return refused_where_nobody_is_asked(guest, &listed);
    }
    super::load(guest, &listed)?;
    let refused = unlisted(guest)?;
    let (names, codes): (Vec<&str>, Vec<i32>) = WAYS.iter().copied().unzip();
    let argv = [&[READER, "open"], names.as_slice()].concat();
    let user = guest.run(&["id", "-u", USER])?.ok()?.text();
    let user = user.parse().context("the user's number")?;
    let outside = guest.run_as(user, &argv)?.text();
    ensure!(
        outside == opened(&names, &[0; WAYS.len()]),
        "in no zone: {outside}"
    );
    let inside = in_zone(guest, SLICE, &argv)?.text();
    ensure!(inside == opened(&names, &codes), "in the zone: {inside}");
    let after = unlisted(guest)?;
    ensure!(
        after > refused,
        "refused for other reasons: {refused}, {after}"
    );
    // Whoever else is in the zone reads what they like.
    let free = in_zone(guest, SLICE, &["/usr/bin/cat", OTHER])?;
    ensure!(
        free.code == 0,
        "a workload that opens anything: {}",
        free.errors()
    );
    // What the kernel makes up when it is read is not read to find out what it is.
    let events = events(guest)?;
    let made_up = events
        .lines()
        .filter(|line| line.contains("/environ"))
        .all(|line| line.contains("no-stable-file"));
    ensure!(made_up && events.contains("/environ"), "of /proc: {events}");
    changed(guest)?;
    let said = guest
        .run(&["governor", "explain", DATA, "--zone", "scripts"])?
        .text();
    for word in ["open", "workload.reading.data"] {
        ensure!(
            said.contains(word),
            "explain says nothing of {word}: {said}"
        );
    }
    observed(guest)?;
    // Labels outlive the table, so whoever starts next asks on, whatever its table says.
    let any = spec(guest, ANY)?;
    super::load(guest, &any)?;
    guest.run(&["systemctl", "restart", "governor"])?.ok()?;
    ensure!(is_asked(guest)?, "the next daemon let go of the hook");
    guest.kept::<Kit>()?.trusted(guest)
}

/// What was opened stays as it was; what became something else, or is about to, is not opened.
fn changed(guest: &mut Guest) -> Result<()> {
    let written = guest.run(&[ways::PROBE, "write", DATA])?.code;
    ensure!(written == 126, "a writer of what was opened: {written}");
    let job = guest.spawn(&[kept::WRITER, "hold", LATER])?;
    guest.wait_for_output(job, b"open", BOUND)?;
    let held = in_zone(guest, SLICE, &[READER, "open", LATER])?.text();
    guest.kill(job, 9)?;
    guest.wait(job, BOUND)?;
    ensure!(
        held == opened(&[LATER], &[REFUSES]),
        "while it is written: {held}"
    );
    guest
        .sh(&format!("echo other > {DATA}.new && mv {DATA}.new {DATA}"))?
        .ok()?;
    let anew = in_zone(guest, SLICE, &[READER, "open", DATA, LATER])?.text();
    ensure!(
        anew == opened(&[DATA, LATER], &[REFUSES, 0]),
        "another content by that name: {anew}"
    );
    guest
        .sh(&format!("echo data > {DATA}.new && mv {DATA}.new {DATA}"))?
        .ok()
        .map(drop)
}

/// Observed, it is opened, and said with what somebody needs to list it.
fn observed(guest: &mut Guest) -> Result<()> {
    let digest = guest.run(&["sha256sum", OTHER])?.ok()?.text();
    let digest = digest.split(' ').next().context("a digest")?;
    guest
        .run(&["governor", "observe", "--zone", "scripts", "--for", "10m"])?
        .ok()?;
    let opens = in_zone(guest, SLICE, &[READER, "open", OTHER])?.text();
    ensure!(opens == opened(&[OTHER], &[0]), "observed: {opens}");
    let events = events(guest)?;
    let told = events.lines().any(|line| {
        ["would-deny", "unlisted-open", OTHER, digest]
            .iter()
            .all(|word| line.contains(word))
    });
    ensure!(told, "nobody is told what to list: {events}");
    Ok(())
}

/// Whoever starts a script chooses the path that its interpreter opens, and what stands there then.
pub(super) fn scripts(guest: &mut Guest) -> Result<()> {
    files(guest)?;
    let any = spec(guest, ANY)?;
    super::load(guest, &any)?;
    let swapped = |guest: &mut Guest, way: &str| -> Result<i32> {
        let argv = [READER, "swapped", way, SCRIPT, OTHER_SCRIPT];
        Ok(in_zone(guest, SLICE, &argv)?.code)
    };
    let code = swapped(guest, "link")?;
    ensure!(code == 9, "a link, where anything is opened: {code}");
    // In a user namespace of its own a task has a say in what files are handed to.
    let code = swapped(guest, "bind")?;
    ensure!(code == NOT_STARTED, "in a namespace of its own: {code}");
    // This is the first case that lists what is opened, and nobody else pays for it.
    ensure!(
        !is_asked(guest)?,
        "the kernel asks at every open for nobody"
    );
    let listed = spec(guest, LISTED)?;
    if !asks(guest) {
        return refused_where_nobody_is_asked(guest, &listed);
    }
    super::load(guest, &listed)?;
    ensure!(is_asked(guest)?, "status says nothing of the hook");
    let before = unlisted(guest)?;
    let code = swapped(guest, "link")?;
    ensure!(
        code == NOT_OPENED,
        "a link, where what is listed is opened: {code}"
    );
    let after = unlisted(guest)?;
    ensure!(after > before, "refused for another reason");
    // By the name of a descriptor, which is judged as what it leads to.
    for (input, expected) in [(LATER_SCRIPT, 8), (OTHER_SCRIPT, NOT_OPENED)] {
        let code = guest
            .sh(&format!(
                "systemd-run --quiet --wait --collect --slice={SLICE} --uid={USER} \
                 --property=StandardInput=file:{input} -- {SOURCING}"
            ))?
            .code;
        ensure!(code == expected, "`/dev/stdin` that is {input}: {code}");
    }
    let piped = guest
        .sh(&format!(
            "echo exit 9 | systemd-run --quiet --wait --pipe --collect --slice={SLICE} --uid={USER} -- {SOURCING}"
        ))?
        .code;
    ensure!(piped == NOT_OPENED, "`/dev/stdin` that is a pipe: {piped}");
    Ok(())
}

/// Nobody is told that files are judged where they are not.
fn refused_where_nobody_is_asked(guest: &mut Guest, listed: &Spec) -> Result<()> {
    unlock(guest)?;
    let kit = guest.kept::<Kit>()?;
    let dir = kit.signed(listed)?;
    let offered = kit.offer(guest, &dir)?;
    let said = offered.errors();
    ensure!(
        offered.code != 0 && said.contains("`reading` opens only what is listed"),
        "a kernel that asks about nothing: {} {said}",
        offered.code
    );
    let doctor = guest.run(&["governor", "doctor"])?.text();
    let line = doctor.lines().find(|line| line.contains("file_post_open"));
    ensure!(
        line.is_some_and(|line| line.contains("is refused")),
        "doctor says nothing of it: {doctor}"
    );
    Ok(())
}

/// Whether this kernel asks about what was opened.
fn asks(guest: &Guest) -> bool {
    guest.kernel() != "6.1"
}

/// Whether it does now.
fn is_asked(guest: &mut Guest) -> Result<bool> {
    let attached = status::of(guest)?.attached();
    Ok(attached.contains(&"file_post_open".to_owned()))
}

fn events(guest: &mut Guest) -> Result<String> {
    let events = guest.run(&["governor", "events", "--denials", "--json"])?;
    Ok(events.text())
}

fn files(guest: &mut Guest) -> Result<()> {
    for (path, text) in [
        (DATA, "data\n".to_owned()),
        (LATER, "later\n".to_owned()),
        (OTHER, "not listed\n".to_owned()),
        (SCRIPT, format!("#!{DASH}\nexit 7\n")),
        (OTHER_SCRIPT, format!("#!{DASH}\nexit 9\n")),
        (LATER_SCRIPT, "exit 8\n".to_owned()),
        (SOURCING, format!("#!{DASH}\n. /dev/stdin\n")),
    ] {
        guest.put(path, 0o755, text.as_bytes())?;
    }
    guest
        .sh(&format!(
            "rm -f {OWN}/pipe && mkfifo {OWN}/pipe && ln -sf {OTHER} {OWN}/to-other && \
             ln -sf {DATA} {OWN}/to-data && chown {USER} {OWN}/* && touch {OWN}/out && chmod 666 {OWN}/out"
        ))?
        .ok()
        .map(drop)
}

fn spec(guest: &mut Guest, tables: &'static str) -> Result<Spec> {
    let mut measure = |paths: &[&str]| -> Result<String> {
        let measured = guest.run(&[&["governor", "measure"], paths].concat())?;
        Ok(measured.ok()?.text())
    };
    Ok(Spec {
        tables,
        sets: vec![
            ("scripts", measure(&[SCRIPT, SOURCING])?),
            ("interpreters", measure(&[DASH])?),
            ("readers", measure(&[READER])?),
            ("cat", measure(&["/usr/bin/cat"])?),
            ("data", measure(&[DATA, LATER, LATER_SCRIPT])?),
        ],
        ..Spec::default()
    })
}

/// What the probe says when it opened these with these results.
fn opened(names: &[&str], codes: &[i32]) -> String {
    let lines = codes.iter().zip(names);
    let lines = lines.map(|(code, name)| format!("{code} {name}"));
    lines.collect::<Vec<_>>().join("\n")
}

/// How often something was refused because it is not listed.
fn unlisted(guest: &mut Guest) -> Result<u64> {
    let said = status::of(guest)?;
    Ok(said.counts().get("unlisted-open").copied().unwrap_or(0))
}

/// EPERM.
const REFUSES: i32 = 1;
/// Each way of opening, and what comes of it where only what is listed is opened.
const WAYS: [(&str, i32); 22] = [
    (DATA, 0),
    (OTHER, REFUSES),
    ("/opt/agent/own/to-data", 0),
    ("/opt/agent/own/to-other", REFUSES),
    ("again:/opt/agent/own/data", 0),
    ("again:/opt/agent/own/other", REFUSES),
    ("write:/opt/agent/own/out", 0),
    // What is written meanwhile, be it by itself, is not what was measured.
    ("both:/opt/agent/own/later", REFUSES),
    ("memory:text", REFUSES),
    ("nameless:/opt/agent/own", REFUSES),
    ("/opt/agent/own", 0),
    ("/opt/agent/own/pipe", REFUSES),
    ("/dev/null", 0),
    ("/dev/zero", 0),
    ("/dev/full", 0),
    ("/dev/random", 0),
    ("/dev/urandom", 0),
    ("/dev/ptmx", REFUSES),
    ("/proc/self/environ", REFUSES),
    ("/proc/self/maps", REFUSES),
    ("/sys/kernel/mm/transparent_hugepage/enabled", REFUSES),
    ("/sys/fs/cgroup/cgroup.controllers", REFUSES),
];
/// How the probe ends when it cannot start something.
const NOT_STARTED: i32 = 99;
/// How the interpreter ends when it cannot open its script.
const NOT_OPENED: i32 = 2;
const OWN: &str = "/opt/agent/own";
const DATA: &str = "/opt/agent/own/data";
const LATER: &str = "/opt/agent/own/later";
const OTHER: &str = "/opt/agent/own/other";
const SCRIPT: &str = "/opt/agent/own/script";
const OTHER_SCRIPT: &str = "/opt/agent/own/other-script";
const LATER_SCRIPT: &str = "/opt/agent/own/later-script";
const SOURCING: &str = "/opt/agent/own/sourcing";
const DASH: &str = "/usr/bin/dash";
const SLICE: &str = "governed-scripts.slice";

macro_rules! tables {
    ($opens:literal) => {
        concat!(
            r#"
[zone.scripts]
cgroup = "governed.slice/governed-scripts.slice"
requires = "policy"
observe_up_to = "10m"

[workload.reading]
zone = "scripts"
exec = ["readers"]
libraries = ["os-libraries"]
scripts = ["scripts"]
interpreters = ["interpreters"]
data = ["data"]
started_by = ["operator", "reading"]
user = ["agent"]
opens = ""#,
            $opens,
            r#""

[workload.free]
zone = "scripts"
exec = ["cat"]
libraries = ["os-libraries"]
started_by = ["operator"]
user = ["agent"]
"#
        )
    };
}

const LISTED: &str = tables!("listed");
const ANY: &str = tables!("any");
