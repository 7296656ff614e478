//! `egress` and `listen`: where a workload may connect, and what may connect to it.

use governor_common::net::{AF_INET, AF_INET6, PortRange};
use ipnet::IpNet;

use super::{
    check::word,
    document::{At, Table},
    egress::{self, Protocol, Rule},
    places,
    report::{Complaint, Report},
};

/// Reads `egress`. `families` is what the zone allows, if the zone is known.
pub(super) fn egress(
    table: &Table<'_>,
    families: Option<u64>,
    report: &mut Report<'_>,
) -> Vec<Rule> {
    let mut rules = Vec::new();
    for entry in table.records("egress", RULE, report) {
        entry.require(RULE, report);
        let to = entry
            .string("to", report)
            .and_then(|to| match places::prefix(to.value) {
                Ok(value) => Some(At { value, at: to.at }),
                Err(complaint) => {
                    report.error(to.at, complaint);
                    None
                }
            });
        let mut ports = ports(&entry, report);
        let protocol = word(&entry, "protocol", PROTOCOLS, report);
        if let (Some(to), Some(protocol)) = (to, protocol) {
            let family = match to.value {
                IpNet::V4(_) => AF_INET,
                IpNet::V6(_) => AF_INET6,
            };
            if families.is_some_and(|families| families & (1 << family) == 0) {
                let name = if family == AF_INET { "inet" } else { "inet6" };
                let message = format!("the zone allows no `{name}` sockets, so this has no effect");
                report.warn(to.at, Complaint::new(message));
            }
            egress::union(&mut ports);
            rules.push(Rule {
                to: to.value,
                ports,
                protocol,
            });
        }
    }
    rules.sort_by(egress::rule_order);
    rules
}

fn ports(entry: &Table<'_>, report: &mut Report<'_>) -> Vec<PortRange> {
    let mut ports = Vec::new();
    let Some(listed) = entry.strings("ports", report) else {
        return ports;
    };
    if entry.empty("ports") {
        report.error(
            entry.at,
            Complaint::new("`ports` is empty").hint("list at least one port"),
        );
    }
    for port in listed {
        match places::ports(port.value) {
            Ok(range) => ports.push(range),
            Err(complaint) => report.error(port.at, complaint),
        }
    }
    ports
}

/// Refuses whatever `listen` lists.
pub(super) fn listen(table: &Table<'_>, report: &mut Report<'_>) {
    for rule in table.elements("listen", report) {
        let complaint = Complaint::new("listen rules are not supported yet");
        report.error(rule, complaint.hint("leave it empty"));
    }
}

const RULE: &[&str] = &["to", "ports", "protocol"];
const PROTOCOLS: &[(&str, Protocol)] = &[("tcp", Protocol::Tcp), ("udp", Protocol::Udp)];
