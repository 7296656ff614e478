//! What can go wrong at the gate, and what to do about it.

use std::{error::Error, io, path::PathBuf};

/// An error of the gate. Each text is whole: what was being done, and what was said to that, down to
/// the first cause. So none has a source, which would only be printed twice.
#[derive(Debug, thiserror::Error)]
pub enum GateError {
    #[error(
        "this build carries no kernel programs; build with `cargo xtask dist`, or set GOVERNOR_EBPF_OBJECT"
    )]
    NoObject,
    #[error(
        "`bpf` is not among the active security modules (`{active}`); add it to `lsm=` on the kernel command line"
    )]
    BpfNotActive { active: String },
    #[error("`{0}` is not a bpf file system; mount one with `mount -t bpf bpf /sys/fs/bpf`")]
    NoBpffs(PathBuf),
    #[error("`{0}` is not the unified cgroup hierarchy; mount cgroup2 there")]
    NoCgroup2(PathBuf),
    #[error("reading `{path}`: {error}")]
    Read { path: PathBuf, error: io::Error },
    #[error(
        "the gate in this kernel is armed and does not take this process for its daemon: it must be a \
         binary that the policy in force lists under [governor], with libraries listed there or mapped \
         when the gate was armed, started by systemd in governor.service; start the listed one and \
         load a policy that lists this one, or reboot"
    )]
    NotTheDaemon,
    #[error(
        "the gate in this kernel is pinned in `{}`, which this version does not know how to take over: it \
         stays in force without a daemon; start the version that made it, or reboot",
        .0.display()
    )]
    OtherLayout(PathBuf),
    #[error(
        "the gate in this kernel has lost the pins `{names}` in `{}`: it stays in force without a daemon, for \
         maps made in their place would be read by nothing that enforces; reboot",
        .dir.display()
    )]
    Missing { dir: PathBuf, names: String },
    #[error("kernel types: {0}")]
    Btf(String),
    #[error(
        "this kernel leaves a security program out while the same program runs on the same CPU; use 6.2 or newer, or 6.1.54 or newer"
    )]
    SkipsPrograms,
    #[error("digests would be stale: IMA follows `{rule}`; {fix}")]
    Ima { rule: String, fix: &'static str },
    #[error("digests may be stale, for it is not known what IMA follows: {why}; {fix}")]
    ImaUnknown { why: String, fix: &'static str },
    #[error("trying how the kernel measures files: {0}; see `governor doctor`")]
    Measuring(String),
    #[error("loading the kernel programs: {}", whole(.0.as_ref()))]
    Object(Box<aya::EbpfError>),
    #[error("hook `{name}` cannot be attached, and nothing is changed without it: {reason}")]
    Hook { name: &'static str, reason: String },
    #[error("pin `{path}`: {reason}")]
    Pin { path: PathBuf, reason: String },
    #[error(
        "the gate is not guarded, because a program of it would end with this process: its pin `{}`: {reason}; \
         restart governor, which pins it again",
        .path.display()
    )]
    Unpinned { path: PathBuf, reason: String },
    #[error("map `{name}`: {doing}: {}", whole(.error.as_ref()))]
    Map {
        name: &'static str,
        doing: &'static str,
        error: Box<aya::maps::MapError>,
    },
    #[error("map `{name}` is not laid out as this binary expects: {detail}")]
    Layout { name: &'static str, detail: String },
    #[error("map `{name}` does not hold what was just stored: {detail}")]
    ReadBack { name: &'static str, detail: String },
    #[error("{count} {what} do not fit: the limit is {limit}")]
    TooMany {
        what: &'static str,
        count: usize,
        limit: u32,
    },
    #[error("{0}")]
    Invalid(String),
}

impl GateError {
    pub(super) fn map(
        name: &'static str,
        doing: &'static str,
    ) -> impl FnOnce(aya::maps::MapError) -> Self {
        move |error| Self::Map {
            name,
            doing,
            error: Box::new(error),
        }
    }
}

/// An error and everything below it, each said once.
pub(super) fn whole(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut below = error.source();
    while let Some(error) = below {
        let more = error.to_string();
        if !text.ends_with(&more) {
            text = format!("{text}: {more}");
        }
        below = error.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_is_whole_without_its_sources() {
        let cause = io::Error::from_raw_os_error(libc::EPERM);
        let call = aya::sys::SyscallError {
            call: "bpf_map_update_elem",
            io_error: cause,
        };
        let text = GateError::map("STATE", "storing a word")(call.into()).to_string();
        assert_eq!(
            text.matches("Operation not permitted").count(),
            1,
            "`{text}` does not say why, once"
        );
        let read = GateError::Read {
            path: "/x".into(),
            error: io::Error::from_raw_os_error(libc::ENOENT),
        };
        assert!(read.source().is_none());
        assert!(read.to_string().contains("No such file"), "{read}");
    }
}
