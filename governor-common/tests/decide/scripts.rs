//! Scripts, and what the kernel hands them to.

use governor_common::{
    Facts, Operation, Reason, Verdict, decide,
    names::SCOPE_START,
    row::{ROLE_EXECUTABLE, ROLE_INTERPRETER, ROLE_LIBRARY, ROLE_SCRIPT},
};

use crate::{Case, each_denies, fixture::*};

#[test]
fn a_script_and_its_interpreter() {
    let script = Facts {
        operation: Operation::Script as u32,
        row: row(SCOPE_START, ROLE_SCRIPT),
        ..good_exec()
    };
    each_denies(
        script,
        decide::decide_exec,
        &[(
            "an executable is not a script",
            |f| f.row.roles = ROLE_EXECUTABLE,
            Reason::WrongRole,
        )],
    );
    let interpreter = Facts {
        script_workload: WORKLOAD,
        row: row(WORKLOAD, ROLE_EXECUTABLE),
        ..good_exec()
    };
    each_denies(
        interpreter,
        decide::decide_exec,
        &[(
            "another workload's interpreter",
            |f| f.script_workload = WORKLOAD + 1,
            Reason::NotAuthorized,
        )],
    );
}

#[test]
fn a_script_hands_itself_to_its_own_workload_only() {
    let mut facts = good_exec();
    facts.operation = Operation::Script as u32;
    facts.row = row(SCOPE_START, ROLE_SCRIPT);
    assert_eq!(decide::decide_exec(&facts).0, Verdict::Allow);
    // A script named by another script: a start of its own no more.
    facts.script_workload = WORKLOAD + 1;
    assert_eq!(
        decide::decide_exec(&facts),
        (Verdict::Deny, Reason::NotAuthorized)
    );
    facts.script_workload = WORKLOAD;
    facts.row = row(WORKLOAD, ROLE_SCRIPT);
    assert_eq!(decide::decide_exec(&facts).0, Verdict::Allow);
}

#[test]
fn an_interpreter_runs_scripts_of_its_workload_and_nothing_else() {
    let refused: &[Case] = &[
        (
            "started by itself",
            |f| {
                f.script_workload = 0;
                f.row = row(SCOPE_START, ROLE_INTERPRETER);
            },
            Reason::InterpreterOnly,
        ),
        (
            "a name that is an option",
            |f| f.kind = b'-'.into(),
            Reason::InterpreterOnly,
        ),
        (
            "another such name",
            |f| f.kind = b'+'.into(),
            Reason::InterpreterOnly,
        ),
        (
            "a name that is a word",
            |f| f.kind = b'c'.into(),
            Reason::InterpreterOnly,
        ),
        (
            "a name nobody could read",
            |f| f.kind = 0,
            Reason::InterpreterOnly,
        ),
        (
            "another workload's",
            |f| f.script_workload = WORKLOAD + 1,
            Reason::NotAuthorized,
        ),
        (
            "a library of the workload",
            |f| f.row.roles = ROLE_LIBRARY,
            Reason::WrongRole,
        ),
        ("root", |f| f.uid = 0, Reason::WrongUser),
    ];
    each_denies(interpreter(), decide::decide_exec, refused);
    // One that may be started may also be called by any name.
    let mut started = interpreter();
    started.row.roles |= ROLE_EXECUTABLE;
    started.kind = b'-'.into();
    assert_eq!(decide::decide_exec(&started).0, Verdict::Allow);
    // An interpreter that is a script itself.
    let mut script = interpreter();
    script.operation = Operation::Script as u32;
    assert_eq!(decide::decide_exec(&script).0, Verdict::Allow);
    let image = Facts {
        script_workload: WORKLOAD,
        ..labelled(Operation::Map, ROLE_INTERPRETER)
    };
    each_denies(
        image,
        decide::decide_map,
        &[
            (
                "mapped by what was started otherwise",
                |f| f.script_workload = 0,
                Reason::InterpreterOnly,
            ),
            (
                "mapped by another workload's",
                |f| f.script_workload = WORKLOAD + 1,
                Reason::InterpreterOnly,
            ),
        ],
    );
}
