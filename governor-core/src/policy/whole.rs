//! What only shows when the whole policy is known: contents that two workloads claim, and tables
//! that would not fit into the kernel.

use std::collections::BTreeMap;

use governor_common::names::{EGRESS_ROWS, PORT_RANGES, TABLE_ROWS};

use super::{
    egress,
    report::{Complaint, Report, quoted},
    workloads::Workloads,
    zones::Zones,
};
use crate::digest::Digest;

/// Reports what cannot be loaded although each table alone is right.
pub(super) fn check(zones: &Zones, workloads: &Workloads, report: &mut Report<'_>) {
    shared_starts(workloads, report);
    rows(zones, workloads, report);
    prefixes(workloads, report);
}

/// One zone starts one content as one workload, so no two may claim it, in whichever role.
fn shared_starts(workloads: &Workloads, report: &mut Report<'_>) {
    let mut claimed: BTreeMap<(&str, Digest), &str> = BTreeMap::new();
    for (name, workload) in workloads {
        let mut reported: Vec<&str> = Vec::new();
        for digest in workload.value.exec.union(&workload.value.scripts) {
            match claimed.get(&(workload.value.zone.as_str(), *digest)) {
                None => {
                    claimed.insert((&workload.value.zone, *digest), name);
                }
                Some(other) if !reported.contains(other) => {
                    reported.push(other);
                    let message = format!(
                        "workloads `{other}` and `{name}` of zone {} both start {digest}",
                        quoted(&workload.value.zone)
                    );
                    let hint = "they could not be told apart: use one workload, or two zones";
                    report.error(workload.at, Complaint::new(message).hint(hint));
                }
                Some(_) => {}
            }
        }
    }
}

fn rows(zones: &Zones, workloads: &Workloads, report: &mut Report<'_>) {
    let of_workloads = workloads.values().map(|workload| {
        let starts = workload.value.exec.union(&workload.value.scripts).count();
        starts + workload.value.digests().len()
    });
    let rows = zones.len() + of_workloads.sum::<usize>();
    if rows > usize::try_from(TABLE_ROWS).unwrap_or(usize::MAX) {
        let message = format!("policy needs {rows} rows in the kernel, the limit is {TABLE_ROWS}");
        report.error(
            0,
            Complaint::new(message).hint("use smaller sets, or fewer workloads"),
        );
    }
}

fn prefixes(workloads: &Workloads, report: &mut Report<'_>) {
    let mut count = 0;
    for workload in workloads.values() {
        let prefixes = egress::prefixes(&workload.value.egress);
        count += prefixes.len();
        for ((_, net), _) in prefixes
            .iter()
            .filter(|(_, ports)| ports.len() > PORT_RANGES)
        {
            let message = format!(
                "rules that cover `{net}` have more than {PORT_RANGES} separate ranges of ports"
            );
            report.error(
                workload.at,
                Complaint::new(message).hint("join some of the ranges"),
            );
        }
    }
    // A reload holds the rules before and after it at the same time.
    let limit = EGRESS_ROWS / 2;
    if count > usize::try_from(limit).unwrap_or(usize::MAX) {
        let message = format!("policy needs {count} egress prefixes, the limit is {limit}");
        report.error(0, Complaint::new(message).hint("use wider prefixes"));
    }
}
