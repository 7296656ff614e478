//! governor's kernel programs: measure, look up, decide, report.
//!
//! Promises: inside a zone every early return is a counted denial, a verdict is made only by
//! `governor_common::decide`, and nothing a verdict needs depends on a ring buffer or on a process
//! in user space. Outside every zone the programs look once and leave.
//!
//! Refuses: no path, no name and no timestamp of a file ever takes part in a verdict.
#![no_std]
#![no_main]
#![feature(asm_experimental_arch)]

mod address;
mod asked;
mod cgroup;
mod connect;
mod exec;
mod facts;
mod guard;
mod kept;
mod label;
mod map;
mod maps;
mod measure;
mod offsets;
mod open;
mod peer;
mod report;
mod socket;
mod tasks;
mod trace;
mod userfault;
mod zone;

#[unsafe(no_mangle)]
#[unsafe(link_section = "license")]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";

/// Never reached: overflow checks are off for this target and nothing here indexes by a variable.
#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    loop {}
}
