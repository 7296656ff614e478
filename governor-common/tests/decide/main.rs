//! Properties of the verdict: an allow implies every condition, restated here independently, and
//! each condition alone is enough to deny.

mod break_glass;
mod fixture;
mod host;
mod opening;
mod peers;
mod property;
mod running;
mod scripts;

use governor_common::{
    Actor, Facts, Label, Measured, Operation, Reason, Row, Signal, Verdict, decide,
    names::{SCOPE_START, SCOPE_ZONE, STARTER_OPERATOR, WORKLOAD_NONE, ZONE_UNKNOWN},
    net::{self, EgressRow, PortRange},
    row::{CLASS_POLICY, MEMORY_ANY, MODE_OBSERVE, ROLE_LIBRARY, ROLE_SCRIPT},
};

use fixture::*;

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
            (
                "a raw socket of the protocol",
                |f| f.kind = net::SOCK_RAW,
                Reason::SocketKind,
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
    for family in [net::AF_UNIX, net::AF_NETLINK] {
        let stays = Facts {
            label: Label::default(),
            family,
            ..send
        };
        assert_eq!(
            decide::decide_send(&stays),
            (Verdict::Allow, Reason::Unlabelled),
            "what a service manager does before there is a workload"
        );
    }
}

#[test]
fn observing_reports_but_revocation_holds() {
    let mut facts = good_exec();
    facts.zone_mode = MODE_OBSERVE;
    facts.row = Row::default();
    assert_eq!(
        decide::decide_exec(&facts),
        (Verdict::Deny, Reason::NotAuthorized),
        "observing without an end is not observing"
    );
    facts.zone_observe_until = NOW;
    assert_eq!(decide::decide_exec(&facts).0, Verdict::Deny, "over");
    facts.zone_observe_until = NOW + 1;
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
fn what_ran_while_observed_is_not_the_operator() {
    let numbers = [
        SCOPE_START,
        SCOPE_ZONE,
        WORKLOAD_NONE,
        STARTER_OPERATOR,
        ZONE_UNKNOWN,
    ];
    for (place, number) in numbers.iter().enumerate() {
        let same = numbers.iter().filter(|other| *other == number).count();
        // Zones and scopes are never compared with each other.
        assert_eq!(same, if [0, 4].contains(&place) { 2 } else { 1 });
    }
    let mut facts = good_exec();
    facts.label = Label {
        zone: ZONE,
        workload: WORKLOAD_NONE,
        exec_id: 1,
        digest: [1; 32],
    };
    assert_eq!(
        decide::decide_exec(&facts),
        (Verdict::Deny, Reason::WrongStarter)
    );
}

#[test]
fn revoked_content_is_revoked_without_a_stable_file_too() {
    let mut facts = good_exec();
    facts.zone_mode = MODE_OBSERVE;
    facts.zone_observe_until = NOW + 1;
    facts.measured = Measured::Unstable as u32;
    assert_eq!(decide::decide_exec(&facts).0, Verdict::WouldDeny);
    facts.tombstone = 1;
    assert_eq!(
        decide::decide_exec(&facts),
        (Verdict::Deny, Reason::Revoked)
    );
    facts.tombstone = 0;
    facts.starter_tombstone = 1;
    assert_eq!(
        decide::decide_exec(&facts),
        (Verdict::Deny, Reason::Revoked)
    );
}

#[test]
fn what_was_revoked_starts_nothing() {
    let mut facts = good_exec();
    facts.starter_tombstone = 1;
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
fn the_gate_is_for_the_daemon_and_where_it_says_so_for_the_first_process() {
    for raw in 0..=u32::from(u8::MAX) {
        let facts = Facts {
            actor: raw,
            zone_mode: MODE_OBSERVE,
            zone_observe_until: u64::MAX,
            ..Facts::default()
        };
        let known = raw == Actor::Daemon as u32 || raw == Actor::Init as u32;
        let (verdict, _) = decide::decide_guard(&facts);
        assert_eq!(verdict == Verdict::Allow, known, "{raw:#x}");
    }
}

#[test]
fn a_governed_task_sets_off_no_alarm() {
    for signal in Signal::ALL {
        assert!(!decide::counted_as(*signal, true).is_alarm(), "{signal:?}");
        assert_eq!(decide::counted_as(*signal, false), *signal);
    }
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
