//! Status for people: what an operator reads when something is wrong.
//!
//! Promises: the first line says whether governed work may run and why not, by what the kernel would
//! decide and not by what the policy says; each reason stands with
//! what clears it; nothing is said by colour, and every word that came from elsewhere is stripped.

mod glass;
mod running;

use crate::{
    control::proto::{
        Ahead, EnforcementLevel, Hook, HookState, NamedSockets, ReattestReply, Requires,
        StatusReply, Trust, TrustReason, TrustState, Zone, ZoneMode,
    },
    text,
};

/// The first line.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Headline {
    pub(super) may_run: bool,
    pub(super) text: String,
}

/// Whether governed work may run, in words: what the kernel would decide now, zone by zone. It may not
/// if there is a zone in which nothing that the policy lists may start.
pub(super) fn headline(status: &StatusReply) -> Headline {
    let no = |why: &str| Headline {
        may_run: false,
        text: format!("governed work may NOT run: {why}"),
    };
    let level = status
        .enforcement
        .as_ref()
        .map_or(EnforcementLevel::Unspecified, |e| e.level());
    let gate = match level {
        EnforcementLevel::Full => "the gate is fully enforced",
        EnforcementLevel::Partial => "the gate is only PARTIALLY enforced, see hooks",
        EnforcementLevel::None | EnforcementLevel::Unspecified => {
            let text = "NOTHING IS ENFORCED: the gate is not in the kernel; see `governor doctor`";
            return Headline {
                may_run: false,
                text: text.into(),
            };
        }
    };
    if let Some(text) = glass::headline(status.break_glass.as_ref()) {
        // It may, and that is what is wrong.
        return Headline {
            may_run: false,
            text,
        };
    }
    let trust = status.trust.clone().unwrap_or_default();
    if status.policy.is_none() {
        let kept = trust
            .reasons
            .iter()
            .find(|reason| reason.code == "no-policy");
        return no(&match kept.filter(|reason| !reason.text.is_empty()) {
            Some(reason) => format!(
                "no policy is in force: {}; {}",
                text::strip(&reason.text),
                text::strip(&reason.cleared_by)
            ),
            None => "no policy is in force; load one with `governor policy reload DIR`".into(),
        });
    }
    let attested = |zone: &&Zone| zone.requires() != Requires::Policy;
    let stands = |zone: &&Zone| zone.listed == 0 || zone.startable > 0;
    let (alive, dead): (Vec<&Zone>, Vec<&Zone>) = status.zones.iter().partition(stands);
    let doubt = doubt(&trust);
    if let Some(zone) = dead.first() {
        let why = match &doubt {
            Some(doubt) if dead.iter().any(attested) => doubt.clone(),
            Some(_) | None => nothing_starts(zone, &trust),
        };
        return no(&format!("{why}{}", going_on(&alive)));
    }
    let work = status.zones.iter().any(|zone| zone.startable > 0);
    let asks = status.zones.iter().any(|zone| attested(&zone));
    let why = match doubt {
        None if asks => format!(
            "trusted ({}) for another {}",
            text::strip(&trust.class),
            left(trust.lease_left_ms)
        ),
        // The kernel has the last word; it lets work start for being observed, or on a lease that
        // is not over.
        Some(doubt) if asks && work => match trust.lease_left_ms {
            0 => format!("it is observed, and {doubt}"),
            ms => format!("a lease runs for another {}, but {doubt}", left(ms)),
        },
        Some(doubt) if asks => return no(&doubt),
        Some(_) | None => "no zone requires attestation".into(),
    };
    Headline {
        may_run: true,
        text: format!("governed work may run: {why}; {gate}"),
    }
}

/// Why attested work cannot count on trust, if it cannot.
fn doubt(trust: &Trust) -> Option<String> {
    let why = match trust.state() {
        TrustState::Trusted if trust.lease_left_ms > 0 => return None,
        TrustState::Trusted => "trusted, but the lease has run out: a fresh quote is due",
        TrustState::Unattested => "this host is not attested",
        TrustState::Degraded => "trust is degraded",
        TrustState::Locked => "trust is LOCKED until an operator acts",
        TrustState::Unspecified => "the daemon did not say whether it trusts this host",
    };
    Some(match trust.reasons.first() {
        Some(reason) => format!("{why}: {}", said(reason)),
        None => why.to_owned(),
    })
}

/// A reason's words, or its code where it has no more to say.
fn said(reason: &TrustReason) -> String {
    let words = if reason.text.is_empty() {
        &reason.code
    } else {
        &reason.text
    };
    text::strip(words).into_owned()
}

fn nothing_starts(zone: &Zone, trust: &Trust) -> String {
    let name = text::strip(&zone.name);
    let by_hand = ["operator-revoked", "policy-expired"];
    let known = |reason: &&TrustReason| by_hand.contains(&reason.code.as_str());
    // The rows are gone, or void: this says more than the kernel can.
    let (why, remedy) = match trust.reasons.iter().find(known) {
        Some(reason) if zone.revoked < zone.listed => (said(reason), &reason.cleared_by),
        Some(_) | None => (text::strip(&zone.reason).into_owned(), &zone.remedy),
    };
    let remedy = text::strip(remedy);
    let remedy = if remedy.is_empty() {
        String::new()
    } else {
        format!(" ({remedy})")
    };
    format!("nothing that is listed in zone `{name}` may start: {why}{remedy}")
}

