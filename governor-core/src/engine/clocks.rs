//! Clocks that may go wrong: sleep, a wall clock that is set, a TPM that is reset.
//!
//! Promises: the moments of a policy are never reckoned with an earlier wall clock than the latest
//! that was seen, whatever is thought of the host; what is over by it ends, also if the table in force was
//! reckoned with an earlier one, and nothing begins for that; what the TPM's clock says is compared with the
//! last accepted quote, also one that an earlier daemon accepted, and so is how long the host slept; a clock that was not accepted is
//! never what the next one is compared with.

use governor_common::RowKey;

use super::{Cause, Class, Effect, Engine, host::is_of_host, records};
use crate::{
    attest::AttestationResult,
    lineage::{Recovered, TpmClock},
    policy::Policy,
    time::{ClockReading, Span, WallTime},
};

/// Reading two clocks one after the other differs by less.
const ASLEEP: Span = Span(100_000_000);

/// What was seen of the clocks.
#[derive(Clone, Debug)]
pub(super) struct Clocks {
    /// For how long the host had slept when it was last looked at.
    slept: Span,
    /// It slept since the last accepted quote, so the TPM may have been restarted.
    restarted: bool,
    /// By how many nanoseconds the wall clock was ahead of the time since boot, at most.
    ahead: i128,
    /// The same as what begins and what ends in the table in force was reckoned with.
    begins: i128,
    ends: i128,
    /// How much had ended when its rows were last removed, because no table could be made without them.
    removed: usize,
    /// The TPM's clock at the last accepted quote.
    tpm: Option<TpmClock>,
    /// That quote was made in this boot.
    this_boot: bool,
}

/// What the TPM's clock says against a quote that is otherwise good.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum ClockDoubt {
    /// The TPM was reset while the host ran on.
    Reset(String),
    /// The quote is older than one that was accepted.
    Backwards(String),
}

impl Clocks {
    pub(super) fn begin(now: ClockReading, recovered: &Recovered, boot_id: &[u8; 16]) -> Self {
        let walls = &recovered.walls;
        let mut ahead = ahead(now);
        if let Some((boot, most)) = &walls.ahead
            && boot == boot_id
        {
            ahead = ahead.max(*most);
        }
        if let Some(latest) = walls.latest {
            ahead = ahead.max(i128::from(latest) * SECOND - i128::from(now.boot.0));
        }
        let (tpm, boot) = recovered.tpm.clone().unzip();
        let this_boot = boot.is_some_and(|boot| boot == boot_id);
        Self {
            // Whatever it slept since that quote is found as if this daemon had been there.
            slept: recovered
                .slept
                .filter(|_| this_boot)
                .unwrap_or(now.suspended),
            restarted: false,
            ahead,
            begins: ahead,
            ends: ahead,
            removed: 0,
            tpm,
            this_boot,
        }
    }

    /// The reading with a wall clock that never goes back.
    pub(super) fn corrected(&self, now: ClockReading) -> ClockReading {
        let latest = at(now, self.ahead);
        ClockReading {
            wall: now.wall.max(latest.wall),
            ..now
        }
    }

    /// A table is made in which everything begins and ends by the clock as it counts now.
    pub(super) fn reckon(&mut self, now: ClockReading) {
        self.reckon_ends(now);
        self.begins = self.ends;
    }

    /// One in which everything ends by it, and begins as it did.
    fn reckon_ends(&mut self, now: ClockReading) {
        self.ends = ahead(self.corrected(now));
        self.removed = 0;
    }

    /// What beginnings and ends of the table are reckoned with.
    pub(super) fn reckoned(&self, now: ClockReading) -> (ClockReading, ClockReading) {
        (at(now, self.begins), at(now, self.ends))
    }

    /// Whether the wall clock went ahead since the ends in force were reckoned.
    const fn went_ahead(&self) -> bool {
        self.ahead - self.ends > AHEAD
    }

    /// For how long the host had slept when it was last looked at. What a quote is recorded with: a sleep that
    /// nobody saw before it is still to be seen.
    pub(super) const fn slept(&self) -> Span {
        self.slept
    }

    /// For how long the host slept since this was last asked, if it did.
    pub(super) fn woke(&mut self, now: ClockReading) -> Option<Span> {
        let slept = Span(now.suspended.0.saturating_sub(self.slept.0));
        if slept <= ASLEEP {
            return None;
        }
        self.slept = now.suspended;
        self.restarted = true;
        Some(slept)
    }

    /// How far the wall clock is behind where it stood.
    fn behind(&mut self, now: ClockReading) -> Span {
        let found = ahead(now);
        self.ahead = self.ahead.max(found);
        Span(u64::try_from(self.ahead - found).unwrap_or(u64::MAX))
    }

