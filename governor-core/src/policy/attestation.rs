//! `[attestation]`: what a quote must cover, against which values, and how often.

use std::collections::BTreeSet;

use super::{
    bundle::RawBundle,
    check::timespan,
    document::{At, Table},
    model::Attestation,
    report::{Complaint, Report, quoted},
    zones::Zones,
};
use crate::time::Span;

/// Reads the table. It must be there as soon as a zone requires attestation.
pub(super) fn read<'a>(
    root: &Table<'a>,
    files: &'a RawBundle,
    zones: &Zones,
    report: &mut Report<'a>,
) -> Option<Attestation> {
    let Some(table) = root.table("attestation", KEYS, report) else {
        if !root.has("attestation")
            && let Some((name, zone)) = zones.iter().find(|(_, zone)| zone.value.attested())
        {
            let message = format!("zone {} requires attestation", quoted(name));
            let hint = "add an [attestation] table, or `requires = \"policy\"` to the zone";
            report.error(zone.at, Complaint::new(message).hint(hint));
        }
        return None;
    };
    table.require(
        &["verifiers", "pcrs", "reference", "every", "lease"],
        report,
    );
    verifiers(&table, report);
    let pcrs = pcrs(&table, report);
    let times = times(&table, report);
    let reference = table.string("reference", report)?;
    let content = content(&reference, files, report)?;
    let (every, lease) = times?;
    Some(Attestation {
        pcrs,
        reference_file: reference.value.to_owned(),
        reference: content.to_owned(),
        every,
        lease,
    })
}

fn verifiers(table: &Table<'_>, report: &mut Report<'_>) {
    if let Some(listed) = table.strings("verifiers", report) {
        for verifier in listed.iter().filter(|verifier| verifier.value != "local") {
            let message = format!("verifier {} is not supported yet", quoted(verifier.value));
            report.error(verifier.at, Complaint::new(message).hint("use [\"local\"]"));
        }
        if listed.len() != 1 {
            let complaint = Complaint::new("`verifiers` must list exactly one verifier");
            report.error(table.at, complaint.hint("use [\"local\"]"));
        }
    }
    if let Some(threshold) = table.integer("threshold", report)
        && threshold.value != 1
    {
        let message = format!("threshold {} is not supported yet", threshold.value);
        report.error(
            threshold.at,
            Complaint::new(message).hint("with one verifier it is 1"),
        );
    }
}

fn times(table: &Table<'_>, report: &mut Report<'_>) -> Option<(Span, Span)> {
    let (every, lease) = (
        timespan(table, "every", report),
        timespan(table, "lease", report),
    );
    let (every, lease) = every.zip(lease)?;
    if lease.value <= every.value {
        let complaint = Complaint::new("`lease` is not longer than `every`");
        report.error(
            lease.at,
            complaint.hint("it would end before it can be renewed"),
        );
    }
    if lease.value > LONGEST_LEASE {
        report.error(lease.at, Complaint::new("`lease` is longer than one hour"));
    }
    Some((every.value, lease.value))
}

fn pcrs(table: &Table<'_>, report: &mut Report<'_>) -> BTreeSet<u8> {
    let Some(listed) = table.integers("pcrs", report) else {
        return BTreeSet::new();
    };
    let mut pcrs = BTreeSet::new();
    if listed.is_empty() {
        let complaint = Complaint::new("`pcrs` is empty, so a quote would say nothing");
        report.error(table.at, complaint);
    }
    for pcr in listed {
        match u8::try_from(pcr.value) {
            Ok(number) if number <= 23 => {
                if !pcrs.insert(number) {
                    report.error(
                        pcr.at,
                        Complaint::new(format!("PCR {number} is listed twice")),
                    );
                }
            }
            _ => {
                let complaint = Complaint::new(format!("there is no PCR {}", pcr.value));
                report.error(pcr.at, complaint.hint("they go from 0 to 23"));
            }
        }
    }
    pcrs
}

fn content<'a>(
    reference: &At<&'a str>,
    files: &'a RawBundle,
    report: &mut Report<'a>,
) -> Option<&'a str> {
    let Some(bytes) = files.get(reference.value) else {
        let message = format!("file {} is not in the bundle", quoted(reference.value));
        report.error(reference.at, Complaint::new(message));
        return None;
    };
    super::utf8(reference.value, bytes, report)
}

const KEYS: &[&str] = &[
    "verifiers",
    "threshold",
    "pcrs",
    "reference",
    "every",
    "lease",
];
const LONGEST_LEASE: Span = Span::seconds(3_600);
