//! SIGKILL of the daemon between any two effects of any decision.
//!
//! Each step of random sequences is cut at every point: what was performed until then is in the
//! modelled kernel and on the modelled disk, the rest never happens, and another daemon starts from
//! what it finds there, through the real reading of the ledger. A start is cut too.

use governor_common::{
    Signal,
    names::{SCOPE_START, WORKLOAD_NONE, ZONE_UNKNOWN},
    row::MODE_OBSERVE,
};
use proptest::prelude::*;

use super::model::{Host, *};
use crate::{
    engine::*,
    lineage::{Found, Notes, hold},
};

/// A running copy, by what its label says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Copied {
    pub(super) zone: u32,
    pub(super) workload: u32,
    pub(super) digest: [u8; 32],
}

/// What runs only for denials being lifted.
pub(super) fn nobody(zone: u32) -> Copied {
    Copied {
        zone,
        workload: WORKLOAD_NONE,
        digest: [3; 32],
    }
}

/// Lets the zone `tools` run what the zone `agents` runs.
const EXTRA: &str = "[workload.extra]\nzone = \"tools\"\nexec = [\"planner\"]\n\
                     started_by = [\"operator\"]\nuser = [\"1000\"]\non_revoke = \"kill\"\n";
/// The numbers of the zones of all these policies.
const ZONES: std::ops::RangeInclusive<u32> = 1..=3;
const SERIALS: std::ops::RangeInclusive<u64> = 1..=8;
/// Sequences tried; each is cut at some hundred points.
const SEQUENCES: u32 = 60;

/// Some policies list one program more; one has a workload under another name, and one a zone.
fn edited(serial: u64, text: String) -> String {
    let text = match serial {
        3 => text.replace("workload.planner", "workload.designer"),
        6 => text
            .replace("zone.tools", "zone.others")
            .replace("\"tools\"", "\"others\"")
            .replace("on_revoke = \"deny\"", "on_revoke = \"freeze\""),
        _ => text,
    };
    let extra = if serial % 3 == 2 { EXTRA } else { "" };
    text.replace("[set]\n", &format!("{extra}[set]\n"))
}

pub(super) fn menu(serial: u64) -> Arc<VerifiedPolicy> {
    static MADE: std::sync::OnceLock<Vec<Arc<VerifiedPolicy>>> = std::sync::OnceLock::new();
    let made = MADE.get_or_init(|| {
        SERIALS
            .map(|serial| {
                super::policies::signed_policy_edited(serial, |text| edited(serial, text))
            })
            .collect()
    });
    Arc::clone(&made[serial as usize - 1])
}

/// Whom the kernel would let run what, now. A zone that is observed runs anything, and so does every
/// zone while the glass is broken.
type Allowed = BTreeSet<(u32, Option<[u8; 32]>)>;

impl Host {
    fn allowed(&self) -> Allowed {
        let mut allowed = Allowed::new();
        for zone in ZONES {
            for content in [b"p".as_slice(), b"h"] {
                let digest = *Digest::of(content).bytes();
                if self.allows_digest(zone, digest) {
                    allowed.insert((zone, Some(digest)));
                }
            }
        }
        let rows = self.kernel.table.iter().flat_map(|table| &table.rows);
        for row in rows {
            if row.mode == MODE_OBSERVE && self.now < row.observe_until {
                allowed.insert((row.key.zone, None));
            }
        }
        if self.glass_is_broken() {
            let zones = ZONES.chain([ZONE_UNKNOWN]);
            allowed.extend(zones.map(|zone| (zone, None)));
        }
        allowed
    }

    /// Whatever may be started is.
    pub(super) fn populate(&mut self) {
        let Some(table) = &self.kernel.table else {
            return;
        };
        let started = table.rows.iter().filter(|row| {
            row.key.scope == SCOPE_START && self.allows_digest(row.key.zone, row.key.digest)
        });
        let copies: Vec<Copied> = started
            .map(|row| Copied {
                zone: row.key.zone,
                workload: row.workload,
                digest: row.key.digest,
            })
            .collect();
        let broken = self.glass_is_broken();
        let zones = table.zone_paths.iter().filter(|_| broken);
        let unknown: Vec<Copied> = zones.map(|(_, zone)| nobody(*zone)).collect();
        self.copies.extend(copies.into_iter().chain(unknown));
    }

