//! `governor doctor`: can this host enforce? One line for each thing it takes, with the fix.
//!
//! Exit code 0 only if everything is there.

use std::{fs, process::ExitCode};

use serde_json::json;

use super::{Done, Globals, output};
use crate::{gate, text};

pub(super) fn doctor(globals: &Globals) -> Done {
    let requirements = gate::probe();
    let missing = requirements.iter().filter(|one| !one.ok).count();
    // Nothing probed is nothing known.
    let ok = missing == 0 && !requirements.is_empty();
    let glass = glass(globals);
    let systemd = fs::read_to_string(MAPS_OF_INIT).ok();
    let systemd = systemd.and_then(|maps| systemd_in(&maps));
    let inside = systemd.filter(|version| *version >= BEGINS_INSIDE);
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
            "systemd": { "version": systemd, "begins_inside": inside.is_some() },
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
        if let Some(version) = inside {
            output::print(&format!(
                "note     systemd: {version} may begin work inside its zone, as `systemd-executor`: a zone that \
                 enforces denies that once, and systemd begins it outside; in one that is observed what is told \
                 of such work is as of none that was started there"
            ))?;
        }
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

const MAPS_OF_INIT: &str = "/proc/1/maps";
/// The first version that executes its own program in the cgroup of what it starts, where glibc can.
const BEGINS_INSIDE: u32 = 256;

/// The version of the systemd that runs, by the library of its own that it has mapped. Nobody else can
/// look there than root.
fn systemd_in(maps: &str) -> Option<u32> {
    maps.lines().find_map(|line| {
        let (_, file) = line.rsplit_once('/')?;
        let version = file.strip_prefix("libsystemd-shared-")?;
        let end = version.find(|c: char| !c.is_ascii_digit());
        version.get(..end?)?.parse().ok()
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

#[cfg(test)]
mod tests {
    use super::systemd_in;

    #[test]
    fn the_version_is_that_of_the_library_that_is_mapped() {
        let mapped = |name: &str| {
            systemd_in(&format!(
                "55d0-55d1 r-xp 00000000 fe:01 7  /usr/lib/systemd/systemd\n\
                 7f00-7f01 r--p 00000000 fe:01 8  /usr/lib/x86_64-linux-gnu/systemd/{name}\n"
            ))
        };
        assert_eq!(mapped("libsystemd-shared-252.so"), Some(252));
        assert_eq!(mapped("libsystemd-shared-257.9-1~deb13u1.so"), Some(257));
        assert_eq!(mapped("libsystemd-shared-256.so (deleted)"), Some(256));
        assert_eq!(mapped("libsystemd-shared-.so"), None);
        assert_eq!(mapped("libsystemd-shared-257"), None);
        assert_eq!(mapped("libc.so.6"), None);
    }
}
