//! Scripts and their interpreters, as policies list them and the kernel is given them.

mod common;

use common::{edited, example_text, rows, with_text};
use governor_common::{
    names::SCOPE_START,
    row::{ROLE_EXECUTABLE, ROLE_INTERPRETER, ROLE_LIBRARY, ROLE_SCRIPT, Row},
};

const EXEC: &str = "exec = [\"planner\"]                  # sets, by role\n\
    libraries = [\"os-libraries\"]\nscripts = []";

/// The example with a workload of scripts only.
fn scripted(lists: &str) -> String {
    let text = example_text();
    assert!(text.contains(EXEC), "the example lists otherwise");
    text.replacen(EXEC, lists, 1)
}

fn roles(rows: &[Row], scope: u32) -> Vec<(u32, u32)> {
    let of_scope = rows.iter().filter(|row| row.key.scope == scope);
    let mut roles: Vec<_> = of_scope.map(|row| (row.workload, row.roles)).collect();
    roles.sort_unstable();
    roles.dedup();
    roles
}

#[test]
fn an_interpreter_is_its_workloads_and_nobody_starts_it() {
    let lists =
        "scripts = [\"planner\"]\ninterpreters = [\"os-base\"]\nlibraries = [\"os-libraries\"]";
    let policy = with_text(&scripted(lists)).expect("lints");
    assert_eq!(policy.warnings(), []);
    let rows = rows(&policy);
    assert_eq!(
        roles(&rows, SCOPE_START),
        [(0, ROLE_INTERPRETER), (1, ROLE_SCRIPT)]
    );
    let nobody = rows.iter().filter(|row| row.key.scope == SCOPE_START);
    for row in nobody.filter(|row| row.roles == ROLE_INTERPRETER) {
        assert_eq!((row.starters, row.users), ([0; 8], [0; 4]));
    }
    assert_eq!(
        roles(&rows, 1),
        [(1, ROLE_LIBRARY), (1, ROLE_SCRIPT), (1, ROLE_INTERPRETER)]
    );
}

/// Unlike what is started: which workload it is run for the script says.
#[test]
fn workloads_share_interpreters_and_one_of_them_may_start_it() {
    let lists = "scripts = [\"planner\"]\ninterpreters = [\"os-base\"]";
    for (more, started) in [
        (
            "scripts = [\"governor\"]\ninterpreters = [\"os-base\"]",
            (0, ROLE_INTERPRETER),
        ),
        ("exec = [\"os-base\"]", (1, ROLE_EXECUTABLE)),
    ] {
        // Before the other one by name, and so by number.
        let other = format!(
            "{}\n[workload.another]\nzone = \"agents\"\nuser = [\"0\"]\nstarted_by = [\"operator\"]\n{more}\n",
            scripted(lists)
        );
        let policy = with_text(&other).expect("lints");
        let rows = rows(&policy);
        assert!(roles(&rows, SCOPE_START).contains(&started), "{more}");
        let interprets = |row: &&Row| row.roles & ROLE_INTERPRETER != 0;
        let planner = rows.iter().filter(|row| row.key.scope == 2);
        assert!(planner.filter(interprets).count() > 0, "{more}");
        let starts = rows.iter().filter(|row| row.key.scope == SCOPE_START);
        for row in starts.filter(|row| row.roles == ROLE_EXECUTABLE) {
            assert_eq!((row.workload, row.users), (1, [1, 0, 0, 0]), "{more}");
        }
    }
}

#[test]
fn what_runs_scripts_is_said() {
    for (lists, said) in [
        ("scripts = [\"planner\"]", "nothing that runs them"),
        (
            "scripts = [\"planner\"]\nexec = [\"os-base\"]",
            "an interpreter in `exec` runs any text",
        ),
        (
            "exec = [\"planner\"]\ninterpreters = [\"os-base\"]",
            "`interpreters` and no `scripts`",
        ),
    ] {
        let policy = with_text(&scripted(lists)).expect("lints");
        let warnings: Vec<String> = policy.warnings().iter().map(ToString::to_string).collect();
        assert!(
            warnings.iter().any(|warning| warning.contains(said)),
            "expected {said:?} in {warnings:?}"
        );
    }
}

#[test]
fn what_is_only_an_interpreter_is_not_started_as_well() {
    for (list, lists) in [
        ("exec", "scripts = [\"planner\"]\nexec = [\"os-base\"]"),
        ("scripts", "scripts = [\"os-base\"]"),
        (
            "libraries",
            "scripts = [\"planner\"]\nlibraries = [\"os-base\"]",
        ),
    ] {
        let text = scripted(&format!("{lists}\ninterpreters = [\"os-base\"]"));
        let said = with_text(&text).expect_err("refused").to_string();
        let expected = format!("in `interpreters` and in `{list}`");
        assert!(said.contains(&expected), "{said}");
    }
    let list = edited("scripts = []", "scripts = []\ninterpreters = [\"planer\"]");
    let list = list.expect_err("refused").to_string();
    assert!(list.contains("did you mean `planner`?"), "{list}");
}
