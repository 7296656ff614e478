//! The whole host as a zone: taking every grant away neither shuts the host out nor sets it free.

use super::{policies::signed_policy_edited, *};
use governor_common::{
    Row,
    names::{SCOPE_SURVIVAL, SCOPE_ZONE, ZONE_HOST},
    row::{MODE_ENFORCE, MODE_OBSERVE},
};

fn policy(serial: u64) -> Arc<VerifiedPolicy> {
    signed_policy_edited(serial, |text| {
        let tables = "[zone.host]\ncgroup = \"/\"\nrequires = \"policy\"\n\
                      [survival]\nexec = [\"daemon\"]\nlibraries = [\"daemon\"]\n[set]\n";
        text.replace("[set]\n", tables)
    })
}

fn offer(host: &mut Host, serial: u64, uid: Option<u32>) -> Result<String, Refused> {
    host.feed(Input::PolicyOffered {
        policy: policy(serial),
        users: BTreeMap::new(),
        uid,
    })
}

fn governed() -> Host {
    let mut host = Host::new();
    offer(&mut host, 1, Some(0)).unwrap();
    assert_eq!(rows(&host), [SCOPE_SURVIVAL, SCOPE_ZONE]);
    host
}

/// Scopes of the host's own rows that are in force.
fn rows(host: &Host) -> Vec<u32> {
    let table = host.kernel.table.as_ref().unwrap();
    let own = table.rows.iter().filter(|row| row.key.zone == ZONE_HOST);
    own.map(|row| row.key.scope).collect()
}

fn revoke(host: &mut Host, target: Target) -> Result<String, Refused> {
    host.feed(Input::Revoke {
        target,
        reason: "drill".into(),
        uid: 0,
    })
}

#[test]
fn revoking_everything_leaves_what_survives() {
    let mut host = governed();
    revoke(&mut host, Target::All).unwrap();
    host.restart();
    offer(&mut host, 1, None).unwrap();
    assert!(host.engine.trust().has(&Cause::OperatorRevoked));
    assert_eq!(rows(&host), [SCOPE_SURVIVAL, SCOPE_ZONE]);
    assert!(!host.allows(b"h"));
}

#[test]
fn a_policy_that_is_over_by_a_clock_set_forward_leaves_the_host_as_it_is() {
    let mut host = governed();
    host.full = true;
    host.set = 30_297_600;
    // The first finds that nothing can be written, and the next takes away what needs no record.
    host.feed(Input::Tick).unwrap();
    host.feed(Input::Tick).unwrap();
    assert_eq!(rows(&host), [SCOPE_SURVIVAL, SCOPE_ZONE]);
    assert!(!host.allows(b"h"));
}

#[test]
fn a_daemon_that_finds_no_policy_leaves_the_host_as_it_is() {
    let mut host = governed();
    host.restart();
    host.feed(Input::NoPolicyKept).unwrap();
    assert_eq!(rows(&host), [SCOPE_SURVIVAL, SCOPE_ZONE]);
    assert!(!host.allows(b"h"));
    host.load(2, Some(0)).unwrap();
    assert!(rows(&host).is_empty(), "a policy without it ends it");
}

#[test]
fn what_survives_is_not_revoked_by_hand_nor_listed_once_it_was() {
    let mut host = governed();
    let survivor = Digest::of(b"daemon");
    let refused = revoke(&mut host, Target::Digest(survivor)).unwrap_err();
    assert!(matches!(refused, Refused::Denied(_)), "{refused:?}");
    assert!(host.kernel.tombstones.is_empty());

    let mut host = Host::new();
    host.load(1, Some(0)).unwrap();
    revoke(&mut host, Target::Digest(survivor)).unwrap();
    let refused = offer(&mut host, 2, Some(0)).unwrap_err();
    assert!(matches!(refused, Refused::Denied(_)), "{refused:?}");
    assert!(rows(&host).is_empty());
}

#[test]
fn what_survives_is_not_revoked_while_no_policy_is_active() {
    let mut host = governed();
    host.restart();
    host.feed(Input::NoPolicyKept).unwrap();
    let refused = revoke(&mut host, Target::Digest(Digest::of(b"daemon"))).unwrap_err();
    assert!(matches!(refused, Refused::Denied(_)), "{refused:?}");
    assert!(host.kernel.tombstones.is_empty());
}

#[test]
fn a_kept_policy_that_would_shut_out_is_in_force_and_its_host_observed() {
    let mode = |host: &Host| {
        let table = host.kernel.table.as_ref().unwrap();
        let key = |row: &&Row| row.key.zone == ZONE_HOST && row.key.scope == SCOPE_ZONE;
        let row = table.rows.iter().find(key).unwrap();
        (row.mode, row.observe_until > host.now)
    };
    let mut host = governed();
    assert_eq!(mode(&host), (MODE_ENFORCE, false));
    host.restart();
    host.feed(Input::HostShutOut).unwrap();
    offer(&mut host, 1, None).unwrap();
    assert_eq!(mode(&host), (MODE_OBSERVE, true));
    assert!(host.allows(b"h"), "the other zones are as policy says");
    host.feed(Input::Tick).unwrap();
    assert_eq!(mode(&host), (MODE_OBSERVE, true));
    offer(&mut host, 1, Some(0)).unwrap();
    assert_eq!(mode(&host), (MODE_ENFORCE, false), "an operator loaded it");
}

