//! `governor revoke`: take authorizations away, now, with a reason that goes on the record.
//!
//! Answered when the kernel has been told and the record is durable, in that order.

use std::process::ExitCode;

use clap::ArgGroup;
use governor_core::digest::Digest;

use super::{Done, Globals, output};
use crate::control::proto::{
    self,
    revoke_request::{All, Target},
};

#[derive(Debug, clap::Args)]
#[command(group = ArgGroup::new("target").required(true))]
pub(super) struct Args {
    /// Everything this workload may do
    #[arg(long, group = "target")]
    workload: Option<String>,
    /// Everything in this zone
    #[arg(long, group = "target")]
    zone: Option<String>,
    /// This content, in every zone (64 hexadecimal digits)
    #[arg(long, group = "target", value_parser = super::digest)]
    digest: Option<Digest>,
    /// Everything
    #[arg(long, group = "target")]
    all: bool,
    /// Why, for the record
    #[arg(long)]
    reason: String,
}

pub(super) fn revoke(globals: &Globals, args: Args) -> Done {
    let Args {
        workload,
        zone,
        digest,
        all,
        reason,
    } = args;
    let target = workload
        .map(Target::Workload)
        .or(zone.map(Target::Zone))
        .or(digest.map(|digest| Target::Digest(digest.bytes().to_vec())))
        .or(all.then_some(Target::All(All {})));
    let request = proto::RevokeRequest { target, reason };
    let reply = globals.ask(async |client| client.revoke(request).await)?;
    if globals.json {
        output::print_json(&reply)?;
    } else {
        output::print(&format!(
            "revoked {} rows; running work: {} denied from here on, {} frozen, {} quarantined, {} \
             killed, {} connections closed (record {})",
            reply.rows,
            reply.denied,
            reply.frozen,
            reply.quarantined,
            reply.killed,
            reply.closed,
            reply.record
        ))?;
    }
    Ok(ExitCode::SUCCESS)
}
