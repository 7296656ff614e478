//! Stops that failed, until they are done.
//!
//! Promises: each is tried again at each tick, and says that running copies could not be reached until a tick
//! at which nothing came back of the last try; one that a risk asked for says nothing about the host. The ledger
//! says what is owed, in the same batch as what it is owed for where that comes after it in its step; so a daemon
//! that is killed is followed by one that owes the same, with a policy or without one. It also says that it was
//! done in the end, and that somebody took it back. One record speaks of many stops, and none of a try that fails
//! again.
//!
//! What is left: where a stop is the last of its step, as after a policy is in force, the record of it comes after
//! the failure. Who was killed between the two is followed by one that stops what no policy names, and what runs
//! on trust, by itself; a bar is not put up again. No copy outlives a boot, nor a gate that is taken
//! down, and neither does what is owed.

use std::collections::{BTreeMap, BTreeSet};

use super::{
    Cause, Clears, Effect, Engine, KernelView, Running,
    as_recorded::{effect, is_of_no_others, may_be_of, owed},
    operator::ENTRIES_PER_RECORD,
};
use crate::{
    lineage::{FRESH, Kind, Lost, OwedStop, Reached, Recovered},
    time::ClockReading,
};

/// Why something failed is cut to so many characters: whoever makes cgroups may make it long.
const LONGEST: usize = 1024;

/// What is owed.
#[derive(Clone, Debug, Default)]
pub(super) struct Stops {
    owed: BTreeMap<OwedStop, State>,
    /// Those of which this step says that they are not owed any more.
    pub(super) settled: Vec<OwedStop>,
}

#[derive(Clone, Copy, Debug)]
struct State {
    /// It was tried again, and nothing came back of that.
    tried: bool,
    record: Record,
}

/// Whether the ledger says that it is owed, or will.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Record {
    No,
    /// A step was taken back that may have written the contrary.
    Perhaps,
    Yes,
}

impl Stops {
    /// What an earlier daemon owed. A gate that was made anew knows nobody: then it is nobody's any more, and these are
    /// the records of that, for whoever finds this gate.
    pub(super) fn found(recovered: &Recovered, kernel: &KernelView) -> (Self, Vec<Kind>) {
        let (owed, boot) = &recovered.owed;
        if *boot != kernel.boot_id {
            return (Self::default(), Vec::new());
        }
        if kernel.gate == FRESH {
            return (Self::default(), reached(owed));
        }
        let state = State {
            tried: false,
            record: Record::Yes,
        };
        let stops = Self {
            owed: owed.iter().map(|stop| (stop.clone(), state)).collect(),
            settled: Vec::new(),
        };
        (stops, Vec::new())
    }

    /// A step was taken back that settled these. The ledger may say that they are not owed, so if they fail again
    /// it is to be told, and if they are done too.
    pub(super) fn unsettle(&mut self, next: Self) {
        for stop in next.settled {
            if let Some(state) = self.owed.get_mut(&stop) {
                state.record = Record::Perhaps;
            }
        }
    }

    /// Those of which the ledger says that they are owed, or will, and those of which it may.
    #[cfg(test)]
    pub(super) fn recorded(&self) -> [BTreeSet<OwedStop>; 2] {
        [&[Record::Yes][..], &[Record::Yes, Record::Perhaps]].map(|which| {
            let recorded = self.owed.iter();
            let recorded = recorded.filter(|(_, state)| which.contains(&state.record));
            recorded.map(|(stop, _)| stop.clone()).collect()
        })
    }

    /// Whether any of it is not for a risk alone.
    pub(super) fn speak_against_the_host(&self) -> bool {
        self.owed.keys().any(|stop| !effect(stop).is_of_risk())
    }

    /// Whether no record says yet that it is owed.
    fn is_news(&self, stop: &OwedStop) -> bool {
        let known = self.owed.get(stop);
        known.is_none_or(|state| state.record != Record::Yes)
    }
}

