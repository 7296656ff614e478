//! What an operator reads, state by state.

use super::*;
use crate::control::proto;

#[test]
fn trusted_work_may_run() {
    let headline = headline(&trusted());
    assert!(headline.may_run);
    assert_eq!(
        headline.text,
        "governed work may run: trusted (local) for another 24 s; the gate is fully enforced"
    );
}

#[test]
fn each_way_to_no_says_why() {
    let says = |change: &dyn Fn(&mut StatusReply), words: &str| {
        let mut status = trusted();
        change(&mut status);
        let headline = headline(&status);
        assert!(!headline.may_run, "{}", headline.text);
        assert!(headline.text.contains(words), "{}", headline.text);
    };
    let with = |state: TrustState| {
        move |status: &mut StatusReply| {
            let trust = status.trust.as_mut().expect("trust");
            trust.state = state.into();
            trust.reasons = vec![reason()];
            status.zones[0].startable = 0;
        }
    };
    says(
        &with(TrustState::Degraded),
        "may NOT run: trust is degraded: PCR 7 differs",
    );
    says(&with(TrustState::Locked), "LOCKED until an operator acts");
    says(&with(TrustState::Unattested), "this host is not attested");
    says(&with(TrustState::Unspecified), "did not say");
    says(
        &|status| {
            status.trust = None;
            status.zones[0].startable = 0;
        },
        "did not say",
    );
    says(&|status| status.policy = None, "no policy is in force");
    says(&|status| status.enforcement = None, "NOTHING IS ENFORCED");
    says(
        &|status| status.enforcement.as_mut().expect("enforcement").level = 99,
        "NOTHING IS ENFORCED",
    );
    says(
        &|status| {
            status.trust.as_mut().expect("trust").lease_left_ms = 0;
            status.zones[0].startable = 0;
        },
        "lease has run out",
    );
    // A zone whose requirement is not known is held to the stricter one.
    says(
        &|status| {
            status.zones[0].requires = 99;
            status.zones[0].startable = 0;
            status.trust = None;
        },
        "did not say",
    );
}

/// An attested zone that nothing may start in, and one that needs only the policy.
fn mixed() -> StatusReply {
    let mut status = trusted();
    status.trust.as_mut().expect("trust").state = TrustState::Degraded.into();
    let mut plain = status.zones[0].clone();
    plain.requires = Requires::Policy.into();
    plain.name = "tools".into();
    status.zones[0].startable = 0;
    status.zones.push(plain);
    status
}

#[test]
fn what_carries_no_label_is_named() {
    let mut status = trusted();
    assert!(!super::status(&status).contains("no label"));
    let found = |pid, program: &str| proto::unlabelled::Found {
        pid,
        program: program.into(),
    };
    status.unlabelled = vec![
        proto::Unlabelled {
            zone: String::new(),
            processes: 1,
            found: vec![found(7, "/bin/x\u{1b}[2J")],
        },
        proto::Unlabelled {
            zone: "agents".into(),
            processes: 3,
            found: vec![found(8, "/bin/y")],
        },
    ];
    let text = super::status(&status);
    assert!(
        text.contains("1 below the governed slice, in no zone: 7 /bin/x\u{fffd}[2J\n"),
        "{text}"
    );
    assert!(
        text.contains("3 in zone `agents`: 8 /bin/y, 2 more\n"),
        "{text}"
    );
}

#[test]
fn what_was_not_reached_is_named() {
    let mut status = trusted();
    assert!(!super::status(&status).contains("NOT reached"));
    let one = |workload: &str, digest: &[u8], stop: proto::Stop| proto::Unreached {
        zone: "agents".into(),
        workload: workload.into(),
        digest: digest.into(),
        stop: stop.into(),
    };
    status.unreached = vec![
        one("", &[], proto::Stop::Freeze),
        one("planner\u{1b}[2J", &[], proto::Stop::Kill),
        one("", &[0xab; 32], proto::Stop::Quarantine),
    ];
    status.unreached_count = 5;
    let text = super::status(&status);
    let said = format!(
        "NOT reached   freeze zone `agents`, kill workload `planner\u{fffd}[2J` in zone `agents`, \
         quarantine sha256:{} in zone `agents`, 2 more; tried again each second\n",
        "ab".repeat(32)
    );
    assert!(text.contains(&said), "{text}");
    let json = serde_json::to_value(&status).unwrap();
    assert_eq!(json["unreached"][1]["stop"], "kill");
}

fn revoked_by_hand() -> proto::TrustReason {
    proto::TrustReason {
        code: "operator-revoked".into(),
        text: String::new(),
        cleared_by: "an operator reloading a signed policy clears this".into(),
    }
}

#[test]
fn zones_that_need_only_policy_do_not_need_trust() {
    let mut status = mixed();
    let text = headline(&status).text;
    assert!(
        text.ends_with("trust is degraded; zone `tools` goes on"),
        "{text}"
    );
    status.zones.remove(0);
    assert!(headline(&status).may_run);
}