#[test]
fn what_ends_with_the_zone_is_told_before_and_stopped_after() {
    let with_workload = |zone: &'static str, work: &'static str| {
        signed_policy_edited(1, move |text| {
            let tables = format!(
                "[zone.host]\ncgroup = \"/\"\nrequires = \"policy\"\non_revoke = \"{zone}\"\n\
                 [workload.hosted]\nzone = \"host\"\nexec = [\"helper\"]\nuser = [\"0\"]\n\
                 started_by = [\"operator\"]\non_revoke = \"{work}\"\n\
                 [survival]\nexec = [\"daemon\"]\nlibraries = [\"daemon\"]\n[set]\n"
            );
            text.replace("[set]\n", &tables)
        })
    };
    for (zone, work, expected) in [
        ("deny", "deny", None),
        ("freeze", "deny", Some(OnRevoke::Freeze)),
        ("deny", "quarantine", Some(OnRevoke::Quarantine)),
        ("freeze", "kill", Some(OnRevoke::Kill)),
    ] {
        let mut host = Host::new();
        let (policy, users) = (with_workload(zone, work), BTreeMap::new());
        let uid = Some(0);
        host.feed(Input::PolicyOffered { policy, users, uid })
            .unwrap();
        let label = |zone, workload| governor_common::Label {
            zone,
            workload,
            ..Default::default()
        };
        let number = host.engine.ids().workload("host", "hosted").unwrap();
        let runs = [label(ZONE_HOST, number), label(1, number)];
        let next = super::policies::policy_of(2);
        let told = host.engine.ends_with_host(next.policy(), runs);
        let told: Vec<_> = told.into_iter().collect();
        let name = "host/hosted".to_owned();
        let before = with_workload(zone, work);
        let linted = lint_in_place_of(before.policy(), next.policy());
        let [lets_run, stops] = &linted[..] else {
            panic!("{linted:?}")
        };
        assert!(lets_run.to_string().contains("connects to anything"));
        let becomes = match expected {
            None => "may start and connect to nothing",
            Some(OnRevoke::Freeze) => "is frozen,",
            Some(OnRevoke::Quarantine) => "is frozen and its connections are closed",
            Some(OnRevoke::Deny | OnRevoke::Kill) => "is killed",
        };
        let stops = stops.to_string();
        assert!(
            stops.contains("workload `hosted`") && stops.contains(becomes),
            "{stops}"
        );
        assert_eq!(
            stops.contains("--ends-host"),
            expected.is_some(),
            "it is refused without: {stops}"
        );
        let listed = expected.map(|action| ((name, action), 1));
        assert_eq!(told, Vec::from_iter(listed));
        let stays = host
            .engine
            .ends_with_host(with_workload(zone, work).policy(), runs);
        assert!(stays.is_empty(), "{stays:?}");
        // A zone that stays refuses nothing, and what it drops is stopped at once.
        let without = lint_in_place_of(before.policy(), self::policy(1).policy());
        let [dropped] = &without[..] else {
            panic!("{without:?}")
        };
        let dropped = dropped.to_string();
        assert!(
            dropped.contains(becomes) && !dropped.contains("--ends-host"),
            "{dropped}"
        );
        let step = host.engine.handle(
            clock(host.now),
            Input::PolicyOffered {
                policy: next,
                users: BTreeMap::new(),
                uid,
            },
        );
        let strictest = step.effects.iter().filter_map(|effect| {
            let Effect::Stop { zone, action, .. } = effect else {
                return None;
            };
            (*zone == ZONE_HOST).then_some(*action)
        });
        assert_eq!(strictest.max(), expected);
    }
}

#[test]
fn a_zone_that_stays_or_never_was_ends_nothing() {
    let (with, without) = (policy(1), super::policies::policy_of(2));
    for (before, after) in [(&with, &with), (&without, &with), (&without, &without)] {
        assert_eq!(lint_in_place_of(before.policy(), after.policy()), []);
    }
    // A workload is told from another of its name by its zone, and one that is observed is let run.
    let planner = "[workload.planner]\nzone = \"agents\"";
    let elsewhere = "[workload.planner]\nzone = \"tools\"";
    let other = "[workload.other]\nzone = \"agents\"";
    for (after, mode, is_told) in [
        (planner, "enforce", false),
        (other, "enforce", true),
        (elsewhere, "enforce", true),
        (other, "observe", false),
    ] {
        let zone = format!("[zone.agents]\nmode = \"{mode}\"\n");
        let after = signed_policy_edited(1, |text| {
            let text = text.replace(planner, after);
            text.replace("[zone.agents]\n", &zone)
        });
        let told = lint_in_place_of(without.policy(), after.policy());
        let told: Vec<_> = told.iter().map(ToString::to_string).collect();
        let about = told.iter().filter(|one| one.contains("`planner`"));
        let killed = about.filter(|one| one.contains("is killed"));
        assert_eq!(killed.count(), usize::from(is_told), "{told:?}");
    }
    assert_eq!(
        lint_in_place_of(with.policy(), without.policy()).len(),
        1,
        "it has no workload"
    );
}

#[test]
fn its_workloads_are_stopped_like_any_others() {
    let host = governed();
    let step = host.engine.handle(
        clock(host.now),
        Input::Revoke {
            target: Target::All,
            reason: "drill".into(),
            uid: 0,
        },
    );
    let of_host = |effect: &&Effect| {
        matches!(
            effect,
            Effect::Stop {
                zone: ZONE_HOST,
                ..
            }
        )
    };
    assert_eq!(step.effects.iter().filter(of_host).count(), 1);
}
