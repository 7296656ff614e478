//! The drawing in `docs/trust.md` against the code: the same states, arrows and causes, or it fails.

use std::collections::{BTreeMap, BTreeSet};

use crate::{
    engine::{Cause, Causes, Clears, Trust, cause},
    time::BootTime,
};

const DRAWING: &str = include_str!("../../../../docs/trust.md");
const NOW: BootTime = BootTime(100);
const LATER: BootTime = BootTime(200);

/// From, to, by what.
type Arrow = (String, String, String);

fn arrow(from: &str, to: &str, by: &str) -> Arrow {
    (from.to_owned(), to.to_owned(), by.to_owned())
}

/// What is drawn.
fn drawn() -> BTreeSet<Arrow> {
    let (_, after) = DRAWING.split_once("```mermaid\nstateDiagram-v2\n").unwrap();
    let (chart, _) = after.split_once("```").unwrap();
    let mut arrows = BTreeSet::new();
    for line in chart.lines() {
        let (from, rest) = line.trim().split_once(" --> ").unwrap();
        let (to, by) = rest.split_once(": ").unwrap();
        for by in by.split(", ") {
            assert!(arrows.insert(arrow(from, to, by)), "drawn twice: {line}");
        }
    }
    arrows
}

/// Every state, each with one cause of every kind that can stand in it, and with two.
fn states() -> Vec<Trust> {
    let begin = || Trust::begin(NOW, Causes::new());
    let mut states = vec![begin(), begin().appraised(NOW, LATER)];
    for cause in cause::every() {
        for from in [begin(), begin().appraised(NOW, LATER)] {
            let doubted = from.clone().doubt(NOW, cause.clone(), String::new());
            states.push(doubted.clone());
            states.push(from.lose(NOW, cause.clone(), String::new()));
            for other in cause::every() {
                states.push(doubted.clone().doubt(NOW, other, String::new()));
            }
        }
    }
    states
}

/// What the code does: every state, every cause, every way of clearing.
fn walked() -> BTreeSet<Arrow> {
    let mut arrows = BTreeSet::new();
    let start = Trust::begin(NOW, Causes::new());
    arrows.insert(arrow("[*]", start.name(), "start"));
    for cause in cause::every().into_iter().filter(Cause::locks) {
        let locked = Trust::begin(NOW, Causes::from([(cause, String::new())]));
        arrows.insert(arrow("[*]", locked.name(), "start-locked"));
    }
    for state in states() {
        let from = state.name();
        let mut walk = |to: &Trust, by: &str| {
            arrows.insert(arrow(from, to.name(), by));
        };
        for cause in cause::every() {
            let doubted = state.clone().doubt(NOW, cause.clone(), String::new());
            let lost = state.clone().lose(NOW, cause.clone(), String::new());
            if cause.locks() {
                walk(&doubted, "lock");
                walk(&lost, "lock");
            } else {
                walk(&doubted, "doubt");
                walk(&lost, "loss");
            }
        }
        for clears in ways() {
            let by = match clears {
                Clears::Appraisal
                | Clears::Policy
                | Clears::Record
                | Clears::Table
                | Clears::Retry
                | Clears::End => "clear",
                Clears::Operator => "unlock",
            };
            walk(&state.clone().cleared(clears), by);
        }
        let left = state.causes().keys().any(|cause| match cause.clears() {
            Clears::Appraisal | Clears::Record => false,
            Clears::Policy | Clears::Table | Clears::Operator | Clears::Retry | Clears::End => true,
        });
        let by = if left {
            "appraised-with-causes-left"
        } else {
            "appraised"
        };
        walk(&state.clone().appraised(NOW, LATER), by);
    }
    arrows
}

fn ways() -> BTreeSet<Clears> {
    cause::every().iter().map(Cause::clears).collect()
}

#[test]
fn the_chart_is_drawn_as_the_code_walks() {
    let (drawn, walked) = (drawn(), walked());
    let missing: Vec<_> = walked.difference(&drawn).collect();
    let invented: Vec<_> = drawn.difference(&walked).collect();
    assert!(missing.is_empty(), "not drawn: {missing:?}");
    assert!(invented.is_empty(), "drawn, and never walked: {invented:?}");
}

#[test]
fn each_cause_is_listed_with_what_clears_it() {
    let (_, after) = DRAWING.split_once("## The causes\n").unwrap();
    let (section, _) = after.split_once("\n## ").unwrap();
    let listed: BTreeMap<String, String> = section
        .lines()
        .filter_map(|line| line.strip_prefix("| `"))
        .map(|row| {
            let cells: Vec<&str> = row.split(" | ").collect();
            let code = cells[0].trim_end_matches('`');
            (code.to_owned(), cells[2].to_owned())
        })
        .collect();
    let known: BTreeMap<String, String> = cause::every()
        .iter()
        .map(|cause| {
            let code = match cause {
                Cause::EvidenceRejected(_) => "evidence-rejected:CODE".to_owned(),
                Cause::PcrDiffers(_) => "pcr-differs:N".to_owned(),
                Cause::Tampered(_) => "tampered:SIGNAL".to_owned(),
                Cause::NotAttested
                | Cause::QuoteLate
                | Cause::TpmUnavailable
                | Cause::LedgerUnwritable
                | Cause::LedgerContradiction
                | Cause::LedgerMissing
                | Cause::LedgerUnreadable
                | Cause::LedgerRolledBack
                | Cause::LockUnreadable
                | Cause::TpmReset
                | Cause::ClockStepped
                | Cause::Suspended
                | Cause::EventsLost
                | Cause::GlassBroken
                | Cause::GateFault
                | Cause::StopFailed
                | Cause::NoPolicy
                | Cause::PolicyExpired
                | Cause::OperatorRevoked => cause.code(),
            };
            (code, format!("{:?}", cause.clears()).to_lowercase())
        })
        .collect();
    assert_eq!(listed, known);
}

#[test]
fn what_an_operator_clears_says_how() {
    for cause in cause::every() {
        assert_eq!(
            cause.locks(),
            cause.remedy().contains("governor unlock"),
            "{cause:?}"
        );
    }
}
