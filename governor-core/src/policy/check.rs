//! From a document to a policy: the tables that stand for the whole of it.
//!
//! Promises: closed grammar, all mistakes at once, and for every key left out the strictest
//! reading. Zones and workloads have files of their own; what only shows when everything is known
//! (shared digests, table sizes) is looked at last, and only if nothing was wrong before.

use toml::de::DeTable;

use super::{
    attestation, bounds,
    bundle::{POLICY, RawBundle},
    document::{self, At, Table},
    error::Diagnostics,
    model::{Governor, OnRevoke, Policy, Survival, Validity},
    report::{Complaint, Report},
    risks, rules,
    sets::{Sets, Use},
    values, whole, workloads, zones,
};
use crate::time::{Span, WallTime};

/// The longest `policy.toml`. Whoever may load policies does not keep the daemon busy with one.
const MAX_DOCUMENT: usize = 4 << 20;

/// Reads and checks the policy in `files`; signature and manifest are not looked at.
pub fn parse(files: &RawBundle) -> Result<Policy, Diagnostics> {
    let mut report = Report::default();
    let Some(bytes) = files.get(POLICY) else {
        report.enter(POLICY, "");
        report.error(0, Complaint::new("file is missing"));
        return Err(report.refuse());
    };
    if bytes.len() > MAX_DOCUMENT {
        let message = format!("{} bytes, the limit is {MAX_DOCUMENT}", bytes.len());
        report.enter(POLICY, "");
        report.error(0, Complaint::new(message));
        return Err(report.refuse());
    }
    let Some(text) = super::utf8(POLICY, bytes, &mut report) else {
        return Err(report.refuse());
    };
    report.enter(POLICY, text);
    let document = document::parse(text, &mut report);
    if report.failed() {
        // What was recovered after a syntax error would be complained about a second time.
        return Err(report.refuse());
    }
    // Before anything is looked at one by one: tables are held against each other further on.
    bounds::counts(document.get_ref(), &mut report);
    if report.failed() {
        return Err(report.refuse());
    }
    let mut policy = read(document.get_ref(), files, &mut report);
    policy.warnings = report.finish()?;
    Ok(policy)
}

fn read<'a>(document: &'a DeTable<'a>, files: &'a RawBundle, report: &mut Report<'a>) -> Policy {
    let root = Table::root(document, ROOT, report);
    let mut sets = Sets::read(&root, files, report);
    root.require(&["policy"], report);
    let (name, serial, validity, clock_step) = header(&root, report);
    let governor = governor(&root, &mut sets, report);
    let zones = zones::read(&root, report);
    let attestation = attestation::read(&root, files, &zones, report);
    let context = workloads::Context {
        validity,
        zones: &zones,
    };
    let workloads = workloads::read(&root, &context, &mut sets, report);
    let risks = risks::read(&root, report);
    let losses = bounds::losses(&root, report);
    let survival = survival(&root, &mut sets, report);
    sets.warn_of_unused(report);
    if !report.failed() {
        whole::check(&zones, &workloads, &survival, report);
    }
    Policy {
        name,
        serial,
        validity,
        governor,
        attestation,
        zones: zones
            .into_iter()
            .map(|(name, zone)| (name, zone.value))
            .collect(),
        workloads: workloads
            .into_iter()
            .map(|(name, found)| (name, found.value))
            .collect(),
        risks,
        clock_step,
        losses,
        survival,
        sets: sets.into_sets(),
        warnings: Vec::new(),
    }
}

