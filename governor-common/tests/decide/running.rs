//! What runs stays what was measured: whose writers are turned away, and who is not traced.

use governor_common::{
    Actor, Facts, Label, Measured, Operation, Reason, Row, Verdict, decide,
    facts::NOT_ASKED,
    row::{MEMORY_ANY, MODE_ENFORCE, MODE_OBSERVE, ROLE_EXECUTABLE, ROLE_LIBRARY},
};

use crate::{each_denies, fixture::*};

#[test]
fn what_is_written_or_traced_does_not_become_work() {
    let written = (
        "somebody writes it",
        (|f| f.measured = Measured::Written as u32) as fn(&mut Facts),
        Reason::BeingWritten,
    );
    let traced = (
        "somebody traces it",
        (|f| f.actor = Actor::Tracer as u32) as fn(&mut Facts),
        Reason::Traced,
    );
    each_denies(good_exec(), decide::decide_exec, &[written, traced]);
    let map = labelled(Operation::Map, ROLE_LIBRARY);
    each_denies(map, decide::decide_map, &[written]);
}

/// Nobody read it because nothing lifted denials: what does by now does not lift this one.
#[test]
fn what_nobody_read_is_refused_also_where_denials_are_lifted() {
    let map = labelled(Operation::Map, ROLE_LIBRARY);
    for (f, decide) in [
        (good_exec(), decide::decide_exec as fn(&Facts) -> _),
        (map, decide::decide_map),
        (opened(), decide::decide_open),
    ] {
        let mut lifted = Facts {
            measured: Measured::Written as u32,
            zone_mode: MODE_OBSERVE,
            zone_observe_until: NOW + 1,
            ..f
        };
        let reason = Reason::BeingWritten;
        assert_eq!(decide(&lifted), (Verdict::WouldDeny, reason));
        lifted.measured_raw = NOT_ASKED;
        assert_eq!(decide(&lifted), (Verdict::Deny, reason));
        lifted.zone_mode = MODE_ENFORCE;
        lifted.state.break_glass_until = NOW + 1;
        assert_eq!(decide(&lifted), (Verdict::Deny, reason));
    }
}

#[test]
fn tracing_is_refused_where_a_label_takes_part() {
    let tracer = Facts {
        actor: Actor::Tracer as u32,
        ..labelled(Operation::Trace, ROLE_EXECUTABLE)
    };
    let refused = (Verdict::Deny, Reason::Traced);
    assert_eq!(decide::decide_trace(&tracer), refused);
    let outsider = Facts {
        label: Label::default(),
        ..tracer
    };
    assert_eq!(decide::decide_trace(&outsider), refused);
    let observed = Facts {
        zone_mode: MODE_OBSERVE,
        zone_observe_until: NOW + 1,
        ..outsider
    };
    assert_eq!(
        decide::decide_trace(&observed),
        (Verdict::WouldDeny, Reason::Traced)
    );
}

#[test]
fn writers_are_kept_from_what_an_enforcing_zone_lets_run() {
    let holds = |facts: &Facts| decide::holds(facts, decide::decide_exec(facts));
    let mut facts = good_exec();
    assert!(holds(&facts));
    facts.row = Row::default();
    assert!(!holds(&facts), "denied");
    let mut facts = good_exec();
    facts.zone_mode = MODE_OBSERVE;
    assert!(holds(&facts), "observing that is over");
    facts.zone_observe_until = NOW + 1;
    assert!(!holds(&facts), "observed");
    facts.row = Row::default();
    assert!(!holds(&facts), "it would be denied");
    let mut memory = labelled(Operation::Map, ROLE_LIBRARY);
    assert!(decide::holds(&memory, decide::decide_map(&memory)));
    memory.measured = Measured::Nothing as u32;
    memory.zone_memory = MEMORY_ANY;
    let allowed = decide::decide_map(&memory);
    assert_eq!(allowed.0, Verdict::Allow);
    assert!(!decide::holds(&memory, allowed), "there is no file");
    let nobody = (Verdict::Allow, Reason::Unlabelled);
    assert!(!decide::holds(&good_exec(), nobody), "not governed");
}
