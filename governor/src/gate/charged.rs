//! Whom the kernel charges for what maps hold.
//!
//! Linux charges the memory of a map, and of whatever is stored in it later, to the cgroup of whoever made the
//! map (`kernel/bpf/syscall.c`, `bpf_map_save_memcg`). Labels are stored by work, when it forks: charged to the
//! daemon they would be its memory to be short of, and each fork would charge two cgroups in turn, which before
//! Linux 6.4 costs more than the label itself. So a process of its own makes the maps, in the root cgroup, where
//! nothing is charged, pins them and ends. The daemon stays where it is: memory that it touched there would not
//! be its service's, and could be swapped out.
//!
//! Promises: the daemon waits for that process, and it ends when the daemon does. What it could not make the daemon
//! makes itself: this is a matter of cost.

use std::{
    path::Path,
    process::{Command, Stdio},
};

use anyhow::{Context as _, Result, ensure};
use governor_common::names;
use nix::sys::{prctl, signal::Signal};

use super::{OBJECT, load::Loaded};
use crate::{cgroups::ROOT, stopping::tree, text};

/// Has the maps made, unless labels have theirs.
pub(super) fn to_nobody(maps: &Path) {
    if maps.join(names::LABELS).exists() {
        return;
    }
    if let Err(error) = ask(maps) {
        tracing::info!("what maps hold is charged to the daemon: {error:#}");
    }
}

fn ask(maps: &Path) -> Result<()> {
    let made = Command::new("/proc/self/exe")
        .arg("maps")
        .arg(maps)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .env_clear()
        .output()
        .context("starting a process that makes them")?;
    ensure!(
        made.status.success(),
        "a process that makes them: {}",
        text::strip(String::from_utf8_lossy(&made.stderr).trim())
    );
    Ok(())
}

/// The side of that process.
pub fn make(maps: &Path) -> Result<()> {
    prctl::set_pdeathsig(Signal::SIGKILL).context("ending with the daemon")?;
    let procs = Path::new(ROOT).join("cgroup.procs");
    tree::write(&procs, ITSELF).with_context(|| format!("writing `{}`", procs.display()))?;
    // What is pinned stays when this ends.
    Loaded::with_maps(OBJECT, maps)?;
    Ok(())
}

/// As `cgroup.procs` takes it: whoever writes.
const ITSELF: &str = "0";
