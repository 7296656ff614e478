//! `governor status`: may governed work run, and why not.
//!
//! Exit code 0 when it may, 3 when it may not, 4 when there is nobody to ask.

use std::process::ExitCode;

use super::{Done, Globals, output, render};
use crate::control::proto;

pub(super) fn status(globals: &Globals) -> Done {
    let status = globals.ask(async |client| client.status(proto::StatusRequest {}).await)?;
    if globals.json {
        output::print_json(&status)?;
    } else {
        output::print(&render::status(&status))?;
    }
    Ok(if render::headline(&status).may_run {
        ExitCode::SUCCESS
    } else {
        ExitCode::from(3)
    })
}
