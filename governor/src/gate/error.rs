//! What can go wrong at the gate, and what to do about it.

use std::{io, path::PathBuf};

/// An error of the gate. Each text says what was being done.
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
    #[error("reading `{path}`")]
    Read {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("kernel types: {0}")]
    Btf(String),
    #[error("loading the kernel programs")]
    Object(#[source] Box<aya::EbpfError>),
    #[error("hook `{name}` cannot be attached, and nothing is changed without it: {reason}")]
    Hook { name: &'static str, reason: String },
    #[error("pin `{path}`: {reason}")]
    Pin { path: PathBuf, reason: String },
    #[error("map `{name}`: {doing}")]
    Map {
        name: &'static str,
        doing: &'static str,
        #[source]
        source: Box<aya::maps::MapError>,
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
        move |source| Self::Map {
            name,
            doing,
            source: Box::new(source),
        }
    }
}
