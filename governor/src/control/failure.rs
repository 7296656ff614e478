//! How a command ends when it does not end well: the exit codes that are the contract.
//!
//! Promises: every failure has exactly one exit code, and a refusal of the daemon keeps its meaning
//! on the way through gRPC.

use std::{fmt, process::ExitCode};

use tonic::Code;

/// Why a command failed, by exit code.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Failure {
    /// 1
    Failed(String),
    /// 2
    Usage(String),
    /// 3: the verdict is deny, untrusted or stale.
    Denied(String),
    /// 4: no daemon answers.
    Unreachable(String),
    /// 5: a signature, proof or quote does not verify.
    Verification(String),
}

impl Failure {
    /// The exit code as a number.
    pub const fn code(&self) -> u8 {
        match self {
            Self::Failed(_) => 1,
            Self::Usage(_) => 2,
            Self::Denied(_) => 3,
            Self::Unreachable(_) => 4,
            Self::Verification(_) => 5,
        }
    }

    /// The same failure, where an invalid argument is not the caller's command line but what the
    /// command was given to work on.
    #[must_use]
    pub fn of_input(self) -> Self {
        match self {
            Self::Usage(text) => Self::Failed(text),
            other @ (Self::Failed(_)
            | Self::Denied(_)
            | Self::Unreachable(_)
            | Self::Verification(_)) => other,
        }
    }

    fn text(&self) -> &str {
        match self {
            Self::Failed(text)
            | Self::Usage(text)
            | Self::Denied(text)
            | Self::Unreachable(text)
            | Self::Verification(text) => text,
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.text())
    }
}

impl std::error::Error for Failure {}

impl From<Failure> for ExitCode {
    fn from(failure: Failure) -> Self {
        Self::from(failure.code())
    }
}

impl From<anyhow::Error> for Failure {
    fn from(error: anyhow::Error) -> Self {
        match error.downcast::<Self>() {
            Ok(failure) => failure,
            Err(error) => Self::Failed(format!("{error:#}")),
        }
    }
}

impl From<tonic::Status> for Failure {
    fn from(status: tonic::Status) -> Self {
        let text = status.message().to_owned();
        match status.code() {
            Code::PermissionDenied => Self::Denied(text),
            Code::InvalidArgument => Self::Usage(text),
            Code::Unauthenticated => Self::Verification(text),
            Code::OutOfRange | Code::ResourceExhausted => {
                Self::Failed(format!("the message is too large for the daemon: {text}"))
            }
            Code::Unimplemented => Self::Failed(
                "the daemon does not know this request; it may be older than this command: see \
                 `governor status`"
                    .into(),
            ),
            Code::Cancelled | Code::DeadlineExceeded => {
                Self::Failed(format!("the daemon did not answer in time: {text}"))
            }
            Code::Unavailable => Self::Unreachable(format!("the daemon went away: {text}")),
            // What tonic reports when the connection breaks in the middle.
            Code::Unknown => {
                Self::Unreachable(format!("the connection to the daemon broke: {text}"))
            }
            Code::Ok
            | Code::NotFound
            | Code::AlreadyExists
            | Code::FailedPrecondition
            | Code::Aborted
            | Code::Internal
            | Code::DataLoss => Self::Failed(text),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::Refusal;

    #[test]
    fn refusals_keep_their_exit_code() {
        let code = |refusal: Refusal| Failure::from(tonic::Status::from(refusal)).code();
        assert_eq!(code(Refusal::Failed("x".into())), 1);
        assert_eq!(code(Refusal::Invalid("x".into())), 2);
        assert_eq!(code(Refusal::Denied("x".into())), 3);
        assert_eq!(code(Refusal::Verification("x".into())), 5);
        assert_eq!(Failure::from(tonic::Status::unavailable("x")).code(), 4);
        assert_eq!(Failure::from(tonic::Status::out_of_range("x")).code(), 1);
    }

    #[test]
    fn an_invalid_input_is_not_a_usage_error() {
        assert_eq!(Failure::Usage("x".into()).of_input().code(), 1);
        assert_eq!(Failure::Verification("x".into()).of_input().code(), 5);
    }

    #[test]
    fn a_failure_survives_anyhow() {
        let error = anyhow::Error::new(Failure::Denied("no".into()));
        assert_eq!(Failure::from(error), Failure::Denied("no".into()));
        assert_eq!(
            Failure::from(anyhow::anyhow!("inner").context("outer")).code(),
            1
        );
    }
}
