//! The thread that writes the ledger.
//!
//! Promises: batches reach the disk in the order in which they were handed over, and what came of each is
//! said once. While one is written, what else comes waits and is one batch with what comes after it. Only
//! who asks for it waits for the disk: one that does not answer keeps records, and nothing else.

use std::{
    path::{Path, PathBuf},
    sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail};
use governor_core::{
    lineage::{Broken, Head, Kind},
    time::ClockReading,
};

use super::Ledger;
use crate::gate::UpTo;

/// Records that wait before whoever makes more should make none. The longest of verdicts, this many and
/// what one look at the rings adds, are a batch that the ledger takes.
const MOST: usize = 4000;

/// A ledger and the thread that writes it.
#[derive(Debug)]
pub(crate) struct Beside {
    /// None while the thread has it.
    home: Option<Ledger>,
    seen: Seen,
    jobs: Sender<(Ledger, Batch)>,
    done: Receiver<Done>,
    under_way: Option<UnderWay>,
    waiting: Option<Batch>,
}

/// The ledger, what was written, and whether it is durable.
type Done = (Ledger, Batch, Result<()>);

/// What was to be seen of the ledger when it was at home last.
#[derive(Debug)]
struct Seen {
    head: Head,
    path: PathBuf,
    refuses: Option<String>,
    is_broken: bool,
}

#[derive(Debug)]
struct Batch {
    now: ClockReading,
    kinds: Vec<Kind>,
    up_to: Option<UpTo>,
}

#[derive(Debug)]
struct UnderWay {
    since: Instant,
    up_to: Option<UpTo>,
}

/// What came of one batch.
#[derive(Debug)]
pub(crate) struct Written {
    pub(crate) kinds: Vec<Kind>,
    pub(crate) result: Result<()>,
    /// Once it is durable, this much of what the rings told is written down.
    pub(crate) up_to: Option<UpTo>,
    /// The ledger's end after it.
    pub(crate) head: Head,
    pub(crate) took: Duration,
}

impl Beside {
    pub(crate) fn start(ledger: Ledger) -> Result<Self> {
        let (jobs, todo) = channel::<(Ledger, Batch)>();
        let (said, done) = channel();
        thread::Builder::new()
            .name("ledger".to_owned())
            .spawn(move || {
                for (mut ledger, batch) in todo {
                    let result = ledger.append(batch.now, &batch.kinds);
                    if said.send((ledger, batch, result)).is_err() {
                        break;
                    }
                }
            })
            .context("starting the thread that writes the ledger")?;
        Ok(Self::with(ledger, jobs, done))
    }

    /// One whose thread is at the other ends.
    fn with(ledger: Ledger, jobs: Sender<(Ledger, Batch)>, done: Receiver<Done>) -> Self {
        Self {
            seen: Seen::of(&ledger),
            home: Some(ledger),
            jobs,
            done,
            under_way: None,
            waiting: None,
        }
    }

    /// Has them written, once what was handed over before is. Does not wait.
    pub(crate) fn hand_over(&mut self, now: ClockReading, kinds: &[Kind]) -> Result<()> {
        let mut batch = self.waiting.take().unwrap_or(Batch {
            now,
            kinds: Vec::new(),
            up_to: None,
        });
        batch.now = now;
        batch.kinds.extend_from_slice(kinds);
        match self.home.take() {
            // Nothing waits while it is at home.
            Some(ledger) => self.send(ledger, batch),
            None => {
                self.waiting = Some(batch);
                Ok(())
            }
        }
    }

    fn send(&mut self, ledger: Ledger, batch: Batch) -> Result<()> {
        self.under_way = Some(UnderWay {
            since: Instant::now(),
            up_to: batch.up_to,
        });
        let sent = self.jobs.send((ledger, batch));
        sent.ok().context(GONE)
    }

    /// Once everything that was handed over is durable, this is written down. False if it is already.
    pub(crate) fn say_with_the_last(&mut self, up_to: UpTo) -> bool {
        let last = match (&mut self.waiting, &mut self.under_way) {
            (Some(waiting), _) => &mut waiting.up_to,
            (None, Some(under_way)) => &mut under_way.up_to,
            (None, None) => return false,
        };
        *last = Some(up_to);
        true
    }

