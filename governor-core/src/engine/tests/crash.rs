//! SIGKILL of the daemon between any two effects of any decision.
//!
//! Each step of random sequences is cut at every point: what was performed until then is in the
//! modelled kernel and on the modelled disk, the rest never happens, and another daemon starts from
//! what it finds there, through the real reading of the ledger. A start is cut too.

use governor_common::{
    Row,
    names::{SCOPE_START, WORKLOAD_NONE, ZONE_EVERY, ZONE_HOST, ZONE_UNKNOWN},
    row::{CLASS_ATTESTED, MODE_OBSERVE},
};
use proptest::prelude::*;

use super::{
    crash_moves::takes_unrecorded,
    crash_policies::menu,
    held::Mark,
    model::{Host, *},
};
use crate::{
    engine::*,
    lineage::{Found, Notes, hold},
};

/// As the ledger has it of a zone that needs one.
const LEASED: u32 = 2;

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

/// The numbers of the zones of all these policies.
const ZONES: [u32; 4] = [1, 2, 3, ZONE_HOST];

/// Whom the kernel would let run what, now. A zone that is observed runs anything, and so does every
/// zone while the glass is broken, and where no gate is.
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
        if self.glass_is_broken() || self.down {
            let zones = ZONES.into_iter().chain([ZONE_UNKNOWN]);
            allowed.extend(zones.map(|zone| (zone, None)));
        }
        allowed
    }

    /// The same, and what a daemon that starts puts in force again: the kept policy, where that could not be
    /// done, and a table in the place of one that counts for nothing since the gate could not be taken down.
    fn allowed_or_kept(&self) -> Allowed {
        let mut allowed = self.allowed();
        let rows = self.kernel.table.iter().flat_map(|table| &table.rows);
        let void = |row: &Row| row.class != CLASS_ATTESTED && row.epoch < self.kernel.policy;
        let void = !self.kernel.revoked_all && rows.into_iter().any(void);
        if self.engine.policy().is_none() || void {
            let mut other = self.clone();
            other.adopt(None);
            allowed.extend(other.allowed());
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
    pub(super) fn adopt(&mut self, dies: Option<usize>) -> bool {
        self.dies = dies;
        // Whatever the disk was full of is gone by then.
        self.full = false;
        self.begin_again();
        if let Some((serial, digest)) = self.engine.highest() {
            assert!(self.kept.contains(&digest), "serial {serial} was not kept");
            self.offer(serial, None).unwrap();
        }
        if self.engine.policy().is_none() {
            drop(self.feed(Input::NoPolicyKept));
        }
        self.dies != Some(0)
    }

    /// Its start, up to the policy that was kept.
    pub(super) fn begin_again(&mut self) {
        self.fail.clear();
        self.lame = 0;
        self.wanted = None;
        self.outstanding = None;
        self.extending = None;
        if core::mem::take(&mut self.down) {
            // Labels went with the gate: of what runs on nobody knows what it is.
            self.copies.clear();
            self.frozen.clear();
        }
        if self.broken.is_none() {
            let scanned = self.disk.read();
            let notes = Notes {
                kernel: self.kernel.noted,
                anchor: self.kernel.anchored,
                ..Notes::default()
            };
            self.broken = hold(&Found::Read(&scanned), &notes);
            let left = self.broken.is_none() || self.begun;
            assert!(left, "not the ledger that was left: {:?}", self.broken);
        }
        let rows = self.kernel.table.iter().flat_map(|table| &table.rows);
        let lease = self.kernel.lease;
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
            // Also one that is over.
            lease: lease
                .filter(|(_, _, epoch)| *epoch == self.kernel.attested)
                .map(|(deadline, _, _)| BootTime(deadline)),
            revoked_all: self.kernel.revoked_all,
            boot_id: BOOT,
            armed: self.kernel.armed,
            break_glass: self.kernel.glass.map(BootTime),
            survivors: survivors(rows.clone()),
            leased: leased(rows),
        };
        let host = self.engine.host().clone();
        let step = Engine::start(self.clock(), host, self.found(), &kernel);
        self.perform(&step.next, step.effects);
        self.engine = step.next;
        let seen = self.kernel.signals.clone();
        drop(self.feed(Input::Signals(seen)));
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

    /// A lease holds that was granted before the host slept.
    fn leased_in_sleep(&self) -> bool {
        let slept = |at: Span| self.slept.0 > at.0 + SECOND / 2;
        self.lease_holds() && self.found().slept.is_some_and(slept)
    }

    /// What is frozen, and was before too, when trust that returned would have let it go on.
    fn barred_since(&self, before: &Self) -> BTreeSet<Copied> {
        let frozen = self.frozen.iter().filter(|(copy, mark)| {
            **mark > Mark::Frozen && before.frozen.get(copy) == Some(&Mark::Frozen)
        });
        frozen.map(|(copy, _)| *copy).collect()
    }

    /// What goes on by itself when a quote is accepted.
    fn gone_on_for_trust(mut self) -> BTreeSet<Copied> {
        let before = self.copies.clone();
        self.dies = None;
        if self.begin_quote() {
            self.answer_quote(self.extended);
        }
        drop(self.feed(Input::Tick));
        self.copies.difference(&before).copied().collect()
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
    let before = host.allowed_or_kept();
    let mut whole = host.clone();
    drop(whole.feed(input.clone()));
    let (after, recorded_before) = (whole.allowed_or_kept(), host.disk.head());
    let barred = whole.barred_since(host);
    if matches!(input, Input::Tick) {
        prop_assert!(!whole.leased_in_sleep(), "a sleep that nobody saw");
    }
    whole.wait_in_vain();
    for point in 1.. {
        let mut cut = host.clone();
        cut.dies = Some(point);
        drop(cut.feed(input.clone()));
        let done = cut.dies != Some(0);
        // What a durable record granted may be in force; all else is what was there before.
        let mut most = before.clone();
        let recorded = cut.disk.head() != recorded_before;
        // Break-glass waits for no record that cannot be written: it is there for that.
        let unwritable = host.full || host.broken.is_some();
        if recorded || unwritable && cut.glass_is_broken() {
            most.extend(after.iter().copied());
        }
        let mut once = cut.clone();
        prop_assert!(once.adopt(None));
        if recorded && !barred.is_empty() {
            let gone_on = once.clone().gone_on_for_trust();
            let gone_on: Vec<_> = gone_on.intersection(&barred).collect();
            prop_assert!(gone_on.is_empty(), "trust let go on: {:?}", gone_on);
        }
        let decided = recorded || takes_unrecorded(input);
        let decided = Decided {
            most,
            in_parts: !recorded && takes_in_parts(input),
            stops: decided && took(&host.kernel, &cut.kernel),
            goes_on: &whole.copies,
            stays: &whole.frozen,
        };
        promises(host, &cut, once, &decided)?;
        // And one that is cut in turn, somewhere.
        let mut twice = cut.clone();
        if !twice.adopt(Some(1 + point % 9)) {
            prop_assert!(twice.adopt(None));
        }
        // One that got to its loop is not cut there.
        twice.dies = None;
        promises(host, &cut, twice, &decided)?;
        if done {
            return Ok(());
        }
    }
    Ok(())
}

/// A decision that was cut.
struct Decided<'a> {
    /// What may be allowed after it, at most.
    most: Allowed,
    /// It takes one content after the other, and nothing was written down of it.
    in_parts: bool,
    /// What the whole of it stops is stopped.
    stops: bool,
    /// What goes on without the kill, and later.
    goes_on: &'a BTreeSet<Copied>,
    /// What is not killed then.
    stays: &'a BTreeMap<Copied, Mark>,
}

/// `host`: before the decision. `cut`: what the kill left. `adopted`: after another daemon took over.
fn promises(
    host: &Host,
    cut: &Host,
    mut adopted: Host,
    decided: &Decided<'_>,
) -> Result<(), TestCaseError> {
    let allowed = adopted.allowed();
    prop_assert!(
        allowed.is_subset(&decided.most),
        "more is allowed: {:?} of {:?}",
        allowed,
        decided.most
    );
    let (kernel, found) = (&adopted.kernel, cut.found());
    let left = adopted.found();
    // A ledger that is broken takes nothing until an operator begins another, with all that the daemon knows.
    let told = adopted.broken.is_none();
    for tombstone in cut.kernel.tombstones.union(&found.tombstones) {
        prop_assert!(kernel.tombstones.contains(tombstone), "not in the kernel");
        let written = left.tombstones.contains(tombstone);
        prop_assert!(written || !told, "not in the ledger");
    }
    if cut.kernel.revoked_all || found.revoked_all {
        prop_assert!(kernel.revoked_all, "the kernel forgot that all is revoked");
        let written = left.revoked_all;
        prop_assert!(written || !told, "the ledger forgot that all is revoked");
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
    prop_assert!(!adopted.leased_in_sleep(), "a sleep that nobody saw");
    if !found.locked.is_empty() || !told || pending {
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
    stays_held(cut, &adopted)?;
    // Whatever the whole decision would have stopped is stopped, at the latest when nobody quotes.
    let began = adopted.engine.broken_glass().is_some();
    adopted.wait_in_vain();
    let (owed, _) = adopted.disk.recovered().owed;
    prop_assert!(owed.is_empty() || !told, "still owed: {:?}", owed);
    stays_held(cut, &adopted)?;
    // Where no policy is active nobody says what of a zone is meant.
    let in_force = adopted.engine.policy().is_some();
    if decided.stops && in_force {
        // What an earlier break-glass left where policy said so goes at the end of the next, if that
        // ever began, and if there is still no policy that says so.
        let spares = !began || host.engine.policy().is_none();
        let left_over =
            |copy: &&Copied| copy.workload == WORKLOAD_NONE && host.copies.contains(copy) && spares;
        // Of several contents that somebody revokes those are taken that the kernel was told of; whoever asked
        // was not told that it was done.
        let untaken = |copy: &&Copied| {
            let told = [copy.zone, ZONE_EVERY].map(|zone| TombstoneKey {
                zone,
                reserved: 0,
                digest: copy.digest,
            });
            let mut told = told.iter();
            decided.in_parts && !told.any(|key| cut.kernel.tombstones.contains(key))
        };
        let running = adopted.copies.difference(decided.goes_on);
        let running = running.filter(|copy| !left_over(copy) && !untaken(copy));
        let running: Vec<_> = running.collect();
        prop_assert!(running.is_empty(), "still running: {:?}", running);
        let frozen = adopted.frozen.keys().filter(|copy| {
            let killed = !decided.goes_on.contains(copy) && !decided.stays.contains_key(copy);
            killed && !cut.frozen.contains_key(copy)
        });
        let frozen: Vec<_> = frozen
            .filter(|copy| !left_over(copy) && !untaken(copy))
            .collect();
        prop_assert!(frozen.is_empty(), "only frozen: {:?}", frozen);
    }
    gone_is_stopped(&adopted)?;
    let broken = adopted.glass_is_broken();
    let unvouched = adopted.copies.iter().any(|copy| copy.zone == 1);
    let leased = in_force || found.leased.get("agents") == Some(&LEASED);
    prop_assert!(
        !unvouched || broken || !leased,
        "attested work goes on, and nobody quotes"
    );
    // Its policy leaves what runs there alone. Which number it has depends on what was loaded first.
    let spared = adopted.engine.ids().zone("tools");
    let nobodys = |copy: &Copied| copy.workload == WORKLOAD_NONE && Some(copy.zone) != spared;
    // Names went with a ledger that is gone: no daemon that starts without it knows of the zones.
    let known = !adopted.engine.ids().zones.is_empty();
    prop_assert!(
        broken || !known || !adopted.copies.iter().any(nobodys),
        "what ran for break-glass alone goes on without it"
    );
    // It is forgotten once its end is written down.
    prop_assert!(
        broken || adopted.kernel.glass.is_none() || !told,
        "not forgotten"
    );
    Ok(())
}

/// A daemon that starts lets nothing go on, and knows of what is held as much as the one before.
fn stays_held(cut: &Host, adopted: &Host) -> Result<(), TestCaseError> {
    let gone_on: Vec<_> = adopted.copies.difference(&cut.copies).collect();
    prop_assert!(gone_on.is_empty(), "a start let go on: {:?}", gone_on);
    for (copy, mark) in &cut.frozen {
        let milder = adopted.frozen.get(copy).filter(|now| *now < mark);
        prop_assert_eq!(milder, None, "held for less than before");
    }
    Ok(())
}

fn takes_in_parts(input: &Input) -> bool {
    matches!(input, Input::Revoke { target, .. } if *target != Target::All)
}

/// Whether something was taken away between the two.
fn took(before: &Kernel, after: &Kernel) -> bool {
    (before.attested, before.policy) != (after.attested, after.policy)
        || before.tombstones != after.tombstones
        || before.lease.is_some() && after.lease.is_none()
        || after.revoked_all && !before.revoked_all
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
