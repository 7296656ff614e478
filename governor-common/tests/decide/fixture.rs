//! Facts that are allowed, for tests to take something away from.

use governor_common::{
    Facts, Label, Measured, Operation, Row, RowKey, StateWords,
    names::{SCOPE_START, STARTER_OPERATOR},
    net::{self},
    row::{CLASS_ATTESTED, MEMORY_WX, MODE_ENFORCE, ROLE_DATA, ROLE_EXECUTABLE, ROLE_INTERPRETER},
};

pub(crate) const ZONE: u32 = 3;
pub(crate) const WORKLOAD: u32 = 11;
pub(crate) const NOW: u64 = 1_000_000;

pub(crate) fn state() -> StateWords {
    StateWords {
        lease_deadline: NOW + 1,
        lease_trips: 5,
        lease_epoch: 9,
        epoch_attested: 9,
        epoch_policy: 4,
        trips: 4,
        break_glass_until: 0,
    }
}

pub(crate) fn row(scope: u32, roles: u32) -> Row {
    let mut starters = [0; 8];
    starters[2] = STARTER_OPERATOR;
    Row {
        key: RowKey {
            zone: ZONE,
            scope,
            digest: [7; 32],
        },
        workload: WORKLOAD,
        roles,
        class: CLASS_ATTESTED,
        mode: MODE_ENFORCE,
        memory: MEMORY_WX,
        generation: 1,
        families: 1 << net::AF_INET,
        epoch: 9,
        not_before: 10,
        not_after: NOW + 1,
        observe_until: 0,
        starters,
        users: [1001, 0, 0, 0],
    }
}

pub(crate) fn good_exec() -> Facts {
    Facts {
        now: NOW,
        operation: Operation::Execute as u32,
        measured: Measured::Sha256 as u32,
        measured_raw: 4,
        digest: [7; 32],
        zone: ZONE,
        uid: 1000,
        state: state(),
        zone_mode: MODE_ENFORCE,
        zone_class: CLASS_ATTESTED,
        zone_memory: MEMORY_WX,
        zone_families: 1 << net::AF_INET,
        row: row(SCOPE_START, ROLE_EXECUTABLE),
        ..Facts::default()
    }
}

pub(crate) fn labelled(operation: Operation, roles: u32) -> Facts {
    Facts {
        operation: operation as u32,
        label: Label {
            zone: ZONE,
            workload: WORKLOAD,
            exec_id: 1,
            digest: [7; 32],
        },
        row: row(WORKLOAD, roles),
        ..good_exec()
    }
}

pub(crate) fn good_connect() -> Facts {
    Facts {
        measured: Measured::Nothing as u32,
        family: net::AF_INET,
        kind: net::SOCK_STREAM,
        protocol: net::IPPROTO_TCP,
        destination_listed: 1,
        ..labelled(Operation::Connect, ROLE_EXECUTABLE)
    }
}

/// What a script of the workload is handed to, called by its path.
pub(crate) fn interpreter() -> Facts {
    Facts {
        script_workload: WORKLOAD,
        kind: u32::from(b'/'),
        row: row(WORKLOAD, ROLE_INTERPRETER),
        ..good_exec()
    }
}

/// A file that the workload may open.
pub(crate) fn opened() -> Facts {
    Facts {
        kind: S_IFREG,
        ..labelled(Operation::Open, ROLE_DATA)
    }
}

/// Whoever listens on a socket that policy names.
pub(crate) fn named_peer() -> Facts {
    Facts {
        measured: Measured::Nothing as u32,
        family: net::AF_UNIX,
        digest: [9; 32],
        destination_listed: 1,
        ..labelled(Operation::Peer, ROLE_EXECUTABLE)
    }
}

/// Whoever listens on a socket that work of the same zone made.
pub(crate) fn neighbour() -> Facts {
    Facts {
        digest: [0; 32],
        destination_listed: 0,
        port: ZONE,
        ..named_peer()
    }
}

/// The type of regular files, as in their modes.
pub(crate) const S_IFREG: u32 = 0o100_000;
