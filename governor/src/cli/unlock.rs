//! `governor unlock`: an operator has looked at what locked the host, and says so on the record.
//!
//! It grants nothing: what is left is cleared as `governor status` says, and a quote is due.

use std::process::ExitCode;

use super::{Done, Globals, output};
use crate::control::proto;

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// What was found, for the record
    #[arg(long)]
    reason: String,
}

pub(super) fn unlock(globals: &Globals, args: Args) -> Done {
    let Args { reason } = args;
    let request = proto::UnlockRequest { reason };
    let reply = globals.ask(async |client| client.unlock(request).await)?;
    if globals.json {
        output::print_json(&reply)?;
    } else {
        output::print(&format!(
            "{} (record {}); a fresh quote is due, see `governor status`",
            reply.cleared, reply.record
        ))?;
    }
    Ok(ExitCode::SUCCESS)
}
