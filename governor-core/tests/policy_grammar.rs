//! The closed grammar: the example is read as written, and whatever is not in it is refused with
//! its place.

mod common;

use common::{edited, example_text, with_text};
use governor_core::{
    policy::{Memory, Mode, OnRevoke, POLICY, Requires, RiskEvent, Severity, Starter, Survival},
    time::Span,
};

/// What is said about the example with `from` replaced by `to`: refused.
fn refused(from: &str, to: &str) -> String {
    let list = edited(from, to).expect_err(&format!("{to} must be refused"));
    assert!(list.errors() > 0);
    list.to_string()
}

/// What is said about the example with `from` replaced by `to`: accepted with warnings.
fn warned(from: &str, to: &str) -> String {
    let policy = edited(from, to).unwrap_or_else(|list| panic!("{to} is accepted, not {list}"));
    let lines: Vec<_> = policy.warnings().iter().map(ToString::to_string).collect();
    lines.join("\n")
}

#[test]
fn the_example_lints_and_says_what_it_says() {
    let policy = with_text(&example_text()).expect("lints");
    assert_eq!(policy.warnings(), []);
    assert_eq!((policy.name(), policy.serial()), ("agent-host", 7));
    assert_eq!(policy.validity().from.to_string(), "2026-11-01T00:00:00Z");
    assert_eq!(policy.validity().until.to_string(), "2027-02-01T00:00:00Z");
    assert_eq!(policy.governor().exec.len(), 1);
    let attestation = policy.attestation().expect("attests");
    assert_eq!(
        attestation.pcrs.iter().copied().collect::<Vec<_>>(),
        [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 14]
    );
    assert_eq!(
        (attestation.every, attestation.lease),
        (Span::seconds(10), Span::seconds(30))
    );
    assert!(attestation.reference.contains("[ak]"));
    let zone = policy.zone("agents").expect("a zone");
    assert_eq!(zone.cgroup, "governed.slice/governed-agents.slice");
    assert_eq!(
        (zone.mode, zone.requires),
        (Mode::Enforce, Requires::Attestation)
    );
    assert_eq!(zone.families, 1 << 2 | 1 << 10);
    assert_eq!(zone.observe_up_to, Some(Span::seconds(1_800)));
    let planner = policy.workload("planner").expect("a workload");
    assert_eq!(planner.on_revoke, OnRevoke::Kill);
    assert_eq!(planner.digests().len(), 6);
    assert_eq!(planner.validity.until.to_string(), "2026-12-01T00:00:00Z");
    assert!(planner.started_by.contains(&Starter::Operator));
    assert_eq!(policy.risks()["probing"].of, RiskEvent::DeniedExec);
    assert_eq!(policy.survival().exec.len(), 5);
}

#[test]
fn a_key_left_out_is_the_strictest_reading() {
    let text = "[policy]\nformat = 1\nname = \"a\"\nserial = 1\n\
        not_before = 2026-11-01T00:00:00Z\nnot_after = 2026-12-01T00:00:00Z\n\
        [zone.z]\ncgroup = \"governed.slice/governed-z.slice\"\n\
        [workload.w]\nzone = \"z\"\n\
        [attestation]\nverifiers = [\"local\"]\npcrs = [7]\nreference = \"reference.toml\"\n\
        every = \"1s\"\nlease = \"5s\"\n";
    let policy = with_text(text).expect("lints");
    let zone = policy.zone("z").expect("a zone");
    assert_eq!(
        (zone.mode, zone.requires),
        (Mode::Enforce, Requires::Attestation)
    );
    assert_eq!((zone.memory, zone.families), (Memory::WriteXorExecute, 0));
    assert_eq!((zone.on_revoke, zone.observe_up_to), (OnRevoke::Kill, None));
    assert!(!zone.thaw);
    let workload = policy.workload("w").expect("a workload");
    assert!(workload.digests().is_empty() && workload.egress.is_empty());
    assert!(workload.started_by.is_empty() && workload.users.is_empty());
    assert_eq!(workload.validity, policy.validity());
    assert_eq!(workload.on_revoke, OnRevoke::Kill);
    assert!(policy.governor().exec.is_empty());
    assert_eq!(policy.survival(), &Survival::default());
    let warnings: Vec<_> = policy
        .warnings()
        .iter()
        .map(|w| w.message.as_str())
        .collect();
    assert_eq!(warnings.len(), 4, "{warnings:?}");

    let without = &text[..text.find("[attestation]").expect("there")];
    let list = with_text(without).expect_err("refused").to_string();
    assert!(
        list.contains("7:7: error: zone `z` requires attestation"),
        "{list}"
    );
    let policy_class = without.replace("[workload", "requires = \"policy\"\n[workload");
    assert!(with_text(&policy_class).is_ok());
}

