//! One reader of events.
//!
//! Promises: what is remembered comes first and nothing twice; a reader that is too slow is told how
//! much it missed and never slows anyone else.

use std::sync::Arc;

use tokio::sync::{broadcast, mpsc};
use tonic::Status;

use super::proto::{self, GateEvent, events_reply};

/// Sends what is remembered, then what comes, until the reader or the daemon is gone.
pub(super) async fn stream_events(
    wanted: proto::EventsRequest,
    recent: Vec<Arc<GateEvent>>,
    mut live: broadcast::Receiver<Arc<GateEvent>>,
    to: mpsc::Sender<Result<proto::EventsReply, Status>>,
) {
    let mut last = 0;
    for event in recent {
        last = event.id;
        if !deliver(&to, &wanted, &event).await {
            return;
        }
    }
    if !wanted.follow {
        return;
    }
    loop {
        let delivered = tokio::select! {
            event = live.recv() => match event {
                Ok(event) if event.id <= last => true,
                Ok(event) => deliver(&to, &wanted, &event).await,
                Err(broadcast::error::RecvError::Lagged(lost)) => {
                    let item = Some(events_reply::Item::Lost(lost));
                    to.send(Ok(proto::EventsReply { item })).await.is_ok()
                }
                Err(broadcast::error::RecvError::Closed) => false,
            },
            () = to.closed() => false,
        };
        if !delivered {
            return;
        }
    }
}

/// Whether the reader is still there.
async fn deliver(
    to: &mpsc::Sender<Result<proto::EventsReply, Status>>,
    wanted: &proto::EventsRequest,
    event: &GateEvent,
) -> bool {
    if wanted.denials && event.verdict() == proto::Verdict::Allow {
        return true;
    }
    let item = Some(events_reply::Item::Event(event.clone()));
    to.send(Ok(proto::EventsReply { item })).await.is_ok()
}