impl Engine {
    /// What else is written with the records of a step whose next engine this is, if these effects before them
    /// failed: what they leave owed. Durable together, or not at all: what was taken away and is not in
    /// the ledger is stopped by the next daemon for that. Of the first `told` a record of the step says it already.
    pub fn also_lost(&self, failed: &[(Effect, String)], told: usize) -> Vec<Kind> {
        let (told, untold) = failed.split_at_checked(told).unwrap_or((failed, &[]));
        let told = told.iter().filter_map(|(effect, _)| owed(effect));
        let mut said: BTreeSet<OwedStop> = told.collect();
        let owed = untold.iter().filter_map(|(effect, error)| {
            let stop = owed(effect).filter(|stop| self.stops.is_news(stop))?;
            let news = said.insert(stop.clone());
            news.then_some((effect.name(), error.as_str(), stop))
        });
        lost(owed)
    }

    /// They are owed from now on.
    pub(super) fn stops_failed(
        &mut self,
        now: ClockReading,
        failed: Vec<(Effect, String)>,
        told: bool,
        effects: &mut Vec<Effect>,
    ) {
        let mut kinds = self.also_lost(&failed, 0);
        let mut known = BTreeSet::new();
        for (effect, error) in failed {
            // Who has no label is looked for again, and what they do says nothing about the host.
            let Some(stop) = owed(&effect) else {
                continue;
            };
            let state = State {
                tried: false,
                record: Record::Yes,
            };
            // That it was done before is not to be written after this; the ledger says as yet that it is owed.
            for kind in &mut self.owed_records {
                if let Kind::Reached(reached) = kind
                    && reached.stops.contains(&stop)
                {
                    reached.stops.retain(|done| *done != stop);
                    known.insert(stop.clone());
                }
            }
            self.stops.owed.insert(stop, state);
            // What one workload brought about says nothing about the host either.
            if !effect.is_of_risk() {
                self.doubt(now, Cause::StopFailed, error);
            }
        }
        self.owed_records.retain(says_something);
        unsay_lost(&mut kinds, &known);
        if !told {
            self.tell(kinds, effects);
        }
    }

    /// These are owed once more, without having failed: what they stopped may have been started since.
    pub(super) fn owe_again(&mut self, stops: &[Effect]) {
        for stop in stops.iter().filter_map(owed) {
            let state = self.stops.owed.entry(stop).or_insert(State {
                tried: false,
                record: Record::No,
            });
            state.tried = false;
        }
    }

    /// All of it is tried again, what a risk asked for after the rest.
    pub(super) fn retry_stops(&mut self, effects: &mut Vec<Effect>) {
        let mut stops: Vec<Effect> = self.stops.owed.keys().map(effect).collect();
        stops.sort_by_key(Effect::is_of_risk);
        effects.append(&mut stops);
        for state in self.stops.owed.values_mut() {
            state.tried = true;
        }
    }

    /// What was tried and did not come back is done. The records of it.
    pub(super) fn settle_stops(&mut self, now: ClockReading) -> Vec<Kind> {
        let mut done = BTreeSet::new();
        self.stops.owed.retain(|stop, state| {
            if state.tried && state.record != Record::No {
                done.insert(stop.clone());
            }
            !state.tried
        });
        if self.trust.has(&Cause::StopFailed) && !self.stops.speak_against_the_host() {
            self.trust = self.trust.clone().cleared(Clears::Retry);
            // What may run on trust is not to wait for the next interval.
            self.next_quote = now.boot;
        }
        // Of what no record speaks yet none has to.
        let unwritten = unsay_lost(&mut self.owed_records, &done);
        done.retain(|stop| !unwritten.contains(stop));
        self.stops.settled.extend(done.iter().cloned());
        reached(&done)
    }

    /// What is to be stopped and was not reached, as this version does it.
    pub fn unreached(&self) -> BTreeSet<OwedStop> {
        self.stops.owed.keys().map(OwedStop::understood).collect()
    }

    /// What is taken back by letting these copies of a zone go on: holds of nobody else. A kill is no hold, and
    /// content that is revoked does not go on.
    pub(super) fn holds_of(&self, zone: u32, running: Running) -> BTreeSet<OwedStop> {
        let holds = self
            .stops
            .owed
            .keys()
            .filter(|stop| stop.zone == zone && self.is_hold(stop, running));
        holds.cloned().collect()
    }