    /// An operator takes the wall clock as it stands.
    pub(super) fn take(&mut self, now: ClockReading) {
        self.ahead = ahead(now);
    }

    /// Whether the TPM's clock in `found` goes on from the last one that was accepted.
    pub(super) fn judge(&self, found: &TpmClock) -> Result<(), ClockDoubt> {
        // Counters of a key outside of the endorsement hierarchy are shifted by an amount of its
        // own, so those of two keys say nothing about each other, and only differences count.
        let Some(last) = self.tpm.as_ref().filter(|last| last.key == found.key) else {
            return Ok(());
        };
        let resets = found.resets.wrapping_sub(last.resets).cast_signed();
        let restarts = found.restarts.wrapping_sub(last.restarts).cast_signed();
        if self.this_boot && resets != 0 {
            return Err(ClockDoubt::Reset(format!(
                "the TPM was reset {resets} times since the last accepted quote of this boot"
            )));
        }
        if resets < 0 {
            return Err(ClockDoubt::Reset(format!(
                "the TPM counts {} resets fewer than at the last accepted quote: it is another \
                 state of it",
                resets.unsigned_abs()
            )));
        }
        let restarts_belong = !self.this_boot || (self.restarted && restarts > 0);
        if resets == 0 && restarts != 0 && !restarts_belong {
            return Err(ClockDoubt::Reset(format!(
                "the TPM was restarted {restarts} times since the last accepted quote, and this host \
                 did not sleep"
            )));
        }
        if resets == 0 && found.clock < last.clock {
            return Err(ClockDoubt::Backwards(format!(
                "the TPM's clock is {} ms behind the last accepted quote",
                last.clock - found.clock
            )));
        }
        Ok(())
    }

    /// A quote with this clock was accepted.
    pub(super) fn accept(&mut self, clock: TpmClock) {
        self.tpm = Some(clock);
        self.this_boot = true;
        self.restarted = false;
    }
}

/// The TPM's clock in an accepted appraisal, as records have it.
pub(super) fn of(result: &AttestationResult) -> TpmClock {
    let clock = result.clock_info();
    TpmClock {
        key: result.ak_name().to_string().into_bytes(),
        clock: clock.clock,
        resets: clock.reset_count,
        restarts: clock.restart_count,
        safe: clock.safe,
    }
}

fn ahead(now: ClockReading) -> i128 {
    i128::from(now.wall.0) * SECOND - i128::from(now.boot.0)
}

/// The reading with a wall clock that is this far ahead.
fn at(now: ClockReading, ahead: i128) -> ClockReading {
    let wall = (ahead + i128::from(now.boot.0)).div_euclid(SECOND);
    ClockReading {
        wall: WallTime(i64::try_from(wall).unwrap_or(i64::MAX)),
        ..now
    }
}

const SECOND: i128 = 1_000_000_000;
/// The wall clock is read in whole seconds, so without being set it may seem to go ahead by up to one.
const AHEAD: i128 = 2 * SECOND;

impl Engine {
    /// Looks at the clocks; called at each tick, before anything else is decided in it.
    pub(super) fn watch_clocks(&mut self, now: ClockReading, effects: &mut Vec<Effect>) {
        self.watch_sleep(now, effects);
        let behind = self.clocks.behind(now);
        let bound = self
            .policy()
            .map_or(CLOCK_STEP, |verified| verified.policy().clock_step());
        if behind > bound && !self.trust.has(&Cause::ClockStepped) {
            let detail = format!(
                "the wall clock is {} s behind where it stood, policy allows {} s",
                behind.as_seconds(),
                bound.as_seconds()
            );
            self.degrade(now, Cause::ClockStepped, detail, effects);
        }
    }

    pub(super) fn watch_sleep(&mut self, now: ClockReading, effects: &mut Vec<Effect>) {
        if let Some(slept) = self.clocks.woke(now) {
            self.woke(now, slept, effects);
        }
    }

