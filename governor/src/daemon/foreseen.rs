//! What the kernel would find and decide at this moment, from the maps in force.
//!
//! Promises: the facts that a zone and a content decide are put together in one place, for
//! explanations and for status alike, and judged by `governor_common::decide`. Where a question leaves
//! something open (who starts it, as which user) the most favourable answer that the row allows is
//! taken.

use std::collections::{BTreeMap, BTreeSet};

use governor_common::{
    Facts, Label, Measured, Operation, Reason, Row, RowKey, Verdict,
    decide::{self, Decision},
    facts::LABEL_OPENS_LISTED,
    names::{SCOPE_START, SCOPE_SURVIVAL, SCOPE_ZONE, STARTER_OPERATOR},
    net::{AF_INET, AF_INET6},
    row::{ROLE_EXECUTABLE, ROLE_SCRIPT, TombstoneKey},
    state::StateWords,
};
use governor_core::{
    digest::Digest,
    policy::{Ids, Policy},
};

use crate::gate::{Gate, GateError};

/// The maps as they stand, for as many questions as are asked at one moment.
#[derive(Debug, Default)]
pub(super) struct Foreseen {
    rows: BTreeMap<RowKey, Row>,
    tombstones: BTreeSet<TombstoneKey>,
    base: Facts,
}

/// What of a zone may be started.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Standing {
    /// Contents that the policy lists to be started.
    pub(super) listed: u32,
    /// Those that the kernel would let start, because they are authorized or the zone is observed.
    pub(super) startable: u32,
    /// Those that were revoked by hand.
    pub(super) revoked: u32,
    /// Why the first that may not, may not.
    pub(super) reason: Option<Reason>,
}

impl Foreseen {
    /// Reads the maps.
    pub(super) fn read(gate: &Gate, now: u64) -> Result<Self, GateError> {
        Ok(Self::of(
            gate.table()?,
            gate.tombstones()?.into_keys(),
            gate.state()?,
            now,
        ))
    }

    fn of(
        rows: impl IntoIterator<Item = Row>,
        tombstones: impl IntoIterator<Item = TombstoneKey>,
        state: StateWords,
        now: u64,
    ) -> Self {
        Self {
            rows: rows.into_iter().map(|row| (row.key, row)).collect(),
            tombstones: tombstones.into_iter().collect(),
            base: Facts {
                now,
                state,
                ..Facts::default()
            },
        }
    }

    /// Every row in force.
    pub(super) fn rows(&self) -> impl Iterator<Item = &Row> {
        self.rows.values()
    }

    pub(super) fn find(&self, zone: u32, scope: u32, digest: Digest) -> Option<Row> {
        let key = RowKey {
            zone,
            scope,
            digest: *digest.bytes(),
        };
        self.rows.get(&key).copied()
    }

    /// What the zone decides, and whether the content is revoked there.
    pub(super) fn facts(&self, zone: u32, digest: Digest) -> Facts {
        let zone_row = self
            .find(zone, SCOPE_ZONE, Digest::new([0; 32]))
            .unwrap_or_default();
        let tombstone = TombstoneKey {
            zone,
            reserved: 0,
            digest: *digest.bytes(),
        };
        Facts {
            zone,
            zone_mode: zone_row.mode,
            zone_class: zone_row.class,
            zone_memory: zone_row.memory,
            zone_families: zone_row.families,
            zone_observe_until: zone_row.observe_until,
            tombstone: u32::from(self.tombstones.contains(&tombstone)),
            ..self.base
        }
    }

    /// Starting a content, by whom and as whom its row allows it.
    pub(super) fn start(&self, zone: u32, digest: Digest) -> (Row, Operation, Decision) {
        let survivor = self.find(zone, SCOPE_SURVIVAL, digest);
        let row = survivor
            .filter(|row| row.roles & (ROLE_EXECUTABLE | ROLE_SCRIPT) != 0)
            .or_else(|| self.find(zone, SCOPE_START, digest))
            .unwrap_or_default();
        let operation = if row.roles & ROLE_SCRIPT != 0 {
            Operation::Script
        } else {
            Operation::Execute
        };
        let facts = Facts {
            operation: operation as u32,
            ..self.by_whom_it_may(zone, digest, row)
        };
        (row, operation, decide::decide_exec(&facts))
    }

    /// Handing a script to what `row` lists as an interpreter, by whom and as whom it allows it.
    pub(super) fn interpret(&self, row: Row) -> (Operation, Decision) {
        let digest = Digest::new(row.key.digest);
        let operation = Operation::Execute;
        let facts = Facts {
            operation: operation as u32,
            script_workload: row.key.scope,
            // Scripts are called by a path.
            kind: u32::from(b'/'),
            ..self.by_whom_it_may(row.key.zone, digest, row)
        };
        (operation, decide::decide_exec(&facts))
    }

