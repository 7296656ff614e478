//! Break-glass: who may, what it lifts and costs, and that it ends.

use governor_common::{Signal, names::ZONE_UNKNOWN};
use ssh_key::{HashAlg, LineEnding, PrivateKey, private::Ed25519Keypair};

use super::{
    crash::{Copied, nobody},
    model::{Host, *},
    trust::{trusted, unlock},
};
use crate::{
    engine::*,
    lineage::{Broken, Flaw, Head},
};

pub(super) fn key(seed: u8) -> PrivateKey {
    PrivateKey::from(Ed25519Keypair::from_seed(&[seed; 32]))
}

pub(super) fn keys(seeds: &[u8]) -> GlassKeys {
    let line = |seed: &u8| key(*seed).public_key().to_openssh().unwrap() + "\n";
    GlassKeys::parse(&seeds.iter().map(line).collect::<String>()).unwrap()
}

pub(super) fn signed(key: &PrivateKey, namespace: &str, message: &str) -> Vec<u8> {
    let signature = key.sign(namespace, HashAlg::Sha512, message.as_bytes());
    signature
        .unwrap()
        .to_pem(LineEnding::LF)
        .unwrap()
        .into_bytes()
}

pub(super) fn request(seconds: u64) -> Request {
    Request::new("the TPM is gone", seconds).unwrap()
}

impl Host {
    pub(super) fn ask(&mut self, seconds: u64) -> Result<String, Refused> {
        self.issued += 1;
        let nonce = *Digest::of(&self.issued.to_le_bytes()).bytes();
        let request = request(seconds);
        self.feed(Input::GlassAsked {
            request,
            nonce,
            uid: 0,
        })
    }

    /// What somebody with the key would send now, if there is a challenge to be had.
    pub(super) fn credential(&mut self, seconds: u64) -> Result<Input, Refused> {
        let challenge = self.ask(seconds)?;
        Ok(Input::GlassSigned {
            request: request(seconds),
            signature: signed(&key(GLASS_KEY), BREAK_GLASS, &challenge),
            uid: 0,
        })
    }

    fn break_glass(&mut self, seconds: u64) -> Result<String, Refused> {
        let input = self.credential(seconds)?;
        self.feed(input)
    }

    pub(super) fn mend(&mut self) -> Result<String, Refused> {
        let reason = "it works again".to_owned();
        self.feed(Input::GlassMended { reason, uid: 0 })
    }

    pub(super) fn glass_is_broken(&self) -> bool {
        self.kernel.glass.is_some_and(|until| self.now < until)
    }

    pub(super) fn tick(&mut self) {
        drop(self.feed(Input::Tick));
    }

    fn last(&self, which: fn(&Kind) -> bool) -> Option<Kind> {
        self.disk.records().into_iter().rfind(which)
    }
}

const BEGUN: fn(&Kind) -> bool = |kind| matches!(kind, Kind::GlassBroken(_));
const ENDED: fn(&Kind) -> bool = |kind| matches!(kind, Kind::GlassEnded(_));

#[test]
fn a_signature_lifts_denials_costs_trust_and_ends_by_itself() {
    let mut host = trusted();
    host.break_glass(60).unwrap();
    assert!(host.glass_is_broken() && !host.lease_holds());
    let Some(Kind::GlassBroken(record)) = host.last(BEGUN) else {
        panic!("no record");
    };
    assert_eq!(record.uid, Some(0));
    assert_eq!(record.until, host.now + 60 * SECOND);
    assert_eq!(keys(&[GLASS_KEY]).fingerprints().next(), Some(record.key));
    assert_eq!(host.engine.trust().name(), "degraded");
    // A good quote meanwhile is no way to trust.
    host.attest_when_due();
    assert!(host.engine.trust().has(&Cause::GlassBroken) && !host.lease_holds());
    let before = host.kernel.glass;
    host.copies = [nobody(1), nobody(2), nobody(ZONE_UNKNOWN)].into();
    host.now += 49 * SECOND;
    assert!(!host.glass_is_broken(), "the kernel needs nobody for this");
    // What the TPM was asked meanwhile says nothing of a moment after the end.
    host.begin_quote();
    host.tick();
    assert!(host.outstanding.is_none() || host.engine.outstanding.is_none());
    assert_eq!(
        host.kernel.glass, before,
        "over, and not forgotten before its record"
    );
    assert!(matches!(host.last(ENDED), Some(Kind::GlassEnded(_))));
    assert_eq!(
        host.copies,
        [nobody(2)].into(),
        "policy says that in zone `tools` what runs is left alone"
    );
    host.tick();
    assert_eq!(host.kernel.glass, None);
    assert_eq!(host.engine.trust().name(), "degraded");
    assert!(!host.allows(b"p"), "trust does not come back by itself");
    host.attest(false);
    assert!(host.allows(b"p"));
}

