//! The daemon's own memory: giving back what is free, and keeping what is used.
//!
//! Attaching the gate and reading a policy take many megabytes for a moment, and the allocator keeps
//! what is freed. What the daemon consists of is needed most when the host is short of memory or its disk
//! does not answer, and is not to be read from there then. Nothing here changes what the program does.

use std::{fs, ptr};

use anyhow::{Context as _, Result};
use rustix::{
    mm::{MlockFlags, mlock_with},
    thread::disable_transparent_huge_pages,
};

use crate::{
    maps::{self, Mapped},
    text,
};

/// Hands memory that is free inside the allocator back to the kernel. For after a start and a reload.
pub fn give_back() {
    #[cfg(target_env = "gnu")]
    // SAFETY: the call locks the allocator's arenas itself, takes no pointer of ours, and touches
    // only pages that no live allocation is on.
    unsafe {
        libc::malloc_trim(0);
    }
}

/// Keeps large blocks out of the heap for good: the allocator would otherwise learn from the first one
/// that is freed to keep others of that size. To be called before there are threads.
pub fn stay_small() {
    const LARGE: libc::c_int = 128 * 1024;
    #[cfg(target_env = "gnu")]
    // SAFETY: two integers; the process has one thread, so nobody allocates meanwhile.
    unsafe {
        libc::mallopt(libc::M_MMAP_THRESHOLD, LARGE);
    }
}

/// Has the kernel leave this process's pages as they are. The thread that makes huge ones of them
/// (`khugepaged`) has the weakest priority there is, and holds the lock of a process's memory while it looks and
/// while it copies: where others keep the processors busy, everybody waits for it. To be called first: what it was
/// told of once it looks at again.
pub fn stay_in_small_pages() {
    if let Err(error) = disable_transparent_huge_pages(true) {
        tracing::warn!(%error, "having the kernel make no huge pages of the daemon's memory");
    }
}

/// Has the kernel keep what was read of the program and its libraries. Nothing is read for it that was not used.
/// Other memory has no other place: the service's is not swapped out. To be called once all libraries are there.
pub fn stay_resident() {
    if let Err(error) = keep_files() {
        tracing::warn!(
            "what the daemon consists of may be taken from memory and have to be read again: {error:#}"
        );
    }
}

fn keep_files() -> Result<()> {
    let maps = fs::read_to_string("/proc/self/maps").context("reading `/proc/self/maps`")?;
    let mut failed = Ok(());
    for mapped in maps::files(&maps) {
        // One that is not kept keeps no other from it.
        failed = failed.and(keep(&mapped));
    }
    failed
}

fn keep(mapped: &Mapped<'_>) -> Result<()> {
    let length = usize::try_from(mapped.to - mapped.from).context("reading an address")?;
    let start = usize::try_from(mapped.from).context("reading an address")?;
    let start = ptr::without_provenance_mut(start);
    // SAFETY: changes nothing that is in memory, and nothing of what may be done with it.
    let kept = unsafe { mlock_with(start, length, MlockFlags::ONFAULT) };
    kept.with_context(|| {
        let path = text::strip(mapped.path);
        format!("keeping `{path}` (is `LimitMEMLOCK=` raised?)")
    })
}