    /// The wall clock was set forward, so the table in force ends too late what policy ends. What is over
    /// loses its rows, which needs no record, and a table with the right ends follows, or waits. What policy
    /// begins does not begin for that: setting a clock takes and gives nothing.
    pub(super) fn end_sooner(&mut self, now: ClockReading, waits: bool, effects: &mut Vec<Effect>) {
        let Some(active) = &self.active else { return };
        if !self.clocks.went_ahead() {
            return;
        }
        let ended = ended(active.verified.policy(), self.clocks.corrected(now).wall);
        if waits && ended <= self.clocks.removed {
            return;
        }
        let mut sooner = self.clone();
        sooner.clocks.reckon_ends(now);
        let table = match sooner.reckoned_table(now) {
            Ok(table) => table,
            Err(why) => {
                self.clocks.removed = ended;
                effects.push(self.raise(Class::Policy));
                self.degrade(now, Cause::GateFault, why, effects);
                return;
            }
        };
        let over: Vec<RowKey> = table
            .rows
            .iter()
            .filter(|row| row.not_after <= now.boot.0 && !is_of_host(row))
            .map(|row| row.key)
            .collect();
        if !over.is_empty() {
            effects.push(Effect::RemoveRows(over));
        }
        if waits {
            self.clocks.removed = ended;
            return;
        }
        *self = sooner;
        self.put_in_force(table, Vec::new(), effects);
    }

    /// The wall clock is taken as it stands: the table in force may have been made with another.
    pub(super) fn reckon_again(&mut self, now: ClockReading, effects: &mut Vec<Effect>) {
        if self.active.is_none() {
            return;
        }
        match self.table(now) {
            Ok(table) => self.put_in_force(table, Vec::new(), effects),
            Err(why) => self.degrade(now, Cause::GateFault, why, effects),
        }
    }

    /// The host slept. Its lease is over, also one of a daemon before whose policy could not be put in force; what
    /// runs gets as long as a lease to be vouched for again, or what is left of it where no policy says how long.
    fn woke(&mut self, now: ClockReading, slept: Span, effects: &mut Vec<Effect>) {
        let lease = self.attestation().map(|(attestation, _)| attestation.lease);
        if lease.is_none() && self.due.is_none() {
            return;
        }
        let before = self.trust.name();
        effects.push(Effect::DropLease);
        effects.push(self.raise(Class::Attested));
        self.doubt(now, Cause::Suspended, for_how_long(slept));
        let again = lease.map(|lease| now.boot.after(lease));
        self.due = self.due.map(|due| again.unwrap_or(due));
        self.accepted = None;
        // Evidence from before this moment cannot speak about it.
        self.outstanding = None;
        self.next_quote = now.boot;
        effects.push(Effect::Append(vec![
            records::trust_change(before, &self.trust),
            records::revocation("class attested", &self.reasons(), &[], None),
        ]));
    }
}

/// The detail of the cause.
pub(super) fn for_how_long(slept: Span) -> String {
    format!("for {} ms", slept.0 / 1_000_000)
}

/// How many ends of a policy have come.
fn ended(policy: &Policy, wall: WallTime) -> usize {
    let workloads = policy.workloads().values();
    let ends = workloads.map(|workload| workload.validity.until);
    let ends = ends.chain([policy.validity().until]);
    ends.filter(|until| *until <= wall).count()
}