#[test]
fn it_is_ended_sooner_and_never_made_longer() {
    let mut host = trusted();
    host.break_glass(60).unwrap();
    let until = host.kernel.glass;
    for seconds in [1, 60, 600] {
        assert!(matches!(host.break_glass(seconds), Err(Refused::Denied(_))));
    }
    assert_eq!(host.kernel.glass, until);
    host.mend().unwrap();
    assert!(!host.glass_is_broken());
    assert!(matches!(host.last(ENDED), Some(Kind::GlassEnded(e)) if e.uid == Some(0)));
    assert!(host.mend().is_err(), "there is nothing to end any more");
    host.break_glass(5).unwrap();
    assert!(host.glass_is_broken());
}

#[test]
fn each_try_spends_its_challenge_and_is_counted_and_written_down() {
    let mut host = Host::new();
    let sign = |by: u8, namespace: &str, message: &str, seconds: u64| Input::GlassSigned {
        request: request(seconds),
        signature: signed(&key(by), namespace, message),
        uid: 0,
    };
    type Make = fn(&mut Host, String) -> Input;
    let wrong: &[(&str, Make, &str)] = &[
        (
            "another key",
            |_, c| glass_try(7, BREAK_GLASS, &c, 60),
            "not trusted",
        ),
        (
            "a policy's namespace",
            |_, c| glass_try(GLASS_KEY, crate::policy::NAMESPACE, &c, 60),
            "is for `governor-policy@v1`",
        ),
        (
            "other bytes",
            |_, c| glass_try(GLASS_KEY, BREAK_GLASS, &c.replace("60", "61"), 60),
            "over other bytes",
        ),
        (
            "another duration",
            |_, c| glass_try(GLASS_KEY, BREAK_GLASS, &c, 61),
            "the challenge is for 60 s",
        ),
        (
            "another reason",
            |_, c| Input::GlassSigned {
                request: Request::new("lunch", 60).unwrap(),
                signature: signed(&key(GLASS_KEY), BREAK_GLASS, &c),
                uid: 0,
            },
            "not for 60 s for `lunch`",
        ),
        (
            "no signature",
            |_, _| Input::GlassSigned {
                request: request(60),
                signature: Vec::new(),
                uid: 0,
            },
            "cannot be read",
        ),
        (
            "too late",
            |host, c| {
                host.now += PATIENCE.0;
                glass_try(GLASS_KEY, BREAK_GLASS, &c, 60)
            },
            "is over",
        ),
    ];
    for (at, (what, make, why)) in wrong.iter().enumerate() {
        let challenge = host.ask(60).unwrap();
        let input = make(&mut host, challenge.clone());
        let refused = host.feed(input).unwrap_err().into_reason();
        assert!(refused.contains(why), "{what}: {refused}");
        assert!(!host.glass_is_broken(), "{what}");
        assert!(matches!(host.disk.records().last(), Some(Kind::Refusal(r)) if r.why == refused));
        // The right answer comes too late now.
        let late = host.feed(sign(GLASS_KEY, BREAK_GLASS, &challenge, 60));
        assert!(matches!(late, Err(Refused::Denied(why)) if why.contains("no challenge is open")));
        assert_eq!(host.engine.refused_glass(), 2 * (at as u64 + 1));
    }
    let first = host.ask(60).unwrap();
    let second = host.ask(60).unwrap();
    let refused = host.feed(sign(GLASS_KEY, BREAK_GLASS, &first, 60));
    assert!(
        matches!(refused, Err(Refused::Unverified(_))),
        "one is open at a time"
    );
    assert!(
        host.feed(sign(GLASS_KEY, BREAK_GLASS, &second, 60))
            .is_err()
    );
    let used = host.ask(60).unwrap();
    host.feed(sign(GLASS_KEY, BREAK_GLASS, &used, 60)).unwrap();
    host.mend().unwrap();
    assert!(
        host.feed(sign(GLASS_KEY, BREAK_GLASS, &used, 60)).is_err(),
        "a replay"
    );
}

pub(super) fn glass_try(by: u8, namespace: &str, message: &str, seconds: u64) -> Input {
    Input::GlassSigned {
        request: request(seconds),
        signature: signed(&key(by), namespace, message),
        uid: 0,
    }
}

