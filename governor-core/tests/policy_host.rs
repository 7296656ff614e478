//! The whole host as a zone: what a policy must say, and what becomes of it.

mod common;

use std::collections::BTreeMap;

use common::{NOW, example_text, with_text};
use governor_common::{
    names::{SCOPE_START, SCOPE_SURVIVAL, SCOPE_ZONE, WORKLOAD_SURVIVAL, ZONE_HOST},
    row::{MODE_ENFORCE, MODE_OBSERVE, ROLE_EXECUTABLE, ROLE_LIBRARY, Row},
};
use governor_core::{
    policy::{Compiled, Diagnostics, Epochs, Ids, Policy, compile},
    time::{BootTime, ClockReading, Span},
};

const CLOCK: ClockReading = ClockReading {
    wall: NOW,
    boot: BootTime(1_000_000_000_000),
    suspended: Span(0),
};

/// The example with these tables before its risks.
fn with(tables: &str) -> Result<Policy, Diagnostics> {
    let text = example_text().replacen("[risk.probing]", &format!("{tables}\n[risk.probing]"), 1);
    with_text(&text)
}

const HOST: &str = "[zone.host]\ncgroup = \"/\"\nrequires = \"policy\"\n";

fn compiled(policy: &Policy, ids: &mut Ids) -> Compiled {
    ids.assign(policy);
    let users = BTreeMap::from([("agent".to_owned(), 990)]);
    let epochs = Epochs {
        attested: 11,
        policy: 22,
    };
    compile(policy, ids, &users, CLOCK, epochs, 3, &BTreeMap::new()).expect("compiles")
}

fn complaint(tables: &str) -> String {
    with(tables).expect_err("refused").to_string()
}

#[test]
fn it_becomes_a_zone_without_a_path_and_rows_without_an_end() {
    let text = example_text()
        .replacen("[risk.probing]", &format!("{HOST}\n[risk.probing]"), 1)
        .replacen(
            "[survival]",
            "[survival]\negress = [{ to = \"10.9.0.0/16\", ports = [\"53\"], protocol = \"udp\" }]",
            1,
        );
    let policy = with_text(&text).expect("lints");
    let mut ids = Ids::default();
    let compiled = compiled(&policy, &mut ids);
    assert_eq!(ids.zone("host"), Some(ZONE_HOST));
    assert_eq!(ids.zone("agents"), Some(1));
    assert!(compiled.zone_paths.iter().all(|(_, zone)| *zone == 1));
    let of_host: Vec<_> = compiled
        .rows
        .iter()
        .filter(|row| row.key.zone == ZONE_HOST)
        .collect();
    let zone = of_host.iter().find(|row| row.key.scope == SCOPE_ZONE);
    assert_eq!(zone.expect("a row of its own").mode, MODE_ENFORCE);
    let survivors: Vec<_> = of_host
        .iter()
        .filter(|row| row.key.scope == SCOPE_SURVIVAL)
        .collect();
    assert_eq!(survivors.len(), policy.survival().digests().len());
    for row in survivors {
        let exec = policy.survival().exec.iter();
        let is_exec = exec.clone().any(|digest| *digest.bytes() == row.key.digest);
        assert_eq!(row.roles & ROLE_EXECUTABLE != 0, is_exec);
        assert!(row.roles & (ROLE_EXECUTABLE | ROLE_LIBRARY) != 0);
        // What another reader of the row could take for a grant is not there.
        assert_eq!(
            (row.class, row.epoch, row.not_after, row.workload),
            (0, 0, 0, 0)
        );
    }
    assert!(of_host.iter().all(|row| row.key.scope != SCOPE_START));
    let rules = compiled.egress.iter();
    assert_eq!(
        rules
            .filter(|(key, _, _)| key.workload == WORKLOAD_SURVIVAL)
            .count(),
        1
    );
}

#[test]
fn a_host_that_is_observed_never_begins_to_enforce_by_itself() {
    let observed = HOST.replace("requires", "mode = \"observe\"\nrequires");
    let compiled = compiled(&with(&observed).expect("lints"), &mut Ids::default());
    let zone = |row: &&Row| row.key.zone == ZONE_HOST && row.key.scope == SCOPE_ZONE;
    let row = compiled.rows.iter().find(zone).expect("a row of its own");
    assert_eq!((row.mode, row.observe_until), (MODE_OBSERVE, u64::MAX));
}

#[test]
fn a_name_that_comes_later_gets_a_number_below_the_reserved_ones() {
    let mut ids = Ids::default();
    compiled(&with(HOST).expect("lints"), &mut ids);
    let more = format!("{HOST}\n[zone.later]\ncgroup = \"governed.slice/governed-later.slice\"\n");
    let compiled = compiled(&with(&more).expect("lints"), &mut ids);
    assert_eq!(ids.zone("later"), Some(2));
    assert_eq!(compiled.zone_paths.len(), 2);
}

#[test]
fn without_it_nothing_of_the_survival_set_reaches_the_kernel() {
    let compiled = compiled(&with("").expect("lints"), &mut Ids::default());
    assert!(compiled.rows.iter().all(|row| row.key.zone != ZONE_HOST));
}

#[test]
fn it_has_one_name_and_one_place() {
    for (tables, why) in [
        ("[zone.all]\ncgroup = \"/\"\n", "belong together"),
        (
            "[zone.host]\ncgroup = \"governed.slice/governed-host.slice\"\n",
            "belong together",
        ),
    ] {
        let list = complaint(tables);
        assert!(list.contains(why), "{list}");
    }
}

#[test]
fn what_has_no_label_keeps_the_host_alive_and_is_left_alone() {
    for word in ["freeze", "kill"] {
        let list =
            complaint(&HOST.replace("requires", &format!("unlabelled = \"{word}\"\nrequires")));
        assert!(list.contains("cannot be"), "{list}");
    }
    with(&HOST.replace("requires", "unlabelled = \"leave\"\nrequires")).expect("lints");
}

#[test]
fn a_host_where_nothing_survives_is_refused() {
    let text = example_text().replacen("[risk.probing]", &format!("{HOST}\n[risk.probing]"), 1);
    let cut = text.split("[survival]").next().expect("a start").to_owned();
    let list = with_text(&cut).expect_err("refused").to_string();
    assert!(list.contains("lists nothing to keep it alive"), "{list}");
}

#[test]
fn what_survives_is_no_workload() {
    let list = complaint(&format!(
        "{HOST}\n[workload.shell]\nzone = \"host\"\nexec = [\"os-base\"]\nuser = [\"agent\"]\n\
         started_by = [\"operator\"]\n"
    ));
    assert!(list.contains("which [survival] lists too"), "{list}");
}

#[test]
fn survival_has_a_set_for_each_role() {
    let text = example_text();
    let own = text
        .rfind("scripts = []")
        .expect("survival is the last table");
    let listed = |value: &str| format!("{}scripts = {value}\n", &text[..own]);
    let policy = with_text(&listed("[\"os-base\"]")).expect("lints");
    assert_eq!(policy.survival().scripts, policy.survival().exec);
    assert!(!policy.survival().scripts.is_empty());
    let refused = with_text(&listed("[\"os-bas\"]")).expect_err("no such set");
    assert!(
        refused.to_string().contains("unknown set `os-bas`"),
        "{refused}"
    );
    let refused = with_text(&listed("\"os-base\"")).expect_err("not an array");
    assert_eq!(refused.errors(), 1, "{refused}");
}
