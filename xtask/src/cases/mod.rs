//! The guest tests. A suite is one boot: its cases run in order in that guest, each on its own feet,
//! so that any of them can be picked with `--filter`. A case that breaks the guest costs only itself;
//! the next one gets a fresh boot. To add a suite, write a file beside `platform.rs` and name it in
//! [`suites`].

mod break_glass;
pub(crate) mod crash;
mod daemon;
mod gate;
mod guard;
mod host;
mod platform;
mod quickstart;
mod stopping;
mod story;
mod trust;

use crate::guest::{BootOptions, Guest};
use crate::image::Kernel;
use anyhow::Result;

/// One check; it passes unless it returns an error, panics, or the kernel reports a fault meanwhile.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Case {
    pub(crate) name: &'static str,
    pub(crate) run: fn(&mut Guest) -> Result<()>,
}

/// Cases that share a boot.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Suite {
    pub(crate) name: &'static str,
    pub(crate) options: fn(Kernel) -> BootOptions,
    /// Whether it runs on every kernel. One that takes long and judges the daemon runs on the newest
    /// alone, unless it is asked for by name or everything is.
    pub(crate) everywhere: bool,
    /// Runs once after each boot; a failure fails every case.
    pub(crate) prepare: fn(&mut Guest) -> Result<()>,
    pub(crate) cases: &'static [Case],
}

pub(crate) fn suites() -> Vec<Suite> {
    vec![
        platform::SUITE,
        story::SUITE,
        gate::SUITE,
        guard::SUITE,
        host::SUITE,
        stopping::SUITE,
        break_glass::SUITE,
        quickstart::SUITE,
        crash::SUITE,
        daemon::SUITE,
        daemon::WITHOUT_BPF,
        daemon::WITHOUT_A_HOOK,
        trust::SUITE,
    ]
}

/// For suites that need nothing but the bare guest.
pub(crate) fn nothing(_guest: &mut Guest) -> Result<()> {
    Ok(())
}