#[test]
fn the_stricter_of_zone_and_workload_wins() {
    let text = example_text();
    for (zone, workload, expected) in [
        ("deny", "deny", OnRevoke::Deny),
        ("deny", "freeze", OnRevoke::Freeze),
        ("quarantine", "freeze", OnRevoke::Quarantine),
        ("quarantine", "kill", OnRevoke::Kill),
    ] {
        let text = text
            .replacen(
                "on_revoke = \"kill\"",
                &format!("on_revoke = \"{zone}\""),
                1,
            )
            .replacen(
                "on_revoke = \"freeze\"",
                &format!("on_revoke = \"{workload}\""),
                1,
            );
        let policy = with_text(&text).expect("lints");
        assert_eq!(
            policy.workload("planner").map(|w| w.on_revoke),
            Some(expected)
        );
    }
}

#[test]
fn an_unknown_key_is_refused_wherever_it_stands() {
    let text = example_text();
    let mut tried = 0;
    for (index, line) in text.lines().enumerate() {
        let mut changed: Vec<String> = text.lines().map(str::to_owned).collect();
        let place = if line.starts_with('[') && line.contains(']') {
            changed.insert(index + 1, "unheard = 1".to_owned());
            (index + 2, 1)
        } else if let Some(at) = line.find('{') {
            changed[index].insert_str(at + 1, "unheard = 1, ");
            (index + 1, at + 2)
        } else {
            continue;
        };
        tried += 1;
        let list = with_text(&changed.join("\n"))
            .expect_err("refused")
            .to_string();
        // In [set] every name is a key; there it is the value that is refused.
        let column = if line == "[set]" { 11 } else { place.1 };
        let place = format!("policy.toml:{}:{column}: error: ", place.0);
        assert!(list.contains(&place), "expected {place} in {list}");
    }
    assert_eq!(tried, 10);
    let list = refused("[policy]", "unheard = 1\n[policy]");
    assert!(
        list.contains("error: unknown key `unheard` in the policy"),
        "{list}"
    );
    let list = refused("[risk.probing]", "[verifier.remote]\n[risk.probing]");
    assert!(list.contains("unknown key `verifier`"), "{list}");
}

#[test]
fn close_words_are_offered() {
    let list = refused("egress =", "egres =");
    assert!(
        list.contains("unknown key `egres` in [workload.planner], did you mean `egress`?"),
        "{list}"
    );
    for (from, to, hint) in [
        ("[zone.agents]", "[zones.agents]", "did you mean `zone`?"),
        (
            "mode = \"enforce\"",
            "mode = \"enfore\"",
            "did you mean `enforce`?",
        ),
        (
            "zone = \"agents\"",
            "zone = \"agent\"",
            "did you mean `agents`?",
        ),
        (
            "exec = [\"planner\"]",
            "exec = [\"planer\"]",
            "did you mean `planner`?",
        ),
        (
            "started_by = [\"operator\"]",
            "started_by = [\"operater\"]",
            "did you mean `operator`?",
        ),
        (
            "sets/planner.sha256",
            "sets/planer.sha256",
            "did you mean `sets/planner.sha256`?",
        ),
    ] {
        let list = refused(from, to);
        assert!(list.contains(hint), "{list}");
    }
}

#[test]
fn every_key_of_the_wrong_type_is_refused() {
    let text = example_text();
    for (index, line) in text.lines().enumerate() {
        let Some((key, _)) = line.split_once(" = ").filter(|_| !line.starts_with('#')) else {
            continue;
        };
        for wrong in ["true", "1.5", "[[1]]", "{ a = 1 }", "1979-05-27"] {
            let mut changed: Vec<String> = text.lines().map(str::to_owned).collect();
            changed[index] = format!("{key} = {wrong}");
            let list = with_text(&changed.join("\n"));
            assert!(list.is_err(), "{key} = {wrong}");
        }
    }
}