#[test]
fn without_keys_nobody_may_and_it_is_said_how() {
    let mut host = Host::new();
    host.engine.host.glass_keys = Err("list one".into());
    assert_eq!(host.ask(60), Err(Refused::Denied("list one".into())));
    let refused = host.feed(glass_try(GLASS_KEY, BREAK_GLASS, "x", 60));
    assert_eq!(refused, Err(Refused::Denied("list one".into())));
    assert_eq!(host.engine.refused_glass(), 2);
}

#[test]
fn a_ledger_that_takes_nothing_is_no_obstacle_and_is_told_first_thing() {
    let mut host = Host::new();
    let input = host.credential(60).unwrap();
    // Lease, epoch, record: the last of them, and whatever is tried again.
    host.fail = (host.performed + 2..host.performed + 3).collect();
    host.feed(input).unwrap();
    assert!(host.glass_is_broken() && host.last(BEGUN).is_none());
    assert!(host.engine.owes_glass() && host.engine.trust().has(&Cause::LedgerUnwritable));
    host.fail = (host.performed..host.performed + 1).collect();
    host.tick();
    assert!(host.engine.owes_glass());
    let written = host.disk.records().len();
    host.tick();
    let records = host.disk.records().split_off(written);
    assert!(matches!(
        records.as_slice(),
        [Kind::Gap(_), Kind::GlassBroken(_), ..]
    ));
    assert!(!host.engine.owes_glass());
}

#[test]
fn a_record_of_the_end_that_is_owed_keeps_the_kernel_from_forgetting() {
    let mut host = Host::new();
    host.load(1, Some(0)).unwrap();
    host.break_glass(5).unwrap();
    host.now += 5 * SECOND;
    // The kernel's word, the stops, the record: whatever comes after the first is tried in vain.
    host.fail = (host.performed + 1..host.performed + 12).collect();
    host.tick();
    assert!(host.engine.owes_glass() && host.kernel.glass.is_some());
    for _ in 0..4 {
        host.tick();
    }
    assert!(matches!(host.last(ENDED), Some(Kind::GlassEnded(_))));
    assert_eq!(host.kernel.glass, None);
}

#[test]
fn a_kernel_that_takes_no_word_breaks_nothing() {
    let mut host = trusted();
    let input = host.credential(60).unwrap();
    host.fail = (host.performed + 3..host.performed + 4).collect();
    host.feed(input).unwrap();
    assert!(!host.glass_is_broken() && host.engine.broken_glass().is_none());
    assert!(matches!(host.last(ENDED), Some(Kind::GlassEnded(_))));
    assert!(host.engine.trust().has(&Cause::GateFault));
}

#[test]
fn what_was_revoked_is_revoked_where_no_policy_says() {
    let mut host = Host::new();
    host.load(1, Some(0)).unwrap();
    let revoke = |name: &str| Input::Revoke {
        target: Target::Workload(name.into()),
        reason: "drill".into(),
        uid: 0,
    };
    let key = |content: &[u8]| TombstoneKey {
        zone: ZONE_UNKNOWN,
        reserved: 0,
        digest: *Digest::of(content).bytes(),
    };
    host.feed(revoke("helper")).unwrap();
    assert!(!host.kernel.tombstones.contains(&key(b"h")));
    host.break_glass(60).unwrap();
    assert!(host.kernel.tombstones.contains(&key(b"h")));
    host.copies = [Copied {
        digest: *Digest::of(b"p").bytes(),
        ..nobody(ZONE_UNKNOWN)
    }]
    .into();
    host.feed(revoke("planner")).unwrap();
    assert!(host.kernel.tombstones.contains(&key(b"p")));
    assert!(host.copies.is_empty(), "what runs there is stopped");
    let known = host.disk.recovered().tombstones;
    assert!(known.contains(&key(b"h")) && known.contains(&key(b"p")));
}

#[test]
fn a_tombstone_that_cannot_be_set_keeps_the_glass_whole() {
    let mut host = Host::new();
    host.load(1, Some(0)).unwrap();
    let target = Target::Workload("helper".into());
    host.feed(Input::Revoke {
        target,
        reason: "drill".into(),
        uid: 0,
    })
    .unwrap();
    let input = host.credential(60).unwrap();
    host.fail = [host.performed + 2].into();
    host.feed(input).unwrap();
    assert!(!host.glass_is_broken() && host.engine.broken_glass().is_none());
}

