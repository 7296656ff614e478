//! What the daemon would say of a policy whatever has become of the host: for lint, before it is loaded.
//!
//! Promises: what is an error here is what loading refuses. What depends on the host (its users, its
//! daemon, what was revoked on it, the serial it accepted last) is not looked at.

use std::collections::BTreeSet;

use super::gone::names;
use crate::{
    attest::ReferenceValues,
    digest::Digest,
    policy::{
        Attestation, Diagnostic, HOST, Ids, Mode, OnRevoke, Opens, POLICY, Policy, Severity,
        Workload,
    },
};

/// Complaints about a policy that parses, where work is governed below `governed_root` only.
pub fn lint(policy: &Policy, governed_root: &str) -> Vec<Diagnostic> {
    let zone = outside(policy, governed_root).map(|(name, cgroup)| Diagnostic {
        severity: Severity::Error,
        file: POLICY.to_owned(),
        line: 1,
        column: 1,
        message: format!(
            "zone `{name}` has the cgroup `{cgroup}`, which is not below `{governed_root}`"
        ),
        hint: Some(
            "only what is there is governed; the daemon's configuration names it".to_owned(),
        ),
    });
    let reference = policy.attestation().map(reference).unwrap_or_default();
    zone.into_iter()
        .chain(reference)
        .chain(unknowable(policy))
        .collect()
}

/// Content that is never measured ahead although a workload opens nothing else: no set says where it is. A
/// warning for each such workload, for kernels that open only what is known.
pub fn unknowable(policy: &Policy) -> Vec<Diagnostic> {
    let placed: BTreeSet<Digest> = policy.listed_by_path().map(|(_, digest)| digest).collect();
    let unplaced = |workload: &Workload| {
        // The kernel opens whatever it executes, and measures it then.
        let read = [&workload.scripts, &workload.data, &workload.libraries];
        let read: BTreeSet<&Digest> = read.into_iter().flatten().collect();
        read.into_iter()
            .filter(|digest| !placed.contains(digest))
            .count()
    };
    let workloads = policy.workloads().iter();
    workloads
        .filter(|(_, workload)| workload.opens == Opens::Listed)
        .map(|(name, workload)| (name, unplaced(workload)))
        .filter(|(_, count)| *count != 0)
        .map(|(name, count)| {
            let message = format!(
                "workload `{name}` opens only what is listed, and of its `scripts`, `data` and `libraries` {count} \
                 are listed without a whole path: before Linux 6.9 it does not open them unless they were \
                 executed or mapped before"
            );
            let hint = "there only what was measured ahead is opened, by its path; `governor measure PATH…` writes \
                        such lines";
            warn(message, hint)
        })
        .collect()
}

/// What loading a policy in place of another would do that neither says by itself: what becomes of copies that
/// run as workloads it does not have, and that without the zone of the whole host everything else is let run.
pub fn lint_in_place_of(before: &Policy, policy: &Policy) -> Vec<Diagnostic> {
    let ends_host = before.host().is_some() && policy.host().is_none();
    let lets_run = ends_host.then(|| {
        warn(
            "without the [zone.host] of the policy before, whatever is outside of the governed slice executes, \
             maps and connects to anything"
                .to_owned(),
            "keep a `[zone.host]`, with `mode = \"observe\"` if it is only to report",
        )
    });
    let workloads = before.workloads().iter();
    let stopped = workloads
        .filter(|(name, workload)| !names(policy, &Ids::key(&workload.zone, name)))
        // What a zone only observes goes on.
        .filter(|(_, workload)| {
            let zone = policy.zone(&workload.zone);
            zone.is_none_or(|zone| zone.mode != Mode::Observe)
        })
        .map(|(name, workload)| stopped(name, workload, ends_host));
    lets_run.into_iter().chain(stopped).collect()
}

fn stopped(name: &str, workload: &Workload, ends_host: bool) -> Diagnostic {
    let zone = &workload.zone;
    let meant = if ends_host && zone == HOST {
        MEANT
    } else {
        KEPT
    };
    let (becomes, hint) = match workload.on_revoke {
        OnRevoke::Deny => (
            "goes on with its label, and may start and connect to nothing",
            "end it yourself, or start it again after the policy is loaded",
        ),
        OnRevoke::Freeze => ("is frozen", meant),
        OnRevoke::Quarantine => ("is frozen and its connections are closed", meant),
        OnRevoke::Kill => ("is killed", meant),
    };
    let message =
        format!("workload `{name}` of [zone.{zone}] is gone, and what runs as it {becomes}");
    warn(message, hint)
}

fn warn(message: String, hint: &str) -> Diagnostic {
    Diagnostic {
        severity: Severity::Warning,
        file: POLICY.to_owned(),
        line: 1,
        column: 1,
        message,
        hint: Some(hint.to_owned()),
    }
}

/// A zone whose cgroup is not below the governed root, and the cgroup.
pub(super) fn outside<'p>(policy: &'p Policy, governed_root: &str) -> Option<(&'p str, &'p str)> {
    let below = |cgroup: &str| {
        let rest = cgroup.strip_prefix(governed_root);
        rest.is_some_and(|rest| rest.starts_with('/'))
    };
    let mut zones = policy.zones().iter();
    zones
        .find(|(_, zone)| !zone.is_host() && !below(&zone.cgroup))
        .map(|(name, zone)| (name.as_str(), zone.cgroup.as_str()))
}

/// Values that cannot be read are refused; those that accept nobody may be meant, until they are loaded.
fn reference(section: &Attestation) -> Vec<Diagnostic> {
    let about = |severity, line: usize, column: usize, message, hint: Option<&str>| Diagnostic {
        severity,
        file: section.reference_file.clone(),
        line: u32::try_from(line).unwrap_or(u32::MAX),
        column: u32::try_from(column).unwrap_or(u32::MAX),
        message,
        hint: hint.map(str::to_owned),
    };
    let values = match ReferenceValues::parse(&section.reference) {
        Ok(values) => values,
        Err(error) => {
            let message = error.problem.to_string().replace('\n', " ");
            return vec![about(
                Severity::Error,
                error.line,
                error.column,
                message,
                None,
            )];
        }
    };
    let warn = |message| about(Severity::Warning, 1, 1, message, Some(BASELINE));
    let mut found = Vec::new();
    if values.ak_names().is_empty() {
        found.push(warn(
            "no attestation key is listed, so no host is trusted".to_owned(),
        ));
    }
    let missing: Vec<String> = section
        .pcrs
        .iter()
        .filter(|pcr| values.pcr(**pcr).is_none())
        .map(u8::to_string)
        .collect();
    if !missing.is_empty() {
        let missing = missing.join(",");
        found.push(warn(format!(
            "PCRs {missing} are quoted and have no value, so no host is trusted"
        )));
    }
    found
}

const MEANT: &str = "`governor policy reload --ends-host` does that, and without it the policy is refused while \
                     any runs; or load one first that says `on_revoke = \"deny\"` for zone and workload";
const KEPT: &str =
    "end it yourself before the policy is loaded, or keep the workload until no copy runs";
const BASELINE: &str = "`governor attest baseline` writes what the host it runs on has now";
