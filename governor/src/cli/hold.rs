//! `governor pause`, `quarantine`, `kill`, `resume`: what runs now, held or let go, on the record.
//!
//! Nothing is revoked by it: copies that are started afterwards run. To keep them from starting,
//! revoke. Answered when it is done and the record is durable.

use std::process::ExitCode;

use clap::ArgGroup;
use governor_core::digest::Digest;

use super::{Done, Globals, output};
use crate::{
    control::proto::{
        self, Copies, Grip,
        copies::{All, Which},
    },
    text,
};

#[derive(Debug, clap::Args)]
#[command(group = ArgGroup::new("target").required(true))]
pub(super) struct Args {
    /// Copies of this workload
    #[arg(long, group = "target")]
    workload: Option<String>,
    /// Everything in this zone
    #[arg(long, group = "target")]
    zone: Option<String>,
    /// Copies of this content, or with it mapped, in every zone (64 hexadecimal digits)
    #[arg(long, group = "target", value_parser = super::digest)]
    digest: Option<Digest>,
    /// Everything that is governed
    #[arg(long, group = "target")]
    all: bool,
    /// Why, for the record
    #[arg(long)]
    reason: String,
}

impl Args {
    fn copies(self) -> (Option<Copies>, String) {
        let Self {
            workload,
            zone,
            digest,
            all,
            reason,
        } = self;
        let which = workload
            .map(Which::Workload)
            .or(zone.map(Which::Zone))
            .or(digest.map(|digest| Which::Digest(digest.bytes().to_vec())))
            .or(all.then_some(Which::All(All {})));
        (Some(Copies { which }), reason)
    }
}

pub(super) fn hold(globals: &Globals, grip: Grip, args: Args) -> Done {
    let (copies, reason) = args.copies();
    let request = proto::HoldRequest {
        copies,
        grip: grip.into(),
        reason,
    };
    let reply = globals.ask(async |client| client.hold(request).await)?;
    if globals.json {
        output::print_json(&reply)?;
        return Ok(ExitCode::SUCCESS);
    }
    let proto::HoldReply {
        frozen,
        quarantined,
        killed,
        closed,
        record,
    } = reply;
    output::print(&match frozen + quarantined + killed {
        0 => format!("nothing of it runs (record {record})"),
        _ => format!(
            "{frozen} paused, {quarantined} quarantined, {killed} killed, {closed} connections \
             closed; copies started from now on are not touched (record {record})"
        ),
    })?;
    Ok(ExitCode::SUCCESS)
}

pub(super) fn resume(globals: &Globals, args: Args) -> Done {
    let (copies, reason) = args.copies();
    let request = proto::ResumeRequest { copies, reason };
    let reply = globals.ask(async |client| client.resume(request).await)?;
    if globals.json {
        output::print_json(&reply)?;
        return Ok(ExitCode::SUCCESS);
    }
    output::print(&format!(
        "{}: {} go on, {} stay held (record {})",
        text::strip(&reply.said),
        reply.thawed,
        reply.kept,
        reply.record
    ))?;
    Ok(ExitCode::SUCCESS)
}