    /// Another daemon takes over, as `governor daemon` starts; true if it got to its loop.
    fn adopt(&mut self, dies: Option<usize>) -> bool {
        self.dies = dies;
        self.fail.clear();
        self.wanted = None;
        self.outstanding = None;
        let scanned = self.disk.read();
        let notes = Notes {
            kernel: self.kernel.noted,
            anchor: self.kernel.anchored,
            ..Notes::default()
        };
        let broken = hold(&Found::Read(&scanned), &notes);
        assert_eq!(broken, None, "the ledger is not the one that was left");
        let kernel = KernelView {
            gate: if self.kernel.table.is_some() {
                "adopted"
            } else {
                "fresh"
            }
            .into(),
            epochs: Epochs {
                attested: self.kernel.attested,
                policy: self.kernel.policy,
            },
            generation: self
                .kernel
                .table
                .as_ref()
                .map_or(0, |table| table.generation),
            tombstones: self.kernel.tombstones.clone(),
            lease: self
                .lease_holds()
                .then_some(self.kernel.lease)
                .flatten()
                .map(|(deadline, _, _)| BootTime(deadline)),
            revoked_all: self.kernel.revoked_all,
            boot_id: BOOT,
            armed: self.kernel.armed,
            break_glass: self.kernel.glass.map(BootTime),
            survivors: BTreeSet::new(),
        };
        let host = self.engine.host().clone();
        let step = Engine::start(self.clock(), host, self.found(), &kernel);
        self.engine = step.next;
        self.perform(step.effects);
        let seen = self.kernel.signals.clone();
        drop(self.feed(Input::Signals(seen)));
        match self.engine.highest() {
            None => drop(self.feed(Input::NoPolicyKept)),
            Some((serial, digest)) => {
                assert!(self.kept.contains(&digest), "serial {serial} was not kept");
                self.offer(serial, None).unwrap();
            }
        }
        self.dies != Some(0)
    }

    fn offer(&mut self, serial: u64, uid: Option<u32>) -> Result<String, Refused> {
        self.feed(Input::PolicyOffered {
            policy: menu(serial),
            users: BTreeMap::new(),
            uid,
        })
    }

    /// What runs of workloads that the policy in force does not name; every policy would have them killed.
    fn orphans(&self) -> Vec<Copied> {
        let Some(policy) = self.engine.policy().map(VerifiedPolicy::policy) else {
            return Vec::new();
        };
        let ids = self.engine.ids();
        let workloads = policy.workloads().iter();
        let named: BTreeSet<u32> = workloads
            .filter_map(|(name, described)| ids.workload(&described.zone, name))
            .chain([WORKLOAD_NONE])
            .collect();
        let orphans = self.copies.iter().copied();
        orphans
            .filter(|copy| !named.contains(&copy.workload))
            .collect()
    }

    /// Nobody quotes for longer than a lease.
    pub(super) fn wait_in_vain(&mut self) {
        for seconds in [1, 31, 1, 0] {
            self.now += seconds * SECOND;
            drop(self.feed(Input::Tick));
        }
    }
}

/// Cuts what follows from one input at every point, and holds every outcome against the promises.
pub(super) fn walk(host: &Host, input: &Input) -> Result<(), TestCaseError> {
    let before = host.allowed();
    let mut whole = host.clone();
    drop(whole.feed(input.clone()));
    let (after, recorded_before) = (whole.allowed(), host.disk.head());
    whole.wait_in_vain();
    for point in 1.. {
        let mut cut = host.clone();
        cut.dies = Some(point);
        drop(cut.feed(input.clone()));
        let done = cut.dies != Some(0);
        // What a durable record granted may be in force; all else is what was there before.
        let mut most = before.clone();
        if cut.disk.head() != recorded_before {
            most.extend(after.iter().copied());
        }
        let mut once = cut.clone();
        prop_assert!(once.adopt(None));
        promises(host, &cut, once, &most, &whole)?;
        // And one that is cut in turn, somewhere.
        let mut twice = cut.clone();
        if !twice.adopt(Some(1 + point % 9)) {
            prop_assert!(twice.adopt(None));
        }
        // One that got to its loop is not cut there.
        twice.dies = None;
        promises(host, &cut, twice, &most, &whole)?;
        if done {
            return Ok(());
        }
    }
    Ok(())
}

