//! Files that a policy lists by path are measured before anything executes them, and nothing is believed of
//! the path.

use super::{
    kept::{measured, started},
    *,
};
use anyhow::bail;
use std::time::Instant;

pub(super) fn first_exec_reads_nothing(guest: &mut Guest) -> Result<()> {
    let spec = listing(guest)?;
    load(guest, &spec)?;
    settle(guest)?;
    let said = status::of(guest)?;
    let count = |name| said.number(&["measurements", "ahead", name]);
    let seen = ["others", "absent", "passed_over"].map(count);
    ensure!(
        seen == [1, 1, 3] && count("known") >= 2,
        "of what is listed: {}",
        said.text(&["measurements", "ahead"])
    );
    read(guest, 0, "the first exec of what is listed")?;
    // What was said of the path is nothing to the kernel.
    started(guest, OTHER, false, "listed with another content")?;
    // Another file in its place is as unknown as any.
    guest
        .sh(&format!("cp {AHEAD} {AHEAD}.new && mv {AHEAD}.new {AHEAD}"))?
        .ok()?;
    read(guest, 1, "another file of the same content")?;
    guest
        .sh(&format!("cp {OTHER} {AHEAD}.new && mv {AHEAD}.new {AHEAD}"))?
        .ok()?;
    started(guest, AHEAD, false, "another file of other content")?;
    Ok(())
}

/// What was measured under trust that was lost is measured again, and nobody has to execute it for that.
pub(super) fn it_is_done_again_when_trust_was_lost(guest: &mut Guest) -> Result<()> {
    let spec = listing(guest)?;
    load(guest, &spec)?;
    settle(guest)?;
    guest
        .run(&["governor", "revoke", "--all", "--reason", "drill"])?
        .ok()?;
    load(guest, &spec)?;
    settle(guest)?;
    read(guest, 0, "the first exec after trust was lost")?;
    guest.sh("rm -r /opt/ahead")?.ok().map(drop)
}

/// A policy that lists one file as it is, one with other content, one that is not there, and three that are
/// not to be read ahead.
fn listing(guest: &mut Guest) -> Result<Spec> {
    guest
        .sh(&format!(
            "rm -rf /opt/ahead && mkdir -p /opt/ahead && for name in file other theirs; do \
             cp {AGENT} /opt/ahead/$name && printf $name >> /opt/ahead/$name; done && \
             chown {USER} {THEIRS} && mkfifo /opt/ahead/fifo && truncate -s 2G /opt/ahead/large"
        ))?
        .ok()?;
    let digest = |guest: &mut Guest, path: &str| -> Result<String> {
        let said = guest.run(&["sha256sum", path])?.ok()?.text();
        let digest = said.split_whitespace().next();
        Ok(digest.context("a sum without a digest")?.to_owned())
    };
    let (file, theirs) = (digest(guest, AHEAD)?, digest(guest, THEIRS)?);
    let listed = [
        (file, AHEAD),
        (theirs, THEIRS),
        ("1".repeat(64), OTHER),
        ("2".repeat(64), "/opt/ahead/none"),
        ("3".repeat(64), "/opt/ahead/fifo"),
        ("4".repeat(64), "/opt/ahead/large"),
        // Not a whole path, so it is nowhere.
        ("5".repeat(64), "file"),
    ];
    let lines = listed.map(|(digest, path)| format!("{digest}  {path}\n"));
    Ok(Spec {
        planner: lines.concat(),
        ..Spec::default()
    })
}

/// Starts it and looks how many files were read.
fn read(guest: &mut Guest, expected: u64, what: &str) -> Result<()> {
    let (before, _) = measured(guest)?;
    started(guest, AHEAD, true, what)?;
    let (after, _) = measured(guest)?;
    let read = after - before;
    ensure!(
        read == expected,
        "{what}: {read} files were read, not {expected}"
    );
    Ok(())
}

/// Waits until everything was looked at, and whoever tries all the time has no file read any more.
fn settle(guest: &mut Guest) -> Result<()> {
    status::once_measured_ahead(guest, BOUND)?;
    let mut last = measured(guest)?;
    let since = Instant::now();
    while since.elapsed() < BOUND {
        let (hashed, recalled) = measured(guest)?;
        // The canary's file, once a second.
        if hashed == last.0 && recalled > last.1 {
            return Ok(());
        }
        if hashed != last.0 {
            last = (hashed, recalled);
        }
    }
    bail!("files are read for ever: {last:?}")
}

const AHEAD: &str = "/opt/ahead/file";
const OTHER: &str = "/opt/ahead/other";
const THEIRS: &str = "/opt/ahead/theirs";
