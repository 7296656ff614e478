//! Why a host needs a file, in a closed list, and which of the reasons are vital.
//!
//! Vital: without it nobody logs in, the first process, the package system or governor fails, and the
//! host cannot be put right from inside. Everything else is advisable and refuses nothing.

use std::fmt;

/// A reason.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Why {
    /// The first process, and what it has mapped.
    Init,
    /// The daemon, its command line, and what it has mapped.
    Governor,
    /// What the kernel starts by itself.
    Kernel,
    Systemd,
    /// Logging in, with the file that says so or the program that does it.
    Login(String),
    /// The shell of an account.
    Shell(String),
    /// Looking up names, with the library's short name.
    NameService(String),
    /// Installing and removing packages.
    Packages,
    /// A package without which others cannot be configured.
    Essential(String),
    /// A package that every installation has.
    Required(String),
    /// Making what the host boots from, after another kernel was installed.
    Boot,
    /// What installing or removing one package runs.
    Maintainer,
    /// Scripts in a directory that something runs all of.
    Hook(String),
    /// A unit that starts it.
    Unit(String),
    /// A process that runs now.
    Running(u32),
}

impl Why {
    /// Whether an operator would be shut out without it.
    pub fn is_vital(&self) -> bool {
        match self {
            Self::Init
            | Self::Governor
            | Self::Kernel
            | Self::Systemd
            | Self::Login(_)
            | Self::NameService(_)
            | Self::Packages
            | Self::Essential(_) => true,
            // Others choose their own, and must not be able to have a policy refused by it.
            Self::Shell(account) => matches!(account.as_str(), ROOT | EVERYBODY),
            Self::Required(_)
            | Self::Boot
            | Self::Maintainer
            | Self::Hook(_)
            | Self::Unit(_)
            | Self::Running(_) => false,
        }
    }
}

/// Whose shells are vital: that of the first account, and the one that everything else calls.
const ROOT: &str = "root";
pub(super) const EVERYBODY: &str = "everybody";

impl fmt::Display for Why {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Init => f.write_str("the first process"),
            Self::Governor => f.write_str("governor itself"),
            Self::Kernel => f.write_str("started by the kernel"),
            Self::Systemd => f.write_str("systemd"),
            Self::Login(what) => write!(f, "login: {what}"),
            Self::Shell(account) => write!(f, "shell of {account}"),
            Self::NameService(name) => write!(f, "name service {name}"),
            Self::Packages => f.write_str("package manager"),
            Self::Essential(package) => write!(f, "essential package {package}"),
            Self::Required(package) => write!(f, "required package {package}"),
            Self::Boot => f.write_str("making boot images"),
            Self::Maintainer => f.write_str("maintainer script"),
            Self::Hook(dir) => write!(f, "run from {dir}"),
            Self::Unit(unit) => write!(f, "started by {unit}"),
            Self::Running(pid) => write!(f, "running (pid {pid})"),
        }
    }
}
