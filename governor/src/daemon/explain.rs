//! Explanations: the kernel's own verdict function, asked about what has not happened yet.
//!
//! Promises: facts are filled from the maps in force (see `foreseen`) and judged by
//! `governor_common::decide`, so an explanation cannot drift from enforcement. Where the question leaves
//! something open the most favourable answer that the table allows is taken, and said.

use std::os::fd::AsFd as _;

use governor_common::{
    Facts, Label, Measured, Operation, Reason, Row, Verdict,
    decide::{self, Decision},
    names::{SCOPE_START, SCOPE_SURVIVAL, STARTER_OPERATOR},
    net::{AF_INET, AF_INET6, EgressKey, IPPROTO_TCP, IPPROTO_UDP, SOCK_DGRAM, SOCK_STREAM},
    row::{OPENS_LISTED, ROLE_EXECUTABLE, ROLE_INTERPRETER, ROLE_LIBRARY, ROLE_SCRIPT},
};
use governor_core::{digest::Digest, time::ClockReading};

use super::{
    Daemon,
    advice::{advice, redecide},
    events,
    foreseen::Foreseen,
    names,
};
use crate::{
    cgroups,
    control::{Question, Refusal, proto},
};

/// The maps as they stand, for as many questions as one explanation asks.
struct Now<'a> {
    daemon: &'a Daemon,
    maps: Foreseen,
}

/// Answers one question.
pub(crate) fn reply(
    daemon: &Daemon,
    clock: ClockReading,
    question: &Question,
) -> Result<proto::ExplainReply, Refusal> {
    let failed = |error: crate::gate::GateError| Refusal::Failed(format!("{error:#}"));
    let now = Now {
        daemon,
        maps: Foreseen::read(&daemon.hands.gate, clock.boot.0).map_err(failed)?,
    };
    match question {
        Question::Content { digest, zone } => now.content(*digest, zone.as_deref()),
        Question::Pid(pid) => now.pid(*pid),
        Question::Event(id) => now.event(*id),
        Question::Connect {
            address,
            port,
            protocol,
            workload,
        } => now.connect(*address, *port, *protocol, workload),
    }
}

