//! What performs effects in the model: onto its kernel, its disk and what runs there.

use super::{super::*, held::End, model::Host};
use crate::attest::PcrSelection;

/// What came of a step.
#[derive(Debug)]
pub(super) struct Performed {
    pub(super) grant_failed: bool,
    pub(super) failed: Vec<(Effect, String)>,
    /// Of so many of these the records of the step speak.
    pub(super) told: usize,
}

impl Host {
    /// One point at which the daemon may end; nothing it does afterwards happens.
    pub(super) fn ended(&mut self) -> bool {
        self.dies = self.dies.map(|points| points.saturating_sub(1));
        self.dies == Some(0)
    }

    pub(super) fn perform(&mut self, next: &Engine, effects: Vec<Effect>) -> Performed {
        let grants = effects.iter().any(Effect::grants);
        let (mut grant_failed, mut failed, mut told) = (false, Vec::new(), 0);
        for effect in effects {
            if grant_failed && !effect.revokes() {
                continue;
            }
            if self.down || self.ended() {
                break;
            }
            let position = self.performed;
            self.performed += 1;
            let appends = matches!(effect, Effect::Append(_));
            let writes = appends || matches!(effect, Effect::BeginLedger(_));
            let refused = self.full && writes || self.broken.is_some() && appends;
            let lame = effect.stops() && self.lame > 0;
            self.lame -= usize::from(lame);
            if lame || self.fail.contains(&position) || refused {
                grant_failed |= grants && !effect.revokes();
                failed.push((effect, "made to fail".into()));
                continue;
            }
            match effect {
                Effect::Append(mut kinds) => {
                    if !Effect::Append(kinds.clone()).can_wait() {
                        kinds.extend(next.also_lost(&failed, told));
                        told = failed.len();
                    }
                    self.write(&kinds);
                }
                Effect::BeginLedger(kinds) => {
                    self.begin_ledger(&kinds);
                }
                Effect::KeepLock(reasons) => self.kept_lock = reasons,
                Effect::ForgetLock => self.kept_lock.clear(),
                Effect::AcknowledgeSignals(dealt) => {
                    if !failed
                        .iter()
                        .any(|(effect, _)| matches!(effect, Effect::Append(_)))
                    {
                        for (signal, count) in dealt {
                            let left = self.kernel.signals.entry(signal).or_default();
                            *left = left.saturating_sub(count);
                        }
                    }
                }
                Effect::BreakGlass { .. }
                    if failed
                        .iter()
                        .any(|(effect, _)| matches!(effect, Effect::AddTombstone(_))) =>
                {
                    failed.push((effect, "something is not revoked everywhere".into()));
                }
                Effect::BreakGlass { until } => self.kernel.glass = Some(until.0),
                Effect::EndBreakGlass { at } => {
                    self.kernel.glass = self.kernel.glass.map(|until| until.min(at.0));
                }
                Effect::ForgetBreakGlass => self.kernel.glass = None,
                Effect::KeepPolicy(digest) => drop(self.kept.insert(digest)),
                Effect::Stop {
                    zone,
                    workload,
                    action,
                    barred,
                } => {
                    let running = workload.map_or(Running::All, Running::Workload);
                    if let Some(end) = End::of_policy(action, barred) {
                        self.stop(zone, running, end);
                    }
                }
                Effect::Hold {
                    zone,
                    running,
                    grip,
                } => self.stop(zone, running, End::by_hand(grip)),
                Effect::Bar { zone } => self.bar(zone),
                Effect::Thaw(thaw) if thaw.attested && !self.lease_holds() => {
                    grant_failed = true;
                    failed.push((Effect::Thaw(thaw), "the lease does not hold".into()));
                }
                Effect::Thaw(thaw) => {
                    for digest in thaw.allowed.values().flatten() {
                        assert!(
                            self.allows_digest(thaw.zone, *digest),
                            "something goes on that might not even be started"
                        );
                    }
                    self.let_go_on(&thaw);
                    self.thaws.push(*thaw);
                }
                Effect::InstallTable(table) => {
                    let mut table = Arc::unwrap_or_clone(table);
                    let before = self.kernel.table.take().map(|table| table.rows);
                    table.rows = table.rows_after(before.unwrap_or_default());
                    self.kernel.table = Some(table);
                }
                Effect::Guard(_) => self.kernel.armed = true,
                Effect::ExtendPcrs(pcrs) => self.extending = Some(pcrs),
                Effect::TakeDown => self.take_down(),
                Effect::SetLease {
                    deadline,
                    trips,
                    epoch,
                } => {
                    self.kernel.lease = Some((deadline, trips, epoch));
                }
                Effect::DropLease => self.kernel.lease = None,
                Effect::MarkRevokedAll(revoked) => self.kernel.revoked_all = revoked,
                Effect::RaiseEpoch { class, to } => {
                    let epoch = match class {
                        Class::Attested => &mut self.kernel.attested,
                        Class::Policy => &mut self.kernel.policy,
                    };
                    *epoch = (*epoch).max(to);
                }
                Effect::AddTombstone(key) => {
                    self.kernel.tombstones.insert(key);
                }
                Effect::RemoveRows(keys) => {
                    if let Some(table) = &mut self.kernel.table {
                        table.rows.retain(|row| !keys.contains(&row.key));
                    }
                }
                Effect::RequestQuote { policy, selection } => {
                    let quoted = [self.kernel.quoted.take(), Some(selection.lasting())];
                    self.kernel.quoted = quoted.into_iter().flatten().reduce(PcrSelection::union);
                    self.wanted = Some((policy, self.kernel.attested, self.now));
                }
            }
        }
        Performed {
            grant_failed,
            failed,
            told,
        }
    }
}
