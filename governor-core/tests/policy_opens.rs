//! What workloads may open, as policies list it and the kernel is given it.

mod common;

use common::{bundle, edited, example, example_text, rows, with_text};
use governor_common::{
    names::{SCOPE_START, SCOPE_ZONE},
    row::{OPENS_LISTED, ROLE_DATA, ROLES, Row},
};
use governor_core::{
    digest::Digest,
    policy::{Opens, Policy, parse},
};

const SCRIPTS: &str = "scripts = []";
const MEMORY: &str = "memory = \"w^x\"";

/// The example, where the zone and its workload say this.
fn opening(zone: &str, workload: &str) -> Policy {
    let text = example_text();
    assert!(text.contains(SCRIPTS) && text.contains(MEMORY));
    let text = text.replacen(MEMORY, &format!("{MEMORY}\n{zone}"), 1);
    let text = text.replacen(SCRIPTS, &format!("{SCRIPTS}\n{workload}"), 1);
    with_text(&text).expect("lints")
}

#[test]
fn the_stricter_of_zone_and_workload_says_what_is_opened() {
    for (zone, workload, expected) in [
        ("", "", Opens::Any),
        ("opens = \"any\"", "opens = \"any\"", Opens::Any),
        ("opens = \"listed\"", "", Opens::Listed),
        ("opens = \"listed\"", "opens = \"any\"", Opens::Listed),
        ("", "opens = \"listed\"", Opens::Listed),
        ("opens = \"any\"", "opens = \"listed\"", Opens::Listed),
    ] {
        let policy = opening(zone, workload);
        let planner = policy.workload("planner").expect("a workload");
        assert_eq!(planner.opens, expected, "{zone}, {workload}");
        let flagged = |row: &Row| row.roles & OPENS_LISTED != 0;
        let all = rows(&policy);
        let (of_zone, listed): (Vec<Row>, Vec<Row>) =
            all.iter().partition(|row| row.key.scope == SCOPE_ZONE);
        assert!(of_zone.iter().all(|row| row.roles == 0));
        // Whatever a task becomes the workload by says it.
        let says = expected == Opens::Listed;
        assert!(listed.iter().any(|row| row.key.scope == SCOPE_START));
        assert!(listed.iter().all(|row| flagged(row) == says), "{zone}");
    }
}

#[test]
fn data_is_opened_and_nothing_else() {
    let policy = opening(
        "",
        "opens = \"listed\"\ndata = [\"os-base\", \"os-libraries\"]",
    );
    assert_eq!(policy.warnings(), []);
    let planner = policy.workload("planner").expect("a workload");
    let all = rows(&policy);
    let data: Vec<&Row> = all
        .iter()
        .filter(|row| row.roles & ROLE_DATA != 0)
        .collect();
    assert_eq!(data.len(), planner.data.len());
    for row in &data {
        assert_eq!(row.key.scope, row.workload, "nobody starts it");
    }
    // In no other role, but for what is also a library.
    let only = data.iter().filter(|row| row.roles & ROLES == ROLE_DATA);
    assert_eq!(
        only.count(),
        planner.data.difference(&planner.libraries).count()
    );
    assert!(planner.digests().is_superset(&planner.data));
}

#[test]
fn data_that_says_nothing_and_words_that_are_none_are_said() {
    let idle = edited(SCRIPTS, "scripts = []\ndata = [\"os-base\"]").expect("lints");
    let warnings: Vec<String> = idle.warnings().iter().map(ToString::to_string).collect();
    assert!(
        warnings
            .iter()
            .any(|warning| warning.contains("`data` of workload `planner` has no effect")),
        "{warnings:?}"
    );
    for (from, to) in [
        (SCRIPTS, "scripts = []\nopens = \"lisetd\""),
        (MEMORY, "memory = \"w^x\"\nopens = \"lisetd\""),
    ] {
        let said = edited(from, to).expect_err("refused").to_string();
        assert!(said.contains("did you mean `listed`?"), "{said}");
    }
    let said = edited(SCRIPTS, "scripts = []\ndata = [\"os-bas\"]").expect_err("refused");
    assert!(
        said.to_string().contains("did you mean `os-base`?"),
        "{said}"
    );
}

#[test]
fn only_data_lists_empty_files() {
    let empty = format!("{}  /usr/lib/python3/__init__.py\n", Digest::of(b""));
    let with = |table: &str, key: &str| {
        let text = example_text().replacen("[set]\n", "[set]\nempty = \"sets/empty.sha256\"\n", 1);
        let text = if table.is_empty() {
            text.replacen(
                SCRIPTS,
                &format!("{SCRIPTS}\nopens = \"listed\"\n{key} = [\"empty\"]"),
                1,
            )
        } else {
            let (before, after) = text.split_once(table).expect("the example has it");
            let (key_at, rest) = after
                .split_once(&format!("{key} = ["))
                .expect("it has the key");
            format!("{before}{table}{key_at}{key} = [\"empty\", {rest}")
                .replace("\"empty\", ]", "\"empty\"]")
        };
        let mut files = example();
        files.insert("policy.toml".to_owned(), text.into_bytes());
        files.insert("sets/empty.sha256".to_owned(), empty.clone().into_bytes());
        parse(&bundle(files))
    };
    with("", "data").expect("data may be empty");
    for (table, key) in [
        ("[workload.planner]", "exec"),
        ("[workload.planner]", "libraries"),
        ("[workload.planner]", "scripts"),
        ("[governor]", "exec"),
        ("[survival]", "exec"),
        ("[survival]", "libraries"),
        ("[survival]", "scripts"),
    ] {
        let refused = with(table, key).expect_err("there is nothing to execute in it");
        let said = refused.to_string();
        assert!(
            said.contains("set `empty` lists an empty file"),
            "{table} {key}: {said}"
        );
    }
}
