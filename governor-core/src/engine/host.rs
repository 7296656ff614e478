//! The whole host as a zone: what of a table is the host's own.
//!
//! Promises: what keeps the host alive is told from what is granted by the row alone, so that taking
//! every grant away never takes the host with it, and never sets it free either.

use std::collections::BTreeSet;

use governor_common::{
    Row,
    names::{SCOPE_SURVIVAL, SCOPE_ZONE, ZONE_HOST},
};

use super::{
    Effect, Engine, Table,
    gone::{leased, needs_lease_row},
    records,
};
use crate::{
    digest::Digest,
    policy::HOST,
    time::{ClockReading, Span},
};

/// Longer than any host stays up.
const FOR_GOOD: Span = Span::seconds(10 * 365 * 86_400);

/// The cgroup below the governed root that workloads of the whole-host zone are held in. They run
/// anywhere else, and only what is held is moved.
pub const HELD_OF_HOST: &str = "governor-host";

/// Whether a row says that the whole host is a zone, or what survives in it.
pub(super) fn is_of_host(row: &Row) -> bool {
    row.key.zone == ZONE_HOST && matches!(row.key.scope, SCOPE_ZONE | SCOPE_SURVIVAL)
}

/// What is left of rows where nothing is granted: what the host itself may do is no grant, and which zones need a
/// lease is not forgotten.
pub(super) fn without_grants(mut rows: Vec<Row>) -> Vec<Row> {
    let zones = leased(&rows);
    rows.retain(is_of_host);
    rows.extend(zones.into_iter().map(needs_lease_row));
    rows
}

impl Table {
    /// The rows to put in force in place of those of `before`.
    pub fn rows_after(&self, before: impl IntoIterator<Item = Row>) -> Vec<Row> {
        let mut rows = self.rows.clone();
        if self.grants_nothing {
            rows.extend(without_grants(before.into_iter().collect()));
        }
        rows
    }
}

/// The digests that such rows list.
pub fn survivors<'r>(rows: impl IntoIterator<Item = &'r Row>) -> BTreeSet<Digest> {
    let of_host = |row: &&Row| row.key.zone == ZONE_HOST && row.key.scope == SCOPE_SURVIVAL;
    let rows = rows.into_iter().filter(of_host);
    rows.map(|row| Digest::new(row.key.digest)).collect()
}

impl Engine {
    /// The kept policy is put in force, and its host is only observed until somebody loads a policy:
    /// what was accepted once is not thrown away for what became of the host since, and nobody is shut
    /// out by it.
    pub(super) fn observe_host(&mut self, now: ClockReading, effects: &mut Vec<Effect>) {
        let until = now.boot.after(FOR_GOOD);
        self.shut_out = true;
        self.observed.insert(HOST.to_owned(), until);
        let record = records::mode_change(HOST, "observe", until.0, None);
        effects.push(Effect::Append(vec![record]));
    }

    /// Why a digest cannot be revoked by hand: the host could shut out whoever did it.
    pub(super) fn keeps_host_alive(&self, digest: Digest) -> Option<String> {
        let survives = match &self.active {
            Some(active) => {
                let policy = active.verified.policy();
                policy.host().is_some() && policy.survival().digests().contains(&digest)
            }
            // Without a policy the host stays as it was found.
            None => self.survivors.contains(&digest),
        };
        survives.then(|| {
            format!(
                "digest {digest} is in the survival set of this host: load a policy whose [survival] \
                 no longer lists it"
            )
        })
    }
}
