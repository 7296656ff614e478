//! Giving memory back.
//!
//! Attaching the gate and reading a policy take many megabytes for a moment, and the allocator keeps
//! what is freed. Nothing here changes what the program does.

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
