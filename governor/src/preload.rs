//! Libraries that are otherwise loaded when they are first used: mapped before the guard is armed, so
//! that they are among what the daemon is known to consist of. Later, nothing unlisted gets in.

use std::ffi::CString;

use anyhow::{Context as _, Result};

/// Maps what reaches the TPM, and what looks users up. What is not there is not an error here: who
/// needs it says so.
pub fn preload(tcti: &str) -> Result<()> {
    let name = tcti.split(':').next().unwrap_or(tcti);
    if name
        .bytes()
        .all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
    {
        let library = CString::new(format!("libtss2-tcti-{name}.so.0"))
            .context("naming the library that reaches the TPM")?;
        // SAFETY: a terminated string and flags; the handle is never closed, so what it mapped stays.
        let _missing = unsafe { libc::dlopen(library.as_ptr(), libc::RTLD_NOW) };
    }
    // A name that nobody has makes every source be asked.
    drop(nix::unistd::User::from_name("no-such-user-anywhere"));
    Ok(())
}