    /// What came of the batch that is written, if that is known within this time.
    pub(crate) fn back(&mut self, patience: Duration) -> Result<Option<Written>> {
        let Some(under_way) = &self.under_way else {
            return Ok(None);
        };
        let (ledger, batch, result) = match self.done.recv_timeout(patience) {
            Ok(done) => done,
            Err(RecvTimeoutError::Timeout) => return Ok(None),
            Err(RecvTimeoutError::Disconnected) => bail!("{GONE}"),
        };
        let written = Written {
            up_to: under_way.up_to.filter(|_| result.is_ok()),
            took: under_way.since.elapsed(),
            kinds: batch.kinds,
            head: ledger.head(),
            result,
        };
        self.under_way = None;
        self.seen = Seen::of(&ledger);
        match self.waiting.take() {
            // What speaks of the batch that failed is not written with the next one.
            Some(next) => {
                let up_to = next.up_to.filter(|_| written.result.is_ok());
                self.send(ledger, Batch { up_to, ..next })?;
            }
            None => self.home = Some(ledger),
        }
        Ok(Some(written))
    }

    /// Everything that was handed over is durable or failed, and it was said which.
    pub(crate) const fn is_idle(&self) -> bool {
        self.home.is_some()
    }

    /// More waits than should.
    pub(crate) fn is_swamped(&self) -> bool {
        self.records_waiting() >= MOST
    }

    pub(crate) fn records_waiting(&self) -> usize {
        self.waiting.as_ref().map_or(0, |batch| batch.kinds.len())
    }

    /// For how long the disk has not answered.
    pub(crate) fn at_work(&self) -> Option<Duration> {
        let under_way = self.under_way.as_ref()?;
        Some(under_way.since.elapsed())
    }

    /// Puts the old ledger aside and begins another, now.
    pub(crate) fn begin(&mut self, now: ClockReading, kinds: &[Kind]) -> Result<()> {
        let ledger = self.home.as_mut().context("the ledger is being written")?;
        let begun = ledger.begin(now, kinds);
        self.seen = Seen::of(ledger);
        begun
    }

    /// What is wrong with the file, once. One that is being written is looked at by whoever writes it.
    pub(crate) fn check(&mut self) -> Option<Broken> {
        let ledger = self.home.as_mut()?;
        let found = ledger.check().cloned();
        self.seen = Seen::of(ledger);
        found
    }

    pub(crate) const fn head(&self) -> Head {
        self.seen.head
    }

    pub(crate) fn path(&self) -> &Path {
        &self.seen.path
    }

    pub(crate) fn refuses(&self) -> Option<&str> {
        self.seen.refuses.as_deref()
    }

    pub(crate) const fn is_broken(&self) -> bool {
        self.seen.is_broken
    }
}

const GONE: &str = "the thread that writes the ledger is gone";

impl Seen {
    fn of(ledger: &Ledger) -> Self {
        Self {
            head: ledger.head(),
            path: ledger.path().to_owned(),
            refuses: ledger.refuses(),
            is_broken: ledger.is_broken(),
        }
    }
}

#[cfg(test)]
mod tests {
    use governor_core::{
        lineage::Gap,
        time::{BootTime, Span, WallTime},
    };

    use super::*;
    use crate::gate::OfRing;

    type Jobs = Receiver<(Ledger, Batch)>;
    type Said = Sender<Done>;

    fn at(boot: u64) -> ClockReading {
        ClockReading {
            wall: WallTime(1),
            boot: BootTime(boot),
            suspended: Span(0),
        }
    }

    fn gap(count: u64) -> Kind {
        Kind::Gap(Gap {
            what: "test".into(),
            count,
        })
    }

    fn up_to(taken: u64) -> UpTo {
        let denials = OfRing { lost: 0, taken };
        UpTo {
            denials,
            ..UpTo::default()
        }
    }

    /// One whose thread is whoever asks for it.
    fn by_hand() -> (Beside, Jobs, Said, tempfile::TempDir) {
        let dir = tempfile::tempdir().unwrap();
        let (ledger, _) = Ledger::open(dir.path(), [7; 16], None);
        let (jobs, todo) = channel();
        let (said, done) = channel();
        (Beside::with(ledger, jobs, done), todo, said, dir)
    }

    fn answer(jobs: &Jobs, said: &Said, result: Result<()>) -> usize {
        let (ledger, batch) = jobs.try_recv().unwrap();
        let records = batch.kinds.len();
        said.send((ledger, batch, result)).unwrap();
        records
    }

