//! A daemon's socket with a loop behind it that knows one fixed answer to everything.

use std::{path::PathBuf, process, sync::Arc};

use governor::control::{
    Command, Question, Refusal, Target,
    client::Client,
    proto,
    server::{self, Counters, Options},
};
use governor_core::engine::Grip;
use tokio::sync::{broadcast, mpsc, oneshot};

use crate::glass::{challenge, signer};

pub(crate) struct Daemon {
    pub(crate) directory: tempfile::TempDir,
    pub(crate) path: PathBuf,
    pub(crate) counters: Arc<Counters>,
    pub(crate) events: broadcast::Sender<Arc<proto::GateEvent>>,
    pub(crate) stop: Option<oneshot::Sender<()>>,
    pub(crate) serving: Option<tokio::task::JoinHandle<anyhow::Result<()>>>,
}

impl Daemon {
    pub(crate) async fn start(adjust: impl FnOnce(&mut Options)) -> Self {
        let directory = tempfile::tempdir().expect("temporary directory");
        let path = directory.path().join("control.sock");
        let listener = server::bind(&path).expect("bind");
        let mut options = Options::new("governed.slice");
        adjust(&mut options);
        let counters = Arc::new(Counters::default());
        let (events, _) = broadcast::channel(16);
        let (commands, mut inbox) = mpsc::channel(16);
        tokio::spawn(async move {
            while let Some(command) = inbox.recv().await {
                answer(command);
            }
        });
        let (stop, stopped) = oneshot::channel::<()>();
        let serving = tokio::spawn(server::serve(
            listener,
            options,
            commands,
            events.clone(),
            Arc::clone(&counters),
            async move { drop(stopped.await) },
        ));
        Self {
            directory,
            path,
            counters,
            events,
            stop: Some(stop),
            serving: Some(serving),
        }
    }

    pub(crate) async fn client(&self) -> Client {
        Client::connect(&self.path).await.expect("client")
    }
}

/// A daemon that knows one fixed answer to everything.
fn answer(command: Command) {
    match command {
        Command::Status { reply } => {
            let daemon = Some(proto::Daemon {
                pid: process::id(),
                ..Default::default()
            });
            drop(reply.send(proto::StatusReply {
                daemon,
                ..Default::default()
            }));
        }
        Command::Reload {
            files,
            ends_host,
            caller,
            reply,
        } => {
            let who = if caller.uid == 0 { "root" } else { "another" };
            let ends = if ends_host { ", ends the host" } else { "" };
            let changes = files
                .iter()
                .map(|(path, content)| format!("{path}: {} bytes, by {who}{ends}", content.len()))
                .collect();
            drop(reply.send(Ok(proto::ReloadReply {
                changes,
                ..Default::default()
            })));
        }
        Command::PolicyShow { reply } => drop(reply.send(Ok(proto::PolicyShowReply::default()))),
        Command::Explain { question, reply } => {
            let subject = match question {
                Question::Connect {
                    address,
                    port,
                    protocol,
                    workload,
                } => {
                    format!("{workload} to {address}:{port} {}", protocol.name())
                }
                Question::Content { .. } | Question::Pid(_) | Question::Event(_) => "other".into(),
            };
            drop(reply.send(Ok(proto::ExplainReply {
                subject,
                ..Default::default()
            })));
        }
        Command::Observe { zone, reply, .. } => {
            let text = format!("no: {zone}");
            drop(reply.send(match zone.as_str() {
                "denied" => Err(Refusal::Denied(text)),
                "invalid" => Err(Refusal::Invalid(text)),
                "unverified" => Err(Refusal::Verification(text)),
                "failed" => Err(Refusal::Failed(text)),
                _ => Ok(proto::ObserveReply::default()),
            }));
        }
        Command::EnterZone {
            zone,
            caller,
            reply,
        } => {
            let leaf = format!("{zone}/{}", caller.pid);
            drop(reply.send(Ok(proto::EnterZoneReply { leaf })));
        }
        Command::Revoke {
            target,
            reason,
            reply,
            ..
        } => {
            assert_eq!((target, reason.as_str()), (Target::All, "drill"));
            drop(reply.send(Ok(proto::RevokeReply {
                record: 17,
                ..Default::default()
            })));
        }
        Command::Disarm { reply, .. } => drop(reply.send(Ok(proto::DisarmReply {
            said: "done".into(),
            pcrs: vec![14],
        }))),
        Command::Unlock { reason, reply, .. } => drop(reply.send(Ok(proto::UnlockReply {
            cleared: format!("cleared for `{reason}`"),
            record: 3,
        }))),
        Command::GlassChallenge { request, reply, .. } => {
            let challenge = challenge(&request).write();
            drop(reply.send(Ok(proto::GlassChallengeReply {
                challenge,
                patience_seconds: 300,
            })));
        }
        Command::BreakGlass {
            request,
            signature,
            reply,
            ..
        } => drop(reply.send(match signer(&request, &signature) {
            Ok(key) => Ok(proto::BreakGlassReply {
                until: "2026-11-20T12:00:00.000Z".into(),
                key,
                unwritten: String::new(),
            }),
            Err(why) => Err(Refusal::Verification(why)),
        })),
        Command::EndBreakGlass { reason, reply, .. } => {
            assert_eq!(reason, "it works again");
            drop(reply.send(Ok(proto::EndBreakGlassReply {
                killed: 2,
                unwritten: "the disk is full".into(),
                ..Default::default()
            })));
        }
        Command::Hold {
            target,
            grip,
            reply,
            ..
        } => {
            assert_eq!(
                (target, grip),
                (Target::Zone("agents".into()), Grip::Quarantine)
            );
            drop(reply.send(Ok(proto::HoldReply {
                quarantined: 2,
                closed: 3,
                record: 18,
                ..Default::default()
            })));
        }
        Command::Resume { target, reply, .. } => drop(reply.send(match target {
            Target::All => Err(Refusal::Denied("all stays held: not trusted".into())),
            Target::Workload(_) | Target::Zone(_) | Target::Digest(_) => Ok(proto::ResumeReply {
                thawed: 2,
                said: "resume it".into(),
                ..Default::default()
            }),
        })),
        Command::Quote { reply, .. } => drop(reply.send(Ok(proto::QuoteReply::default()))),
        Command::Reattest { reply, .. } => drop(reply.send(Ok(proto::ReattestReply::default()))),
        Command::RecentEvents { reply } => {
            drop(reply.send(vec![Arc::new(event(1)), Arc::new(event(2))]));
        }
    }
}

/// Even events are denials.
pub(crate) fn event(id: u64) -> proto::GateEvent {
    let verdict = if id.is_multiple_of(2) {
        proto::Verdict::Deny
    } else {
        proto::Verdict::Allow
    };
    proto::GateEvent {
        id,
        verdict: verdict.into(),
        ..Default::default()
    }
}
