//! What a workload reads, where it opens only what is listed; and what it reads elsewhere. Where the kernel
//! cannot measure what is opened, what nobody measured before is refused, and comes back.

use super::{
    opened::{
        DATA, DATA_SET, EMPTY, EMPTY_ELSEWHERE, EMPTY_OF_THEIRS, EMPTY_TOO, IN_MEMORY, LATER,
        LATER_SCRIPT, OTHER, OWN, REFUSES, SAME, THEIRS, WAYS,
    },
    tried::{Try, counted},
    *,
};
use std::time::Instant;

/// Where the program lies that opens files, as a program of the workload.
pub(super) const READER: &str = "/opt/agent/reader";

/// Has only listed files opened.
pub(super) fn listing(guest: &mut Guest) -> Result<()> {
    files(guest)?;
    load_listed(guest)
}

/// A file that is listed is opened, and what is not, or has no content that lasts, is refused.
pub(super) fn listed(guest: &mut Guest) -> Result<()> {
    listing(guest)?;
    let refused = unlisted(guest)?;
    let (names, mut codes): (Vec<&str>, Vec<i32>) = WAYS.iter().copied().unzip();
    if !measures(guest) {
        // No digest is kept of what others than root may write.
        codes[1] = REFUSES;
    }
    let argv = [&[READER, "open"], names.as_slice()].concat();
    let user = guest.kept::<Kit>()?.user;
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
    let events = events(guest)?;
    let both = [THEIRS, "being-written"];
    let mut lines = events.lines();
    ensure!(
        lines.any(|line| both.iter().all(|word| line.contains(word))),
        "of what is written by whoever opens it: {events}"
    );
    // What the kernel makes up when it is read is not read to find out what it is.
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
    comes_back(guest, LATER)?;
    let anew = in_zone(guest, SLICE, &[READER, "open", DATA])?.text();
    ensure!(
        anew == opened(&[DATA], &[REFUSES]),
        "another content by that name: {anew}"
    );
    guest
        .sh(&format!("echo data > {DATA}.new && mv {DATA}.new {DATA}"))?
        .ok()?;
    comes_back(guest, DATA)
}

/// What the kernel knew of a file goes with its inode, and is found out again.
pub(super) fn forgotten(guest: &mut Guest) -> Result<()> {
    listing(guest)?;
    let open = [READER, "open", DATA];
    let known = in_zone(guest, SLICE, &open)?.text();
    ensure!(known == opened(&[DATA], &[0]), "measured ahead: {known}");
    let (before, since) = (not_known(guest)?, Instant::now());
    loop {
        // Nobody has it open, so nothing keeps it but the kernel's memory of it.
        guest
            .sh("sync && echo 3 > /proc/sys/vm/drop_caches")?
            .ok()?;
        let said = in_zone(guest, SLICE, &open)?.text();
        if measures(guest) {
            ensure!(said == opened(&[DATA], &[0]), "measured anew: {said}");
            break;
        }
        if said == opened(&[DATA], &[REFUSES]) {
            break;
        }
        ensure!(since.elapsed() < BOUND, "it is never forgotten: {said}");
    }
    ensure!(
        measures(guest) || not_known(guest)? > before,
        "refused for another reason"
    );
    comes_back(guest, DATA)?;
    // And is held as it was before.
    let written = guest.run(&[ways::PROBE, "write", DATA])?.code;
    ensure!(written == 126, "a writer of what was opened: {written}");
    // Without a word of where it is it is known to nobody, and that is said.
    let mut placeless = spec(guest, LISTED)?;
    for (_, lines) in placeless
        .sets
        .iter_mut()
        .filter(|(name, _)| *name == "data")
    {
        *lines = lines.replace(&format!("  {LATER}\n"), "  later\n");
    }
    unlock(guest)?;
    let kit = guest.kept::<Kit>()?;
    let dir = kit.signed(&placeless)?;
    let said = kit.offer(guest, &dir)?.ok()?.errors();
    let warned = said.contains("listed without a whole path");
    ensure!(warned != measures(guest), "loading it: {said}");
    let said = guest
        .run(&["governor", "policy", "lint", "/root/policy"])?
        .text();
    ensure!(said.contains("before Linux 6.9"), "lint: {said}");
    kit.trusted(guest)
}

