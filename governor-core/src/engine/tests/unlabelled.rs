//! What becomes of what runs without a label.

use super::{
    super::*,
    model::{Host, SECOND, clock},
    policies::signed_policy_edited,
};
use crate::lineage::Unlabelled;

fn found(zone: &str) -> Unlabelled {
    Unlabelled {
        zone: zone.into(),
        processes: 2,
        digests: Vec::new(),
        grip: String::new(),
    }
}

/// Under a policy that says this of the zone `agents`.
fn under(line: &str) -> Host {
    let mut host = Host::new();
    let policy = signed_policy_edited(1, |text| {
        text.replace("observe_up_to", &format!("{line}\nobserve_up_to"))
    });
    let (users, uid) = (BTreeMap::new(), Some(0));
    host.feed(Input::PolicyOffered { policy, users, uid })
        .unwrap();
    host
}

/// What is done, and what is written down after it.
fn done(host: &Host, zones: &[&str]) -> (Vec<(u32, Grip)>, Vec<String>) {
    let input = Input::UnlabelledFound {
        zones: zones.iter().map(|zone| (*zone).to_owned()).collect(),
        news: zones.iter().map(|zone| found(zone)).collect(),
    };
    let step = host.engine.handle(clock(host.now), input);
    let (mut stops, mut written) = (Vec::new(), Vec::new());
    for effect in step.effects {
        if let Effect::Hold {
            zone,
            running: Running::Unlabelled,
            grip,
        } = effect
        {
            assert!(
                written.is_empty(),
                "it is stopped before it is written down"
            );
            stops.push((zone, grip));
            continue;
        }
        let Effect::Append(kinds) = effect else {
            panic!("{effect:?}");
        };
        for kind in kinds {
            let Kind::Unlabelled(one) = kind else {
                panic!("{kind:?}");
            };
            written.push(format!("{}:{}", one.zone, one.grip));
        }
    }
    (stops, written)
}

#[test]
fn it_is_stopped_as_its_zone_says_and_nowhere_else() {
    for (line, stops, said) in [
        ("", vec![], ""),
        ("unlabelled = \"leave\"", vec![], ""),
        ("unlabelled = \"freeze\"", vec![(1, Grip::Pause)], "pause"),
        ("unlabelled = \"kill\"", vec![(1, Grip::Kill)], "kill"),
    ] {
        let host = under(line);
        let expected = [format!("agents:{said}"), "tools:".into(), ":".into()];
        assert_eq!(
            done(&host, &["agents", "tools", ""]),
            (stops, expected.to_vec()),
            "{line}"
        );
    }
}

#[test]
fn it_goes_on_while_its_zone_is_observed_or_the_glass_is_broken() {
    let mut host = under("unlabelled = \"kill\"");
    let observe = Input::Observe {
        zone: "agents".into(),
        span: Span::seconds(60),
        uid: 0,
    };
    host.feed(observe).unwrap();
    assert_eq!(done(&host, &["agents"]).0, []);
    host.now += 60 * SECOND;
    host.feed(Input::Tick).unwrap();
    assert_eq!(done(&host, &["agents"]).0, [(1, Grip::Kill)]);
    let signed = host.credential(60).unwrap();
    host.feed(signed).unwrap();
    assert_eq!(done(&host, &["agents"]).0, []);
    host.mend().unwrap();
    assert_eq!(done(&host, &["agents"]).0, [(1, Grip::Kill)]);
}

#[test]
fn who_was_told_before_is_stopped_again_and_not_told() {
    let host = under("unlabelled = \"kill\"");
    let again = Input::UnlabelledFound {
        zones: BTreeSet::from(["agents".to_owned(), "tools".to_owned()]),
        news: Vec::new(),
    };
    let step = host.engine.handle(clock(host.now), again);
    assert!(matches!(step.effects[..], [Effect::Hold { zone: 1, .. }]));
}

#[test]
fn a_stop_that_fails_is_not_owed_and_speaks_against_nobody() {
    let mut host = under("unlabelled = \"kill\"");
    let before = host.engine.trust().clone();
    let effect = Effect::Hold {
        zone: 1,
        running: Running::Unlabelled,
        grip: Grip::Kill,
    };
    host.feed(Input::EffectFailed {
        effect: Box::new(effect.clone()),
        error: "it forks".into(),
    })
    .unwrap();
    assert_eq!(*host.engine.trust(), before);
    let step = host.engine.handle(clock(host.now), Input::Tick);
    assert!(!step.effects.contains(&effect), "{:?}", step.effects);
}

#[test]
fn what_was_measured_is_written_down_and_nothing_else() {
    let host = under("unlabelled = \"kill\"");
    let one = Unlabelled {
        digests: vec![vec![1; 32]],
        ..found("agents")
    };
    let feed = |found| {
        let measured = Input::UnlabelledMeasured(found);
        host.engine.handle(clock(host.now), measured).effects
    };
    let written = Effect::Append(vec![Kind::Unlabelled(one.clone())]);
    assert_eq!(feed(vec![one]), [written]);
    assert!(feed(Vec::new()).is_empty());
}

#[test]
fn without_a_policy_nothing_is_stopped() {
    let host = Host::new();
    assert_eq!(done(&host, &["agents"]), (vec![], vec!["agents:".into()]));
}