    /// Whether something else is owed that would stop some of these again. Content that is revoked is not among
    /// what goes on.
    pub(super) fn is_stopped_again(&self, zone: u32, running: Running) -> bool {
        let mut others = self.stops.owed.keys().filter(|stop| {
            let of_these = stop.zone == zone && may_be_of(stop, running);
            let stops = stop.action != OwedStop::BAR && !stop.is_of_revoked(&self.tombstones);
            of_these && stops && !self.is_hold(stop, running)
        });
        others.next().is_some()
    }

    fn is_hold(&self, stop: &OwedStop, running: Running) -> bool {
        let by_hand = stop.release == OwedStop::BY_HAND && stop.action != OwedStop::KILL;
        by_hand && is_of_no_others(stop, running) && !stop.is_of_revoked(&self.tombstones)
    }

    /// An operator has them go on, so they are not owed any more. The records of it.
    pub(super) fn take_back(&mut self, taken: &BTreeSet<OwedStop>) -> Vec<Kind> {
        self.stops.owed.retain(|stop, _| !taken.contains(stop));
        // A record of it that is still to be written would come after the one that takes it back.
        unsay_lost(&mut self.owed_records, taken);
        self.stops.settled.extend(taken.iter().cloned());
        reached(taken)
    }

    /// All that is owed, for a ledger that does not say so, or not any more.
    pub(super) fn lost_again(&self, why: &str) -> Vec<Kind> {
        let owed = self.stops.owed.iter();
        let recorded = owed.filter(|(_, state)| state.record != Record::No);
        lost(recorded.map(|(stop, _)| (effect(stop).name(), why, stop.clone())))
    }

    /// Writes it down, after what is still to be written: what is owed and what was done must be read in the order
    /// in which it was.
    pub(super) fn tell(&mut self, mut kinds: Vec<Kind>, effects: &mut Vec<Effect>) {
        if self.owed_records.is_empty() && !kinds.is_empty() {
            effects.push(Effect::Append(kinds));
        } else {
            self.owed_records.append(&mut kinds);
        }
    }
}

/// Has records that are still to be written say nothing of these, and drops those of which nothing is left. Of which
/// they did.
fn unsay_lost(kinds: &mut Vec<Kind>, stops: &BTreeSet<OwedStop>) -> BTreeSet<OwedStop> {
    let mut unsaid = BTreeSet::new();
    for kind in kinds.iter_mut() {
        if let Kind::Lost(lost) = kind {
            let said = lost.owed.iter().filter(|stop| stops.contains(stop));
            unsaid.extend(said.cloned());
            lost.owed.retain(|stop| !stops.contains(stop));
        }
    }
    kinds.retain(says_something);
    unsaid
}

/// Whether anything is left of a record from which stops were taken out.
fn says_something(kind: &Kind) -> bool {
    let emptied = matches!(kind, Kind::Lost(lost) if lost.owed.is_empty())
        || matches!(kind, Kind::Reached(reached) if reached.stops.is_empty());
    !emptied
}

/// Records of stops that are not owed any more.
fn reached(done: &BTreeSet<OwedStop>) -> Vec<Kind> {
    let done: Vec<OwedStop> = done.iter().cloned().collect();
    let parts = done.chunks(ENTRIES_PER_RECORD);
    let kinds = parts.map(|part| {
        Kind::Reached(Reached {
            stops: part.to_vec(),
        })
    });
    kinds.collect()
}

/// Records of effects that failed, by name, with why and what is owed for it.
fn lost<'a>(failed: impl IntoIterator<Item = (&'static str, &'a str, OwedStop)>) -> Vec<Kind> {
    let mut of_name: BTreeMap<&str, (&str, Vec<OwedStop>)> = BTreeMap::new();
    for (name, error, stop) in failed {
        let (_, owed) = of_name.entry(name).or_insert((error, Vec::new()));
        owed.push(stop);
    }
    let mut kinds = Vec::new();
    for (name, (error, owed)) in of_name {
        // The others are in the journal.
        let error: String = error.chars().take(LONGEST).collect();
        kinds.extend(owed.chunks(ENTRIES_PER_RECORD).map(|part| {
            Kind::Lost(Lost {
                effect: name.to_owned(),
                error: error.clone(),
                owed: part.to_vec(),
            })
        }));
    }
    kinds
}
