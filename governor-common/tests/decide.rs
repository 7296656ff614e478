//! Properties of the verdict: an allow implies every condition, restated here independently, and
//! each condition alone is enough to deny.

use governor_common::{
    Facts, Label, Measured, Operation, Reason, Row, RowKey, StateWords, Verdict, decide,
    names::{SCOPE_START, STARTER_OPERATOR, WORKLOAD_NONE},
    net::{self, EgressRow, PortRange},
    row::{
        CLASS_ATTESTED, CLASS_POLICY, MEMORY_ANY, MEMORY_WX, MODE_ENFORCE, MODE_OBSERVE,
        ROLE_EXECUTABLE, ROLE_LIBRARY, ROLE_SCRIPT,
    },
};
use proptest::prelude::*;

const ZONE: u32 = 3;
const WORKLOAD: u32 = 11;
const NOW: u64 = 1_000_000;

fn state() -> StateWords {
    StateWords {
        lease_deadline: NOW + 1,
        lease_trips: 5,
        lease_epoch: 9,
        epoch_attested: 9,
        epoch_policy: 4,
        trips: 4,
    }
}

fn row(scope: u32, roles: u32) -> Row {
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
        starters,
        users: [1001, 0, 0, 0],
    }
}

fn good_exec() -> Facts {
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

fn labelled(operation: Operation, roles: u32) -> Facts {
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

fn good_connect() -> Facts {
    Facts {
        measured: Measured::Nothing as u32,
        family: net::AF_INET,
        protocol: net::IPPROTO_TCP,
        destination_listed: 1,
        ..labelled(Operation::Connect, ROLE_EXECUTABLE)
    }
}

type Case = (&'static str, fn(&mut Facts), Reason);

fn each_denies(good: Facts, decide: fn(&Facts) -> decide::Decision, cases: &[Case]) {
    assert_eq!(
        decide(&good),
        (Verdict::Allow, Reason::Authorized),
        "the good case"
    );
    for (name, change, reason) in cases {
        let mut facts = good;
        change(&mut facts);
        assert_eq!(decide(&facts), (Verdict::Deny, *reason), "{name}");
    }
}

const STANDING: &[Case] = &[
    ("no row", |f| f.row = Row::default(), Reason::NotAuthorized),
    (
        "row of another zone",
        |f| f.row.key.zone = 4,
        Reason::NotAuthorized,
    ),
    (
        "row of another scope",
        |f| f.row.key.scope = 12,
        Reason::NotAuthorized,
    ),
    (
        "row of another digest",
        |f| f.row.key.digest[31] ^= 1,
        Reason::NotAuthorized,
    ),
    (
        "row's epoch raised",
        |f| f.state.epoch_attested = 10,
        Reason::EpochRaised,
    ),
    (
        "epoch never set",
        |f| {
            f.state.epoch_attested = 0;
            f.row.epoch = 0;
        },
        Reason::EpochRaised,
    ),
    (
        "lease over",
        |f| f.state.lease_deadline = NOW,
        Reason::NoLease,
    ),
    ("no lease", |f| f.state.lease_deadline = 0, Reason::NoLease),
    (
        "lease of another epoch",
        |f| f.state.lease_epoch = 8,
        Reason::NoLease,
    ),
    ("tripped", |f| f.state.trips = 5, Reason::Tripped),
    (
        "lease trips zero",
        |f| {
            f.state.lease_trips = 0;
            f.state.trips = u64::MAX;
        },
        Reason::Tripped,
    ),
    ("class zero", |f| f.row.class = 0, Reason::BadRow),
    (
        "policy row, attested zone",
        |f| {
            f.row.class = CLASS_POLICY;
            f.row.epoch = 4;
        },
        Reason::BadRow,
    ),
    (
        "too early",
        |f| f.row.not_before = NOW + 1,
        Reason::NotYetValid,
    ),
    ("too late", |f| f.row.not_after = NOW, Reason::Expired),
    ("validity zero", |f| f.row.not_after = 0, Reason::Expired),
    ("tombstone", |f| f.tombstone = 1, Reason::Revoked),
    (
        "zone without a row",
        |f| f.zone_mode = 0,
        Reason::UnknownZone,
    ),
];

#[test]
fn executing() {
    each_denies(good_exec(), decide::decide_exec, STANDING);
    each_denies(
        good_exec(),
        decide::decide_exec,
        &[
            (
                "all zero",
                |f| {
                    *f = Facts::default();
                    f.operation = Operation::Execute as u32;
                },
                Reason::UnknownZone,
            ),
            ("operation zero", |f| f.operation = 0, Reason::GateFault),
            ("measured zero", |f| f.measured = 0, Reason::NotMeasured),
            (
                "hash failed",
                |f| f.measured = Measured::Failed as u32,
                Reason::NotMeasured,
            ),
            (
                "nothing measured",
                |f| f.measured = Measured::Nothing as u32,
                Reason::NotMeasured,
            ),
            (
                "unstable file",
                |f| f.measured = Measured::Unstable as u32,
                Reason::NoStableFile,
            ),
            (
                "digest differs",
                |f| f.digest[0] ^= 1,
                Reason::NotAuthorized,
            ),
            (
                "library only",
                |f| f.row.roles = ROLE_LIBRARY,
                Reason::WrongRole,
            ),
            (
                "script only",
                |f| f.row.roles = ROLE_SCRIPT,
                Reason::WrongRole,
            ),
            ("no workload", |f| f.row.workload = 0, Reason::BadRow),
            (
                "observed workload",
                |f| f.row.workload = WORKLOAD_NONE,
                Reason::BadRow,
            ),
            (
                "nobody may start it",
                |f| f.row.starters = [0; 8],
                Reason::WrongStarter,
            ),
            (
                "started by a workload",
                |f| {
                    f.label = Label {
                        zone: ZONE,
                        workload: 5,
                        exec_id: 1,
                        digest: [1; 32],
                    }
                },
                Reason::WrongStarter,
            ),
            ("no users", |f| f.row.users = [0; 4], Reason::WrongUser),
            ("root", |f| f.uid = 0, Reason::WrongUser),
            ("largest uid", |f| f.uid = u32::MAX, Reason::WrongUser),
        ],
    );
}

#[test]
fn a_script_and_its_interpreter() {
    let script = Facts {
        operation: Operation::Script as u32,
        row: row(SCOPE_START, ROLE_SCRIPT),
        ..good_exec()
    };
    each_denies(
        script,
        decide::decide_exec,
        &[(
            "an executable is not a script",
            |f| f.row.roles = ROLE_EXECUTABLE,
            Reason::WrongRole,
        )],
    );
    let interpreter = Facts {
        script_workload: WORKLOAD,
        row: row(WORKLOAD, ROLE_EXECUTABLE),
        ..good_exec()
    };
    each_denies(
        interpreter,
        decide::decide_exec,
        &[(
            "another workload's interpreter",
            |f| f.script_workload = WORKLOAD + 1,
            Reason::NotAuthorized,
        )],
    );
}

#[test]
fn mapping() {
    let good = labelled(Operation::Map, ROLE_LIBRARY);
    each_denies(good, decide::decide_map, STANDING);
    each_denies(
        good,
        decide::decide_map,
        &[
            (
                "script only",
                |f| f.row.roles = ROLE_SCRIPT,
                Reason::WrongRole,
            ),
            (
                "not measured",
                |f| f.measured = Measured::Failed as u32,
                Reason::NotMeasured,
            ),
            (
                "unstable",
                |f| f.measured = Measured::Unstable as u32,
                Reason::NoStableFile,
            ),
            (
                "anonymous",
                |f| f.measured = Measured::Nothing as u32,
                Reason::WrittenMemory,
            ),
            (
                "mprotect of a file",
                |f| f.operation = Operation::Protect as u32,
                Reason::WrittenMemory,
            ),
            (
                "not a mapping",
                |f| f.operation = Operation::Send as u32,
                Reason::GateFault,
            ),
        ],
    );
    let mut anonymous = good;
    anonymous.measured = Measured::Nothing as u32;
    anonymous.zone_memory = MEMORY_ANY;
    assert_eq!(decide::decide_map(&anonymous).0, Verdict::Allow);
    anonymous.zone_memory = 0;
    assert_eq!(
        decide::decide_map(&anonymous).0,
        Verdict::Deny,
        "memory zero is not `any`"
    );
}

#[test]
fn connecting_and_sending() {
    each_denies(good_connect(), decide::decide_connect, STANDING);
    each_denies(
        good_connect(),
        decide::decide_connect,
        &[
            ("no label", |f| f.label = Label::default(), Reason::NoLabel),
            (
                "not listed",
                |f| f.destination_listed = 0,
                Reason::Destination,
            ),
            (
                "listed must be one",
                |f| f.destination_listed = 2,
                Reason::Destination,
            ),
            (
                "unreadable",
                |f| f.address_unreadable = 1,
                Reason::BadAddress,
            ),
            ("other protocol", |f| f.protocol = 132, Reason::SocketKind),
            ("other family", |f| f.family = 40, Reason::BadAddress),
        ],
    );
    let send = Facts {
        operation: Operation::Send as u32,
        ..good_connect()
    };
    each_denies(send, decide::decide_send, STANDING);
    each_denies(
        send,
        decide::decide_send,
        &[("no label", |f| f.label = Label::default(), Reason::NoLabel)],
    );
}

#[test]
fn observing_reports_but_revocation_holds() {
    let mut facts = good_exec();
    facts.zone_mode = MODE_OBSERVE;
    facts.row = Row::default();
    assert_eq!(
        decide::decide_exec(&facts),
        (Verdict::WouldDeny, Reason::NotAuthorized)
    );
    facts.tombstone = 1;
    assert_eq!(
        decide::decide_exec(&facts),
        (Verdict::Deny, Reason::Revoked)
    );
}

#[test]
fn sockets() {
    let all = u64::MAX;
    for family in 0..80u32 {
        for kind in 0..12u32 {
            for protocol in [0u32, 1, 2, 6, 17, 132, 136, 255, 262] {
                let allowed = net::socket_allowed(all, family, kind, protocol);
                let expected = matches!(
                    (family, kind, protocol),
                    (2 | 10, 1, 0 | 6) | (2 | 10, 2, 0 | 17) | (1, 1 | 2 | 5, _) | (16, 2 | 3, 0)
                );
                assert_eq!(allowed, expected, "{family} {kind} {protocol}");
                assert!(!net::socket_allowed(0, family, kind, protocol));
            }
        }
    }
}

#[test]
fn ports() {
    let mut row = EgressRow {
        count: 1,
        ..EgressRow::default()
    };
    row.ports[0] = PortRange {
        low: 440,
        high: 443,
    };
    row.ports[1] = PortRange { low: 80, high: 80 };
    assert!(row.allows(440) && row.allows(443));
    assert!(!row.allows(439) && !row.allows(444) && !row.allows(0));
    assert!(!row.allows(80), "places beyond the count are not in use");
    assert!(
        !EgressRow {
            count: 16,
            ..EgressRow::default()
        }
        .allows(0),
        "port 0 is never listed"
    );
}

#[test]
fn numbers_are_distinct_and_never_zero() {
    let mut seen = std::collections::BTreeSet::new();
    for reason in Reason::ALL {
        assert!((1..240).contains(&(*reason as u32)));
        assert!(seen.insert(*reason as u32));
        assert_eq!(Reason::from_u32(*reason as u32), Some(*reason));
    }
    assert_eq!(Reason::from_u32(0), None);
    assert_eq!(Verdict::from_u32(0), None);
    assert_eq!(Operation::from_u32(0), None);
}

fn arbitrary() -> impl Strategy<Value = Facts> {
    // Start from what would be allowed and change a random part of it, so that both sides of every
    // condition are met often.
    let base = prop_oneof![
        Just(good_exec()),
        Just(good_connect()),
        Just(labelled(Operation::Map, ROLE_LIBRARY)),
        Just(labelled(Operation::Send, ROLE_EXECUTABLE)),
    ];
    (
        base,
        proptest::collection::vec((0usize..18, 0u64..12), 0..4),
    )
        .prop_map(|(mut f, changes)| {
            for (what, value) in changes {
                let small = value as u32;
                match what {
                    0 => f.now = NOW - 5 + value,
                    1 => f.zone = small,
                    2 => f.row.key.zone = small,
                    3 => f.row.key.scope = small,
                    4 => f.row.class = [CLASS_ATTESTED, CLASS_POLICY, 0][small as usize % 3],
                    5 => f.zone_mode = [MODE_ENFORCE, MODE_OBSERVE, 0, 1][small as usize % 4],
                    6 => f.state.trips = value,
                    7 => f.state.lease_trips = value,
                    8 => f.state.lease_deadline = NOW - 5 + value,
                    9 => f.state.epoch_attested = value,
                    10 => f.row.epoch = value,
                    11 => f.tombstone = small % 3,
                    12 => f.label.workload = small,
                    13 => f.measured = [0x71, 0x72, 0x73, 0x74, 0][small as usize % 5],
                    14 => f.uid = small * 100,
                    15 => f.row.roles = small,
                    16 => f.zone_class = [CLASS_ATTESTED, CLASS_POLICY, 0][small as usize % 3],
                    _ => f.destination_listed = small % 3,
                }
            }
            f
        })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(20_000))]

    #[test]
    fn an_allow_implies_every_condition(f in arbitrary()) {
        let operation = Operation::from_u32(f.operation);
        let decide: fn(&Facts) -> decide::Decision = match operation {
            Some(Operation::Execute | Operation::Script) => decide::decide_exec,
            Some(Operation::Map | Operation::Protect) => decide::decide_map,
            Some(Operation::Connect) => decide::decide_connect,
            _ => decide::decide_send,
        };
        let (verdict, reason) = decide(&f);
        prop_assert_eq!(
            verdict == Verdict::Allow,
            matches!(reason, Reason::Authorized | Reason::Unlabelled)
        );
        if verdict != Verdict::Allow || reason == Reason::Unlabelled {
            return Ok(());
        }
        prop_assert!(f.zone_mode == MODE_ENFORCE || f.zone_mode == MODE_OBSERVE);
        prop_assert_eq!(f.tombstone, 0);
        prop_assert_eq!(f.row.key.zone, f.zone);
        prop_assert!(f.row.not_before <= f.now && f.now < f.row.not_after);
        match f.row.class {
            CLASS_ATTESTED => {
                prop_assert_eq!(f.row.epoch, f.state.epoch_attested);
                prop_assert_eq!(f.state.lease_epoch, f.state.epoch_attested);
                prop_assert_eq!(f.state.lease_trips, f.state.trips + 1);
                prop_assert!(f.now < f.state.lease_deadline);
            }
            CLASS_POLICY => {
                prop_assert_eq!(f.zone_class, CLASS_POLICY);
                prop_assert_eq!(f.row.epoch, f.state.epoch_policy);
            }
            _ => prop_assert!(false, "a class that does not exist was allowed"),
        }
        prop_assert!(f.row.epoch != 0);
        match operation {
            Some(Operation::Execute) => {
                prop_assert_eq!(f.measured, Measured::Sha256 as u32);
                prop_assert_eq!(f.row.key.digest, f.digest);
                prop_assert!(f.row.roles & ROLE_EXECUTABLE != 0);
                prop_assert!(f.row.users.contains(&(f.uid + 1)));
            }
            Some(Operation::Map) => {
                prop_assert_eq!(f.measured, Measured::Sha256 as u32);
                prop_assert!(f.row.roles & (ROLE_LIBRARY | ROLE_EXECUTABLE) != 0);
                prop_assert_eq!(f.row.key.scope, f.label.workload);
            }
            Some(Operation::Connect) => prop_assert_eq!(f.destination_listed, 1),
            _ => prop_assert!(f.label.present()),
        }
    }
}
