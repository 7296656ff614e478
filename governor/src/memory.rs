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