    /// Opening what `row` lists, by a task of its workload.
    pub(super) fn open(&self, row: Row) -> (Operation, Decision) {
        let (zone, digest) = (row.key.zone, Digest::new(row.key.digest));
        let operation = Operation::Open;
        let facts = Facts {
            operation: operation as u32,
            measured: Measured::Sha256 as u32,
            digest: row.key.digest,
            kind: nix::libc::S_IFREG,
            label: Label {
                zone,
                workload: row.key.scope,
                exec_id: LABEL_OPENS_LISTED | 1,
                digest: [0; 32],
            },
            row,
            ..self.facts(zone, digest)
        };
        (operation, decide::decide_open(&facts))
    }

    fn by_whom_it_may(&self, zone: u32, digest: Digest, row: Row) -> Facts {
        let mut facts = Facts {
            measured: Measured::Sha256 as u32,
            digest: *digest.bytes(),
            row,
            ..self.facts(zone, digest)
        };
        facts.uid = row
            .users
            .iter()
            .find(|user| **user != 0)
            .map_or(u32::MAX, |user| user - 1);
        let starter = row
            .starters
            .iter()
            .copied()
            .find(|starter| *starter != 0)
            .unwrap_or(0);
        if starter != 0 && starter != STARTER_OPERATOR {
            facts.label = Label {
                zone,
                workload: starter,
                exec_id: 1,
                digest: [0; 32],
            };
        }
        facts
    }

    /// Connecting, by facts that name the label, the socket and the destination. A socket that may
    /// not exist connects to nothing, and the kernel takes "any" for this host, which no rule means.
    pub(super) fn connect(&self, mut facts: Facts, socket_family: u32) -> (Operation, Decision) {
        let socket = Facts {
            operation: Operation::Socket as u32,
            family: socket_family,
            ..facts
        };
        let made = decide::decide_socket(&socket);
        if made.0 == Verdict::Deny {
            return (Operation::Socket, made);
        }
        let used = match facts.family {
            AF_INET => 4,
            AF_INET6 => 16,
            _ => 0,
        };
        if facts.address.iter().take(used).all(|byte| *byte == 0) {
            facts.address_unreadable = 1;
            facts.destination_listed = 0;
        }
        (Operation::Connect, decide::decide_connect(&facts))
    }

    /// What of a policy's zone may be started.
    pub(super) fn standing(&self, policy: &Policy, ids: &Ids, name: &str) -> Standing {
        let mut standing = Standing::default();
        let workloads = policy.workloads().values();
        let listed: BTreeSet<Digest> = workloads
            .filter(|workload| workload.zone == name)
            .flat_map(|workload| workload.exec.iter().chain(&workload.scripts))
            .copied()
            .collect();
        let zone = ids.zone(name).unwrap_or(0);
        for digest in listed {
            standing.listed += 1;
            let (_, _, (verdict, reason)) = self.start(zone, digest);
            standing.revoked += u32::from(self.facts(zone, digest).tombstone != 0);
            match verdict {
                Verdict::Allow | Verdict::WouldDeny => standing.startable += 1,
                Verdict::Deny => {
                    standing.reason.get_or_insert(reason);
                }
            }
        }
        standing
    }
}

#[cfg(test)]
mod tests {
    use governor_common::{
        names::ZONE_HOST,
        net::{IPPROTO_TCP, SOCK_STREAM},
        row::{CLASS_POLICY, MODE_ENFORCE, MODE_OBSERVE, ROLE_DATA, ROLE_INTERPRETER},
    };

    use super::*;

    const CONTENT: Digest = Digest::new([7; 32]);

    fn zone_row() -> Row {
        Row {
            key: RowKey {
                zone: 3,
                scope: SCOPE_ZONE,
                digest: [0; 32],
            },
            class: CLASS_POLICY,
            mode: MODE_ENFORCE,
            families: 1 << AF_INET6,
            epoch: 5,
            not_after: 100,
            ..Row::default()
        }
    }

    fn maps(zone: Row, now: u64) -> Foreseen {
        let mut users = [0; 4];
        users[0] = 1001;
        let mut starters = [0; 8];
        starters[0] = STARTER_OPERATOR;
        let row = |scope| Row {
            key: RowKey {
                zone: 3,
                scope,
                digest: *CONTENT.bytes(),
            },
            workload: 9,
            roles: ROLE_EXECUTABLE,
            users,
            starters,
            ..zone
        };
        let state = StateWords {
            epoch_policy: 5,
            ..StateWords::default()
        };
        Foreseen::of([zone, row(SCOPE_START), row(9)], [], state, now)
    }

