//! The ledger: what is read accounts for every byte, and a restart learns the same from the same records.

use governor_core::{
    digest::Digest,
    lineage::{
        Begun, Entry, Found, GlassBroken, GlassEnded, Grant, HEADER, Head, Kind, Lost, Named,
        Notes, OwedStop, PolicyLoaded, Reached, Recovered, Resumed, Revocation, Scanned, Since,
        Start, TombstoneRecord, TrustChange, Unlocked, encode, hold, scan,
    },
};
use prost::Message as _;

use crate::{joined, parts};

/// The first byte says whether the rest is a file or the records of one.
pub fn check(bytes: &[u8]) -> bool {
    let Some((kind, rest)) = bytes.split_first() else {
        return false;
    };
    if *kind == 0 {
        return whole(rest);
    }
    let mut entries: Vec<Entry> = parts(rest)
        .into_iter()
        .filter_map(|record| Entry::decode(record).ok())
        .collect();
    for (sequence, entry) in (0..).zip(&mut entries) {
        let again = Entry::decode(entry.encode_to_vec().as_slice());
        assert_eq!(again.as_ref(), Ok(&*entry), "a record changes on its way");
        // No record is empty: each says of which layout it is.
        entry.schema = entry.schema.max(1);
        entry.sequence = sequence;
    }
    let records: Vec<Vec<u8>> = entries.iter().map(Entry::encode_to_vec).collect();
    let mut file = HEADER.to_vec();
    for batch in records.chunks(usize::from(*kind)) {
        file.extend(encode(batch));
    }
    let read = scan(&file).map(|scanned| scanned.entries);
    assert_eq!(read, Ok(entries.clone()), "what is written is read");
    whole(&file);
    learn(&entries);
    !entries.is_empty()
}

/// A file, and the ledger with all that a record can bring back.
pub fn seeds() -> Vec<Vec<u8>> {
    let records: Vec<Vec<u8>> = kinds()
        .into_iter()
        .zip(0_i64..)
        .map(|(kind, number)| {
            let entry = Entry {
                schema: 1,
                sequence: number.unsigned_abs(),
                boot_id: vec![number as u8 / 4; 16],
                boot_ns: 5_000_000_000,
                wall: 1_794_700_800 + number,
                kind: Some(kind),
            };
            entry.encode_to_vec()
        })
        .collect();
    let file = [&[0], &HEADER[..], &encode(&records)].concat();
    let all = [vec![3], joined(&records)].concat();
    vec![file, all]
}

/// A file is refused, or every byte of it is good or torn; and what is good is so by itself.
fn whole(file: &[u8]) -> bool {
    let Ok(scanned) = scan(file) else {
        return false;
    };
    assert_eq!(scanned.length + scanned.torn, file.len() as u64);
    assert_eq!(scanned.entries.len() as u64, scanned.head.size);
    assert_eq!(scanned.heads.len() as u64, scanned.head.size);
    assert_eq!(scanned.head_at(scanned.head.size), Some(scanned.head));
    assert_eq!(scanned.head_at(scanned.head.size + 1), None);
    let good = file.get(..scanned.length as usize).unwrap_or_default();
    match scan(good) {
        Ok(alone) => {
            assert_eq!((alone.head, alone.torn), (scanned.head, 0));
            assert_eq!(alone.entries, scanned.entries);
        }
        Err(error) => unreachable!("what is good is refused alone: {error}"),
    }
    noted(&scanned);
    !scanned.entries.is_empty()
}

/// A ledger goes on from every head it had, and from no other.
fn noted(scanned: &Scanned) {
    let size = scanned.head.size;
    for at in [0, size / 2, size] {
        let head = scanned.head_at(at);
        let notes = |head: Option<Head>| Notes {
            kernel: head,
            anchor: head,
            ..Notes::default()
        };
        assert_eq!(
            hold(&Found::Read(scanned), &notes(head)),
            None,
            "{at} of {size}"
        );
        let other = head.map(|head| Head {
            size: head.size + 1,
            digest: Digest::new([9; 32]),
        });
        assert!(hold(&Found::Read(scanned), &notes(other)).is_some());
    }
}

/// What was revoked stays so, and a generation is never given again.
fn learn(entries: &[Entry]) {
    let all = Recovered::from_entries(entries);
    let (some, _) = entries.split_at(entries.len() / 2);
    let earlier = Recovered::from_entries(some);
    assert!(earlier.tombstones.is_subset(&all.tombstones));
    assert!(earlier.generation <= all.generation);
    assert!(
        earlier
            .zones
            .keys()
            .all(|zone| all.zones.contains_key(zone))
    );
}

fn kinds() -> Vec<Kind> {
    let named = |name: &str| Named {
        name: name.to_owned(),
        number: 3,
        on_revoke: 4,
        leased: 2,
    };
    let buried = TombstoneRecord {
        zone: 3,
        digest: vec![9; 32],
    };
    let changed = |to: &str| {
        Kind::TrustChange(TrustChange {
            from: "trusted".to_owned(),
            to: to.to_owned(),
            reasons: vec!["ledger-missing".to_owned()],
        })
    };
    let owed = |workload| OwedStop {
        zone: 3,
        copies: OwedStop::WORKLOAD,
        workload,
        action: OwedStop::KILL,
        release: OwedStop::BY_HAND,
        ..OwedStop::default()
    };
    vec![
        Kind::Begun(Box::new(Begun {
            serial: 9,
            policy: vec![4; 32],
            zones: vec![named("agents")],
            tombstones: vec![buried.clone()],
            generation: 6,
            ..Begun::default()
        })),
        Kind::Start(Start {
            version: "0.1.0".to_owned(),
            gate: "fresh".to_owned(),
            object: vec![1; 32],
            anchored: true,
            keeps_locks: true,
            since: Some(Since {
                sequence: 41,
                boot_id: vec![6; 16],
                boot_ns: 7_000_000_000,
                wall: 1_794_700_000,
            }),
        }),
        Kind::PolicyLoaded(PolicyLoaded {
            serial: 10,
            digest: vec![5; 32],
            workloads: vec![named("agents/planner")],
            uid: Some(0),
            ..PolicyLoaded::default()
        }),
        Kind::Grant(Grant {
            rows: 12,
            generation: 7,
            ..Grant::default()
        }),
        Kind::Revocation(Revocation {
            target: format!("digest {}", Digest::of(b"x")),
            tombstones: vec![buried],
            ..Revocation::default()
        }),
        changed("locked"),
        Kind::Unlocked(Unlocked {
            cleared: vec!["clock-stepped".to_owned()],
            ..Unlocked::default()
        }),
        Kind::GlassBroken(GlassBroken {
            reason: "the TPM died".to_owned(),
            until: 9_000_000_000,
            ..GlassBroken::default()
        }),
        Kind::GlassEnded(GlassEnded {
            at: 8_000_000_000,
            ..GlassEnded::default()
        }),
        Kind::Lost(Lost {
            effect: "hold".to_owned(),
            error: "it forks".to_owned(),
            owed: vec![owed(7), owed(9)],
        }),
        Kind::Reached(Reached {
            stops: vec![owed(7)],
        }),
        Kind::Resumed(Resumed {
            target: "zone agents".to_owned(),
            ..Resumed::default()
        }),
    ]
}
