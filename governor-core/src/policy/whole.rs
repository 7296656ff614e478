//! What only shows when the whole policy is known: contents that two workloads claim, and tables
//! that would not fit into the kernel.

use std::collections::{BTreeMap, BTreeSet};

use governor_common::names::{EGRESS_ROWS, PORT_RANGES, TABLE_ROWS};

use super::{
    egress,
    model::Survival,
    report::{Complaint, Report, quoted},
    workloads::Workloads,
    zones::{HOST, Zones},
};
use crate::digest::Digest;

/// Reports what cannot be loaded although each table alone is right.
pub(super) fn check(
    zones: &Zones,
    workloads: &Workloads,
    survival: &Survival,
    report: &mut Report<'_>,
) {
    // Where the host is no zone, none of it reaches the kernel.
    let nothing = Survival::default();
    let kept = if zones.values().any(|zone| zone.value.is_host()) {
        survival
    } else {
        &nothing
    };
    shared_starts(workloads, report);
    host(zones, workloads, survival, report);
    rows(zones, workloads, kept, report);
    prefixes(workloads, kept, report);
}

/// What survives is never a workload, so nothing may be both; and a host where nothing survives is one
/// that nobody gets into again.
fn host(zones: &Zones, workloads: &Workloads, survival: &Survival, report: &mut Report<'_>) {
    let Some(zone) = zones.values().find(|zone| zone.value.is_host()) else {
        if !survival.egress.is_empty() {
            let complaint = Complaint::new("`egress` of [survival] has no effect");
            report.warn(0, complaint.hint(format!("no policy zone is `{HOST}`")));
        }
        return;
    };
    if survival.exec.is_empty() || survival.libraries.is_empty() {
        let complaint = Complaint::new(format!(
            "zone `{HOST}` is the whole host, and [survival] lists nothing to keep it alive"
        ));
        let hint = "list programs in `exec` and their libraries in `libraries`";
        report.error(zone.at, complaint.hint(hint));
    }
    let survives = survival.digests();
    for (name, workload) in workloads {
        let workload_starts = workload.value.exec.union(&workload.value.scripts);
        let both = workload_starts.filter(|digest| survives.contains(digest));
        if workload.value.zone == HOST
            && let Some(digest) = both.min()
        {
            let message = format!("workload `{name}` starts {digest}, which [survival] lists too");
            let hint = "what survives carries no label and is no workload: list it once";
            report.error(workload.at, Complaint::new(message).hint(hint));
        }
    }
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

fn rows(zones: &Zones, workloads: &Workloads, survival: &Survival, report: &mut Report<'_>) {
    let mut starts: BTreeSet<(&str, Digest)> = BTreeSet::new();
    let mut of_workloads = 0;
    for workload in workloads.values().map(|found| &found.value) {
        let started = workload.exec.iter().chain(&workload.scripts);
        let all = started.chain(&workload.interpreters);
        starts.extend(all.map(|digest| (workload.zone.as_str(), *digest)));
        of_workloads += workload.digests().len() + workload.sockets.len();
    }
    let rows = zones.len() + survival.digests().len() + starts.len() + of_workloads;
    if rows > usize::try_from(TABLE_ROWS).unwrap_or(usize::MAX) {
        let message = format!("policy needs {rows} rows in the kernel, the limit is {TABLE_ROWS}");
        report.error(
            0,
            Complaint::new(message).hint("use smaller sets, or fewer workloads"),
        );
    }
}

fn prefixes(workloads: &Workloads, survival: &Survival, report: &mut Report<'_>) {
    let mut count = 0;
    let of_workloads = workloads
        .values()
        .map(|found| (found.at, &found.value.egress));
    for (at, rules) in of_workloads.chain([(0, &survival.egress)]) {
        let prefixes = egress::prefixes(rules);
        count += prefixes.len();
        for ((_, net), _) in prefixes
            .iter()
            .filter(|(_, ports)| ports.len() > PORT_RANGES)
        {
            let message = format!(
                "rules that cover `{net}` have more than {PORT_RANGES} separate ranges of ports"
            );
            report.error(at, Complaint::new(message).hint("join some of the ranges"));
        }
    }
    // A reload holds the rules before and after it at the same time.
    let limit = EGRESS_ROWS / 2;
    if count > usize::try_from(limit).unwrap_or(usize::MAX) {
        let message = format!("policy needs {count} egress prefixes, the limit is {limit}");
        report.error(0, Complaint::new(message).hint("use wider prefixes"));
    }
}
