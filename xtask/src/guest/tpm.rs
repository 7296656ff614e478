//! The guest's TPM: swtpm over an inherited socket, with an EK and a platform certificate. One state
//! is manufactured and cached; each guest begins with a copy of it and keeps it over reboots.

use super::machine::{Inherit, own_child};
use crate::{paths, process};
use anyhow::{Context, Result, ensure};
use std::io::{Read as _, Write as _};
use std::os::fd::AsRawFd as _;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Child, Stdio};

/// Copies the manufactured state into the guest's own directory.
pub(crate) fn provision(dir: &Path) -> Result<()> {
    let cached = manufactured()?;
    paths::ensure(dir.to_path_buf())?;
    let state = dir.join(STATE);
    std::fs::copy(&cached, &state)
        .with_context(|| format!("copying TPM state to `{}`", state.display()))?;
    Ok(())
}

/// Starts the TPM on one end of a socket pair and returns the other end for QEMU.
pub(crate) fn start(dir: &Path, log: &Path) -> Result<(Child, UnixStream)> {
    let (ours, theirs) = UnixStream::pair().context("making the TPM's socket pair")?;
    let mut command = process::command("swtpm");
    command
        .args([
            "socket",
            "--tpm2",
            "--terminate",
            "--flags",
            "startup-clear",
        ])
        .arg("--tpmstate")
        .arg(format!("dir={}", dir.display()))
        .arg("--ctrl")
        .arg(format!("type=unixio,clientfd={}", theirs.as_raw_fd()))
        .arg("--log")
        .arg(format!("file={},level=1", log.display()))
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    own_child(&mut command, Inherit::one(&theirs));
    let child = command.spawn().context("starting swtpm")?;
    Ok((child, ours))
}

/// Has the TPM begin anew, as one of its own on a board whose reset line somebody pulls. `control` is QEMU's
/// end, which says nothing between its own commands (swtpm, `tpm_ioctl.h`: `PTM_INIT`).
pub(crate) fn reset(control: &mut UnixStream) -> Result<()> {
    let mut command = [0; 8];
    command[..4].copy_from_slice(&INIT.to_be_bytes());
    control
        .write_all(&command)
        .context("telling the TPM to begin anew")?;
    // QEMU does not wait at its end, and so nobody does at a copy of it.
    let mut waits = libc::pollfd {
        fd: control.as_raw_fd(),
        events: libc::POLLIN,
        revents: 0,
    };
    // SAFETY: one entry, which lives on this stack until the call returns.
    let answered = unsafe { libc::poll(&raw mut waits, 1, BOUND_MS) };
    ensure!(answered == 1, "the TPM says nothing to that");
    let mut answer = [0; 4];
    control
        .read_exact(&mut answer)
        .context("reading what the TPM says to that")?;
    let code = u32::from_be_bytes(answer);
    ensure!(code == 0, "the TPM does not begin anew: {code:#x}");
    Ok(())
}

fn manufactured() -> Result<std::path::PathBuf> {
    let _lock = paths::lock("tpm")?;
    let dir = paths::ensure(paths::vm().join("tpm"))?;
    let state = dir.join(STATE);
    if !dir.join("complete").is_file() {
        let mut setup = process::command("swtpm_setup");
        setup
            .args([
                "--tpm2",
                "--create-ek-cert",
                "--create-platform-cert",
                "--pcr-banks",
                "sha256",
            ])
            .args(["--overwrite", "--tpmstate"])
            .arg(&dir);
        process::run("manufacturing a TPM", &mut setup)?;
        paths::write_whole(&dir.join("complete"), b"")?;
    }
    Ok(state)
}

const BOUND_MS: i32 = 10_000;
/// `CMD_INIT`.
const INIT: u32 = 2;
const STATE: &str = "tpm2-00.permall";
