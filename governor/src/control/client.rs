//! The command line's end of the control socket.
//!
//! Promises: one connection, no silent reconnect (a request is never sent twice); a daemon that
//! cannot be reached is an error of its own that says what to do.

use std::{
    io,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use hyper_util::rt::TokioIo;
use tokio::net::UnixStream;
use tonic::{
    Streaming,
    transport::{Channel, Endpoint},
};

use super::{
    MAX_MESSAGE,
    failure::Failure,
    proto::{self, control_client::ControlClient},
};

/// A connection to the daemon.
#[derive(Debug)]
pub struct Client {
    inner: ControlClient<Channel>,
    socket: PathBuf,
}

macro_rules! calls {
    ($($(#[$doc:meta])* $call:ident: $request:ident => $reply:ident within $patience:expr;)+) => {
        impl Client {
            $(
                $(#[$doc])*
                pub async fn $call(
                    &mut self,
                    request: proto::$request,
                ) -> Result<proto::$reply, Failure> {
                    let call = self.inner.$call(request);
                    let Ok(outcome) = tokio::time::timeout($patience, call).await else {
                        return Err(silent(&self.socket, $patience));
                    };
                    match outcome {
                        Ok(reply) => Ok(reply.into_inner()),
                        Err(status) => Err(self.failure(status)),
                    }
                }
            )+
        }
    };
}

calls! {
    status: StatusRequest => StatusReply within SHORT;
    reload: ReloadRequest => ReloadReply within LONGEST;
    policy_show: PolicyShowRequest => PolicyShowReply within SHORT;
    explain: ExplainRequest => ExplainReply within SHORT;
    observe: ObserveRequest => ObserveReply within LONG;
    enter_zone: EnterZoneRequest => EnterZoneReply within LONG;
    revoke: RevokeRequest => RevokeReply within LONG;
    disarm: DisarmRequest => DisarmReply within LONG;
    unlock: UnlockRequest => UnlockReply within LONG;
    glass_challenge: GlassChallengeRequest => GlassChallengeReply within SHORT;
    break_glass: BreakGlassRequest => BreakGlassReply within LONG;
    end_break_glass: EndBreakGlassRequest => EndBreakGlassReply within LONG;
    hold: HoldRequest => HoldReply within LONG;
    resume: ResumeRequest => ResumeReply within LONG;
    quote: QuoteRequest => QuoteReply within LONG;
    reattest: ReattestRequest => ReattestReply within LONG;
}

impl Client {
    /// Connects to the daemon behind `socket`.
    pub async fn connect(socket: &Path) -> Result<Self, Failure> {
        let stream = match UnixStream::connect(socket).await {
            Ok(stream) => stream,
            Err(error) => return Err(unreachable(socket, &error)),
        };
        let stream = Arc::new(Mutex::new(Some(stream)));
        let connector = tower::service_fn(move |_| {
            let stream = stream.lock().unwrap_or_else(PoisonError::into_inner).take();
            async {
                stream
                    .map(TokioIo::new)
                    .ok_or_else(|| io::Error::other("closed"))
            }
        });
        // The name is required and means nothing on a Unix socket.
        let endpoint = Endpoint::from_static("http://governor");
        match endpoint.connect_with_connector(connector).await {
            Ok(channel) => {
                let inner = ControlClient::new(channel)
                    .max_decoding_message_size(MAX_MESSAGE)
                    .max_encoding_message_size(MAX_MESSAGE);
                Ok(Self {
                    inner,
                    socket: socket.to_owned(),
                })
            }
            Err(_) => Err(closed(socket, nix::unistd::geteuid().is_root())),
        }
    }

    /// What the gate reported, and what comes.
    pub async fn events(
        &mut self,
        request: proto::EventsRequest,
    ) -> Result<Streaming<proto::EventsReply>, Failure> {
        let Ok(outcome) = tokio::time::timeout(SHORT, self.inner.events(request)).await else {
            return Err(silent(&self.socket, SHORT));
        };
        match outcome {
            Ok(stream) => Ok(stream.into_inner()),
            Err(status) => Err(self.failure(status)),
        }
    }

    fn failure(&self, status: tonic::Status) -> Failure {
        // A status that the daemon sent has no source; a connection that broke has one.
        if std::error::Error::source(&status).is_some() {
            closed(&self.socket, nix::unistd::geteuid().is_root())
        } else {
            status.into()
        }
    }
}

fn unreachable(socket: &Path, error: &io::Error) -> Failure {
    let next = if error.kind() == io::ErrorKind::PermissionDenied {
        "only root may ask: try with `sudo`"
    } else {
        "start it with `systemctl start governor`, then see `journalctl -u governor`"
    };
    Failure::Unreachable(format!(
        "cannot reach the daemon at `{}`: {error}; {next}. What is pinned in the kernel goes on \
         enforcing without it",
        socket.display()
    ))
}

fn silent(socket: &Path, patience: Duration) -> Failure {
    Failure::Unreachable(format!(
        "the daemon at `{}` did not answer within {} s; see `journalctl -u governor`. What is \
         pinned in the kernel goes on enforcing without it",
        socket.display(),
        patience.as_secs()
    ))
}

fn closed(socket: &Path, root: bool) -> Failure {
    let why = if root {
        "it ended or was restarted meanwhile, or you are inside a governed zone, or 64 ask already. \
         Whether it did what was asked is not known: see `governor status`, then"
    } else {
        "it answers root only: try with `sudo`, or see"
    };
    Failure::Unreachable(format!(
        "the daemon at `{}` closed the connection: {why} `journalctl -u governor`",
        socket.display()
    ))
}

/// For what the daemon answers from memory.
const SHORT: Duration = Duration::from_secs(10);
/// For what waits for the TPM, the disk or the kernel.
const LONG: Duration = Duration::from_secs(70);
/// For what may have much to read; longer than the daemon's own limit.
const LONGEST: Duration = Duration::from_secs(610);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn root_is_not_told_that_only_root_is_answered() {
        let words = |root| closed(Path::new("/run/governor.sock"), root).to_string();
        assert!(words(true).contains("restarted") && !words(true).contains("root only"));
        assert!(words(false).contains("root only"));
    }
}