#[test]
fn what_the_kernel_denies_does_not_go_on_whatever_the_policy_says() {
    let mut status = mixed();
    status.zones[1].startable = 0;
    status.zones[1].reason = "unknown-zone".into();
    status.trust.as_mut().expect("trust").reasons = vec![revoked_by_hand()];
    let all = headline(&status);
    assert!(!all.may_run);
    assert_eq!(
        all.text,
        "governed work may NOT run: trust is degraded: operator-revoked"
    );
    // Only zones that need nothing but the policy.
    status.zones.remove(0);
    let plain = headline(&status);
    assert!(!plain.may_run);
    assert!(plain.text.contains("zone `tools`"), "{}", plain.text);
    assert!(
        plain.text.contains("operator-revoked (an operator"),
        "{}",
        plain.text
    );
    // The kernel reckons in time since boot; what the wall clock says does not matter.
    status.trust.as_mut().expect("trust").reasons.clear();
    status.zones[0].reason = "expired".into();
    status.zones[0].remedy = "sign a policy that is valid now".into();
    let text = headline(&status).text;
    assert!(
        text.ends_with("may start: expired (sign a policy that is valid now)"),
        "{text}"
    );
}

#[test]
fn what_was_revoked_by_hand_is_counted() {
    let mut status = trusted();
    status.zones[0].startable = 0;
    status.zones[0].revoked = 3;
    status.zones[0].reason = "revoked".into();
    let headline = headline(&status);
    assert!(!headline.may_run && headline.text.contains("may start: revoked"));
    assert!(super::status(&status).contains("0 of 3, 3 revoked"));
}

#[test]
fn a_zone_that_is_observed_or_on_a_lease_that_runs_goes_on_and_it_is_said() {
    let mut status = trusted();
    status.trust.as_mut().expect("trust").state = TrustState::Degraded.into();
    let text = headline(&status).text;
    assert!(
        text.contains("may run: a lease runs for another 24 s, but trust is"),
        "{text}"
    );
    status.trust.as_mut().expect("trust").lease_left_ms = 0;
    let text = headline(&status).text;
    assert!(
        text.contains("may run: it is observed, and trust is degraded"),
        "{text}"
    );
}

#[test]
fn a_kept_policy_that_waits_for_the_ledger_is_named() {
    let mut status = trusted();
    status.policy = None;
    let mut owed = reason();
    owed.code = "no-policy".into();
    owed.text = "the kept policy could not be put in force: no space".into();
    status.trust.as_mut().expect("trust").reasons = vec![owed];
    let headline = headline(&status);
    assert!(!headline.may_run && headline.text.contains("in force: the kept policy"));
}

#[test]
fn an_appraisal_that_did_not_happen_is_not_covered_by_the_lease_before_it() {
    let reply = ReattestReply {
        trust: trusted().trust,
        failed: "the TPM did not answer".into(),
    };
    assert!(appraised(&reply).starts_with("NOT appraised: the TPM did not answer"));
}

#[test]
fn a_reason_with_nothing_to_add_ends_with_its_name() {
    let mut status = trusted();
    status.trust.as_mut().expect("trust").reasons = vec![revoked_by_hand()];
    assert!(super::status(&status).contains("- operator-revoked\n"));
}

#[test]
fn everything_is_on_the_page_and_nothing_moves_the_cursor() {
    let mut status = trusted();
    status.trust.as_mut().expect("trust").reasons.push(reason());
    status.zones[0].name = "evil\x1b[2J\u{202e}".into();
    let page = super::status(&status);
    for words in [
        "- pcr-differs: PCR 7 differs",
        "cleared by: a fresh appraisal that agrees",
        "ZONE",
        "enforce",
        "governed.slice/governed-agents.slice",
        "bprm_check_security",
        "root can lie to itself",
        "agent-host serial 7, valid until 2027-02-01T00:00:00Z, 12 rows",
        "attested 3, policy 4, trips 5",
        "authorized 9",
        "0 denials, 2 events",
        "ok, 31 records in /var/lib/governor/ledger",
        "adopted the pinned gate",
    ] {
        assert!(page.contains(words), "`{words}` is missing in:\n{page}");
    }
    assert_eq!(text::strip_lines(&page), page);
}

#[test]
fn time_left_is_never_zero_before_it_is_over() {
    assert_eq!(left(1), "1 s");
    assert_eq!(left(23_400), "24 s");
    assert_eq!(left(600_000), "10 min");
    assert_eq!(left(11_100_000), "3 h 05 min");
}

fn reason() -> proto::TrustReason {
    proto::TrustReason {
        code: "pcr-differs".into(),
        text: "PCR 7 differs".into(),
        cleared_by: "a fresh appraisal that agrees".into(),
    }
}

