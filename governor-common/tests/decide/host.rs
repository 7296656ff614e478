//! The whole host as a zone: what survives, and who it is not for.

use governor_common::{
    Facts, Label, Measured, Operation, Reason, Row, RowKey, Verdict, decide,
    names::{SCOPE_START, SCOPE_SURVIVAL, STARTER_OPERATOR, WORKLOAD_NONE, ZONE_HOST},
    net::{self, AF_INET, AF_INET6, AF_NETLINK, AF_PACKET, AF_UNIX},
    row::{MEMORY_ANY, MODE_OBSERVE, ROLE_EXECUTABLE, ROLE_LIBRARY, ROLE_SCRIPT},
    state::StateWords,
};
use proptest::prelude::*;

use crate::fixture::*;

const SURVIVES: (Verdict, Reason) = (Verdict::Allow, Reason::Survival);

/// An unlabelled task of the host, no lease, no epoch, and a row that lists the content.
fn host(operation: Operation, roles: u32) -> Facts {
    Facts {
        operation: operation as u32,
        zone: ZONE_HOST,
        state: StateWords::default(),
        row: Row {
            key: RowKey {
                zone: ZONE_HOST,
                scope: SCOPE_SURVIVAL,
                digest: [7; 32],
            },
            roles,
            ..Row::default()
        },
        ..good_exec()
    }
}

fn a_label(f: &mut Facts) {
    f.label = Label {
        zone: ZONE_HOST,
        workload: WORKLOAD,
        exec_id: 1,
        digest: [7; 32],
    };
}