#[test]
fn a_required_key_is_missed() {
    for line in [
        "format = 1",
        "name = \"agent-host\"",
        "not_before = 2026-11-01T00:00:00Z",
        "not_after = 2027-02-01T00:00:00Z",
        "verifiers = [\"local\"]",
        "pcrs = [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 14]",
        "reference = \"reference.toml\"",
        "every = \"10s\"",
        "lease = \"30s\"",
        "cgroup = \"governed.slice/governed-agents.slice\"",
        "zone = \"agents\"",
        "count = 5",
        "of = \"denied-exec\"",
        "within = \"60s\"",
        "action = \"quarantine\"",
    ] {
        let key = line.split(' ').next().expect("a key");
        let list = refused(line, "");
        assert!(list.contains(&format!("has no `{key}`")), "{list}");
    }
    for (from, to) in [("to = \"10.20.0.0/16\", ", ""), ("ports = [\"443\"], ", "")] {
        assert!(refused(from, to).contains("an entry of `egress` has no `"));
    }
}

#[test]
fn values_are_checked_with_their_place() {
    for (from, to, said) in [
        (
            "format = 1",
            "format = 2",
            "4:10: error: format 2 is not known",
        ),
        ("serial = 7", "serial = 0", "serial must be at least 1"),
        ("serial = 7", "serial = -7", "serial must be at least 1"),
        (
            "serial = 7",
            "serial = 9223372036854775808",
            "does not fit in 63 bits",
        ),
        (
            "name = \"agent-host\"",
            "name = \"Agent\"",
            "`Agent` is not a name",
        ),
        (
            "2027-02-01T00:00:00Z",
            "2027-02-01T00:00:00",
            "has no offset from UTC",
        ),
        (
            "2027-02-01T00:00:00Z",
            "2027-02-01T00:00:00.5Z",
            "fraction of a second",
        ),
        (
            "2027-02-01T00:00:00Z",
            "2026-11-01T00:00:00Z",
            "`not_after` is not later",
        ),
        (
            "[\"local\"]",
            "[\"remote\"]",
            "verifier `remote` is not supported yet",
        ),
        ("[\"local\"]", "[]", "exactly one verifier"),
        (
            "[\"local\"]",
            "[\"local\", \"local\"]",
            "exactly one verifier",
        ),
        (
            "threshold = 1",
            "threshold = 2",
            "threshold 2 is not supported yet",
        ),
        (
            "threshold = 1",
            "threshold = 0",
            "threshold 0 is not supported yet",
        ),
        ("9, 14]", "9, 24]", "there is no PCR 24"),
        ("9, 14]", "9, -1]", "there is no PCR -1"),
        ("9, 14]", "9, 9]", "PCR 9 is listed twice"),
        (
            "[0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 14]",
            "[]",
            "`pcrs` is empty",
        ),
        (
            "\"reference.toml\"",
            "\"other.toml\"",
            "file `other.toml` is not in the bundle",
        ),
        (
            "lease = \"30s\"",
            "lease = \"10s\"",
            "`lease` is not longer than `every`",
        ),
        (
            "lease = \"30s\"",
            "lease = \"3601s\"",
            "`lease` is longer than one hour",
        ),
        (
            "every = \"10s\"",
            "every = \"ten\"",
            "`ten` is not a duration",
        ),
        ("governed.slice/", "/governed.slice/", "begins with `/`"),
        (
            "memory = \"w^x\"",
            "memory = \"rwx\"",
            "use one of: w^x, any",
        ),
        ("[\"inet\", ", "[\"packet\", ", "unknown value `packet`"),
        (
            "exec = [\"governor\"]",
            "exec = [\"nobody\"]",
            "unknown set `nobody`",
        ),
        (
            "[\"operator\"]",
            "[\"nobody\"]",
            "unknown workload `nobody`",
        ),
        (
            "[workload.planner]",
            "[workload.operator]",
            "`operator` is not a name for a workload",
        ),
        (
            "[workload.planner]",
            "[workload.\"a b\"]",
            "`a b` is not a name",
        ),
        (
            "[workload.planner]",
            "[workload.\"\\u001b[2J\"]",
            "is not a name",
        ),
        (
            "user = [\"agent\"]",
            "user = [\"a b\"]",
            "`a b` is not a user",
        ),
        (
            "user = [\"agent\"]",
            "user = [\"4294967295\"]",
            "is not a user",
        ),
        (
            "user = [\"agent\"]",
            "user = [\"a\",\"b\",\"c\",\"d\",\"e\"]",
            "more than 4 in `user`",
        ),
        ("10.20.0.0/16", "10.20.0.1/16", "write `10.20.0.0/16`"),
        (
            "10.20.0.0/16",
            "::ffff:10.20.0.0/112",
            "write `10.20.0.0/16`",
        ),
        ("[\"443\"]", "[443]", "must be a string, not an integer"),
        ("[\"443\"]", "[\"0\"]", "`0` is not a port"),
        ("[\"443\"]", "[]", "`ports` is empty"),
        (
            "protocol = \"tcp\"",
            "protocol = \"sctp\"",
            "use one of: tcp, udp",
        ),
        (
            "listen = []",
            "listen = [{ port = 1 }]",
            "listen rules are not supported yet",
        ),
        ("listen = []", "listen = 1", "must be an array"),
        (
            "until = 2026-12-01",
            "until = 2026-10-01",
            "`until` is not later than `from`",
        ),
        (
            "from = 2026-11-01T00:00:00Z, until = 2026-12-01",
            "from = 2028-11-01T00:00:00Z, until = 2028-12-01",
            "outside the policy's own validity",
        ),
        ("count = 5", "count = 0", "`count` must be from 1"),
        (
            "of = \"denied-exec\"",
            "of = \"weather\"",
            "unknown value `weather`",
        ),
        (
            "observe_up_to = \"30m\"",
            "observe_up_to = \"0m\"",
            "duration is zero",
        ),
        (
            "observe_up_to = \"30m\"",
            "thaw = \"yes\"",
            "`thaw` in [zone.agents] must be a boolean, not a string",
        ),
        ("serial = 7", "serial = 7\nserial = 8", "duplicate key"),
    ] {
        let list = refused(from, to);
        assert!(
            list.contains(said),
            "expected {said:?} for {to:?} in {list}"
        );
        assert!(!list.contains('\u{1b}'));
    }
}

