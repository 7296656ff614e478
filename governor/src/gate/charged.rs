//! Whom the kernel charges for what maps hold.
//!
//! Linux charges the memory of a map, and of whatever is stored in it later, to the cgroup of whoever made the
//! map (`kernel/bpf/syscall.c`, `bpf_map_save_memcg`). Labels are stored by work, when it forks: charged to the
//! daemon they would be its memory to be short of, and each fork would charge two cgroups in turn, which before
//! Linux 6.4 costs more than the label itself.
//!
//! Promises: maps are made where nothing is charged, the root of what cgroups there are; the process is back
//! where it was before anything else is done, or that is an error. Where it cannot be moved there, maps are made
//! where it is: it is a matter of cost. Refuses nothing.

use std::{io, path::Path, process};

use super::{GateError, hosts};
use crate::{cgroups::ROOT, stopping::tree};

/// Does this while the whole process is in the root cgroup.
pub(super) fn to_nobody<T>(make: impl FnOnce() -> T) -> Result<T, GateError> {
    let own = hosts::cgroup_of(Path::new("/proc/self/cgroup"))?;
    if let Err(error) = enter("/") {
        tracing::info!(%error, "what maps hold is charged to the daemon");
        return Ok(make());
    }
    let made = make();
    match enter(&own) {
        Ok(()) => Ok(made),
        Err(error) => Err(GateError::Invalid(format!(
            "going back to the cgroup `{own}` once maps were made: {error}; restart the service"
        ))),
    }
}

fn enter(cgroup: &str) -> io::Result<()> {
    let procs = Path::new(ROOT)
        .join(cgroup.trim_start_matches('/'))
        .join("cgroup.procs");
    tree::write(&procs, &process::id().to_string())
}