fn trusted() -> StatusReply {
    StatusReply {
        break_glass: None,
        trust: Some(proto::Trust {
            state: TrustState::Trusted.into(),
            class: "local".into(),
            since: "2026-11-20T10:00:00Z".into(),
            lease_left_ms: 23_400,
            reasons: Vec::new(),
            appraised_by: vec!["local".into()],
        }),
        enforcement: Some(proto::Enforcement {
            level: EnforcementLevel::Full.into(),
            hooks: vec![proto::Hook {
                name: "bprm_check_security".into(),
                state: proto::HookState::Proved.into(),
                detail: String::new(),
            }],
        }),
        zones: vec![Zone {
            name: "agents".into(),
            cgroup: "governed.slice/governed-agents.slice".into(),
            mode: ZoneMode::Enforce.into(),
            requires: Requires::Attestation.into(),
            on_revoke: proto::OnRevoke::Kill.into(),
            listed: 3,
            startable: 3,
            ..Zone::default()
        }],
        policy: Some(proto::Policy {
            name: "agent-host".into(),
            serial: 7,
            digest: vec![0xab; 32],
            not_before: "2026-11-01T00:00:00Z".into(),
            not_after: "2027-02-01T00:00:00Z".into(),
            rows: 12,
        }),
        epochs: Some(proto::Epochs {
            attested: 3,
            policy: 4,
            trips: 5,
        }),
        counts: vec![proto::Count {
            reason: "authorized".into(),
            count: 9,
        }],
        unlabelled: Vec::new(),
        unreached: Vec::new(),
        unreached_count: 0,
        sockets: Some(proto::NamedSockets {
            found: 2,
            absent: 1,
            unfit: 0,
        }),
        measurements: Some(proto::Measurements {
            hashed: 21,
            recalled: 340,
            turned_away: 2,
            ahead: Some(proto::Ahead {
                known: 12,
                others: 1,
                absent: 0,
                passed_over: 2,
                left: 3,
                passes: 1,
            }),
        }),
        losses: Some(proto::Losses {
            denials: 0,
            events: 2,
        }),
        ledger: Some(proto::Ledger {
            records: 31,
            head: vec![0xcd; 32],
            path: "/var/lib/governor/ledger".into(),
            ok: true,
            detail: String::new(),
        }),
        daemon: Some(proto::Daemon {
            version: "0.1.0".into(),
            pid: 17,
            boot_id: "b00".into(),
            adopted: true,
            started: "2026-11-20T09:00:00Z".into(),
        }),
    }
}

#[test]
fn sockets_are_said_where_policy_names_some() {
    let mut status = trusted();
    let line = "named sockets 2 of 3 that policy names found, 1 not there\n";
    assert!(super::status(&status).contains(line));
    status.sockets = None;
    assert!(!super::status(&status).contains("sockets"));
}

#[test]
fn what_is_known_ahead_is_said_and_what_is_not() {
    let line = "12 of 18 files that policy lists by path, 1 with other content, 2 read each time, 3 to go\n";
    let all = super::status(&trusted());
    assert!(all.contains(line), "{all}");
}

#[test]
fn a_broken_glass_is_the_first_thing_said_and_never_well() {
    let mut status = trusted();
    let glass = proto::BreakGlass {
        left_ms: 90_000,
        until: "2026-11-20T12:00:00Z".into(),
        reason: "the TPM\u{1b} is gone".into(),
        uid: Some(0),
        key: "SHA256:abc".into(),
        owed: true,
        refused: 2,
        ..proto::BreakGlass::default()
    };
    status.break_glass = Some(glass.clone());
    let said = headline(&status);
    assert!(!said.may_run);
    let first = "THE GLASS IS BROKEN: for another 90 s nothing below the governed slice is denied";
    assert!(said.text.starts_with(first), "{}", said.text);
    assert!(
        said.text
            .contains("by uid 0 with SHA256:abc: the TPM\u{fffd} is gone")
    );
    // Also without a policy, which is what it is for.
    status.policy = None;
    assert!(headline(&status).text.starts_with(first));
    let all = super::status(&status);
    assert!(all.contains("a record of it is owed") && all.contains("2 tries were refused"));
    status.break_glass = Some(proto::BreakGlass {
        left_ms: 0,
        ..glass
    });
    assert!(!headline(&status).text.contains("GLASS"));
    assert!(super::status(&status).contains("over, and being dealt with"));
}

#[test]
fn whether_break_glass_is_possible_is_said() {
    let mut status = trusted();
    status.break_glass = Some(proto::BreakGlass {
        keys: vec!["SHA256:abc".into()],
        ..proto::BreakGlass::default()
    });
    assert!(super::status(&status).contains("whole; 1 key may break it"));
    status.break_glass = Some(proto::BreakGlass {
        impossible: "no key is listed".into(),
        ..proto::BreakGlass::default()
    });
    assert!(super::status(&status).contains("not possible: no key is listed"));
    assert!(headline(&status).may_run);
}