impl Now<'_> {
    fn content(&self, digest: Digest, zone: Option<&str>) -> Result<proto::ExplainReply, Refusal> {
        let ids = self.daemon.engine.ids();
        let zones: Vec<(&String, u32)> = ids
            .zones
            .iter()
            .filter(|(name, _)| zone.is_none_or(|wanted| wanted == name.as_str()))
            .map(|(name, number)| (name, *number))
            .collect();
        if zones.is_empty() {
            return Err(Refusal::Invalid(match zone {
                Some(zone) => format!("there is no zone `{zone}`; `governor status` lists them"),
                None => "no policy was loaded, so there is no zone to judge in".into(),
            }));
        }
        let mut judgements = Vec::new();
        for (name, number) in zones {
            judgements.push(self.judge_start(name, number, digest));
            let used = |bit: u32| {
                self.maps.rows().filter(move |row| {
                    row.key.zone == number
                        && row.key.scope != SCOPE_START
                        && row.key.digest == *digest.bytes()
                        && row.roles & bit != 0
                })
            };
            let interprets = used(ROLE_INTERPRETER);
            judgements.extend(interprets.map(|row| self.judge_interpreter(name, *row)));
            let mapped = used(ROLE_LIBRARY);
            judgements.extend(mapped.map(|row| self.judge_map(name, number, digest, *row)));
            let opened = used(OPENS_LISTED);
            judgements.extend(opened.map(|row| self.judge_open(name, *row)));
        }
        Ok(reply_of(
            format!("content {digest}"),
            digest.bytes().to_vec(),
            judgements,
        ))
    }

    fn judge_start(&self, zone_name: &str, zone: u32, digest: Digest) -> proto::Judgement {
        let (row, operation, decision) = self.maps.start(zone, digest);
        let ids = self.daemon.engine.ids();
        let users: Vec<String> = row
            .users
            .iter()
            .filter(|u| **u != 0)
            .map(|u| (u - 1).to_string())
            .collect();
        let starters: Vec<String> = row
            .starters
            .iter()
            .filter(|starter| **starter != 0)
            .map(|starter| match *starter {
                STARTER_OPERATOR => "operator".to_owned(),
                number => names::workload(ids, number),
            })
            .collect();
        let who = if row.key.zone == 0 {
            String::new()
        } else {
            format!(
                "as uid {}, started by {}",
                or_nobody(&users),
                or_nobody(&starters)
            )
        };
        self.judgement(zone_name, &row, operation, decision, who)
    }

    fn judge_open(&self, zone_name: &str, row: Row) -> proto::Judgement {
        let (operation, decision) = self.maps.open(row);
        self.judgement(zone_name, &row, operation, decision, String::new())
    }

    /// Being what the kernel hands a script of the row's workload to.
    fn judge_interpreter(&self, zone_name: &str, row: Row) -> proto::Judgement {
        let (operation, decision) = self.maps.interpret(row);
        let who = "as the interpreter of its scripts, and by itself not".to_owned();
        self.judgement(zone_name, &row, operation, decision, who)
    }

    fn judge_map(&self, zone_name: &str, zone: u32, digest: Digest, row: Row) -> proto::Judgement {
        let workload = Label {
            zone,
            workload: row.key.scope,
            exec_id: 1,
            digest: [0; 32],
        };
        let facts = Facts {
            operation: Operation::Map as u32,
            measured: Measured::Sha256 as u32,
            digest: *digest.bytes(),
            label: match row.key.scope {
                SCOPE_SURVIVAL => Label::default(),
                _ => workload,
            },
            row,
            ..self.maps.facts(zone, digest)
        };
        self.judgement(
            zone_name,
            &row,
            Operation::Map,
            decide::decide_map(&facts),
            String::new(),
        )
    }

    fn pid(&self, pid: i32) -> Result<proto::ExplainReply, Refusal> {
        let fd = cgroups::pidfd(pid)
            .ok_or_else(|| Refusal::Invalid(format!("there is no process {pid}")))?;
        let label = self
            .daemon
            .hands
            .gate
            .label_of(fd.as_fd())
            .map_err(|error| Refusal::Failed(format!("reading the label of {pid}: {error:#}")))?;
        let Some(label) = label.filter(Label::present) else {
            return Ok(reply_of(
                format!("process {pid}: no label, not governed"),
                Vec::new(),
                {
                    vec![proto::Judgement {
                        operation: "none".into(),
                        verdict: proto::Verdict::Allow.into(),
                        reason: Reason::Unlabelled.name().into(),
                        detail: "it is not a workload; in a zone it may not use the network".into(),
                        ..proto::Judgement::default()
                    }]
                },
            ));
        };
        let digest = Digest::new(label.digest);
        let row = self
            .maps
            .find(label.zone, label.workload, digest)
            .unwrap_or_default();
        let facts = Facts {
            operation: Operation::Send as u32,
            measured: Measured::Nothing as u32,
            family: AF_INET,
            label,
            row,
            ..self.maps.facts(label.zone, digest)
        };
        let ids = self.daemon.engine.ids();
        let zone = names::zone(ids, label.zone);
        let decision = decide::decide_send(&facts);
        let detail = format!(
            "whether its authorization still stands; execution {}",
            label.execution()
        );
        let mut judgement = self.judgement(&zone, &row, Operation::Send, decision, detail);
        judgement.workload = names::workload(ids, label.workload);
        Ok(reply_of(
            format!(
                "process {pid}: workload `{}` in zone `{zone}`",
                judgement.workload
            ),
            label.digest.to_vec(),
            vec![judgement],
        ))
    }

    fn event(&self, id: u64) -> Result<proto::ExplainReply, Refusal> {
        let remembered = self.daemon.recent.find(id).ok_or_else(|| {
            Refusal::Invalid(format!(
                "event {id} is not remembered; `governor events` lists them"
            ))
        })?;
        let shown = remembered.show(self.daemon.engine.ids());
        let event = &remembered.event;
        let facts = &event.facts;
        let decision = redecide(facts);
        let again = if decision.0 as u32 == event.verdict && decision.1 as u32 == event.reason {
            "deciding again from the recorded facts gives the same verdict"
        } else {
            "deciding again from the recorded facts gives ANOTHER verdict"
        };
        let judgement = proto::Judgement {
            zone: shown.zone,
            workload: shown.workload,
            operation: shown.operation.clone(),
            verdict: shown.verdict,
            reason: shown.reason,
            rule: String::new(),
            detail: format!("{}; {again}", advice(event.reason)),
        };
        Ok(reply_of(
            format!(
                "event {id} at {}: {} {}",
                shown.time, shown.operation, shown.path
            ),
            shown.digest,
            vec![judgement],
        ))
    }

    fn connect(
        &self,
        address: std::net::IpAddr,
        port: u16,
        protocol: proto::Protocol,
        workload: &str,
    ) -> Result<proto::ExplainReply, Refusal> {
        let engine = &self.daemon.engine;
        let unknown = || Refusal::Invalid(format!("the policy has no workload `{workload}`"));
        let policy = engine.policy().ok_or_else(unknown)?.policy();
        let described = policy.workload(workload).ok_or_else(unknown)?;
        let ids = engine.ids();
        let number = ids
            .workload(&described.zone, workload)
            .ok_or_else(unknown)?;
        let zone = ids.zone(&described.zone).ok_or_else(unknown)?;
        let digest = described
            .exec
            .iter()
            .chain(&described.scripts)
            .next()
            .copied()
            .ok_or_else(|| Refusal::Invalid(format!("workload `{workload}` has no executable")))?;
        let row = self.maps.find(zone, number, digest).unwrap_or_default();
        let (family, bytes) = match address.to_canonical() {
            std::net::IpAddr::V4(v4) => {
                let mut bytes = [0; 16];
                bytes[..4].copy_from_slice(&v4.octets());
                (AF_INET, bytes)
            }
            std::net::IpAddr::V6(v6) => (AF_INET6, v6.octets()),
        };
        let (protocol, kind) = match protocol {
            proto::Protocol::Udp => (IPPROTO_UDP, SOCK_DGRAM),
            proto::Protocol::Tcp | proto::Protocol::Unspecified => (IPPROTO_TCP, SOCK_STREAM),
        };
        let rule = self.longest(number, row.generation, family, protocol, &bytes);
        let listed = rule.as_ref().is_some_and(|(_, found)| found.allows(port));
        let facts = Facts {
            operation: Operation::Connect as u32,
            measured: Measured::Nothing as u32,
            label: Label {
                zone,
                workload: number,
                exec_id: 1,
                digest: *digest.bytes(),
            },
            row,
            family,
            kind,
            protocol,
            port: u32::from(port),
            address: bytes,
            destination_listed: u32::from(listed),
            ..self.maps.facts(zone, digest)
        };
        // A v4-mapped address is an IPv6 socket's.
        let socket = if address.is_ipv4() { AF_INET } else { AF_INET6 };
        let (operation, decision) = self.maps.connect(facts, socket);
        let mut judgement =
            self.judgement(&described.zone, &row, operation, decision, String::new());
        workload.clone_into(&mut judgement.workload);
        if let Some((prefix, _)) = rule
            && operation == Operation::Connect
        {
            judgement.rule = format!("workload.{workload}.egress, {prefix} bits of the address");
        }
        let subject = format!("workload `{workload}` to {address} port {port}");
        Ok(reply_of(subject, Vec::new(), vec![judgement]))
    }

    /// What the kernel's trie would find, from the rules that were written to it.
    fn longest(
        &self,
        workload: u32,
        generation: u32,
        family: u32,
        protocol: u32,
        address: &[u8; 16],
    ) -> Option<(u32, governor_common::net::EgressRow)> {
        let table = self.daemon.hands.table.as_ref()?;
        let wanted = u128::from_be_bytes(*address);
        let covers = |key: &EgressKey, bits: u32| {
            let mask = if bits == 0 {
                0
            } else {
                u128::MAX << (128 - bits.min(128))
            };
            u128::from_be_bytes(key.address) & mask == wanted & mask
        };
        table
            .egress
            .iter()
            .filter(|(key, bits, _)| {
                key.workload == workload
                    && key.generation == generation
                    && u32::from(key.family) == family
                    && u32::from(key.protocol) == protocol
                    && covers(key, *bits)
            })
            .max_by_key(|(_, bits, _)| *bits)
            .map(|(_, bits, row)| (*bits, *row))
    }

    fn judgement(
        &self,
        zone: &str,
        row: &Row,
        operation: Operation,
        (verdict, reason): Decision,
        detail: String,
    ) -> proto::Judgement {
        let workload = names::workload(self.daemon.engine.ids(), row.workload);
        let survives = row.key.scope == SCOPE_SURVIVAL;
        let list = if row.roles & ROLE_EXECUTABLE != 0 {
            "exec"
        } else if row.roles & ROLE_SCRIPT != 0 {
            "scripts"
        } else if row.roles & ROLE_INTERPRETER != 0 {
            "interpreters"
        } else if row.roles & ROLE_LIBRARY != 0 {
            "libraries"
        } else {
            "data"
        };
        let rule = if survives {
            format!("survival.{list}")
        } else if row.key.zone == 0 || workload.is_empty() {
            String::new()
        } else {
            format!("workload.{workload}.{list}")
        };
        let advice = if verdict == Verdict::Allow {
            String::new()
        } else {
            advice(reason as u32)
        };
        let parts: Vec<String> = [detail, advice]
            .into_iter()
            .filter(|part| !part.is_empty())
            .collect();
        proto::Judgement {
            zone: zone.to_owned(),
            workload,
            operation: operation.name().to_owned(),
            verdict: events::verdict(verdict as u32).into(),
            reason: reason.name().to_owned(),
            rule,
            detail: parts.join("; "),
        }
    }
}

fn reply_of(
    subject: String,
    digest: Vec<u8>,
    judgements: Vec<proto::Judgement>,
) -> proto::ExplainReply {
    let allowed = judgements
        .iter()
        .any(|j| j.verdict == i32::from(proto::Verdict::Allow));
    let observed = judgements
        .iter()
        .any(|j| j.verdict == i32::from(proto::Verdict::WouldDeny));
    let verdict = match (allowed, observed) {
        (true, _) => proto::Verdict::Allow,
        (false, true) => proto::Verdict::WouldDeny,
        (false, false) => proto::Verdict::Deny,
    };
    proto::ExplainReply {
        subject,
        digest,
        verdict: verdict.into(),
        judgements,
    }
}

fn or_nobody(names: &[String]) -> String {
    if names.is_empty() {
        "nobody".into()
    } else {
        names.join(" or ")
    }
}
