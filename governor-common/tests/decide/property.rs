//! An allow implies every condition, restated here independently.

use governor_common::{
    Facts, Measured, Operation, Reason, Verdict, decide,
    row::{
        CLASS_ATTESTED, CLASS_POLICY, MODE_ENFORCE, MODE_OBSERVE, ROLE_EXECUTABLE,
        ROLE_INTERPRETER, ROLE_LIBRARY,
    },
};
use proptest::prelude::*;

use crate::fixture::*;

pub(crate) fn arbitrary() -> impl Strategy<Value = Facts> {
    // Start from what would be allowed and change a random part of it, so that both sides of every
    // condition are met often.
    let base = prop_oneof![
        Just(good_exec()),
        Just(good_connect()),
        Just(labelled(Operation::Map, ROLE_LIBRARY)),
        Just(labelled(Operation::Send, ROLE_EXECUTABLE)),
        Just(interpreter()),
        Just(opened()),
        Just(named_peer()),
        Just(neighbour()),
        Just(Facts {
            script_workload: WORKLOAD,
            ..labelled(Operation::Map, ROLE_INTERPRETER)
        }),
    ];
    (
        base,
        proptest::collection::vec((0usize..21, 0u64..12), 0..4),
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
                    13 => f.measured = [0x71, 0x72, 0x73, 0x74, 0x75, 0x76, 0][small as usize % 7],
                    14 => f.uid = small * 100,
                    15 => f.row.roles = small,
                    16 => f.zone_class = [CLASS_ATTESTED, CLASS_POLICY, 0][small as usize % 3],
                    17 => f.script_workload = small,
                    18 => f.kind = [b'/', b'.', b'-', b'+', b'a', 0][small as usize % 6].into(),
                    19 => f.port = small,
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
            Some(Operation::Open) => decide::decide_open,
            Some(Operation::Peer) => decide::decide_peer,
            _ => decide::decide_send,
        };
        let (verdict, reason) = decide(&f);
        let of_files = matches!(operation, Some(Operation::Execute | Operation::Map | Operation::Open));
        if of_files && decide::holds(&f, (verdict, reason)) {
            let written = Facts { measured: Measured::Written as u32, ..f };
            prop_assert_eq!(decide(&written), decide::decide_written(&written));
            prop_assert_eq!(decide(&written).1, Reason::BeingWritten);
        }
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
                let interprets = f.script_workload != 0
                    && f.row.key.scope == f.script_workload
                    && [u32::from(b'/'), u32::from(b'.')].contains(&f.kind)
                    && f.row.roles & ROLE_INTERPRETER != 0;
                prop_assert!(f.row.roles & ROLE_EXECUTABLE != 0 || interprets);
                prop_assert!(f.row.users.contains(&(f.uid + 1)));
            }
            Some(Operation::Map) => {
                prop_assert_eq!(f.measured, Measured::Sha256 as u32);
                let itself = f.script_workload == f.label.workload
                    && f.row.roles & ROLE_INTERPRETER != 0;
                prop_assert!(f.row.roles & (ROLE_LIBRARY | ROLE_EXECUTABLE) != 0 || itself);
                prop_assert_eq!(f.row.key.scope, f.label.workload);
            }
            Some(Operation::Open) => {
                prop_assert_eq!(f.measured, Measured::Sha256 as u32);
                prop_assert_eq!(f.row.key.scope, f.label.workload);
            }
            Some(Operation::Connect) => prop_assert_eq!(f.destination_listed, 1),
            Some(Operation::Peer) => {
                prop_assert!(f.destination_listed == 1 || f.port == f.label.zone);
                prop_assert_eq!(f.row.key.scope, f.label.workload);
            }
            _ => prop_assert!(f.label.present()),
        }
    }
}