    #[test]
    fn batches_are_durable_in_the_order_in_which_they_came() {
        let dir = tempfile::tempdir().unwrap();
        let (ledger, _) = Ledger::open(dir.path(), [7; 16], None);
        let mut beside = Beside::start(ledger).unwrap();
        for count in 1..=100 {
            beside.hand_over(at(count), &[gap(count)]).unwrap();
        }
        let mut kinds = Vec::new();
        while !beside.is_idle() {
            let Some(written) = beside.back(Duration::from_secs(60)).unwrap() else {
                continue;
            };
            written.result.unwrap();
            kinds.extend(written.kinds);
            assert_eq!(written.head.size, kinds.len() as u64);
        }
        assert_eq!(kinds, (1..=100).map(gap).collect::<Vec<_>>());
        drop(beside);
        let (ledger, _) = Ledger::open(dir.path(), [7; 16], None);
        assert_eq!(ledger.head().size, 100);
    }

    #[test]
    fn what_comes_while_one_is_written_is_one_batch_and_nobody_waits() {
        let (mut beside, jobs, said, _dir) = by_hand();
        assert!(!beside.say_with_the_last(up_to(1)), "nothing is written");
        for boot in 1..=3 {
            beside.hand_over(at(boot), &[gap(boot)]).unwrap();
            assert!(beside.say_with_the_last(up_to(boot)));
        }
        assert!(beside.back(Duration::ZERO).unwrap().is_none());
        assert!(beside.check().is_none() && beside.begin(at(4), &[]).is_err());
        assert_eq!((beside.records_waiting(), beside.is_idle()), (2, false));
        assert_eq!(answer(&jobs, &said, Ok(())), 1);
        let written = beside.back(Duration::ZERO).unwrap().unwrap();
        assert_eq!(
            written.up_to,
            Some(up_to(1)),
            "the first speaks of the first"
        );
        assert!(!beside.is_idle());
        assert_eq!(answer(&jobs, &said, Ok(())), 2);
        let written = beside.back(Duration::ZERO).unwrap().unwrap();
        assert_eq!(written.up_to, Some(up_to(3)));
        assert!(beside.is_idle() && beside.at_work().is_none());
    }

    #[test]
    fn what_failed_is_not_told_by_what_comes_after_it() {
        let (mut beside, jobs, said, _dir) = by_hand();
        for boot in 1..=2 {
            beside.hand_over(at(boot), &[gap(boot)]).unwrap();
            beside.say_with_the_last(up_to(boot));
        }
        answer(&jobs, &said, Err(anyhow::anyhow!("full")));
        let failed = beside.back(Duration::ZERO).unwrap().unwrap();
        assert!(failed.result.is_err() && failed.up_to.is_none());
        answer(&jobs, &said, Ok(()));
        let written = beside.back(Duration::ZERO).unwrap().unwrap();
        assert!(written.result.is_ok() && written.up_to.is_none());
    }

    #[test]
    fn whoever_makes_records_is_told_when_too_many_wait() {
        let (mut beside, jobs, said, _dir) = by_hand();
        beside.hand_over(at(1), &vec![gap(1); MOST]).unwrap();
        assert!(!beside.is_swamped(), "these are written");
        beside.hand_over(at(2), &vec![gap(1); MOST - 1]).unwrap();
        assert!(!beside.is_swamped());
        beside.hand_over(at(3), &[gap(1)]).unwrap();
        assert!(beside.is_swamped());
        answer(&jobs, &said, Ok(()));
        beside.back(Duration::ZERO).unwrap().unwrap();
        assert!(!beside.is_swamped());
    }

    #[test]
    fn a_thread_that_is_gone_is_an_error_and_no_wait() {
        let (mut beside, jobs, said, _dir) = by_hand();
        beside.hand_over(at(1), &[gap(1)]).unwrap();
        drop((jobs, said));
        assert!(beside.back(Duration::from_secs(60)).is_err());
    }

    #[test]
    fn the_longest_batch_that_may_come_to_wait_is_one_that_a_ledger_takes() {
        let verdict = Kind::Verdict(governor_core::lineage::VerdictRecord {
            event: vec![0xff; size_of::<governor_common::Event>()],
        });
        // The engine keeps a burst of denials and one of what was allowed.
        let most = MOST + 2 * 256 + 2;
        let dir = tempfile::tempdir().unwrap();
        let (mut ledger, _) = Ledger::open(dir.path(), [7; 16], None);
        ledger.append(at(u64::MAX), &vec![verdict; most]).unwrap();
    }
}
