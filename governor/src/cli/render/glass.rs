//! Break-glass for people: the first line while it runs, and whether it is possible at all.

use super::{field, left};
use crate::{control::proto::BreakGlass, text};

/// What is said before everything else, if it runs.
pub(super) fn headline(glass: Option<&BreakGlass>) -> Option<String> {
    let glass = glass.filter(|glass| glass.left_ms > 0)?;
    Some(format!(
        "THE GLASS IS BROKEN: for another {} nothing below the governed slice is denied but what was \
         revoked, {}; end it with `governor break-glass --end --reason R`",
        left(glass.left_ms),
        by(glass)
    ))
}

pub(super) fn glass(out: &mut String, glass: Option<&BreakGlass>) {
    let Some(glass) = glass else { return };
    let line = match (glass.left_ms, glass.impossible.as_str()) {
        (0, "") if glass.until.is_empty() => format!("whole; {} may break it", keys(glass)),
        (0, why) if glass.until.is_empty() => format!("not possible: {}", text::strip(why)),
        (0, _) => "over, and being dealt with".to_owned(),
        (_, _) => format!("BROKEN until {}, {}", text::strip(&glass.until), by(glass)),
    };
    field(out, "break-glass", &line);
    if glass.refused > 0 {
        let refused = glass.refused;
        field(
            out,
            "",
            &format!("{refused} tries were refused, see the journal"),
        );
    }
    if glass.owed {
        field(
            out,
            "",
            "a record of it is owed: the ledger cannot be written",
        );
    }
}

fn by(glass: &BreakGlass) -> String {
    let reason = text::strip(&glass.reason);
    match glass.uid {
        Some(uid) => format!("by uid {uid} with {}: {reason}", text::strip(&glass.key)),
        None => reason.into_owned(),
    }
}

fn keys(glass: &BreakGlass) -> String {
    match glass.keys.len() {
        1 => "1 key".to_owned(),
        count => format!("{count} keys"),
    }
}