#[test]
fn revoking_everything_ends_it() {
    let mut host = trusted();
    host.break_glass(60).unwrap();
    host.copies = [nobody(1), nobody(ZONE_UNKNOWN)].into();
    host.feed(Input::Revoke {
        target: Target::All,
        reason: "enough".into(),
        uid: 0,
    })
    .unwrap();
    assert!(!host.glass_is_broken() && host.copies.is_empty());
}

#[test]
fn loading_unlocking_and_observing_do_not_prolong_it() {
    let mut host = trusted();
    let seen = BTreeMap::from([(Signal::MapTouched, 1)]);
    host.feed(Input::Signals(seen)).unwrap();
    assert_eq!(host.engine.trust().name(), "locked");
    host.break_glass(60).unwrap();
    assert_eq!(
        host.engine.trust().name(),
        "locked",
        "a lock is not opened by it"
    );
    let until = host.kernel.glass;
    unlock(&mut host).unwrap();
    assert!(host.engine.trust().has(&Cause::GlassBroken));
    host.load(2, Some(0)).unwrap();
    let span = Span::seconds(60);
    let zone = "agents".to_owned();
    host.feed(Input::Observe { zone, span, uid: 0 }).unwrap();
    host.restart();
    assert_eq!(host.kernel.glass, until);
    assert_eq!(host.engine.broken_glass().map(|g| g.until.0), until);
    host.now = until.unwrap();
    host.tick();
    assert!(host.engine.broken_glass().is_none());
    assert!(!host.engine.trust().has(&Cause::GlassBroken));
}

#[test]
fn a_lock_outlives_it() {
    let mut host = trusted();
    let seen = BTreeMap::from([(Signal::MapTouched, 1)]);
    host.feed(Input::Signals(seen)).unwrap();
    host.break_glass(5).unwrap();
    host.now += 5 * SECOND;
    host.tick();
    assert_eq!(host.engine.trust().name(), "locked");
}

#[test]
fn a_new_ledger_knows_of_it() {
    let mut host = trusted();
    host.feed(Input::LedgerBroken(Broken {
        flaw: Flaw::Missing,
        detail: "gone".into(),
        last: Head::EMPTY,
    }))
    .unwrap();
    host.break_glass(60).unwrap();
    let begun = host.last(BEGUN);
    unlock(&mut host).unwrap();
    assert_eq!(host.last(BEGUN), begun);
    assert!(
        host.disk
            .records()
            .iter()
            .any(|kind| matches!(kind, Kind::Begun(_)))
    );
}

/// A daemon that starts knows the sooner of what kernel and ledger say, and nothing after a reboot.
#[test]
fn another_daemon_takes_the_sooner_end() {
    let start = |word: Option<u64>, written: Option<(u64, [u8; 16])>, at: u64| {
        let host = Host::new();
        let recovered = Recovered {
            glass: written.map(|(until, boot)| {
                let glass = crate::lineage::GlassBroken {
                    until,
                    reason: "drill".into(),
                    uid: Some(0),
                    key: "SHA256:x".into(),
                };
                (glass, boot.to_vec())
            }),
            ..Recovered::default()
        };
        let kernel = KernelView {
            gate: "adopted".into(),
            epochs: Epochs {
                attested: 3,
                policy: 3,
            },
            generation: 1,
            tombstones: BTreeSet::new(),
            lease: None,
            revoked_all: false,
            boot_id: BOOT,
            armed: false,
            break_glass: word.map(BootTime),
            survivors: BTreeSet::new(),
            leased: BTreeSet::new(),
        };
        let host = host.engine.host().clone();
        let step = Engine::start(clock(at), host, recovered, &kernel);
        let until = step.next.broken_glass().map(|glass| glass.until.0);
        let mut ends = step.effects.iter().filter_map(|effect| {
            let Effect::EndBreakGlass { at } = effect else {
                return None;
            };
            Some(at.0)
        });
        let end = ends.next();
        assert_eq!(until, end);
        until
    };
    let (sooner, later) = (50 * SECOND, 60 * SECOND);
    assert_eq!(
        start(Some(sooner), Some((later, BOOT)), SECOND),
        Some(sooner)
    );
    assert_eq!(
        start(Some(later), Some((sooner, BOOT)), SECOND),
        Some(sooner)
    );
    assert_eq!(start(Some(later), None, SECOND), Some(later));
    assert_eq!(start(None, Some((later, BOOT)), SECOND), None);
    assert_eq!(
        start(None, Some((later, [1; 16])), SECOND),
        None,
        "a reboot"
    );
    let far = start(Some(u64::MAX), None, SECOND);
    assert_eq!(
        far,
        Some(SECOND + LONGEST.0),
        "never longer than may be asked for"
    );
}
