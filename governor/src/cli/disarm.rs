//! `governor disarm`: take the gate down. There is no other way but a reboot without the daemon.
//!
//! It costs the host its trust first: a register that policy quotes is extended, and only a reboot
//! undoes that.

use std::process::ExitCode;

use super::{Done, Globals, output};
use crate::control::proto;

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Why, for the record
    #[arg(long)]
    reason: String,
}

pub(super) fn disarm(globals: &Globals, args: Args) -> Done {
    let Args { reason } = args;
    let request = proto::DisarmRequest { reason };
    let reply = globals.ask(async |client| client.disarm(request).await)?;
    if globals.json {
        output::print_json(&reply)?;
    } else {
        output::print(&format!(
            "the gate is down and the daemon ends; nothing is governed. {}",
            reply.said
        ))?;
    }
    Ok(ExitCode::SUCCESS)
}