/// Somebody changes a file all the time while it is opened: what was opened is what is listed, until it is closed.
pub(super) fn no_race_is_won(guest: &mut Guest) -> Result<()> {
    listing(guest)?;
    guest.sh(&format!("cp {LATER} {RACED}"))?.ok()?;
    let flipping = guest.spawn(&[kept::WRITER, "flip", RACED, LATER, OTHER])?;
    guest.wait_for_output(flipping, b"flipping", BOUND)?;
    // Work of another zone that may not map it has it measured, so that it is known as soon as nobody writes.
    let measuring = guest.spawn(&[
        "sh",
        "-c",
        &format!(
            "mkdir -p {LEAF} && echo $$ > {LEAF}/cgroup.procs && echo measuring && \
             while true; do {AGENT} map {RACED} > /dev/null 2>&1; done"
        ),
    ])?;
    guest.wait_for_output(measuring, b"measuring", BOUND)?;
    let raced = in_zone(guest, SLICE, &[READER, "race", RACED, LATER_TEXT, RACES]);
    for job in [measuring, flipping] {
        guest.kill(job, 9)?;
        guest.wait(job, BOUND)?;
    }
    let raced = raced?;
    // The last of them may still be on its way out.
    guest.wait_until(&format!("rmdir {LEAF}"))?;
    guest.run(&["rm", "-f", RACED])?.ok()?;
    ensure!(raced.code == 0, "{} {}", raced.text(), raced.errors());
    Ok(())
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
    let words = if measures(guest) {
        ["would-deny", "unlisted-open", OTHER, digest]
    } else {
        ["would-deny", "not-known", OTHER, ""]
    };
    let mut lines = events.lines();
    let told = lines.any(|line| words.iter().all(|word| line.contains(word)));
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
    let argv = [READER, "swapped", "bind", SCRIPT, OTHER_SCRIPT];
    Try::refused(&argv, "interpreter-only")
        .ends(9, REFUSED)
        .in_zone(guest, SLICE)?;
    // Since Linux 6.7 also in what they are handed to by their first bytes.
    if measures(guest) {
        let argv = [READER, "format", SCRIPT, DASH];
        Try::refused(&argv, "interpreter-only")
            .ends(7, REFUSED)
            .in_zone(guest, SLICE)?;
    } else {
        guest.leaves_out("`binfmt_misc` of a user namespace", "Linux 6.7");
    }
    // This is the first case that lists what is opened, and nobody else pays for it.
    ensure!(
        !is_asked(guest)?,
        "the kernel asks at every open for nobody"
    );
    load_listed(guest)?;
    ensure!(is_asked(guest)?, "status says nothing of the hook");
    says_how(guest)?;
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

/// What judges opens here is told before it does and when it does.
fn says_how(guest: &mut Guest) -> Result<()> {
    let (doctors, status) = if measures(guest) {
        ("present", "what is opened is measured then")
    } else {
        (
            "only files are opened that were measured ahead",
            "what is opened must have been measured before",
        )
    };
    let doctor = guest.run(&["governor", "doctor"])?.text();
    let line = doctor.lines().find(|line| line.contains("file_post_open"));
    ensure!(
        line.is_some_and(|line| line.contains(doctors)),
        "doctor says nothing of it: {doctor}"
    );
    let said = guest.run(&["governor", "status"])?.text();
    ensure!(said.contains(status), "nor does status: {said}");
    Ok(())
}

/// Loads it, and waits until what it lists was looked at.
fn load_listed(guest: &mut Guest) -> Result<()> {
    let listed = spec(guest, LISTED)?;
    super::load(guest, &listed)?;
    status::once_measured_ahead(guest, BOUND).map(drop)
}

/// It is opened, at once or when it was measured again after somebody was refused it.
fn comes_back(guest: &mut Guest, path: &str) -> Result<()> {
    let passes = |guest: &mut Guest| -> Result<u64> {
        let said = status::of(guest)?;
        Ok(said.number(&["measurements", "ahead", "passes"]))
    };
    let since = Instant::now();
    loop {
        let before = passes(guest)?;
        let said = in_zone(guest, SLICE, &[READER, "open", path])?.text();
        if said == opened(&[path], &[0]) {
            return Ok(());
        }
        ensure!(
            !measures(guest) && said == opened(&[path], &[REFUSES]),
            "what can be measured at once: {said}"
        );
        while passes(guest)? == before {
            ensure!(since.elapsed() < BOUND, "`{path}` does not come back");
        }
    }
}

/// Whether this kernel lets the gate measure what is opened.
fn measures(guest: &Guest) -> bool {
    guest.kernel() != "6.1"
}

/// Whether anything judges what is opened.
fn is_asked(guest: &mut Guest) -> Result<bool> {
    let hook = if measures(guest) {
        "file_post_open"
    } else {
        "file_open_recalled"
    };
    let attached = status::of(guest)?.attached();
    let asked = attached.contains(&hook.to_owned());
    let either = attached
        .iter()
        .filter(|name| EITHER.contains(&name.as_str()));
    ensure!(
        either.count() == usize::from(asked),
        "another hook judges opens: {attached:?}"
    );
    Ok(asked)
}

fn events(guest: &mut Guest) -> Result<String> {
    let events = guest.run(&["governor", "events", "--denials", "--json"])?;
    Ok(events.text())
}

fn files(guest: &mut Guest) -> Result<()> {
    for (path, text) in [
        (DATA, "data\n".to_owned()),
        (SAME, "data\n".to_owned()),
        (EMPTY, String::new()),
        (EMPTY_TOO, String::new()),
        (IN_MEMORY, String::new()),
        (EMPTY_ELSEWHERE, String::new()),
        (EMPTY_OF_THEIRS, String::new()),
        (LATER, LATER_TEXT.to_owned()),
        (THEIRS, "theirs\n".to_owned()),
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
             ln -sf {DATA} {OWN}/to-data && chown {USER} {OWN}/pipe {THEIRS} {EMPTY_OF_THEIRS} && \
             touch {OWN}/out && chmod 666 {OWN}/out"
        ))?
        .ok()
        .map(drop)
}