/// What policy allows unless it says otherwise.
const CLOCK_STEP: Span = crate::policy::CLOCK_STEP;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::{lineage::Walls, time::BootTime};

    const BOOT: [u8; 16] = [7; 16];

    fn reading(wall: i64, boot: u64) -> ClockReading {
        ClockReading {
            wall: WallTime(wall),
            boot: BootTime(boot * 1_000_000_000),
            suspended: Span(0),
        }
    }

    fn tpm(clock: u64, resets: u32, restarts: u32) -> TpmClock {
        TpmClock {
            key: vec![1],
            clock,
            resets,
            restarts,
            safe: true,
        }
    }

    fn after(last: &TpmClock, boot: [u8; 16]) -> Clocks {
        let recovered = Recovered {
            tpm: Some((last.clone(), boot.to_vec())),
            ..Recovered::default()
        };
        Clocks::begin(reading(1_000, 0), &recovered, &BOOT)
    }

    #[test]
    fn within_one_boot_a_tpm_is_never_reset_and_restarted_only_in_sleep() {
        let mut clocks = after(&tpm(50, 7, 2), BOOT);
        assert_eq!(clocks.judge(&tpm(51, 7, 2)), Ok(()));
        for found in [tpm(51, 8, 0), tpm(51, 6, 2), tpm(51, 7, 3), tpm(51, 7, 1)] {
            assert!(
                matches!(clocks.judge(&found), Err(ClockDoubt::Reset(_))),
                "{found:?}"
            );
        }
        assert!(matches!(
            clocks.judge(&tpm(49, 7, 2)),
            Err(ClockDoubt::Backwards(_))
        ));
        let asleep = ClockReading {
            suspended: Span::seconds(1),
            ..reading(1_000, 0)
        };
        assert_eq!(clocks.woke(asleep), Some(Span::seconds(1)));
        assert_eq!(clocks.judge(&tpm(51, 7, 3)), Ok(()));
        assert!(clocks.judge(&tpm(51, 7, 1)).is_err(), "restarts only grow");
        assert!(
            clocks.judge(&tpm(51, 8, 3)).is_err(),
            "sleep resets nothing"
        );
        clocks.accept(tpm(51, 7, 3));
        assert!(clocks.judge(&tpm(52, 7, 4)).is_err(), "it slept once");
    }

    #[test]
    fn sleep_since_the_last_accepted_quote_of_this_boot_is_found_at_start_if_it_is_known() {
        let now = ClockReading {
            suspended: Span::seconds(7),
            ..reading(1_000, 10)
        };
        let begin = |slept, boot: [u8; 16]| {
            let recovered = Recovered {
                tpm: Some((tpm(50, 7, 2), boot.to_vec())),
                slept,
                ..Recovered::default()
            };
            Clocks::begin(now, &recovered, &BOOT)
        };
        let mut clocks = begin(Some(Span::seconds(4)), BOOT);
        assert_eq!(clocks.slept(), Span::seconds(4));
        assert_eq!(clocks.woke(now), Some(Span::seconds(3)));
        assert_eq!(clocks.judge(&tpm(51, 7, 3)), Ok(()));
        assert!(clocks.judge(&tpm(51, 8, 3)).is_err());
        for (slept, boot) in [
            (Some(Span::seconds(7)), BOOT),
            (None, BOOT),
            (Some(Span::seconds(4)), [8; 16]),
        ] {
            let mut clocks = begin(slept, boot);
            assert_eq!(clocks.woke(now), None, "{slept:?} {boot:?}");
            assert_eq!(clocks.judge(&tpm(51, 7, 3)).is_err(), boot == BOOT);
        }
    }

    #[test]
    fn over_a_reboot_resets_grow_or_stay_and_shifted_counters_may_wrap() {
        let clocks = after(&tpm(50, u32::MAX, 2), [8; 16]);
        assert_eq!(clocks.judge(&tpm(3, 0, 0)), Ok(()), "wrapped, so it grew");
        assert_eq!(clocks.judge(&tpm(50, u32::MAX, 5)), Ok(()), "kexec");
        assert!(matches!(
            clocks.judge(&tpm(49, u32::MAX, 2)),
            Err(ClockDoubt::Backwards(_))
        ));
        assert!(matches!(
            clocks.judge(&tpm(99, u32::MAX - 1, 2)),
            Err(ClockDoubt::Reset(_))
        ));
    }

    #[test]
    fn another_key_begins_anew() {
        let clocks = after(&tpm(50, 7, 2), BOOT);
        let other = TpmClock {
            key: vec![2],
            ..tpm(1, 1, 1)
        };
        assert_eq!(clocks.judge(&other), Ok(()));
    }

    #[test]
    fn a_wall_clock_set_back_while_nobody_looked_is_seen_at_start() {
        let recovered = |walls| Recovered {
            walls,
            ..Recovered::default()
        };
        let before_reboot = recovered(Walls {
            latest: Some(5_000),
            ahead: Some((vec![8; 16], 99)),
        });
        let now = reading(4_000, 10);
        let mut clocks = Clocks::begin(now, &before_reboot, &BOOT);
        assert_eq!(clocks.behind(now), Span::seconds(1_000));
        assert_eq!(clocks.corrected(now).wall, WallTime(5_000));
        let same_boot = recovered(Walls {
            latest: Some(4_000),
            ahead: Some((BOOT.to_vec(), 5_000 * SECOND)),
        });
        let mut clocks = Clocks::begin(now, &same_boot, &BOOT);
        assert_eq!(clocks.behind(now), Span::seconds(1_010));
        clocks.take(now);
        assert_eq!(clocks.behind(now), Span(0));
        assert_eq!(clocks.corrected(now), now);
    }

    proptest! {
        /// However the wall clock is set, the one that counts never goes back.
        #[test]
        fn the_clock_that_counts_never_goes_back(
            steps in proptest::collection::vec((-5_000i64..5_000, 0u64..100), 1..60),
        ) {
            let (mut wall, mut boot) = (100_000i64, 0u64);
            let start = reading(wall, boot);
            let mut clocks = Clocks::begin(start, &Recovered::default(), &BOOT);
            let mut latest = start.wall;
            for (step, passed) in steps {
                boot += passed;
                wall += step + i64::try_from(passed).unwrap();
                let now = reading(wall, boot);
                let behind = clocks.behind(now);
                let counted = clocks.corrected(now).wall;
                prop_assert!(counted >= latest && counted >= now.wall);
                prop_assert_eq!(counted.0 - now.wall.0, i64::try_from(behind.as_seconds()).unwrap());
                latest = counted;
            }
        }
    }
}