fn going_on(zones: &[&Zone]) -> String {
    let names = zones.iter().filter(|zone| zone.startable > 0);
    let names: Vec<_> = names
        .map(|zone| format!("`{}`", text::strip(&zone.name)))
        .collect();
    match names.as_slice() {
        [] => String::new(),
        [one] => format!("; zone {one} goes on"),
        more => format!("; zones {} go on", more.join(", ")),
    }
}

/// Everything, the first line first.
pub(super) fn status(status: &StatusReply) -> String {
    let mut out = headline(status).text;
    out.push_str("\n\n");
    trust(&mut out, status.trust.as_ref());
    glass::glass(&mut out, status.break_glass.as_ref());
    policy(&mut out, status);
    zones(&mut out, status);
    running::unlabelled(&mut out, status);
    running::unreached(&mut out, status);
    hooks(&mut out, status);
    numbers(&mut out, status);
    out
}

/// Trust alone, its reasons with what clears them.
pub(super) fn appraised(reply: &ReattestReply) -> String {
    let mut out = String::new();
    if !reply.failed.is_empty() {
        let failed = text::strip(&reply.failed);
        out.push_str(&format!(
            "NOT appraised: {failed}; see `governor doctor`\n\n"
        ));
    }
    trust(&mut out, reply.trust.as_ref());
    out
}

fn trust(out: &mut String, trust: Option<&Trust>) {
    let Some(trust) = trust else {
        return field(out, "trust", "not said");
    };
    let mut line = trust.state().name().to_owned();
    if !trust.class.is_empty() {
        line.push_str(&format!(" ({})", text::strip(&trust.class)));
    }
    if !trust.since.is_empty() {
        line.push_str(&format!(" since {}", text::strip(&trust.since)));
    }
    line.push_str(&match trust.lease_left_ms {
        0 => ", no lease".into(),
        ms => format!(", lease ends in {}", left(ms)),
    });
    if !trust.appraised_by.is_empty() {
        line.push_str(&format!(
            ", appraised by {}",
            text::strip(&trust.appraised_by.join(", "))
        ));
    }
    field(out, "trust", &line);
    for reason in &trust.reasons {
        let line = match text::strip(&reason.text) {
            said if said.is_empty() => format!("- {}", text::strip(&reason.code)),
            said => format!("- {}: {said}", text::strip(&reason.code)),
        };
        field(out, "", &line);
        field(
            out,
            "",
            &format!("  cleared by: {}", text::strip(&reason.cleared_by)),
        );
    }
    if trust.class == "local" {
        field(
            out,
            "",
            "local: this host appraised itself, and root can lie to itself",
        );
    }
}

fn policy(out: &mut String, status: &StatusReply) {
    match &status.policy {
        None => field(out, "policy", "none"),
        Some(policy) => {
            let line = format!(
                "{} serial {}, valid until {}, {} rows",
                text::strip(&policy.name),
                policy.serial,
                text::strip(&policy.not_after),
                policy.rows
            );
            field(out, "policy", &line);
            field(out, "", &format!("sha256:{}", hex::encode(&policy.digest)));
        }
    }
}

fn zones(out: &mut String, status: &StatusReply) {
    let mut rows = vec![
        [
            "ZONE",
            "MODE",
            "REQUIRES",
            "MAY START",
            "ON REVOKE",
            "LEAVES",
            "CGROUP",
        ]
        .map(String::from),
    ];
    for zone in &status.zones {
        let leaves = match zone.frozen {
            0 => zone.leaves.to_string(),
            frozen => format!("{} ({frozen} frozen)", zone.leaves),
        };
        rows.push([
            text::strip(&zone.name).into(),
            mode(zone),
            zone.requires().name().into(),
            may_start(zone),
            zone.on_revoke().name().into(),
            leaves,
            text::strip(&zone.cgroup).into(),
        ]);
    }
    table(out, &rows);
}

fn may_start(zone: &Zone) -> String {
    let mut words = format!("{} of {}", zone.startable, zone.listed);
    if zone.revoked > 0 {
        words.push_str(&format!(", {} revoked", zone.revoked));
    }
    words
}

fn mode(zone: &Zone) -> String {
    match zone.mode() {
        ZoneMode::ObserveFor => format!("observe, {} left", left(zone.observe_left_ms)),
        ZoneMode::Observe => "observe (policy)".into(),
        mode @ (ZoneMode::Enforce | ZoneMode::Unspecified) => mode.name().into(),
    }
}

