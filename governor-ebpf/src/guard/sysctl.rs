//! The one switch that turns every tracing program off without a word. Guarded by a program that does
//! not ride on tracing, attached to the root cgroup, so it runs for every task.

use aya_ebpf::{
    EbpfContext as _, helpers::generated::bpf_sysctl_get_name, macros::cgroup_sysctl,
    programs::SysctlContext,
};
use governor_common::{Signal, decide};

use super::{is_armed, raise};
use crate::zone;

const NAME: &[u8; 22] = b"kernel/ftrace_enabled\0";
const ALLOW: i32 = 1;
const REFUSE: i32 = 0;

/// A setting is read or written.
#[cgroup_sysctl]
pub fn sysctl(ctx: SysctlContext) -> i32 {
    // SAFETY: the context of this very call.
    let write = unsafe { (*ctx.sysctl).write };
    if write == 0 || !is_armed() {
        return ALLOW;
    }
    let mut name = [0u8; 24];
    // SAFETY: the context of this very call and a buffer of ours with its length.
    let read = unsafe { bpf_sysctl_get_name(ctx.as_ptr().cast(), name.as_mut_ptr().cast(), 24, 0) };
    if read != NAME.len() as i64 - 1 {
        return ALLOW;
    }
    let mut difference = 0;
    let mut i = 0;
    while i < NAME.len() {
        difference |= name[i] ^ NAME[i];
        i += 1;
    }
    if difference != 0 {
        return ALLOW;
    }
    let governed = zone::governed() != 0;
    raise(decide::counted_as(Signal::FtraceTouched, governed));
    REFUSE
}
