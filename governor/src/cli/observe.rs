//! `governor observe`: a zone reports instead of denying, for a bounded while, on the record.
//!
//! Policy says whether and for how long at most; `--for 0s` ends it.

use std::process::ExitCode;

use super::{Done, Globals, output};
use crate::{control::proto, text};

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The zone
    #[arg(long)]
    zone: String,
    /// How long, such as `30m`; `0s` ends observing now
    #[arg(long = "for", value_name = "TIME", value_parser = super::seconds)]
    seconds: u64,
}

pub(super) fn observe(globals: &Globals, args: Args) -> Done {
    let Args { zone, seconds } = args;
    let request = proto::ObserveRequest {
        zone: zone.clone(),
        seconds,
    };
    let reply = globals.ask(async |client| client.observe(request).await)?;
    if globals.json {
        output::print_json(&reply)?;
    } else {
        let zone = text::strip(&zone);
        output::print(&match reply.until.as_str() {
            "" => format!("zone `{zone}` enforces"),
            until => format!("zone `{zone}` only reports until {}", text::strip(until)),
        })?;
    }
    Ok(ExitCode::SUCCESS)
}