fn hooks(out: &mut String, status: &StatusReply) {
    let Some(enforcement) = &status.enforcement else {
        return;
    };
    let attached = |hook: &&Hook| hook.state() == HookState::Attached;
    let count = enforcement.hooks.iter().filter(attached).count();
    field(out, "hooks", &format!("{count} attached"));
    let told = enforcement.hooks.iter().filter(attached);
    for hook in told.filter(|hook| !hook.detail.is_empty()) {
        let (name, detail) = (text::strip(&hook.name), text::strip(&hook.detail));
        field(out, "", &format!("{name}: {detail}"));
    }
    let missing = || enforcement.hooks.iter().filter(|hook| !attached(hook));
    if missing().next().is_none() {
        return;
    }
    let mut rows = vec![["NOT IN FORCE", "STATE", "DETAIL"].map(String::from)];
    for hook in missing() {
        let (name, detail) = (text::strip(&hook.name), text::strip(&hook.detail));
        rows.push([name.into(), hook.state().name().into(), detail.into()]);
    }
    table(out, &rows);
}

fn numbers(out: &mut String, status: &StatusReply) {
    out.push('\n');
    if let Some(epochs) = &status.epochs {
        let line = format!(
            "attested {}, policy {}, trips {}",
            epochs.attested, epochs.policy, epochs.trips
        );
        field(out, "epochs", &line);
    }
    let counts: Vec<_> = status
        .counts
        .iter()
        .filter(|count| count.count != 0)
        .map(|count| format!("{} {}", text::strip(&count.reason), count.count))
        .collect();
    field(
        out,
        "verdicts",
        &if counts.is_empty() {
            "none yet".into()
        } else {
            counts.join(", ")
        },
    );
    if let Some(measured) = &status.measurements {
        let line = format!(
            "{} files read, {} digests recalled, {} writers turned away",
            measured.hashed, measured.recalled, measured.turned_away
        );
        field(out, "measured", &line);
        if let Some(ahead) = measured.ahead {
            field(out, "known ahead", &known_ahead(ahead));
        }
    }
    if let Some(sockets) = status.sockets {
        field(out, "named sockets", &named_sockets(sockets));
    }
    if let Some(losses) = &status.losses {
        let line = format!("{} denials, {} events", losses.denials, losses.events);
        field(out, "not reported", &line);
    }
    if let Some(ledger) = &status.ledger {
        let ok = if ledger.ok { "ok" } else { "NOT OK" };
        let mut line = format!(
            "{ok}, {} records in {}",
            ledger.records,
            text::strip(&ledger.path)
        );
        if !ledger.detail.is_empty() {
            line.push_str(&format!(": {}", text::strip(&ledger.detail)));
        }
        field(out, "ledger", &line);
        field(out, "", &format!("head {}", hex::encode(&ledger.head)));
    }
    if let Some(daemon) = &status.daemon {
        let adopted = if daemon.adopted {
            ", adopted the pinned gate"
        } else {
            ""
        };
        let line = format!(
            "{} pid {} since {}, boot {}{adopted}",
            text::strip(&daemon.version),
            daemon.pid,
            text::strip(&daemon.started),
            text::strip(&daemon.boot_id)
        );
        field(out, "daemon", &line);
    }
}

fn known_ahead(ahead: Ahead) -> String {
    let Ahead {
        known,
        others,
        absent,
        passed_over,
        left,
        passes: _,
    } = ahead;
    let all = known + others + absent + passed_over + left;
    let mut line = format!("{known} of {all} files that policy lists by path");
    for (count, what) in [
        (others, "with other content"),
        (absent, "not there"),
        (passed_over, "read each time"),
        (left, "to go"),
    ] {
        if count != 0 {
            line.push_str(&format!(", {count} {what}"));
        }
    }
    line
}

fn named_sockets(sockets: NamedSockets) -> String {
    let NamedSockets {
        found,
        absent,
        unfit,
    } = sockets;
    let mut line = format!(
        "{found} of {} that policy names found",
        found + absent + unfit
    );
    for (count, what) in [
        (absent, "not there"),
        (
            unfit,
            "no sockets, behind a link, or where others may write",
        ),
    ] {
        if count != 0 {
            line.push_str(&format!(", {count} {what}"));
        }
    }
    line
}

fn field(out: &mut String, name: &str, value: &str) {
    out.push_str(&format!(
        "{name:<13} {value}
"
    ));
}

/// Columns as wide as their widest cell; nothing if there is only the heading.
pub(super) fn table<const N: usize>(out: &mut String, rows: &[[String; N]]) {
    if rows.len() < 2 {
        return;
    }
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max();
    let widths: [usize; N] = std::array::from_fn(|column| width(column).unwrap_or(0));
    out.push('\n');
    for row in rows {
        let cells: Vec<_> = row
            .iter()
            .zip(widths)
            .map(|(cell, width)| format!("{cell:<width$}"))
            .collect();
        out.push_str(cells.join("  ").trim_end());
        out.push('\n');
    }
}

/// Milliseconds for people: `24 s`, `12 min`, `3 h 05 min`.
fn left(ms: u64) -> String {
    match ms.div_ceil(1000) {
        s @ 0..120 => format!("{s} s"),
        s @ 120..7200 => format!("{} min", s / 60),
        s => format!("{} h {:02} min", s / 3600, s % 3600 / 60),
    }
}

#[cfg(test)]
mod tests;
