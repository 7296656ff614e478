//! Memory that nobody measured: what belongs to no file, what was written, and files without a name.

use super::{tried::Try, *};

/// Where the program lies that tries it, as another program of the workload.
pub(super) const CODE: &str = "/opt/agent/code";

/// Memory of no file is not executed, however it becomes executable.
pub(super) fn of_no_file(guest: &mut Guest) -> Result<()> {
    let tries = [
        [CODE, "anonymous"],
        [CODE, "anonymous-then-code"],
        [CODE, "anonymous-then-code-by-key"],
        [CODE, "anonymous-implied"],
        [CODE, "shared-then-code"],
    ];
    let memfd = Try::refused(&[AGENT, "memfd", AGENT], UNSTABLE);
    ways::load(guest, &Spec::default())?;
    for argv in &tries {
        Try::refused(argv, WRITTEN).in_zone(guest, AGENTS_SLICE)?;
    }
    memfd.in_zone(guest, AGENTS_SLICE)?;
    ways::load(guest, &any())?;
    for argv in &tries {
        Try::let_be(argv).in_zone(guest, AGENTS_SLICE)?;
    }
    // What was a file is one even then.
    memfd.in_zone(guest, AGENTS_SLICE)
}

/// Pages of what was measured when it was mapped are filled by nobody when they are touched.
pub(super) fn filled(guest: &mut Guest) -> Result<()> {
    ways::load(guest, &Spec::default())?;
    Try::refused(&[CODE, "filler"], WRITTEN).in_zone(guest, AGENTS_SLICE)?;
    ways::load(guest, &any())?;
    Try::let_be(&[CODE, "filler"]).in_zone(guest, AGENTS_SLICE)
}

/// A file is measured when it is mapped to be executed, and not when what is mapped becomes code.
pub(super) fn of_files(guest: &mut Guest) -> Result<()> {
    let other = "/usr/bin/id";
    for spec in [Spec::default(), any()] {
        ways::load(guest, &spec)?;
        for listed in [
            Try::refused(&[CODE, "file-then-code", AGENT], WRITTEN),
            Try::refused(&[CODE, "file-then-code-by-key", AGENT], WRITTEN),
            Try::refused(&[CODE, "file-moved-then-code", AGENT], WRITTEN),
            Try::refused(&[CODE, "file-written-then-code", AGENT], WRITTEN),
            Try::refused(&[CODE, "code-then-written"], WRITTEN),
            Try::refused(&[AGENT, "map-writable", AGENT], WRITTEN),
            // Asked for as code, in other words.
            Try::let_be(&[CODE, "file-implied", AGENT]),
            Try::refused(&[CODE, "file-implied", other], UNLISTED),
        ] {
            listed.in_zone(guest, AGENTS_SLICE)?;
        }
    }
    Ok(())
}

/// Of listed content, without a name that it keeps.
pub(super) fn of_files_without_a_name(guest: &mut Guest) -> Result<()> {
    ways::load(guest, &Spec::default())?;
    // Its mapping cannot be read as a file, so nobody can say what is in it.
    Try::refused(&[CODE, "shared-memory"], "not-measured").in_zone(guest, AGENTS_SLICE)?;
    Try::refused(&[CODE, "memory", AGENT], UNSTABLE).in_zone(guest, AGENTS_SLICE)?;
    for dir in [OWN, "/dev/shm"] {
        let copy = format!("{dir}/copy");
        let again = format!("rm -f {copy} && cp {AGENT} {copy} && chown {USER} {copy}");
        for program in [CODE, ways::PROBE] {
            Try::refused(&[program, "nameless", dir, AGENT], UNSTABLE)
                .in_zone(guest, AGENTS_SLICE)?;
            Try::refused(&[program, "removed", &copy], UNSTABLE)
                .after(&again)
                .in_zone(guest, AGENTS_SLICE)?;
        }
    }
    Ok(())
}

fn any() -> Spec {
    Spec {
        memory: "any",
        ..Spec::default()
    }
}

const WRITTEN: &str = "written-memory";
const UNSTABLE: &str = "no-stable-file";
const UNLISTED: &str = "not-authorized";
/// Where the workload's user may write.
const OWN: &str = "/opt/agent/own";
