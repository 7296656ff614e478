//! What the kernel is given for a policy.

mod common;

use std::collections::{BTreeMap, BTreeSet};

use common::{NOW, edited, example_text, with_text};
use governor_common::{
    names::{
        EGRESS_ROWS, SCOPE_START, SCOPE_ZONE, STARTER_OPERATOR, TABLE_ROWS, WORKLOAD_SURVIVAL,
        ZONE_HOST, ZONE_UNKNOWN,
    },
    row::{
        CLASS_ATTESTED, MEMORY_WX, MODE_ENFORCE, MODE_OBSERVE, ROLE_EXECUTABLE, ROLE_LIBRARY,
        ROLE_SCRIPT, Row,
    },
};
use governor_core::{
    policy::{CompileError, Compiled, Epochs, Ids, Policy, Taken, Unlabelled, compile},
    time::{BootTime, ClockReading, Span},
};
use proptest::prelude::*;

const CLOCK: ClockReading = ClockReading {
    wall: NOW,
    boot: BootTime(1_000_000_000_000),
    suspended: Span(0),
};
const EPOCHS: Epochs = Epochs {
    attested: 11,
    policy: 22,
};

fn users() -> BTreeMap<String, u32> {
    BTreeMap::from([("agent".to_owned(), 990)])
}

fn compiled(policy: &Policy) -> Compiled {
    let mut ids = Ids::default();
    ids.assign(policy);
    compile(policy, &ids, &users(), CLOCK, EPOCHS, 3, &BTreeMap::new()).expect("compiles")
}

fn find(compiled: &Compiled, scope: u32, role: u32) -> Vec<&Row> {
    compiled
        .rows
        .iter()
        .filter(|r| r.key.scope == scope && r.roles == role)
        .collect()
}

#[test]
fn the_example_becomes_rows() {
    let policy = with_text(&example_text()).expect("lints");
    let compiled = compiled(&policy);
    assert_eq!(
        compiled.zone_paths,
        [("/governed.slice/governed-agents.slice".to_owned(), 1)]
    );
    assert_eq!(compiled.rows.len(), 1 + 1 + 6);
    assert!(compiled.rows.is_sorted_by_key(|row| row.key));

    let [zone] = find(&compiled, SCOPE_ZONE, 0)[..] else {
        panic!("one zone")
    };
    assert_eq!(
        (zone.key.zone, zone.key.digest, zone.workload),
        (1, [0; 32], 0)
    );
    assert_eq!(
        (zone.class, zone.mode, zone.memory),
        (CLASS_ATTESTED, MODE_ENFORCE, MEMORY_WX)
    );
    assert_eq!((zone.epoch, zone.generation), (11, 3));
    assert_eq!(zone.families, 1 << 2 | 1 << 10);
    // Validity began before this boot.
    assert_eq!(zone.not_before, 0);
    let left = u64::try_from(policy.validity().until.0 - NOW.0).expect("ahead");
    assert_eq!(zone.not_after, CLOCK.boot.0 + left * 1_000_000_000);

    let [start] = find(&compiled, SCOPE_START, ROLE_EXECUTABLE)[..] else {
        panic!("one start")
    };
    assert_eq!(start.workload, 1);
    assert_eq!(start.starters, [STARTER_OPERATOR, 0, 0, 0, 0, 0, 0, 0]);
    assert_eq!(start.users, [991, 0, 0, 0]);
    assert!(start.not_after < zone.not_after);
    assert_eq!(find(&compiled, 1, ROLE_EXECUTABLE).len(), 1);
    assert_eq!(find(&compiled, 1, ROLE_LIBRARY).len(), 5);

    let [(key, bits, row)] = compiled.egress[..] else {
        panic!("one destination")
    };
    assert_eq!(
        (key.generation, key.workload, key.protocol, key.family),
        (3, 1, 6, 2)
    );
    assert_eq!((&key.address[..4], bits), (&[10, 20, 0, 0][..], 16));
    assert_eq!(key.address[4..], [0; 12]);
    assert!(row.allows(443) && !row.allows(80) && row.count == 1);
}

#[test]
fn roles_of_one_content_are_joined_within_a_scope() {
    let policy = edited("scripts = []", "scripts = [\"planner\"]").expect("lints");
    let compiled = compiled(&policy);
    assert_eq!(
        find(&compiled, SCOPE_START, ROLE_EXECUTABLE | ROLE_SCRIPT).len(),
        1
    );
    assert_eq!(find(&compiled, 1, ROLE_EXECUTABLE | ROLE_SCRIPT).len(), 1);
    let all = "libraries = [\"planner\"]\nscripts = [\"planner\"]";
    let policy = edited("libraries = [\"os-libraries\"]\nscripts = []", all).expect("lints");
    let compiled = self::compiled(&policy);
    assert_eq!(
        find(&compiled, 1, ROLE_EXECUTABLE | ROLE_SCRIPT | ROLE_LIBRARY).len(),
        1
    );
    assert_eq!(
        find(&compiled, SCOPE_START, ROLE_EXECUTABLE | ROLE_SCRIPT).len(),
        1
    );
}

