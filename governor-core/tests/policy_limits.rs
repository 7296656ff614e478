//! What policies may not combine, and how much of anything there may be.

mod common;

use common::{bundle, edited, example, example_text, with_text};
use governor_core::{
    digest::Digest,
    policy::{CLOCK_STEP, Diagnostic, Diagnostics, POLICY, Policy, RiskEvent, parse},
    time::Span,
};
use proptest::prelude::*;

/// A second workload beside the example's, with these lines in it.
fn second(lines: &str) -> String {
    example_text().replacen(
        "[risk.probing]",
        &format!("[workload.second]\nuser = []\nstarted_by = []\n{lines}\n[risk.probing]"),
        1,
    )
}

#[test]
fn two_workloads_that_could_not_be_told_apart_are_refused() {
    let other_zone = "[zone.b]\ncgroup = \"governed.slice/governed-b.slice\"\n[risk.probing]";
    for role in ["exec", "scripts"] {
        let text = second(&format!("zone = \"agents\"\n{role} = [\"planner\"]"));
        let list = with_text(&text).expect_err("refused").to_string();
        assert!(
            list.contains("workloads `planner` and `second` of zone `agents`"),
            "{list}"
        );
        let text = text
            .replacen(
                "started_by = []\nzone = \"agents\"",
                "started_by = []\nzone = \"b\"",
                1,
            )
            .replacen("[risk.probing]", other_zone, 1);
        assert!(with_text(&text).is_ok());
    }
    assert!(with_text(&second("zone = \"agents\"\nlibraries = [\"planner\"]")).is_ok());
}

#[test]
fn zones_have_a_place_of_their_own() {
    let zone = |cgroup: &str| {
        let text = format!("[zone.b]\ncgroup = \"{cgroup}\"\n[risk.probing]");
        edited("[risk.probing]", &text)
    };
    let list = zone("governed.slice/governed-agents.slice")
        .expect_err("refused")
        .to_string();
    assert!(list.contains("has the same cgroup"), "{list}");
    assert!(zone("governed.slice/governed-agents.slice/governed-agents-b.slice").is_ok());
}

#[test]
fn starters_are_of_the_same_zone_and_few() {
    let text = second("zone = \"b\"").replacen(
        "[risk.probing]",
        "[zone.b]\ncgroup = \"governed.slice/governed-b.slice\"\n[risk.probing]",
        1,
    );
    let text = text.replacen(
        "started_by = [\"operator\"]",
        "started_by = [\"second\"]",
        1,
    );
    let list = with_text(&text).expect_err("refused").to_string();
    assert!(
        list.contains("workload `second` is in another zone"),
        "{list}"
    );

    let mut text = example_text();
    let mut names = Vec::new();
    for n in 0..8 {
        text.push_str(&format!("[workload.w{n}]\nzone = \"agents\"\n"));
        names.push(format!("\"w{n}\""));
    }
    let eight = format!("started_by = [{}]", names.join(", "));
    assert!(with_text(&text.replacen("started_by = [\"operator\"]", &eight, 1)).is_ok());
    let nine = format!("started_by = [\"operator\", {}]", names.join(", "));
    let list = with_text(&text.replacen("started_by = [\"operator\"]", &nine, 1));
    assert!(
        list.expect_err("refused")
            .to_string()
            .contains("more than 8 in `started_by`")
    );
}

#[test]
fn what_does_not_fit_into_the_kernel_is_refused() {
    let ports = |n: u32| {
        let list: Vec<_> = (0..n).map(|i| format!("\"{}\"", 100 + 2 * i)).collect();
        edited("[\"443\"]", &format!("[{}]", list.join(", ")))
    };
    assert!(ports(16).is_ok());
    let list = ports(17).expect_err("refused").to_string();
    assert!(
        list.contains("more than 16 separate ranges of ports"),
        "{list}"
    );

    // Each digest is two rows, each zone is one.
    let digests = |n: u32| {
        let mut files = example();
        let lines: String = (1..=n).map(|i| format!("{i:064x}  f\n")).collect();
        files.insert("sets/planner.sha256".to_owned(), lines.into_bytes());
        parse(&bundle(files))
    };
    assert!(digests(524_285).is_ok());
    let list = digests(524_286).expect_err("refused").to_string();
    assert!(
        list.contains("policy needs 1048578 rows in the kernel"),
        "{list}"
    );

    let rules: Vec<_> = (0..32_769u32)
        .map(|i| {
            let [_, _, a, b] = i.to_be_bytes();
            format!("{{ to = \"10.1.{a}.{b}\", ports = [\"1\"], protocol = \"tcp\" }}")
        })
        .collect();
    let egress = |rules: &[String]| {
        let from = "{ to = \"10.20.0.0/16\", ports = [\"443\"], protocol = \"tcp\" }";
        edited(from, &rules.join(", "))
    };
    assert!(egress(&rules[1..]).is_ok());
    let list = egress(&rules).expect_err("refused").to_string();
    assert!(
        list.contains("needs 32769 egress prefixes, the limit is 32768"),
        "{list}"
    );
}

#[test]
fn too_many_tables_of_a_kind_are_refused_before_any_is_looked_at() {
    let many = |table: &str, count: usize| {
        let tables: String = (0..count).map(|n| format!("[{table}.x{n}]\n")).collect();
        let text = example_text().replacen("[risk.probing]", &format!("{tables}[risk.probing]"), 1);
        with_text(&text).expect_err("refused")
    };
    for (table, limit) in [("zone", 120), ("workload", 4096), ("risk", 256)] {
        let list = many(table, limit + 1);
        let words = format!("{table}s, the limit is {limit}");
        assert!(list.to_string().contains(&words), "{list}");
        assert_eq!(list.all().len(), 1, "{list}");
    }
    let huge = many("zone", 400_000);
    let words = "bytes, the limit is 4194304";
    assert!(huge.to_string().contains(words), "{huge}");
}

