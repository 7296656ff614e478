//! Scripts, and what their interpreters are given.

use super::{
    tried::{Try, counted},
    *,
};

/// What is listed as an interpreter runs listed scripts, and nothing that anybody else gives it.
pub(super) fn interpreters(guest: &mut Guest) -> Result<()> {
    let (script, broken) = (in_own("script"), in_own("broken"));
    let nested = in_own("nested");
    for (path, text) in [
        (&script, format!("#!{DASH}\nexit 7\n")),
        (
            &nested,
            format!("#!{DASH}\n{script}\ntest $? = 7 && {DASH} -c 'exit 9'\n"),
        ),
        (&broken, "#!/nonexistent\n".to_owned()),
        (
            &FOREIGN.to_owned(),
            "#!/usr/bin/env dash\nexit 7\n".to_owned(),
        ),
        // Which is another workload's, and ends with 2 where it is given a script.
        (&OF_OTHERS.to_owned(), format!("#!{AGENT}\n")),
    ] {
        guest.put(path, 0o755, text.as_bytes())?;
    }
    // The script's name is what its interpreter is told first.
    for name in OPTIONS {
        guest
            .sh(&format!("ln -sf {script} {}", in_own(name)))?
            .ok()?;
    }
    let mut measure = |paths: &[&str]| -> Result<String> {
        Ok(guest
            .run(&[&["governor", "measure"], paths].concat())?
            .ok()?
            .text())
    };
    let spec = Spec {
        tables: SCRIPTED,
        sets: vec![
            (
                "scripts",
                measure(&[&script, &nested, &broken, FOREIGN, OF_OTHERS])?,
            ),
            ("interpreters", measure(&[DASH])?),
            ("programs", measure(&[ways::PROBE, LOADER])?),
        ],
        ..Spec::default()
    };
    super::load(guest, &spec)?;
    let run = |guest: &mut Guest, argv: &[&str], expected: i32| -> Result<()> {
        let code = in_zone(guest, SLICE, argv)?.code;
        ensure!(
            code == expected,
            "{argv:?}: expected {expected}, not {code}"
        );
        Ok(())
    };
    run(guest, &[&script], 7)?;
    let before = counted(guest, "interpreter-only")?;
    // By itself, whatever it would be given.
    run(guest, &[DASH], NOT_EXECUTED)?;
    run(guest, &[DASH, "-c", "exit 0"], NOT_EXECUTED)?;
    run(guest, &[DASH, &script], NOT_EXECUTED)?;
    // From a script, which may start another one.
    run(guest, &[&nested], 126)?;
    for name in OPTIONS {
        let argv = [ways::PROBE, "called", "/opt/agent/own", name, "exit 9"];
        let outside = guest.run(&argv)?.code;
        ensure!(outside == 9, "called `{name}` in no zone: {outside}");
        run(guest, &argv, REFUSED)?;
    }
    // Mapped by what is no script's interpreter: a loader as a program, and one whose exec failed on the way.
    run(guest, &[LOADER, DASH, "-c", "exit 0"], 127)?;
    run(
        guest,
        &[ways::PROBE, "failed-then-mapped", &broken, DASH],
        REFUSED,
    )?;
    let after = counted(guest, "interpreter-only")?;
    let expected = 4 + OPTIONS.len() as u64 + 2;
    ensure!(
        after == before + expected,
        "refused for other reasons: {before}, {after}"
    );
    let said = guest
        .run(&["governor", "explain", DASH, "--zone", "scripts"])?
        .text();
    for word in ["interpreter-only", "workload.scripted.interpreters"] {
        ensure!(
            said.contains(word),
            "explain says nothing of {word}: {said}"
        );
    }
    others(guest)?;
    observed(guest, &script)
}

/// A script that is listed leads to no interpreter that is not, and an interpreter to no other script.
fn others(guest: &mut Guest) -> Result<()> {
    let unlisted = in_own("unlisted");
    guest.put(&unlisted, 0o755, format!("#!{DASH}\nexit 8\n").as_bytes())?;
    for (path, free) in [(FOREIGN, 7), (OF_OTHERS, 2), (unlisted.as_str(), 8)] {
        Try::refused(&[path], "not-authorized")
            .ends(free, NOT_EXECUTED)
            .in_zone(guest, SLICE)?;
    }
    Ok(())
}

/// What runs only because the zone is observed carries no workload's name afterwards.
fn observed(guest: &mut Guest, script: &str) -> Result<()> {
    let (ready, go) = (in_own("ready"), in_own("go"));
    guest
        .sh(&format!(
            "rm -f {ready} {go} && mkfifo {ready} {go} && chown {USER} {ready} {go}"
        ))?
        .ok()?;
    let observe = |guest: &mut Guest, long: &str| -> Result<()> {
        let argv = ["governor", "observe", "--zone", "scripts", "--for", long];
        guest.run(&argv)?.ok().map(drop)
    };
    observe(guest, "10m")?;
    let text = format!("echo > {ready}; read x < {go}; {script}");
    let slice = format!("--slice={SLICE}");
    let user = format!("--uid={USER}");
    let job = guest.spawn(&[
        "systemd-run",
        "--quiet",
        "--wait",
        "--collect",
        &slice,
        &user,
        "--",
        ways::PROBE,
        "called",
        "/opt/agent/own",
        OPTIONS[0],
        &text,
    ])?;
    guest.sh(&format!("timeout 60 cat {ready}"))?.ok()?;
    observe(guest, "0s")?;
    guest.sh(&format!("timeout 60 sh -c 'echo > {go}'"))?.ok()?;
    let code = guest.wait(job, BOUND)?.code;
    // A task of the workload may start its script, and that would end with 7.
    ensure!(
        code == 126,
        "what ran only while it was observed ended with {code}"
    );
    guest.run(&["rm", &ready, &go])?.ok().map(drop)
}

fn in_own(name: &str) -> String {
    format!("/opt/agent/own/{name}")
}

const FOREIGN: &str = "/opt/agent/own/foreign";
const OF_OTHERS: &str = "/opt/agent/own/of-others";
const DASH: &str = "/usr/bin/dash";
const LOADER: &str = "/lib64/ld-linux-x86-64.so.2";
/// Names that the interpreter takes for options: what comes next is the text.
const OPTIONS: [&str; 2] = ["-c", "+c"];
const SLICE: &str = "governed-scripts.slice";
const SCRIPTED: &str = r#"
[zone.scripts]
cgroup = "governed.slice/governed-scripts.slice"
requires = "policy"
observe_up_to = "10m"

[workload.scripted]
zone = "scripts"
exec = ["programs"]
libraries = ["os-libraries"]
scripts = ["scripts"]
interpreters = ["interpreters"]
started_by = ["operator", "scripted"]
user = ["agent"]
"#;
