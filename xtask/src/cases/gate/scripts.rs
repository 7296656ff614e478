//! Scripts, and what their interpreters are given.

use super::*;

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
            ("scripts", measure(&[&script, &nested, &broken])?),
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
    let before = only(guest)?;
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
    let after = only(guest)?;
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
    Ok(())
}

/// How often something was refused because it is an interpreter only.
fn only(guest: &mut Guest) -> Result<u64> {
    let said = status::of(guest)?;
    Ok(said.counts().get("interpreter-only").copied().unwrap_or(0))
}

fn in_own(name: &str) -> String {
    format!("/opt/agent/own/{name}")
}

const DASH: &str = "/usr/bin/dash";
const LOADER: &str = "/lib64/ld-linux-x86-64.so.2";
/// Names that the interpreter takes for options: what comes next is the text.
const OPTIONS: [&str; 2] = ["-c", "+c"];
const SLICE: &str = "governed-scripts.slice";
const SCRIPTED: &str = r#"
[zone.scripts]
cgroup = "governed.slice/governed-scripts.slice"
requires = "policy"

[workload.scripted]
zone = "scripts"
exec = ["programs"]
libraries = ["os-libraries"]
scripts = ["scripts"]
interpreters = ["interpreters"]
started_by = ["operator", "scripted"]
user = ["agent"]
"#;
