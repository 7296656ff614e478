//! Handlers: a message in, a [`Command`] out, and the daemon's answer back.
//!
//! Promises: nothing is decided here; a message that cannot become a well-formed command is refused
//! with what is wrong, and the caller is who the kernel says.

use std::{collections::BTreeMap, sync::Arc};

use tokio::sync::{broadcast, mpsc, oneshot, watch};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status};

use super::{
    command::{Answer, Command},
    connection::Peer,
    holding,
    parse::{fixed, glass, invalid, name, question, reason, target},
    peer::Caller,
    proto::{self, GateEvent, control_server::Control},
    server::until,
    stream::stream_events,
};
use crate::text;

#[derive(Debug)]
pub(crate) struct Service {
    commands: mpsc::Sender<Command>,
    events: broadcast::Sender<Arc<GateEvent>>,
    stopped: watch::Receiver<bool>,
}

impl Service {
    pub(crate) fn new(
        commands: mpsc::Sender<Command>,
        events: broadcast::Sender<Arc<GateEvent>>,
        stopped: watch::Receiver<bool>,
    ) -> Self {
        Self {
            commands,
            events,
            stopped,
        }
    }

    async fn ask<T>(&self, make: impl FnOnce(Answer<T>) -> Command) -> Outcome<T> {
        let (reply, answer) = oneshot::channel();
        let answer = self.send(make(reply), answer).await?;
        Ok(Response::new(answer?))
    }

    async fn send<T>(&self, command: Command, answer: oneshot::Receiver<T>) -> Result<T, Status> {
        if self.commands.send(command).await.is_err() {
            return Err(stopping());
        }
        match answer.await {
            Ok(answer) => Ok(answer),
            Err(_) => Err(stopping()),
        }
    }
}

type Outcome<T> = Result<Response<T>, Status>;

#[tonic::async_trait]
impl Control for Service {
    async fn status(&self, request: Request<proto::StatusRequest>) -> Outcome<proto::StatusReply> {
        accept(request)?;
        let (reply, answer) = oneshot::channel();
        Ok(Response::new(
            self.send(Command::Status { reply }, answer).await?,
        ))
    }

    async fn reload(&self, request: Request<proto::ReloadRequest>) -> Outcome<proto::ReloadReply> {
        let (caller, message) = accept(request)?;
        let mut files = BTreeMap::new();
        for file in message.files {
            let path = text::strip(&file.path).into_owned();
            if files.insert(file.path, file.content).is_some() {
                return Err(invalid(format!("the bundle lists `{path}` twice")));
            }
        }
        if files.is_empty() {
            return Err(invalid("the bundle has no files"));
        }
        self.ask(|reply| Command::Reload {
            files,
            ends_host: message.ends_host,
            caller,
            reply,
        })
        .await
    }

    async fn policy_show(
        &self,
        request: Request<proto::PolicyShowRequest>,
    ) -> Outcome<proto::PolicyShowReply> {
        accept(request)?;
        self.ask(|reply| Command::PolicyShow { reply }).await
    }

    async fn explain(
        &self,
        request: Request<proto::ExplainRequest>,
    ) -> Outcome<proto::ExplainReply> {
        let (_, message) = accept(request)?;
        let question = question(message)?;
        self.ask(|reply| Command::Explain { question, reply }).await
    }

    async fn observe(
        &self,
        request: Request<proto::ObserveRequest>,
    ) -> Outcome<proto::ObserveReply> {
        let (caller, proto::ObserveRequest { zone, seconds }) = accept(request)?;
        let zone = name("zone", zone)?;
        self.ask(|reply| Command::Observe {
            zone,
            seconds,
            caller,
            reply,
        })
        .await
    }

    async fn enter_zone(
        &self,
        request: Request<proto::EnterZoneRequest>,
    ) -> Outcome<proto::EnterZoneReply> {
        let (caller, message) = accept(request)?;
        let zone = name("zone", message.zone)?;
        self.ask(|reply| Command::EnterZone {
            zone,
            caller,
            reply,
        })
        .await
    }

    async fn revoke(&self, request: Request<proto::RevokeRequest>) -> Outcome<proto::RevokeReply> {
        let (caller, message) = accept(request)?;
        let (target, reason) = target(message)?;
        self.ask(|reply| Command::Revoke {
            target,
            reason,
            caller,
            reply,
        })
        .await
    }

