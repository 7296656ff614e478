//! What a guest cannot go on without, as its operator would find out and check.

use super::*;
use std::time::Duration;

const SETS: &str = "/root/survival";

pub(super) fn measured_and_checked(guest: &mut Guest) -> Result<()> {
    let lines = governor(guest, &["measure", "--survival", "--out", SETS])?
        .ok()
        .context("measuring what the guest needs")?;
    let policy = format!(
        "[policy]\nformat = 1\nname = \"survival\"\nserial = 1\nnot_before = 2026-01-01T00:00:00Z\n\
         not_after = 2090-01-01T00:00:00Z\n\n{}\n",
        lines.text()
    );
    guest.put(&format!("{SETS}/policy.toml"), 0o644, policy.as_bytes())?;
    let exec = guest.get(&format!("{SETS}/survival-exec.sha256"))?;
    let exec = String::from_utf8_lossy(&exec);
    // The service's unit and dpkg's lists name them, and nothing of them is asked.
    for program in [
        "/usr/bin/dpkg",
        "/usr/lib/systemd/systemd",
        "/usr/bin/governor",
    ] {
        ensure!(
            exec.lines()
                .any(|line| line.ends_with(&format!("  {program}"))),
            "`{program}` is not among\n{exec}"
        );
    }
    let check = ["policy", "check-survival", SETS];
    let whole = governor(guest, &check)?;
    ensure!(
        whole.code == 0,
        "what was measured lacks something: {} {}",
        whole.text(),
        whole.errors()
    );
    guest
        .sh(&format!(
            "cd {SETS} && grep -q '/libc.so.6$' survival-libraries.sha256 && \
             sed -i '/\\/libc.so.6$/d' survival-libraries.sha256"
        ))?
        .ok()
        .context("taking the C library out")?;
    let lacking = governor(guest, &check)?;
    let said = lacking.text();
    ensure!(
        lacking.code == 3,
        "without the C library: {} {said}",
        lacking.code
    );
    let lost: Vec<&str> = said
        .lines()
        .filter(|line| line.starts_with("MISSING"))
        .collect();
    ensure!(
        matches!(lost.as_slice(), [one] if one.contains("/libc.so.6 (library): ")),
        "one file is not listed, and it says:\n{said}"
    );
    Ok(())
}

/// Hundreds of files are measured, with an emulated processor perhaps.
fn governor(guest: &mut Guest, arguments: &[&str]) -> Result<crate::guest::Output> {
    let argv = [&["governor"], arguments].concat();
    guest.run_for(&argv, Duration::from_secs(600))
}
