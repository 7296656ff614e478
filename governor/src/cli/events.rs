//! `governor events`: what the gate reported, a line each.
//!
//! Lines that the daemon could not deliver are counted in the stream where they are missing.

use std::process::ExitCode;

use super::{Done, Globals, output};
use crate::{
    control::proto::{self, GateEvent, events_reply::Item},
    text,
};

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Go on with what comes
    #[arg(short, long)]
    follow: bool,
    /// Only denials, and what observing would have denied
    #[arg(long)]
    denials: bool,
}

pub(super) fn events(globals: &Globals, args: Args) -> Done {
    let Args { follow, denials } = args;
    globals.ask(async |client| {
        let mut stream = client
            .events(proto::EventsRequest { denials, follow })
            .await?;
        while let Some(reply) = stream.message().await? {
            match reply.item {
                Some(Item::Event(event)) if globals.json => output::print_json_line(&event)?,
                Some(Item::Event(event)) => output::print(&line(&event))?,
                Some(Item::Lost(lost)) if globals.json => {
                    output::print_json_line(&serde_json::json!({ "lost": lost }))?;
                }
                Some(Item::Lost(lost)) => {
                    output::print(&format!("({lost} events were not delivered)"))?;
                }
                None => {}
            }
        }
        Ok(ExitCode::SUCCESS)
    })
}

/// `10:00:00 deny execute not-authorized agents/planner pid 17 uid 1000 (sh) /usr/bin/x e5`
fn line(event: &GateEvent) -> String {
    let mut line = format!(
        "{} {} {} {} {}",
        event.time,
        event.verdict().name(),
        event.operation,
        event.reason,
        event.zone
    );
    if !event.workload.is_empty() {
        line.push_str(&format!("/{}", event.workload));
    }
    line.push_str(&format!(
        " pid {} uid {} ({})",
        event.pid, event.uid, event.comm
    ));
    if !event.path.is_empty() {
        line.push_str(&format!(" {}", event.path));
    }
    if !event.digest.is_empty() {
        line.push_str(&format!(" sha256:{}", hex::encode(&event.digest)));
    }
    if !event.address.is_empty() {
        line.push_str(&match event.address.contains(':') {
            true => format!(" to [{}]:{}", event.address, event.port),
            false => format!(" to {}:{}", event.address, event.port),
        });
    }
    line.push_str(&format!(" e{}", event.id));
    text::strip(&line).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_is_one_harmless_line() {
        let event = GateEvent {
            id: 5,
            time: "2026-11-20T10:00:00.123Z".into(),
            verdict: proto::Verdict::Deny.into(),
            reason: "not-authorized".into(),
            operation: "execute".into(),
            zone: "agents".into(),
            workload: "planner".into(),
            pid: 17,
            uid: 1000,
            comm: "s\nh".into(),
            path: "/tmp/\x1b]0;x\x07".into(),
            ..GateEvent::default()
        };
        assert_eq!(
            line(&event),
            "2026-11-20T10:00:00.123Z deny execute not-authorized agents/planner pid 17 uid 1000 \
             (s\u{fffd}h) /tmp/\u{fffd}]0;x\u{fffd} e5"
        );
    }
}