#[test]
fn only_what_policy_lets_be_observed_is_observed() {
    let until = BootTime(77);
    let observe = BTreeMap::from([("agents".to_owned(), until), ("nowhere".to_owned(), until)]);
    let mode = |policy: &Policy| {
        let mut ids = Ids::default();
        ids.assign(policy);
        let compiled = compile(policy, &ids, &users(), CLOCK, EPOCHS, 3, &observe);
        compiled
            .expect("compiles")
            .rows
            .iter()
            .map(|row| row.mode)
            .collect::<BTreeSet<_>>()
    };
    let policy = with_text(&example_text()).expect("lints");
    assert_eq!(mode(&policy), BTreeSet::from([MODE_OBSERVE]));
    let policy = edited("observe_up_to = \"30m\"", "").expect("lints");
    assert_eq!(mode(&policy), BTreeSet::from([MODE_ENFORCE]));
}

#[test]
fn users_are_found_or_named() {
    let policy = edited("user = [\"agent\"]", "user = [\"agent\", \"990\", \"0\"]").expect("lints");
    let row = *find(&compiled(&policy), SCOPE_START, ROLE_EXECUTABLE)[0];
    assert_eq!(row.users, [1, 991, 0, 0]);

    let mut ids = Ids::default();
    ids.assign(&policy);
    let none = BTreeMap::new();
    let error = compile(&policy, &ids, &none, CLOCK, EPOCHS, 3, &BTreeMap::new());
    let unknown = CompileError::UnknownUser {
        workload: "planner".to_owned(),
        user: "agent".to_owned(),
    };
    assert_eq!(error, Err(unknown));
    let nobody = BTreeMap::from([("agent".to_owned(), u32::MAX)]);
    let error = compile(&policy, &ids, &nobody, CLOCK, EPOCHS, 3, &BTreeMap::new());
    assert!(matches!(error, Err(CompileError::NobodyUser { .. })));
}

#[test]
fn numbers_stay_and_are_never_given_twice() {
    let first = with_text(&example_text()).expect("lints");
    let text = example_text()
        .replace("planner]", "aaa]")
        .replace("zone.agents", "zone.a-zone");
    let second = with_text(&text.replace("zone = \"agents\"", "zone = \"a-zone\"")).expect("lints");
    let mut ids = Ids::default();
    ids.assign(&first);
    ids.assign(&second);
    assert_eq!(ids.zone("agents"), Some(1));
    assert_eq!(ids.zone("a-zone"), Some(2));
    assert_eq!(ids.workload("agents", "planner"), Some(1));
    assert_eq!(ids.workload("a-zone", "aaa"), Some(2));
    let before = ids.clone();
    ids.assign(&first);
    assert_eq!(ids, before);
}

#[test]
fn a_number_whose_name_was_lost_is_nobody_elses() {
    let policy = with_text(&example_text()).expect("lints");
    let mut ids = Ids::default();
    for number in [4, 2, 0, ZONE_HOST, ZONE_UNKNOWN] {
        ids.taken.zone(number);
    }
    for number in [7, SCOPE_START, WORKLOAD_SURVIVAL] {
        ids.taken.workload(number);
    }
    ids.assign(&policy);
    assert_eq!(ids.zone("agents"), Some(5));
    assert_eq!(ids.workload("agents", "planner"), Some(8));
}

#[test]
fn numbers_and_epochs_that_mean_something_else_are_refused() {
    let policy = with_text(&example_text()).expect("lints");
    let none = BTreeMap::new();
    let with = |zone: u32, workload: u32, epochs: Epochs, generation: u32| {
        let ids = Ids {
            zones: BTreeMap::from([("agents".to_owned(), zone)]),
            workloads: BTreeMap::from([("agents/planner".to_owned(), workload)]),
            taken: Taken::default(),
        };
        compile(&policy, &ids, &users(), CLOCK, epochs, generation, &none)
    };
    assert!(with(1, 1, EPOCHS, 1).is_ok());
    for id in [0, SCOPE_ZONE, SCOPE_START] {
        assert!(matches!(
            with(id, 1, EPOCHS, 1),
            Err(CompileError::ReservedId { .. })
        ));
        assert!(matches!(
            with(1, id, EPOCHS, 1),
            Err(CompileError::ReservedId { .. })
        ));
    }
    let zero = Epochs {
        attested: 0,
        policy: 1,
    };
    assert_eq!(with(1, 1, zero, 1), Err(CompileError::NoEpoch));
    assert_eq!(with(1, 1, EPOCHS, 0), Err(CompileError::NoGeneration));
    let missing = compile(&policy, &Ids::default(), &users(), CLOCK, EPOCHS, 1, &none);
    assert!(matches!(missing, Err(CompileError::NoZoneId { .. })));
    let mut ids = Ids::default();
    ids.assign(&policy);
    ids.zones.insert("other".to_owned(), 1);
    let twice = compile(&policy, &ids, &users(), CLOCK, EPOCHS, 1, &none);
    assert!(matches!(twice, Err(CompileError::IdTwice { .. })));
}

