//! Nobody reads the arguments of this process.
//!
//! `/proc/PID/cmdline` is for everybody to read, and whoever does holds the lock of the process's memory
//! (`mmap_lock`) for as long as it takes. That is long where he gets no processor: he may have given himself
//! the weakest priority, and keep every processor busy with others of his. All threads here that map memory
//! wait for him. The kernel takes no lock for a process that has no arguments (`get_mm_cmdline` in Linux
//! `fs/proc/base.c`), so that is what it is told. Whatever else there is of a process that takes this lock, it
//! shows to nobody who may not trace it.
//!
//! Promises: nothing but what `/proc` says of the arguments changes. `ps` shows the process's name in brackets.

use std::fs;

use anyhow::{Context as _, Result};
use rustix::process::{PrctlMmMap, configure_virtual_memory_map};

/// To be called before there are threads.
pub(crate) fn forget() {
    if let Err(error) = try_to_forget() {
        tracing::warn!(
            "others may read the arguments and keep the daemon waiting meanwhile: {error:#}"
        );
    }
}

fn try_to_forget() -> Result<()> {
    let stat = fs::read_to_string("/proc/self/stat").context("reading `/proc/self/stat`")?;
    let mut map = map(&stat).context("`/proc/self/stat` lacks an address")?;
    // Last of all: whatever is allocated may move it.
    // SAFETY: moves the end of the heap by nothing, and says where it is.
    map.brk = unsafe { libc::sbrk(0) }.addr() as u64;
    // SAFETY: all addresses are those that are in force, for nothing was allocated since the heap's end was read and
    // no other thread is there, but for that of the arguments, which the kernel uses for nothing but showing them.
    let told = unsafe { configure_virtual_memory_map(&map) };
    told.context("telling the kernel of no arguments")
}

/// Where everything is, by `stat`, with arguments that end where they begin; it does not tell the heap's end.
fn map(stat: &str) -> Option<PrctlMmMap> {
    // The name may have blanks and brackets.
    let (_, fields) = stat.rsplit_once(')')?;
    let fields: Vec<&str> = fields.split_whitespace().collect();
    // Numbered from one, as in proc_pid_stat(5), where the state is the third.
    let at = |number: usize| fields.get(number - 3)?.parse::<u64>().ok();
    Some(PrctlMmMap {
        start_code: at(26)?,
        end_code: at(27)?,
        start_data: at(45)?,
        end_data: at(46)?,
        start_brk: at(47)?,
        brk: 0,
        start_stack: at(28)?,
        arg_start: at(48)?,
        arg_end: at(48)?,
        env_start: at(50)?,
        env_end: at(51)?,
        auxv: std::ptr::null_mut(),
        auxv_size: 0,
        exe_fd: -1,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_addresses_but_one_are_those_that_are_shown() {
        let fields: Vec<String> = (4..=52).map(|number| (number * 16).to_string()).collect();
        let stat = format!("7 (a) b) S {}\n", fields.join(" "));
        let map = map(&stat).unwrap();
        let all = [
            map.start_code,
            map.end_code,
            map.start_stack,
            map.start_data,
            map.end_data,
            map.start_brk,
            map.arg_start,
            map.arg_end,
            map.env_start,
            map.env_end,
        ];
        let fields = [26, 27, 28, 45, 46, 47, 48, 48, 50, 51];
        assert_eq!(all, fields.map(|field| field * 16));
        assert_eq!((map.brk, map.auxv_size, map.exe_fd), (0, 0, -1));
    }

    #[test]
    fn a_line_that_is_too_short_is_none() {
        assert!(map("7 (a) S 1 2 3").is_none());
        assert!(map("").is_none());
    }
}