    async fn disarm(&self, request: Request<proto::DisarmRequest>) -> Outcome<proto::DisarmReply> {
        let (caller, message) = accept(request)?;
        let reason = reason(&message.reason)?;
        self.ask(|reply| Command::Disarm {
            reason,
            caller,
            reply,
        })
        .await
    }

    async fn unlock(&self, request: Request<proto::UnlockRequest>) -> Outcome<proto::UnlockReply> {
        let (caller, message) = accept(request)?;
        let reason = reason(&message.reason)?;
        self.ask(|reply| Command::Unlock {
            reason,
            caller,
            reply,
        })
        .await
    }

    async fn glass_challenge(
        &self,
        request: Request<proto::GlassChallengeRequest>,
    ) -> Outcome<proto::GlassChallengeReply> {
        let (caller, proto::GlassChallengeRequest { reason, seconds }) = accept(request)?;
        let request = glass(&reason, seconds)?;
        self.ask(|reply| Command::GlassChallenge {
            request,
            caller,
            reply,
        })
        .await
    }

    async fn break_glass(
        &self,
        request: Request<proto::BreakGlassRequest>,
    ) -> Outcome<proto::BreakGlassReply> {
        let (caller, message) = accept(request)?;
        let request = glass(&message.reason, message.seconds)?;
        let signature = message.signature;
        self.ask(|reply| Command::BreakGlass {
            request,
            signature,
            caller,
            reply,
        })
        .await
    }

    async fn end_break_glass(
        &self,
        request: Request<proto::EndBreakGlassRequest>,
    ) -> Outcome<proto::EndBreakGlassReply> {
        let (caller, message) = accept(request)?;
        let reason = reason(&message.reason)?;
        self.ask(|reply| Command::EndBreakGlass {
            reason,
            caller,
            reply,
        })
        .await
    }

    async fn hold(&self, request: Request<proto::HoldRequest>) -> Outcome<proto::HoldReply> {
        let (caller, message) = accept(request)?;
        let (target, grip, reason) = holding::hold(message)?;
        self.ask(|reply| Command::Hold {
            target,
            grip,
            reason,
            caller,
            reply,
        })
        .await
    }

    async fn resume(&self, request: Request<proto::ResumeRequest>) -> Outcome<proto::ResumeReply> {
        let (caller, message) = accept(request)?;
        let (target, reason) = holding::resume(message)?;
        self.ask(|reply| Command::Resume {
            target,
            reason,
            caller,
            reply,
        })
        .await
    }

    async fn quote(&self, request: Request<proto::QuoteRequest>) -> Outcome<proto::QuoteReply> {
        let (caller, proto::QuoteRequest { nonce }) = accept(request)?;
        if let Some(nonce) = &nonce {
            fixed("nonce", nonce)?;
        }
        self.ask(|reply| Command::Quote {
            nonce,
            caller,
            reply,
        })
        .await
    }

    async fn reattest(
        &self,
        request: Request<proto::ReattestRequest>,
    ) -> Outcome<proto::ReattestReply> {
        let (caller, proto::ReattestRequest {}) = accept(request)?;
        self.ask(|reply| Command::Reattest { caller, reply }).await
    }

    type EventsStream = ReceiverStream<Result<proto::EventsReply, Status>>;

    async fn events(&self, request: Request<proto::EventsRequest>) -> Outcome<Self::EventsStream> {
        let (_, wanted) = accept(request)?;
        // Subscribed before asking for what is remembered, so that nothing falls between.
        let live = self.events.subscribe();
        let (reply, answer) = oneshot::channel();
        let recent = self.send(Command::RecentEvents { reply }, answer).await?;
        let (to, stream) = mpsc::channel(64);
        let stopped = self.stopped.clone();
        tokio::spawn(async move {
            tokio::select! {
                () = stream_events(wanted, recent, live, to) => {}
                () = until(stopped) => {}
            }
        });
        Ok(Response::new(ReceiverStream::new(stream)))
    }
}

/// The caller as the kernel named it, and the message.
fn accept<T>(request: Request<T>) -> Result<(Caller, T), Status> {
    let Some(peer) = request.extensions().get::<Peer>() else {
        return Err(Status::internal("the connection has no peer"));
    };
    peer.asked();
    let caller = peer.caller;
    Ok((caller, request.into_inner()))
}

fn stopping() -> Status {
    Status::unavailable("the daemon is stopping")
}