/// `host`: before the decision. `cut`: what the kill left. `adopted`: after another daemon took over. `whole`: without the kill,
/// and later.
fn promises(
    host: &Host,
    cut: &Host,
    mut adopted: Host,
    most: &Allowed,
    whole: &Host,
) -> Result<(), TestCaseError> {
    let allowed = adopted.allowed();
    prop_assert!(
        allowed.is_subset(most),
        "more is allowed: {:?} of {:?}",
        allowed,
        most
    );
    let (kernel, found) = (&adopted.kernel, cut.disk.recovered());
    let left = adopted.disk.recovered();
    for tombstone in cut.kernel.tombstones.union(&found.tombstones) {
        prop_assert!(kernel.tombstones.contains(tombstone), "not in the kernel");
        prop_assert!(left.tombstones.contains(tombstone), "not in the ledger");
    }
    if cut.kernel.revoked_all || found.revoked_all {
        prop_assert!(kernel.revoked_all, "the kernel forgot that all is revoked");
        prop_assert!(left.revoked_all, "the ledger forgot that all is revoked");
        let listed = allowed.iter().any(|(_, content)| content.is_some());
        prop_assert!(!listed, "all was revoked: {:?}", allowed);
    }
    prop_assert!(kernel.attested >= cut.kernel.attested && kernel.policy >= cut.kernel.policy);
    let lease = kernel.lease;
    prop_assert!(
        lease.is_none() || lease == cut.kernel.lease,
        "a lease nobody granted"
    );
    let pending = cut
        .kernel
        .signals
        .iter()
        .any(|(s, n)| s.is_alarm() && *n > 0);
    if !found.locked.is_empty() || !cut.kept_lock.is_empty() || pending {
        prop_assert_eq!(adopted.engine.trust().name(), "locked");
        prop_assert!(!adopted.allows_digest(1, *Digest::of(b"p").bytes()));
    }
    prop_assert!(adopted.engine.highest() >= found.highest);
    if let Some((highest, _)) = found.highest.filter(|(serial, _)| *serial > 1) {
        prop_assert!(
            adopted.offer(highest - 1, Some(0)).is_err(),
            "a lower serial"
        );
    }
    let gone_is_stopped = |adopted: &Host| {
        let orphans = adopted.orphans();
        prop_assert!(
            adopted.engine.broken_glass().is_some() || orphans.is_empty(),
            "goes on under a name that is gone: {:?}",
            orphans
        );
        Ok(())
    };
    gone_is_stopped(&adopted)?;
    // Whatever the whole decision would have stopped is stopped, at the latest when nobody quotes.
    let began = adopted.engine.broken_glass().is_some();
    adopted.wait_in_vain();
    if took(&host.kernel, &cut.kernel) {
        // What an earlier break-glass left where policy said so goes at the end of the next, if that
        // ever began.
        let left_over =
            |copy: &&Copied| copy.workload == WORKLOAD_NONE && host.copies.contains(copy) && !began;
        let running = adopted.copies.difference(&whole.copies);
        let running: Vec<_> = running.filter(|copy| !left_over(copy)).collect();
        prop_assert!(running.is_empty(), "still running: {:?}", running);
    }
    gone_is_stopped(&adopted)?;
    let broken = adopted.glass_is_broken();
    let unvouched = adopted.copies.iter().any(|copy| copy.zone == 1);
    prop_assert!(
        !unvouched || broken || adopted.engine.policy().is_none(),
        "attested work goes on, and nobody quotes"
    );
    // Its policy leaves what runs there alone. Which number it has depends on what was loaded first.
    let spared = adopted.engine.ids().zone("tools");
    let nobodys = |copy: &Copied| copy.workload == WORKLOAD_NONE && Some(copy.zone) != spared;
    prop_assert!(
        broken || !adopted.copies.iter().any(nobodys),
        "what ran for break-glass alone goes on without it"
    );
    prop_assert!(broken || adopted.kernel.glass.is_none(), "not forgotten");
    Ok(())
}

/// Whether something was taken away between the two.
fn took(before: &Kernel, after: &Kernel) -> bool {
    (before.attested, before.policy) != (after.attested, after.policy)
        || before.tombstones != after.tombstones
        || before.lease.is_some() && after.lease.is_none()
        || after.revoked_all && !before.revoked_all
}

