//! The binary against a daemon: what it prints and how it exits.

use std::process::{Command, Output};

use crate::daemon::Daemon;

#[tokio::test(flavor = "multi_thread")]
async fn exit_codes_are_the_contract() {
    let daemon = Daemon::start(|_| {}).await;
    for (zone, code) in [
        ("denied", 3),
        ("invalid", 2),
        ("unverified", 5),
        ("failed", 1),
    ] {
        let output = governor(&daemon, &["observe", "--zone", zone, "--for", "1m"]);
        assert_eq!(output.status.code(), Some(code), "{output:?}");
        assert_eq!(text(&output.stderr), format!("governor: no: {zone}\n"));
    }
    assert_eq!(
        governor(&daemon, &["observe", "--zone", "a", "--for", "1m"])
            .status
            .code(),
        Some(0)
    );
    assert_eq!(governor(&daemon, &["observe"]).status.code(), Some(2));
    assert_eq!(governor(&daemon, &["--help"]).status.code(), Some(0));
    let revoked = governor(&daemon, &["revoke", "--all", "--reason", "drill"]);
    assert!(
        text(&revoked.stdout).ends_with("(record 17)\n"),
        "{revoked:?}"
    );
    assert_eq!(
        governor(&daemon, &["policy", "show"]).status.code(),
        Some(3)
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn copies_are_held_and_let_go_in_so_many_words() {
    let daemon = Daemon::start(|_| {}).await;
    let held = ["quarantine", "--zone", "agents", "--reason", "drill"];
    let output = governor(&daemon, &held);
    assert_eq!(
        text(&output.stdout),
        "0 paused, 2 quarantined, 0 killed, 3 connections closed; copies started from now on are \
         not touched (record 18)\n"
    );
    let output = governor(&daemon, &[&held[..], &["--json"]].concat());
    let reply: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
    assert_eq!(
        (&reply["quarantined"], &reply["closed"]),
        (&2.into(), &3.into())
    );
    let resume = ["resume", "--workload", "planner", "--reason", "over"];
    let output = governor(&daemon, &resume);
    assert_eq!(
        text(&output.stdout),
        "resume it: 2 go on, 0 stay held (record 0)\n"
    );
    let output = governor(&daemon, &["resume", "--all", "--reason", "over"]);
    assert_eq!(output.status.code(), Some(3));
    assert_eq!(
        text(&output.stderr),
        "governor: all stays held: not trusted\n"
    );
    let output = governor(&daemon, &["pause", "--all", "--reason", " "]);
    assert_eq!(output.status.code(), Some(2));
}

#[test]
fn without_a_daemon_the_exit_code_is_4() {
    for arguments in [
        &["status"][..],
        &["events"],
        &["policy", "show"],
        &["explain", "17"],
        &["run", "--zone", "agents", "--", "true"],
        &["revoke", "--all", "--reason", "drill"],
        &["pause", "--all", "--reason", "drill"],
        &["resume", "--all", "--reason", "drill"],
    ] {
        let output = Command::new(env!("CARGO_BIN_EXE_governor"))
            .args(["--socket", "/nonexistent/control.sock"])
            .args(arguments)
            .output()
            .expect("run");
        assert_eq!(output.status.code(), Some(4), "{arguments:?}: {output:?}");
        assert!(
            text(&output.stderr).contains("systemctl start governor"),
            "{output:?}"
        );
        assert!(output.stdout.is_empty());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn status_without_a_policy_is_not_well() {
    let daemon = Daemon::start(|_| {}).await;
    let output = governor(&daemon, &["status"]);
    assert_eq!(output.status.code(), Some(3));
    assert!(
        text(&output.stdout).starts_with("NOTHING IS ENFORCED"),
        "{output:?}"
    );
    let output = governor(&daemon, &["status", "--json"]);
    let status: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
    assert_eq!(status["daemon"]["pid"], std::process::id());
    assert_eq!(status["policy"], serde_json::Value::Null);
}

#[tokio::test(flavor = "multi_thread")]
async fn events_are_lines_or_json_lines() {
    let daemon = Daemon::start(|_| {}).await;
    let output = governor(&daemon, &["events"]);
    assert_eq!(text(&output.stdout).lines().count(), 2, "{output:?}");
    let output = governor(&daemon, &["events", "--denials", "--json"]);
    let event: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
    assert_eq!(
        (&event["id"], &event["verdict"]),
        (&2.into(), &"deny".into())
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn run_becomes_the_command() {
    let daemon = Daemon::start(|_| {}).await;
    let run = |command: &[&str]| {
        governor(
            &daemon,
            &[&["run", "--zone", "agents", "--"], command].concat(),
        )
    };
    let output = run(&["sh", "-c", "echo $0 $1; exit 42", "x", "--zone"]);
    assert_eq!(
        (output.status.code(), text(&output.stdout)),
        (Some(42), "x --zone\n")
    );
    // A writer whose reader is gone ends as it does without governor.
    let piped = run(&["sh", "-c", "(yes; echo $? >&2) | true"]);
    assert_eq!(text(&piped.stderr).trim(), "141", "{piped:?}");
    let missing = run(&["no-such-command"]);
    assert_eq!(missing.status.code(), Some(1));
    assert_eq!(
        text(&missing.stderr),
        "governor: command `no-such-command` was not found\n"
    );
    let forbidden = run(&["/dev/null"]);
    assert_eq!(forbidden.status.code(), Some(1));
    assert_eq!(
        text(&forbidden.stderr),
        "governor: executing `/dev/null`: Permission denied\n"
    );
}

fn governor(daemon: &Daemon, arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_governor"))
        .arg("--socket")
        .arg(&daemon.path)
        .args(arguments)
        .output()
        .expect("run")
}

fn text(bytes: &[u8]) -> &str {
    str::from_utf8(bytes).expect("UTF-8")
}