type Case = (&'static str, fn(&mut Facts), Reason);

fn each_denies(good: Facts, decide: fn(&Facts) -> decide::Decision, cases: &[Case]) {
    assert_eq!(decide(&good), SURVIVES, "the good case");
    for (name, change, reason) in cases {
        let mut facts = good;
        change(&mut facts);
        assert_eq!(decide(&facts), (Verdict::Deny, *reason), "{name}");
    }
}

const LISTED: &[Case] = &[
    ("revoked", |f| f.tombstone = 1, Reason::Revoked),
    (
        "not hashed",
        |f| f.measured = Measured::Failed as u32,
        Reason::NotMeasured,
    ),
    (
        "no name",
        |f| f.measured = Measured::Unstable as u32,
        Reason::NoStableFile,
    ),
    (
        "somebody writes it",
        |f| f.measured = Measured::Written as u32,
        Reason::BeingWritten,
    ),
    (
        "other content",
        |f| f.digest[31] ^= 1,
        Reason::NotAuthorized,
    ),
    ("no row", |f| f.row = Row::default(), Reason::NotAuthorized),
    (
        "a row for a workload",
        |f| f.row.key.scope = WORKLOAD,
        Reason::NotAuthorized,
    ),
    (
        "a row of another zone",
        |f| f.row.key.zone = ZONE,
        Reason::NotAuthorized,
    ),
    ("another zone", |f| f.zone = ZONE, Reason::NotAuthorized),
    (
        "a mode that is none",
        |f| f.zone_mode = 1,
        Reason::UnknownZone,
    ),
];

#[test]
fn what_survives_is_executed_and_mapped_without_lease_epoch_or_end() {
    let exec = host(Operation::Execute, ROLE_EXECUTABLE);
    each_denies(exec, decide::decide_exec, LISTED);
    each_denies(
        exec,
        decide::decide_exec,
        &[
            ("a label", a_label, Reason::NotAuthorized),
            (
                "an observed task's label",
                |f| {
                    a_label(f);
                    f.label.workload = WORKLOAD_NONE;
                },
                Reason::NotAuthorized,
            ),
            (
                "what a workload's script hands itself to",
                |f| f.script_workload = WORKLOAD,
                Reason::NotAuthorized,
            ),
            (
                "a library",
                |f| f.row.roles = ROLE_LIBRARY | ROLE_SCRIPT,
                Reason::NotAuthorized,
            ),
        ],
    );
    each_denies(
        host(Operation::Script, ROLE_SCRIPT),
        decide::decide_exec,
        LISTED,
    );
    let map = host(Operation::Map, ROLE_LIBRARY);
    // In other zones what has no label is not judged yet: systemd's own code runs there.
    let listed: Vec<Case> = LISTED
        .iter()
        .filter(|(name, ..)| *name != "another zone")
        .copied()
        .collect();
    each_denies(map, decide::decide_map, &listed);
    each_denies(
        map,
        decide::decide_map,
        &[
            ("a label", a_label, Reason::NotAuthorized),
            (
                "a script",
                |f| f.row.roles = ROLE_SCRIPT,
                Reason::NotAuthorized,
            ),
            (
                "made executable later",
                |f| f.operation = Operation::Protect as u32,
                Reason::WrittenMemory,
            ),
            (
                "written memory",
                |f| f.measured = Measured::Nothing as u32,
                Reason::WrittenMemory,
            ),
        ],
    );
    let mut any = host(Operation::Map, 0);
    any.measured = Measured::Nothing as u32;
    any.zone_memory = MEMORY_ANY;
    assert_eq!(decide::decide_map(&any).0, Verdict::Allow);
}

#[test]
fn a_workload_of_the_host_is_judged_as_anywhere() {
    let mut facts = good_exec();
    facts.zone = ZONE_HOST;
    facts.row.key.zone = ZONE_HOST;
    assert!(facts.row.starters.contains(&STARTER_OPERATOR));
    let authorized = (Verdict::Allow, Reason::Authorized);
    assert_eq!(decide::decide_exec(&facts), authorized);
    facts.state.lease_deadline = 0;
    assert_eq!(
        decide::decide_exec(&facts),
        (Verdict::Deny, Reason::NoLease)
    );
}

#[test]
fn a_host_that_is_no_zone_is_not_governed() {
    let bare = |operation| Facts {
        zone_mode: 0,
        row: Row::default(),
        ..host(operation, 0)
    };
    let free = (Verdict::Allow, Reason::Unlabelled);
    assert_eq!(decide::decide_exec(&bare(Operation::Execute)), free);
    assert_eq!(decide::decide_map(&bare(Operation::Map)), free);
    assert_eq!(decide::decide_connect(&bare(Operation::Connect)), free);
    assert_eq!(decide::decide_send(&bare(Operation::Send)), free);
    let mut labelled = bare(Operation::Execute);
    a_label(&mut labelled);
    let denied = (Verdict::Deny, Reason::UnknownZone);
    assert_eq!(decide::decide_exec(&labelled), denied);
}

#[test]
fn an_observed_host_reports_what_it_would_deny() {
    let mut facts = host(Operation::Execute, ROLE_EXECUTABLE);
    facts.zone_mode = MODE_OBSERVE;
    facts.zone_observe_until = NOW + 1;
    assert_eq!(decide::decide_exec(&facts), SURVIVES);
    facts.digest = [1; 32];
    let would = (Verdict::WouldDeny, Reason::NotAuthorized);
    assert_eq!(decide::decide_exec(&facts), would);
}

#[test]
fn the_host_reaches_itself_and_what_policy_lists() {
    let to = |family, address| Facts {
        measured: Measured::Nothing as u32,
        family,
        address,
        row: Row::default(),
        ..host(Operation::Connect, 0)
    };
    let here = |family: u32, address: [u8; 16]| decide::decide_connect(&to(family, address));
    let mut local = [0; 16];
    local[0] = 127;
    assert_eq!(here(AF_INET, local), SURVIVES);
    let mut local6 = [0; 16];
    local6[15] = 1;
    assert_eq!(here(AF_INET6, local6), SURVIVES);
    assert_eq!(here(AF_PACKET, [0; 16]), SURVIVES);
    assert_eq!(here(AF_NETLINK, [0; 16]), SURVIVES);
    assert_eq!(here(AF_UNIX, [0; 16]).0, Verdict::Allow);
    assert_eq!(
        here(AF_INET, [10; 16]),
        (Verdict::Deny, Reason::Destination)
    );
    assert_eq!(
        here(AF_INET6, [10; 16]),
        (Verdict::Deny, Reason::Destination)
    );
    assert_eq!(here(40, [0; 16]), (Verdict::Deny, Reason::BadAddress));
    let mut listed = to(AF_INET, [10; 16]);
    listed.destination_listed = 1;
    assert_eq!(decide::decide_connect(&listed), SURVIVES);
    listed.address_unreadable = 1;
    assert_eq!(
        decide::decide_connect(&listed),
        (Verdict::Deny, Reason::BadAddress)
    );
    // An answer goes to whoever asked.
    let mut send = to(net::AF_INET, [0; 16]);
    send.operation = Operation::Send as u32;
    assert_eq!(decide::decide_send(&send), SURVIVES);
    send.zone = ZONE;
    assert_eq!(decide::decide_send(&send), (Verdict::Deny, Reason::NoLabel));
}

fn changed() -> impl Strategy<Value = Facts> {
    let base = prop_oneof![
        Just(host(Operation::Execute, ROLE_EXECUTABLE)),
        Just(host(Operation::Script, ROLE_SCRIPT)),
        Just(host(Operation::Map, ROLE_LIBRARY)),
    ];
    let changes = proptest::collection::vec((0usize..10, 0u32..12), 0..4);
    (base, changes).prop_map(|(mut f, changes)| {
        for (what, value) in changes {
            match what {
                0 => f.zone = [ZONE_HOST, ZONE, 0][value as usize % 3],
                1 => f.label.workload = value,
                2 => f.label.zone = [ZONE_HOST, ZONE, 0][value as usize % 3],
                3 => f.row.roles = value,
                4 => f.row.key.scope = [SCOPE_SURVIVAL, SCOPE_START, 0][value as usize % 3],
                5 => f.digest[0] = value as u8,
                6 => f.script_workload = value % 2,
                7 => f.tombstone = value % 2,
                8 => f.measured = [0x71, 0x72, 0x73, 0x74, 0][value as usize % 5],
                _ => f.zone_mode = [f.zone_mode, MODE_OBSERVE, 0][value as usize % 3],
            }
        }
        f
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(20_000))]

    #[test]
    fn nothing_survives_but_listed_content_without_a_label(f in changed()) {
        let (decide, roles): (fn(&Facts) -> decide::Decision, u32) =
            match Operation::from_u32(f.operation) {
                Some(Operation::Map) => (decide::decide_map, ROLE_LIBRARY | ROLE_EXECUTABLE),
                Some(Operation::Script) => (decide::decide_exec, ROLE_SCRIPT),
                _ => (decide::decide_exec, ROLE_EXECUTABLE),
            };
        let (verdict, reason) = decide(&f);
        let survives = f.zone == ZONE_HOST
            && (f.label.zone == 0 || f.label.workload == 0)
            && f.zone_mode != 0
            && f.script_workload == 0
            && f.tombstone == 0
            && f.measured == Measured::Sha256 as u32
            && f.row.key.scope == SCOPE_SURVIVAL
            && f.row.key.digest == f.digest
            && f.row.roles & roles != 0;
        prop_assert_eq!(reason == Reason::Survival, survives, "{:?}", f);
        // Its row is nobody else's authorization.
        prop_assert!(reason != Reason::Authorized);
        prop_assert!(!survives || verdict == Verdict::Allow);
    }
}