#[test]
fn the_gate_itself_lists_only_what_the_kernel_can_hold_twice() {
    let listing = |count: u32| {
        let mut files = example();
        let lines: String = (0..count)
            .map(|n| format!("{}  file-{n}\n", Digest::of(&n.to_be_bytes())))
            .collect();
        files.insert("sets/governor.sha256".to_owned(), lines.into_bytes());
        parse(&bundle(files))
    };
    assert!(listing(16_000).is_ok());
    let list = listing(16_001).expect_err("refused").to_string();
    assert!(
        list.contains("[governor] lists 16001 digests, the limit is 16000, use smaller sets"),
        "{list}"
    );
}

#[test]
fn sets_are_complained_about_in_their_own_file() {
    let mut files = example();
    files.insert(
        "sets/planner.sha256".to_owned(),
        b"# one\nabc  x\n".to_vec(),
    );
    let list = parse(&bundle(files)).expect_err("refused").to_string();
    assert!(
        list.contains("sets/planner.sha256:2:1: error: digest has 3 digits"),
        "{list}"
    );
    let mut files = example();
    files.insert("reference.toml".to_owned(), b"\xff".to_vec());
    let list = parse(&bundle(files)).expect_err("refused").to_string();
    assert!(
        list.contains("reference.toml:1:1: error: file is not UTF-8"),
        "{list}"
    );
    let mut files = example();
    files.remove(POLICY);
    let list = parse(&bundle(files)).expect_err("refused").to_string();
    assert_eq!(list, "policy.toml:1:1: error: file is missing");
}

#[test]
fn depth_is_bounded() {
    let deep = format!("x = {}{}", "[".repeat(100_000), "]".repeat(100_000));
    assert!(with_text(&deep).is_err());
    let deep = format!("[{}a]\n", "a.".repeat(100_000));
    assert!(with_text(&deep).is_err());
}

proptest! {
    #[test]
    fn no_bytes_make_a_parser_panic(
        policy in prop::collection::vec(any::<u8>(), 0..300),
        set in prop::collection::vec(any::<u8>(), 0..300),
    ) {
        let mut files = example();
        files.insert("sets/planner.sha256".to_owned(), set.clone());
        let _either = parse(&bundle(files.clone())).is_ok();
        files.insert(POLICY.to_owned(), policy);
        prop_assert!(parse(&bundle(files)).is_err());
    }

    /// Texts that are nearly policies go deeper than noise does.
    #[test]
    fn no_damage_makes_the_parser_panic(
        at in 0usize..4_000,
        length in 0usize..40,
        with in "[\\[\\]{}\"'=.,#\\n a-z0-9^:/-]{0,12}",
    ) {
        let text = example_text();
        let at = at.min(text.len());
        let end = (at + length).min(text.len());
        let damaged = format!("{}{with}{}", &text[..at], &text[end..]);
        match with_text(&damaged) {
            Ok(_) => {}
            Err(list) => prop_assert!(list.all().iter().all(|d| d.line >= 1 && d.column >= 1)),
        }
    }
}

fn said(refused: Result<Policy, Diagnostics>) -> String {
    refused.expect_err("must be refused").to_string()
}

#[test]
fn clocks_and_losses_are_bounded() {
    let plain = edited("format = 1", "format = 1").expect("lints");
    assert_eq!((plain.clock_step(), plain.losses()), (CLOCK_STEP, None));
    let step = |step: &str| format!("format = 1\nclock_step = \"{step}\"");
    let strict = edited("format = 1", &step("5s")).expect("lints");
    assert_eq!(strict.clock_step(), Span::seconds(5));
    for bad in ["999ms", "25h"] {
        assert!(said(edited("format = 1", &step(bad))).contains("`clock_step` must be from"));
    }
    let events = "[events]\nlosses = 0\nwithin = \"1m\"\n[risk.probing]";
    let bounded = edited("[risk.probing]", events).expect("lints");
    let warned = |warning: &Diagnostic| warning.to_string().contains("floods the gate");
    assert!(bounded.warnings().iter().any(warned));
    let losses = bounded.losses();
    assert_eq!(losses.map(|losses| losses.denials), Some(0));
    for (table, words) in [
        ("[events]\nlosses = 1\n", "has no `within`"),
        (
            "[events]\nlosses = -1\nwithin = \"1m\"\n",
            "cannot be negative",
        ),
        (
            "[events]\nlosses = 1\nwithin = \"1m\"\nof = 1\n",
            "unknown key",
        ),
    ] {
        let text = format!("{table}[risk.probing]");
        assert!(
            said(edited("[risk.probing]", &text)).contains(words),
            "{table}"
        );
    }
}

#[test]
fn a_risk_counts_one_of_a_closed_list() {
    let of = |word: &str| edited("of = \"denied-exec\"", &format!("of = \"{word}\""));
    for (word, event) in [
        ("denied-guard", RiskEvent::DeniedGuard),
        ("spawn", RiskEvent::Spawn),
        ("connect", RiskEvent::Connect),
    ] {
        let policy = of(word).expect("lints");
        assert_eq!(policy.risks()["probing"].of, event);
    }
    assert!(of("denied-fork").is_err());
}