    fn to(maps: &Foreseen, family: u32, address: [u8; 16]) -> (Operation, Decision) {
        let facts = Facts {
            operation: Operation::Connect as u32,
            measured: Measured::Nothing as u32,
            label: Label {
                zone: 3,
                workload: 9,
                exec_id: 1,
                digest: *CONTENT.bytes(),
            },
            row: maps.find(3, 9, CONTENT).unwrap(),
            family,
            kind: SOCK_STREAM,
            protocol: IPPROTO_TCP,
            port: 443,
            address,
            destination_listed: 1,
            ..maps.facts(3, CONTENT)
        };
        maps.connect(facts, family)
    }

    #[test]
    fn a_start_is_judged_by_the_time_since_boot() {
        let before = maps(zone_row(), 99).start(3, CONTENT);
        assert_eq!(before.2, (Verdict::Allow, Reason::Authorized));
        let after = maps(zone_row(), 100).start(3, CONTENT);
        assert_eq!(after.2, (Verdict::Deny, Reason::Expired));
    }

    #[test]
    fn an_observing_zone_lets_what_is_not_listed_start_until_observing_is_over() {
        let zone = Row {
            mode: MODE_OBSERVE,
            observe_until: 50,
            ..zone_row()
        };
        let other = Digest::new([8; 32]);
        let start = |now| maps(zone, now).start(3, other).2;
        assert_eq!(start(49), (Verdict::WouldDeny, Reason::NotAuthorized));
        assert_eq!(start(50), (Verdict::Deny, Reason::NotAuthorized));
    }

    #[test]
    fn what_survives_starts_on_the_host_without_a_lease_or_an_end() {
        let key = |scope, digest| RowKey {
            zone: ZONE_HOST,
            scope,
            digest,
        };
        let zone = Row {
            key: key(SCOPE_ZONE, [0; 32]),
            ..zone_row()
        };
        let survivor = Row {
            key: key(SCOPE_SURVIVAL, *CONTENT.bytes()),
            roles: ROLE_EXECUTABLE,
            ..Row::default()
        };
        let maps = Foreseen::of([zone, survivor], [], StateWords::default(), 1000);
        let (_, _, decision) = maps.start(ZONE_HOST, CONTENT);
        assert_eq!(decision, (Verdict::Allow, Reason::Survival));
        let (_, _, decision) = maps.start(ZONE_HOST, Digest::new([8; 32]));
        assert_eq!(decision, (Verdict::Deny, Reason::NotAuthorized));
    }

    #[test]
    fn an_interpreter_runs_scripts_and_is_not_started() {
        let interpreter = |scope, workload| {
            let row = maps(zone_row(), 1).find(3, 9, CONTENT).unwrap();
            let key = RowKey { scope, ..row.key };
            Row {
                key,
                workload,
                roles: ROLE_INTERPRETER,
                ..row
            }
        };
        let rows = [zone_row(), interpreter(SCOPE_START, 0), interpreter(9, 9)];
        let state = StateWords {
            epoch_policy: 5,
            ..StateWords::default()
        };
        let maps = Foreseen::of(rows, [], state, 1);
        let (_, _, started) = maps.start(3, CONTENT);
        assert_eq!(started, (Verdict::Deny, Reason::InterpreterOnly));
        let (_, handed) = maps.interpret(interpreter(9, 9));
        assert_eq!(handed, (Verdict::Allow, Reason::Authorized));
    }

    #[test]
    fn what_is_listed_is_opened_for_as_long_as_it_may_run() {
        let row = Row {
            roles: ROLE_DATA,
            ..maps(zone_row(), 1).find(3, 9, CONTENT).unwrap()
        };
        let open = |now| maps(zone_row(), now).open(row).1;
        assert_eq!(open(99), (Verdict::Allow, Reason::Authorized));
        assert_eq!(open(100), (Verdict::Deny, Reason::Expired));
    }

    #[test]
    fn a_destination_is_no_use_without_a_socket_and_any_is_none() {
        let maps = maps(zone_row(), 1);
        let allowed = (Operation::Connect, (Verdict::Allow, Reason::Authorized));
        assert_eq!(to(&maps, AF_INET6, [1; 16]), allowed);
        let refused = (Operation::Socket, (Verdict::Deny, Reason::SocketKind));
        assert_eq!(to(&maps, AF_INET, [1; 16]), refused);
        let any = (Operation::Connect, (Verdict::Deny, Reason::BadAddress));
        assert_eq!(to(&maps, AF_INET6, [0; 16]), any);
    }
}
