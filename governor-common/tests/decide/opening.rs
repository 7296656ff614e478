//! Opening for reading, where only what is listed may be.

use governor_common::{
    Facts, Label, Measured, Operation, Reason, Row, Verdict, decide,
    facts::LABEL_OPENS_LISTED,
    names::ZONE_HOST,
    row::{
        MODE_OBSERVE, OPENS_LISTED, ROLE_DATA, ROLE_EXECUTABLE, ROLE_INTERPRETER, ROLE_LIBRARY,
        ROLE_SCRIPT, ROLES,
    },
};
use proptest::prelude::*;

use crate::{Case, STANDING, each_denies, fixture::*, property::arbitrary};

#[test]
fn what_is_listed_in_any_role_is_opened_and_nothing_else() {
    for role in [
        ROLE_EXECUTABLE,
        ROLE_LIBRARY,
        ROLE_SCRIPT,
        ROLE_INTERPRETER,
        ROLE_DATA,
    ] {
        let mut listed = opened();
        listed.row.roles = role;
        assert_eq!(decide::decide_open(&listed).0, Verdict::Allow, "{role}");
        assert_eq!(ROLES & role, role);
    }
    let standing = STANDING.iter().map(|(name, change, reason)| {
        let reason = if *reason == Reason::NotAuthorized {
            Reason::UnlistedOpen
        } else {
            *reason
        };
        (*name, *change, reason)
    });
    each_denies(
        opened(),
        decide::decide_open,
        &standing.collect::<Vec<Case>>(),
    );
    each_denies(opened(), decide::decide_open, FILES);
}

const FILES: &[Case] = &[
    ("no role", |f| f.row.roles = 0, Reason::UnlistedOpen),
    (
        "a flag is no role",
        |f| f.row.roles = OPENS_LISTED,
        Reason::UnlistedOpen,
    ),
    (
        "listed for another workload",
        |f| f.label.workload = WORKLOAD + 1,
        Reason::UnlistedOpen,
    ),
    (
        "content that nobody lists",
        |f| f.digest[0] ^= 1,
        Reason::UnlistedOpen,
    ),
    (
        "no stable file",
        |f| f.measured = Measured::Unstable as u32,
        Reason::NoStableFile,
    ),
    (
        "being written",
        |f| f.measured = Measured::Written as u32,
        Reason::BeingWritten,
    ),
    (
        "not known where nothing can be measured",
        |f| f.measured = Measured::Unknown as u32,
        Reason::NotKnown,
    ),
    (
        "not measured",
        |f| f.measured = Measured::Failed as u32,
        Reason::NotMeasured,
    ),
    (
        "measured as nothing",
        |f| f.measured = Measured::Nothing as u32,
        Reason::NotMeasured,
    ),
    (
        "the task itself is revoked",
        |f| f.starter_tombstone = 1,
        Reason::Revoked,
    ),
    (
        "another operation",
        |f| f.operation = Operation::Map as u32,
        Reason::GateFault,
    ),
];

/// What is not a file is told by its type, and a device by its number.
#[test]
fn of_what_is_no_file_only_what_says_nothing_is_opened() {
    let special = |kind: u32, device: u32| {
        decide::decide_open(&Facts {
            kind,
            protocol: device,
            measured: Measured::Nothing as u32,
            row: Row::default(),
            ..opened()
        })
    };
    let device = |major: u32, minor: u32| (major << 20) | minor;
    let allowed = (Verdict::Allow, Reason::Authorized);
    let refused = (Verdict::Deny, Reason::UnlistedOpen);
    assert_eq!(special(DIRECTORY, 0), allowed);
    // null, zero, full, random, urandom.
    for minor in [3, 5, 7, 8, 9] {
        assert_eq!(special(CHARACTERS, device(1, minor)), allowed, "{minor}");
        assert_eq!(special(BLOCKS, device(1, minor)), refused, "{minor}");
        assert_eq!(special(CHARACTERS, device(2, minor)), refused, "{minor}");
    }
    // mem, port, kmsg; terminals.
    for number in [
        device(1, 1),
        device(1, 4),
        device(1, 11),
        device(5, 0),
        device(136, 0),
    ] {
        assert_eq!(special(CHARACTERS, number), refused, "{number}");
    }
    for kind in [PIPE, SOCKET, LINK, 0] {
        assert_eq!(special(kind, device(1, 3)), refused, "{kind:o}");
    }
}

#[test]
fn whoever_has_no_label_is_not_asked_and_the_host_is_not_either() {
    let nobody = Facts {
        label: Label::default(),
        ..opened()
    };
    for zone in [ZONE, ZONE_HOST] {
        let decision = decide::decide_open(&Facts { zone, ..nobody });
        assert_eq!(decision, (Verdict::Allow, Reason::Unlabelled));
    }
}

#[test]
fn an_observed_zone_opens_what_is_not_listed_and_says_so() {
    let observed = Facts {
        zone_mode: MODE_OBSERVE,
        zone_observe_until: NOW + 1,
        row: Row::default(),
        ..opened()
    };
    let decision = decide::decide_open(&observed);
    assert_eq!(decision, (Verdict::WouldDeny, Reason::UnlistedOpen));
    assert!(!decide::holds(&observed, decision));
    let unknown = Facts {
        measured: Measured::Unknown as u32,
        ..observed
    };
    let decision = decide::decide_open(&unknown);
    assert_eq!(decision, (Verdict::WouldDeny, Reason::NotKnown));
    assert!(!decide::holds(&unknown, decision));
    let revoked = Facts {
        tombstone: 1,
        ..observed
    };
    assert_eq!(decide::decide_open(&revoked).0, Verdict::Deny);
}

#[test]
fn the_label_says_who_opens_what_is_listed_only() {
    let label = Label {
        exec_id: LABEL_OPENS_LISTED | 5,
        ..opened().label
    };
    assert!(label.opens_listed());
    assert_eq!(label.execution(), 5);
    assert!(!opened().label.opens_listed());
    let none = Label {
        workload: 0,
        ..label
    };
    assert!(!none.opens_listed());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(20_000))]

    #[test]
    fn what_is_opened_is_listed(f in arbitrary(), file in 0usize..4) {
        let kind = [S_IFREG, S_IFREG, S_IFREG, f.kind][file];
        let f = Facts { operation: Operation::Open as u32, kind, ..f };
        let (verdict, reason) = decide::decide_open(&f);
        if decide::holds(&f, (verdict, reason)) {
            let written = Facts { measured: Measured::Written as u32, ..f };
            prop_assert_eq!(decide::decide_open(&written), decide::decide_written(&written));
        }
        if verdict != Verdict::Allow || reason == Reason::Unlabelled {
            return Ok(());
        }
        prop_assert!(f.label.present());
        prop_assert_eq!(f.tombstone, 0);
        // Nothing else that `arbitrary` makes is a type that passes.
        prop_assert_eq!(f.kind, S_IFREG);
        prop_assert_eq!(f.measured, Measured::Sha256 as u32);
        prop_assert_eq!(f.row.key.zone, f.zone);
        prop_assert_eq!(f.row.key.scope, f.label.workload);
        prop_assert_eq!(f.row.key.digest, f.digest);
        prop_assert!(f.row.roles & ROLES != 0);
        prop_assert!(f.row.not_before <= f.now && f.now < f.row.not_after);
    }
}

const PIPE: u32 = 0o010_000;
const CHARACTERS: u32 = 0o020_000;
const DIRECTORY: u32 = 0o040_000;
const BLOCKS: u32 = 0o060_000;
const LINK: u32 = 0o120_000;
const SOCKET: u32 = 0o140_000;