/// Tables of a policy and rules of a workload, to be put in any order.
fn tables() -> Vec<String> {
    let rules = [
        "{ to = \"10.0.0.0/8\", ports = [\"443\"], protocol = \"tcp\" }",
        "{ to = \"10.20.0.0/16\", ports = [\"80\", \"8000-8100\"], protocol = \"tcp\" }",
        "{ to = \"10.20.0.0/16\", ports = [\"53\"], protocol = \"udp\" }",
        "{ to = \"2001:db8::/32\", ports = [\"443\"], protocol = \"tcp\" }",
    ];
    let text = example_text().replace(
        "{ to = \"10.20.0.0/16\", ports = [\"443\"], protocol = \"tcp\" }",
        &rules.join(", "),
    );
    let more = "[zone.b]\ncgroup = \"governed.slice/governed-b.slice\"\n\
        [workload.worker]\nzone = \"agents\"\nscripts = [\"os-base\"]\nstarted_by = [\"planner\", \
        \"worker\"]\nuser = [\"0\"]\n";
    let mut tables: Vec<String> = Vec::new();
    for line in format!("{text}{more}").lines() {
        if line.starts_with('[') {
            tables.push(String::new());
        }
        if let Some(table) = tables.last_mut() {
            table.push_str(&format!("{line}\n"));
        }
    }
    tables
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn order_never_matters(shuffled in Just(tables()).prop_shuffle(), turn in 0usize..4) {
        let straight = with_text(&tables().concat()).expect("lints");
        let text: String = shuffled.into_iter().map(|table| {
            let mut lines: Vec<String> = table.lines().map(str::to_owned).collect();
            let last = lines.len();
            lines[1..last].reverse();
            for line in &mut lines {
                if let Some((head, tail)) = line.clone().split_once("egress = [") {
                    let inner = tail.trim_end_matches(']');
                    let mut rules: Vec<&str> = inner.split("}, ").collect();
                    rules.rotate_left(turn);
                    let rules: Vec<_> =
                        rules.iter().map(|rule| format!("{} }}", rule.trim_end_matches([' ', '}']))).collect();
                    *line = format!("{head}egress = [{}]", rules.join(", "));
                }
            }
            lines.join("\n") + "\n"
        }).collect();
        let turned = with_text(&text).expect("lints");
        prop_assert_eq!(compiled(&straight), compiled(&turned));
        let compiled = compiled(&turned);
        prop_assert_eq!(compiled.rows.len(), 2 + 2 + 10 + 5);
        prop_assert_eq!(compiled.egress.len(), 4);
    }
}

#[test]
fn what_lints_fits() {
    let compiled = compiled(&with_text(&tables().concat()).expect("lints"));
    assert!(compiled.rows.len() <= usize::try_from(TABLE_ROWS).expect("fits"));
    assert!(compiled.egress.len() <= usize::try_from(EGRESS_ROWS / 2).expect("fits"));
    // 10.20.0.0/16 over TCP carries what 10.0.0.0/8 allows too.
    let narrow = compiled
        .egress
        .iter()
        .find(|(k, bits, _)| *bits == 16 && k.protocol == 6);
    let (_, _, row) = narrow.expect("there");
    assert!(row.allows(443) && row.allows(80) && row.allows(8_050) && !row.allows(53));
}

#[test]
fn stopping_what_has_no_label_is_asked_for_in_so_many_words() {
    for (text, said) in [
        ("unlabelled = \"kill\"", Unlabelled::Kill),
        ("unlabelled = \"freeze\"", Unlabelled::Freeze),
        ("unlabelled = \"leave\"", Unlabelled::Leave),
        ("", Unlabelled::Leave),
    ] {
        let policy = edited("observe_up_to = \"30m\"", text).expect("lints");
        let zone = policy.zone("agents").expect("a zone");
        assert_eq!(zone.unlabelled, said, "{text}");
        assert_eq!(policy.warnings(), []);
    }
    let list = edited("observe_up_to = \"30m\"", "unlabelled = \"quarantine\"");
    let list = list.expect_err("refused").to_string();
    assert!(list.contains("unknown value `quarantine`"), "{list}");
}

#[test]
fn thawing_by_itself_is_asked_for_in_so_many_words() {
    for (text, thaw) in [("thaw = true", true), ("thaw = false", false), ("", false)] {
        let policy = edited("observe_up_to = \"30m\"", text).expect("lints");
        assert_eq!(policy.zone("agents").expect("a zone").thaw, thaw, "{text}");
        assert_eq!(policy.warnings(), []);
    }
}
