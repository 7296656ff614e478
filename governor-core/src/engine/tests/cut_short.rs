//! What a daemon that was killed, or a step that failed, left half done, case by case.

use super::{
    super::*,
    crash_policies::menu,
    held::Mark,
    model::{Host, SECOND},
    policies::policy_of,
};

fn offer(host: &mut Host, policy: Arc<VerifiedPolicy>, uid: Option<u32>) {
    let users = BTreeMap::new();
    host.feed(Input::PolicyOffered { policy, users, uid })
        .unwrap();
}

fn revoke(host: &mut Host, target: Target) {
    let (reason, uid) = ("drill".to_owned(), 0);
    let input = Input::Revoke {
        target,
        reason,
        uid,
    };
    drop(host.feed(input));
}

#[test]
fn of_a_digest_that_was_being_revoked_what_runs_is_stopped_in_each_zone() {
    let mut host = Host::new();
    offer(&mut host, menu(2), Some(0));
    host.attest(false);
    host.populate();
    let digest = Digest::of(b"p");
    let runs = |host: &Host| {
        let found = host.copies.iter();
        found.filter(|copy| copy.digest == *digest.bytes()).count()
    };
    assert_eq!(runs(&host), 2, "in both zones");
    // Only the tombstone for every zone.
    host.dies = Some(2);
    revoke(&mut host, Target::Digest(digest));
    assert_eq!((host.kernel.tombstones.len(), runs(&host)), (1, 2));
    host.dies = None;
    assert!(host.adopt(None));
    assert_eq!(runs(&host), 0);
    assert!(!host.allows(b"p"));
}

#[test]
fn of_a_zone_that_is_gone_what_runs_with_a_digest_that_was_being_revoked_is_held() {
    let mut host = Host::new();
    offer(&mut host, policy_of(1), Some(0));
    let zone = host.engine.ids().zone("tools").unwrap();
    offer(&mut host, menu(6), Some(0));
    let one = super::crash::nobody(zone);
    host.copies.insert(one);
    host.dies = Some(2);
    revoke(&mut host, Target::Digest(Digest::new(one.digest)));
    host.dies = None;
    assert!(host.copies.contains(&one));
    assert!(host.adopt(None));
    assert_eq!(host.frozen.get(&one), Some(&Mark::Paused));
}

#[test]
fn a_policy_after_a_gate_that_could_not_be_taken_down_is_in_force() {
    let mut host = Host::new();
    offer(&mut host, policy_of(1), Some(0));
    assert!(host.allows(b"h"));
    host.feed(Input::Disarm {
        reason: "moving".into(),
        quoted: None,
        uid: 0,
    })
    .unwrap();
    host.full = true;
    host.feed(Input::PcrsExtended(Ok(()))).unwrap();
    assert!(!host.down && !host.allows(b"h"), "it was taken away first");
    host.full = false;
    offer(&mut host, policy_of(2), Some(0));
    assert!(host.allows(b"h"));
}

#[test]
fn what_was_stopped_when_everything_was_revoked_is_barred_before_that_is_forgotten() {
    let mut host = Host::new();
    offer(&mut host, menu(2), Some(0));
    host.attest(false);
    host.populate();
    revoke(&mut host, Target::All);
    let frozen = host.frozen.clone();
    assert!(frozen.values().any(|mark| *mark == Mark::Frozen));
    for point in 1.. {
        let mut cut = host.clone();
        cut.dies = Some(point);
        offer(&mut cut, menu(2), Some(0));
        let done = cut.dies != Some(0);
        cut.dies = None;
        assert!(cut.adopt(None));
        if !cut.kernel.revoked_all {
            cut.attest(false);
            cut.feed(Input::Tick).unwrap();
            assert!(cut.allows(b"p") && cut.copies.is_empty(), "at {point}");
        }
        if done {
            break;
        }
    }
}

#[test]
fn a_lease_that_an_earlier_daemon_was_granted_ends_in_sleep_also_without_a_policy() {
    let mut host = Host::new();
    offer(&mut host, policy_of(1), Some(0));
    host.attest(false);
    host.begin_again();
    host.feed(Input::NoPolicyKept).unwrap();
    assert!(host.lease_holds());
    host.now += SECOND;
    host.slept = Span(SECOND);
    host.feed(Input::Tick).unwrap();
    assert!(!host.lease_holds());
    // What could not be put in force before is now.
    offer(&mut host, policy_of(1), None);
    assert!(!host.allows(b"p") && host.allows(b"h"));
}