fn header(root: &Table<'_>, report: &mut Report<'_>) -> (String, u64, Validity, Span) {
    let keys = ["format", "name", "serial", "not_before", "not_after"];
    let known = [&keys[..], &["clock_step"]].concat();
    let nothing = Validity {
        from: WallTime(0),
        until: WallTime(0),
    };
    let Some(table) = root.table("policy", &known, report) else {
        return (String::new(), 0, nothing, bounds::CLOCK_STEP);
    };
    table.require(&keys, report);
    if let Some(format) = table.integer("format", report)
        && format.value != 1
    {
        let message = format!("format {} is not known", format.value);
        report.error(
            format.at,
            Complaint::new(message).hint("this version reads format 1"),
        );
    }
    let name = table.string("name", report);
    if let Some(name) = name
        && let Err(complaint) = values::name(name.value)
    {
        report.error(name.at, complaint);
    }
    let serial = table.integer("serial", report).map_or(0, |serial| {
        if serial.value < 1 {
            report.error(serial.at, Complaint::new("serial must be at least 1"));
        }
        u64::try_from(serial.value).unwrap_or(0)
    });
    let (from, until) = (
        table.moment("not_before", report),
        table.moment("not_after", report),
    );
    let validity = window(from.zip(until), "not_after", "not_before", report).unwrap_or(nothing);
    (
        name.map_or("", |name| name.value).to_owned(),
        serial,
        validity,
        bounds::clock_step(&table, report),
    )
}

/// Two moments in their order.
pub(super) fn window(
    moments: Option<(At<WallTime>, At<WallTime>)>,
    end: &str,
    begin: &str,
    report: &mut Report<'_>,
) -> Option<Validity> {
    let (from, until) = moments?;
    if from.value >= until.value {
        report.error(
            until.at,
            Complaint::new(format!("`{end}` is not later than `{begin}`")),
        );
        return None;
    }
    Some(Validity {
        from: from.value,
        until: until.value,
    })
}

fn governor(root: &Table<'_>, sets: &mut Sets, report: &mut Report<'_>) -> Governor {
    let keys = ["exec", "libraries", "modules", "kexec"];
    let Some(table) = root.table("governor", &keys, report) else {
        if !root.has("governor") {
            let complaint = Complaint::new("no [governor] table, so no program may be the daemon");
            report.warn(
                0,
                complaint.hint("list a set with the daemon's digest in `exec`"),
            );
        }
        return Governor::default();
    };
    let governor = Governor {
        exec: sets.resolve(&table, "exec", Use::Code, report),
        libraries: sets.resolve(&table, "libraries", Use::Code, report),
        modules: sets.resolve(&table, "modules", Use::Code, report),
        kexec: sets.resolve(&table, "kexec", Use::Code, report),
    };
    bounds::listed(&governor, &table, report);
    governor
}

/// The duration at `key`.
pub(super) fn timespan(table: &Table<'_>, key: &str, report: &mut Report<'_>) -> Option<At<Span>> {
    let At { value, at } = table.string(key, report)?;
    match values::duration(value) {
        Ok(value) => Some(At { value, at }),
        Err(complaint) => {
            report.error(at, complaint);
            None
        }
    }
}

/// The word at `key` out of a closed list.
pub(super) fn word<T: Copy>(
    table: &Table<'_>,
    key: &str,
    known: &[(&str, T)],
    report: &mut Report<'_>,
) -> Option<T> {
    let At { value, at } = table.string(key, report)?;
    values::word(value, known)
        .map_err(|complaint| report.error(at, complaint))
        .ok()
}

fn survival(root: &Table<'_>, sets: &mut Sets, report: &mut Report<'_>) -> Survival {
    let keys = ["exec", "libraries", "scripts", "egress"];
    root.table("survival", &keys, report)
        .map_or_else(Survival::default, |table| Survival {
            exec: sets.resolve(&table, "exec", Use::Code, report),
            libraries: sets.resolve(&table, "libraries", Use::Code, report),
            scripts: sets.resolve(&table, "scripts", Use::Code, report),
            egress: rules::egress(&table, None, report),
        })
}

const ROOT: &[&str] = &[
    "policy",
    "governor",
    "attestation",
    "zone",
    "workload",
    "risk",
    "events",
    "set",
    "survival",
];

/// What happens to running copies, as policies say it.
pub(super) const ON_REVOKE: &[(&str, OnRevoke)] = &[
    ("deny", OnRevoke::Deny),
    ("freeze", OnRevoke::Freeze),
    ("quarantine", OnRevoke::Quarantine),
    ("kill", OnRevoke::Kill),
];
