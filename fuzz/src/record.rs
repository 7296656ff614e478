//! What the kernel's programs write: events in rings, tasks in lists. Any bytes of the right length are
//! numbers, and what they do not say is not guessed.

use governor_common::{
    Carrier, Event, Facts, Label, Line, Operation, Plain as _, Reason, Verdict, decide,
    facts::Measured, names::ABI,
};

/// An event is shown and judged again; a list is whole or none.
pub fn check(bytes: &[u8]) -> bool {
    if let Some(event) = Event::read(bytes) {
        judge(&event.facts);
    }
    governor::fuzzing::event(bytes) | governor::fuzzing::carriers(bytes)
}

/// A denial, a connection, and a list of two tasks.
pub fn seeds() -> Vec<Vec<u8>> {
    let Some(nothing) = Event::read(&[0; size_of::<Event>()]) else {
        return Vec::new();
    };
    let label = Label {
        zone: 1,
        workload: 2,
        exec_id: 3,
        digest: [4; 32],
    };
    let mut denied = nothing;
    denied.abi = ABI;
    denied.verdict = Verdict::Deny as u32;
    denied.reason = Reason::NotAuthorized as u32;
    denied.facts.operation = Operation::Execute as u32;
    denied.facts.measured = Measured::Sha256 as u32;
    denied.facts.zone = 1;
    denied.path[..9].copy_from_slice(b"/bin/true");
    denied.comm[..2].copy_from_slice(b"sh");
    let mut connected = denied;
    connected.verdict = Verdict::Allow as u32;
    connected.reason = Reason::Authorized as u32;
    connected.facts.operation = Operation::Connect as u32;
    connected.facts.family = 2;
    connected.facts.label = label;
    connected.facts.destination_listed = 1;
    let carrier = |line: Line| Carrier {
        line: line as u32,
        tgid: 5,
        pid: 5,
        label,
        ..Carrier::default()
    };
    let list = [Line::Labelled, Line::Unread, Line::End].map(carrier);
    vec![
        denied.bytes().to_vec(),
        connected.bytes().to_vec(),
        list.iter().flat_map(|line| line.bytes().to_vec()).collect(),
    ]
}

/// Whatever the facts: a verdict and its reason belong together, and only what is observed is let go on.
fn judge(facts: &Facts) {
    for (judge, name) in JUDGES {
        let (verdict, reason) = judge(facts);
        assert_eq!(
            judge(facts),
            (verdict, reason),
            "{name} does not repeat itself"
        );
        let good = matches!(
            reason,
            Reason::Authorized | Reason::Unlabelled | Reason::Survival
        );
        match verdict {
            Verdict::Allow => assert!(good, "{name} allows for `{}`", reason.name()),
            Verdict::Deny | Verdict::WouldDeny => {
                assert!(!good, "{name} denies for `{}`", reason.name());
            }
        }
        if verdict == Verdict::Allow && reason == Reason::Authorized && *name != "guard" {
            assert!(facts.tombstone == 0, "{name} allows what is revoked");
        }
    }
}

type Judge = fn(&Facts) -> decide::Decision;

const JUDGES: &[(Judge, &str)] = &[
    (decide::decide_exec, "exec"),
    (decide::decide_map, "map"),
    (decide::decide_open, "open"),
    (decide::decide_socket, "socket"),
    (decide::decide_connect, "connect"),
    (decide::decide_send, "send"),
    (decide::decide_fork, "fork"),
    (decide::decide_guard, "guard"),
];
