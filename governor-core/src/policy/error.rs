//! Complaints about a policy, with the place they are about.
//!
//! A [`Diagnostic`] names file, line and column; [`Diagnostics`] carries all that were found.
//! [`PolicyError`] has a variant for each way a bundle fails to be a policy in force.

use core::fmt;

use super::{bundle::BundleError, signature::SignatureError};
use crate::{digest::Digest, time::WallTime};

/// How bad it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// The policy is refused.
    Error,
    /// The policy is accepted; somebody should look.
    Warning,
}

/// One complaint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Diagnostic {
    pub severity: Severity,
    /// Path inside the bundle.
    pub file: String,
    /// Counted from 1.
    pub line: u32,
    /// Counted in characters from 1.
    pub column: u32,
    pub message: String,
    /// What to do about it.
    pub hint: Option<String>,
}

impl fmt::Display for Diagnostic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let severity = match self.severity {
            Severity::Error => "error",
            Severity::Warning => "warning",
        };
        let Self {
            file,
            line,
            column,
            message,
            ..
        } = self;
        write!(f, "{file}:{line}:{column}: {severity}: {message}")?;
        match &self.hint {
            Some(hint) => write!(f, ", {hint}"),
            None => Ok(()),
        }
    }
}

/// Everything that was found wrong, at least one error among it, in order of file and line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Diagnostics(pub(super) Vec<Diagnostic>);

impl Diagnostics {
    /// Errors and warnings.
    pub fn all(&self) -> &[Diagnostic] {
        &self.0
    }

    /// How many of them are errors.
    pub fn errors(&self) -> usize {
        self.0
            .iter()
            .filter(|d| d.severity == Severity::Error)
            .count()
    }
}

impl fmt::Display for Diagnostics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, diagnostic) in self.0.iter().enumerate() {
            if index != 0 {
                f.write_str("\n")?;
            }
            write!(f, "{diagnostic}")?;
        }
        Ok(())
    }
}

impl core::error::Error for Diagnostics {}

/// Why a bundle is not a policy in force.
#[derive(Debug, thiserror::Error)]
pub enum PolicyError {
    #[error(transparent)]
    Bundle(#[from] BundleError),
    #[error(transparent)]
    Signature(#[from] SignatureError),
    #[error("refusing the policy's manifest:\n{0}")]
    Manifest(Diagnostics),
    #[error("refusing the policy:\n{0}")]
    Invalid(Diagnostics),
    #[error("policy is not valid before {from}, and it is {now}")]
    NotYetValid { from: WallTime, now: WallTime },
    #[error("policy expired at {until}, and it is {now}; sign one with a later `not_after`")]
    Expired { until: WallTime, now: WallTime },
    #[error(
        "policy serial {serial} is lower than {highest}, which was accepted before; raise `serial`"
    )]
    SerialTooLow { serial: u64, highest: u64 },
    #[error(
        "policy serial {serial} was accepted before with other content ({accepted}); raise `serial`"
    )]
    SerialReused { serial: u64, accepted: Digest },
}