#[test]
fn what_looks_wrong_is_warned_about() {
    for (from, to, said) in [
        (
            "user = [\"agent\"]",
            "",
            "has no `user`, so nobody may run it",
        ),
        ("started_by = [\"operator\"]", "", "has no `started_by`"),
        ("exec = [\"planner\"]", "", "neither `exec` nor `scripts`"),
        (
            "[\"inet\", \"inet6\"]",
            "[\"inet6\"]",
            "the zone allows no `inet` sockets",
        ),
        (
            "governed-agents.slice",
            "agents.slice",
            "systemd does not put `agents.slice`",
        ),
        (
            "until = 2026-12-01",
            "until = 2028-12-01",
            "beyond the policy's own validity",
        ),
        (
            "user = [\"agent\"]",
            "user = [\"agent\", \"agent\"]",
            "listed twice",
        ),
        (
            "[governor]\nexec = [\"governor\"] ",
            "",
            "no program may be the daemon",
        ),
        ("libraries = [\"os-libraries\"]\nscripts", "scripts", ""),
        (
            "requires = \"attestation\"",
            "requires = \"policy\"\nthaw = true",
            "`thaw` has no effect in a zone that requires policy only",
        ),
    ] {
        let list = warned(from, to);
        assert!(list.contains(said), "expected {said:?} in {list:?}");
    }
}

#[test]
fn all_mistakes_are_reported_at_once_and_in_order() {
    let text = example_text()
        .replacen("mode = \"enforce\"", "mode = 1", 1)
        .replacen("protocol = \"tcp\"", "protocol = \"icmp\"", 1)
        .replacen("serial = 7", "serail = 7", 1);
    let list = with_text(&text).expect_err("refused");
    assert_eq!(list.errors(), 4, "{list}");
    assert!(list.all().is_sorted_by_key(|d| d.line));
    assert!(
        list.all()
            .iter()
            .all(|d| d.severity == Severity::Error && d.file == POLICY)
    );

    let list = with_text("[policy\n[zone.a]\nx = = 1\n").expect_err("refused");
    assert!(list.errors() >= 2, "{list}");
}