fn spec(guest: &mut Guest, tables: &'static str) -> Result<Spec> {
    let mut measure = |paths: &[&str]| -> Result<String> {
        let measured = guest.run(&[&["governor", "measure", "--data"], paths].concat())?;
        Ok(measured.ok()?.text())
    };
    Ok(Spec {
        tables,
        sets: vec![
            ("scripts", measure(&[SCRIPT, SOURCING])?),
            ("interpreters", measure(&[DASH])?),
            ("readers", measure(&[READER])?),
            ("cat", measure(&["/usr/bin/cat"])?),
            ("data", measure(&DATA_SET)?),
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

/// How often something was refused because it is not listed, or nothing is known of it.
fn unlisted(guest: &mut Guest) -> Result<u64> {
    Ok(counted(guest, "unlisted-open")? + not_known(guest)?)
}

fn not_known(guest: &mut Guest) -> Result<u64> {
    counted(guest, "not-known")
}

/// How the interpreter ends when it cannot open its script.
const NOT_OPENED: i32 = 2;
const RACED: &str = "/opt/agent/read-race";
const LATER_TEXT: &str = "later\n";
/// How often it is to be opened, and refused.
const RACES: &str = "10";
const LEAF: &str = "/sys/fs/cgroup/governed.slice/governed-agents.slice/read-race";
const EITHER: [&str; 2] = ["file_post_open", "file_open_recalled"];
const SCRIPT: &str = "/opt/agent/own/script";
const OTHER_SCRIPT: &str = "/opt/agent/own/other-script";
const SOURCING: &str = "/opt/agent/own/sourcing";
const DASH: &str = "/usr/bin/dash";
pub(super) const SLICE: &str = "governed-scripts.slice";

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
