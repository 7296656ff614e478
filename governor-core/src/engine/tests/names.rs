//! However many names there are, they reach the ledger and come back from it.

use proptest::prelude::*;

use super::{
    super::*,
    model::{Host, SECOND},
    policies::{policy_of, signed_policy_edited},
    trust::{trusted, unlock},
};
use crate::lineage::{Flaw, Head};

/// Names as long as they may be.
fn longest(n: usize) -> String {
    format!("w{n:0>62}")
}

/// A policy of so many workloads in the zone with the longest name there may be.
fn policy_of_many(serial: u64, from: usize, count: usize) -> Arc<VerifiedPolicy> {
    let zone = format!("z{}", "y".repeat(62));
    let mut tables = format!(
        "[zone.{zone}]\ncgroup = \"governed.slice/governed-many.slice\"\non_revoke = \"freeze\"\n"
    );
    for n in from..from + count {
        let name = longest(n);
        tables.push_str(&format!("[workload.{name}]\nzone = \"{zone}\"\n"));
    }
    signed_policy_edited(serial, |text| {
        text.replace("[set]\n", &format!("{tables}[set]\n"))
    })
}

fn offer(host: &mut Host, policy: Arc<VerifiedPolicy>) {
    host.feed(Input::PolicyOffered {
        policy,
        users: BTreeMap::new(),
        uid: Some(0),
    })
    .unwrap();
}

/// The ledger alone says what the engine knows.
fn all_is_written(host: &Host) {
    let (recovered, ids) = (host.disk.recovered(), host.engine.ids());
    assert_eq!(recovered.zones, ids.zones);
    assert_eq!(recovered.workloads, ids.workloads);
    assert_eq!(recovered.tombstones, host.engine.tombstones);
    assert_eq!(recovered.highest, host.engine.highest());
    for (name, said) in &recovered.on_revoke {
        assert_eq!(*said, host.engine.fates.number(name), "{name}");
    }
    for zone in ids.zones.keys() {
        let said = recovered.leased.get(zone).copied();
        assert_eq!(said.unwrap_or(0), host.engine.fates.leased_number(zone));
    }
    assert_eq!(
        recovered.on_revoke.len(),
        ids.zones.len() + ids.workloads.len()
    );
}

/// The ledger takes no more records, and an operator begins another.
fn begin_another(host: &mut Host) {
    host.fail = (host.performed..host.performed + 40).collect();
    host.feed(Input::LedgerBroken(Broken {
        flaw: Flaw::Missing,
        detail: "it was removed".into(),
        last: Head::EMPTY,
    }))
    .unwrap();
    host.fail.clear();
    unlock(host).unwrap();
    host.now += SECOND;
    host.feed(Input::Tick).unwrap();
}

#[test]
fn the_largest_policy_loads_and_so_does_another_after_it() {
    // As many as a policy may have, beside those that every one here has.
    const MOST: usize = 4_096 - 2;
    let mut host = trusted();
    offer(&mut host, policy_of_many(2, 0, MOST));
    all_is_written(&host);
    offer(&mut host, policy_of_many(3, MOST, MOST));
    all_is_written(&host);
    assert_eq!(host.engine.ids().workloads.len(), 2 + 2 * MOST);
    begin_another(&mut host);
    all_is_written(&host);
    let known = host.disk.recovered();
    host.restart_with(known);
    offer(&mut host, policy_of(4));
    let names = |kind: &Kind| {
        if let Kind::PolicyLoaded(loaded) = kind {
            Some(loaded.zones.len() + loaded.workloads.len())
        } else {
            None
        }
    };
    let last = host.disk.records().iter().rev().find_map(names);
    assert_eq!(
        last,
        Some(4),
        "only its own: the others stand in the ledger"
    );
    all_is_written(&host);
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(16) })]

    #[test]
    fn any_number_of_names_and_tombstones_goes_into_another_ledger(
        zones in 0usize..3_000,
        workloads in 0usize..40_000,
        tombstones in 0u32..16_384,
    ) {
        let mut host = trusted();
        let mut known = host.disk.recovered();
        for n in 0..zones {
            known.on_revoke.insert(longest(n), 4);
        }
        for n in 0..workloads {
            let name = format!("{}/{}", longest(n % 120), longest(n));
            known.on_revoke.insert(name, 2);
        }
        host.engine.fates = Fates::found(&known);
        let ids = &mut host.engine.ids;
        for name in known.on_revoke.keys() {
            let numbers = if name.contains('/') { &mut ids.workloads } else { &mut ids.zones };
            let next = numbers.len() as u32 + 1;
            numbers.entry(name.clone()).or_insert(next);
        }
        for n in 0..tombstones {
            let digest = *Digest::of(&n.to_be_bytes()).bytes();
            host.engine.tombstones.insert(TombstoneKey { zone: n, reserved: 0, digest });
        }
        begin_another(&mut host);
        all_is_written(&host);
        prop_assert_eq!(host.engine.trust().name(), "degraded");
    }
}

#[test]
fn a_number_that_was_written_down_is_given_to_nobody_else() {
    let named = |serial, name: &str| {
        let table = format!("[workload.{name}]\nzone = \"agents\"\n");
        signed_policy_edited(serial, |text| {
            text.replace("[set]\n", &format!("{table}[set]\n"))
        })
    };
    // Wherever it fails after the record.
    for position in 1..8 {
        let mut host = trusted();
        host.fail = [host.performed + position].into();
        let failed = host.feed(Input::PolicyOffered {
            policy: named(2, "first"),
            users: BTreeMap::new(),
            uid: Some(0),
        });
        host.fail.clear();
        drop(failed);
        offer(&mut host, named(3, "second"));
        let numbers = host.disk.recovered().workloads;
        let given: BTreeSet<u32> = numbers.values().copied().collect();
        assert_eq!(given.len(), numbers.len(), "{position}: {numbers:?}");
        // And the next daemon takes what this one took.
        host.restart();
        offer(&mut host, named(4, "third"));
    }
}
