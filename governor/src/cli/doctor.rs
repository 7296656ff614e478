//! `governor doctor`: can this host enforce? One line for each thing it takes, with the fix.
//!
//! Exit code 0 only if everything is there.

use std::process::ExitCode;

use serde_json::json;

use super::{Done, Globals, output};
use crate::{gate, text};

pub(super) fn doctor(globals: &Globals) -> Done {
    let requirements = gate::probe();
    let missing = requirements.iter().filter(|one| !one.ok).count();
    // Nothing probed is nothing known.
    let ok = missing == 0 && !requirements.is_empty();
    let glass = glass(globals);
    if globals.json {
        let listed: Vec<_> = requirements
            .iter()
            .map(|one| {
                json!({ "name": one.name, "ok": one.ok, "detail": one.detail, "fix": one.fix })
            })
            .collect();
        output::print_json(&json!({
            "ok": ok,
            "requirements": listed,
            "break_glass": { "possible": glass.is_ok(), "detail": said(&glass) },
        }))?;
    } else {
        for one in &requirements {
            let mark = if one.ok { "ok     " } else { "MISSING" };
            output::print(&format!(
                "{mark}  {}: {}",
                one.name,
                text::strip(&one.detail)
            ))?;
            if !one.ok {
                output::print(&format!("         fix: {}", text::strip(&one.fix)))?;
            }
        }
        output::print(&format!(
            "note     break-glass: {}",
            text::strip(said(&glass))
        ))?;
        output::print(&match (ok, missing) {
            (true, _) => "this host can enforce".into(),
            (false, missing) => format!("this host can NOT enforce: {missing} missing"),
        })?;
    }
    Ok(if ok {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

/// Whether break-glass is possible here, as far as the configuration says. No requirement: a host may
/// well be run without.
fn glass(globals: &Globals) -> Result<String, String> {
    let config = globals.config().map_err(|failure| failure.to_string())?;
    let keys = config.glass_keys()?;
    let keys: Vec<String> = keys.fingerprints().collect();
    Ok(format!(
        "possible as configured, with root and one of: {}; `governor status` says which count",
        keys.join(", ")
    ))
}

fn said(glass: &Result<String, String>) -> &str {
    match glass {
        Ok(said) | Err(said) => said,
    }
}