#[derive(Clone, Debug)]
enum Move {
    Wait(u64),
    Tick,
    Load(u64, bool),
    Begin,
    Answer(bool),
    Pcrs(bool),
    RevokeAll,
    Revoke(&'static str),
    Observe(u64),
    Alarm,
    Unlock,
    Pause,
    Resume,
    Break(u64),
    Mend,
}

fn moves() -> impl Strategy<Value = Vec<Move>> {
    let step = prop_oneof![
        2 => (1u64..20).prop_map(Move::Wait),
        3 => Just(Move::Tick),
        4 => (SERIALS, proptest::bool::weighted(0.8)).prop_map(|(s, h)| Move::Load(s, h)),
        4 => Just(Move::Begin),
        4 => proptest::bool::weighted(0.1).prop_map(Move::Answer),
        1 => proptest::bool::weighted(0.3).prop_map(Move::Pcrs),
        1 => Just(Move::RevokeAll),
        1 => prop_oneof![Just("helper"), Just("extra"), Just("planner")].prop_map(Move::Revoke),
        1 => (0u64..3).prop_map(|n| Move::Observe(n * 20)),
        1 => Just(Move::Alarm),
        1 => Just(Move::Unlock),
        1 => Just(Move::Pause),
        1 => Just(Move::Resume),
        2 => (1u64..50).prop_map(Move::Break),
        1 => Just(Move::Mend),
    ];
    proptest::collection::vec(step, 1..30)
}

/// What the daemon is told; what only happens to the host is done.
fn input(host: &mut Host, step: &Move) -> Option<Input> {
    let (reason, uid) = ("drill".to_owned(), 0);
    let everything = Target::All;
    Some(match step {
        Move::Wait(seconds) => {
            host.now += seconds * SECOND;
            return None;
        }
        Move::Begin => {
            host.begin_quote();
            return None;
        }
        Move::Tick => Input::Tick,
        Move::Load(serial, by_hand) => Input::PolicyOffered {
            policy: menu(*serial),
            users: BTreeMap::new(),
            uid: by_hand.then_some(0),
        },
        Move::Answer(changed) => {
            let challenge = host.outstanding.take()?;
            let evidence = Box::new(evidence(&challenge, *changed));
            let nonce = challenge.nonce;
            Input::EvidenceArrived { nonce, evidence }
        }
        Move::Pcrs(changed) => Input::PcrsRead(pcrs(*changed)),
        Move::RevokeAll => Input::Revoke {
            target: everything,
            reason,
            uid,
        },
        Move::Revoke(workload) => Input::Revoke {
            target: Target::Workload((*workload).to_owned()),
            reason,
            uid,
        },
        Move::Observe(seconds) => Input::Observe {
            zone: "agents".into(),
            span: Span::seconds(*seconds),
            uid,
        },
        Move::Alarm => {
            *host.kernel.signals.entry(Signal::PinTouched).or_default() += 1;
            Input::Signals(host.kernel.signals.clone())
        }
        Move::Unlock => host.unlocking(uid),
        Move::Break(seconds) => host.credential(*seconds).ok()?,
        Move::Mend => Input::GlassMended { reason, uid },
        Move::Pause => Input::Hold {
            target: everything,
            grip: Grip::Pause,
            reason,
            uid,
        },
        Move::Resume => Input::Resume {
            target: everything,
            reason,
            uid,
        },
    })
}

/// Cuts each of these where it can be cut, and goes on with the whole.
fn walk_all(moves: &[Move]) -> Result<(), TestCaseError> {
    let mut host = Host::new();
    for step in moves {
        let Some(input) = input(&mut host, step) else {
            continue;
        };
        walk(&host, &input)?;
        drop(host.feed(input));
        host.populate();
    }
    Ok(())
}

#[test]
fn what_an_earlier_break_glass_left_may_stay_when_the_next_is_cut_short() {
    let (first, other) = (Move::Load(1, false), Move::Load(6, false));
    let glass = Move::Break(1);
    walk_all(&[first, glass.clone(), Move::RevokeAll, other, glass]).unwrap();
}

#[test]
fn what_was_revoked_in_a_former_boot_is_marked_in_the_kernel_of_this_one() {
    let mut host = Host::new();
    host.offer(1, Some(0)).unwrap();
    let (target, reason, uid) = (Target::All, "drill".to_owned(), 0);
    host.feed(Input::Revoke {
        target,
        reason,
        uid,
    })
    .unwrap();
    host.kernel = Kernel {
        anchored: host.kernel.anchored,
        ..Kernel::default()
    };
    assert!(host.adopt(None) && host.kernel.revoked_all);
    assert!(host.allowed().is_empty());
    host.offer(2, Some(0)).unwrap();
    assert!(!host.kernel.revoked_all && !host.allowed().is_empty());
}

proptest! {
    #![proptest_config(ProptestConfig {
        failure_persistence: None,
        ..ProptestConfig::with_cases(SEQUENCES)
    })]

    #[test]
    fn a_kill_between_any_two_effects_leaves_no_more_than_there_was(moves in moves()) {
        walk_all(&moves)?;
    }
}
