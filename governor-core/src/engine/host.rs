//! The whole host as a zone: what of a table is the host's own.
//!
//! Promises: what keeps the host alive is told from what is granted by the row alone, so that taking
//! every grant away never takes the host with it, and never sets it free either.

use governor_common::{
    Row,
    names::{SCOPE_SURVIVAL, SCOPE_ZONE, ZONE_HOST},
};

use super::Table;

/// The cgroup below the governed root that workloads of the whole-host zone are held in. They run
/// anywhere else, and only what is held is moved.
pub const HELD_OF_HOST: &str = "governor-host";

/// Whether a row says that the whole host is a zone, or what survives in it.
pub(super) fn is_of_host(row: &Row) -> bool {
    row.key.zone == ZONE_HOST && matches!(row.key.scope, SCOPE_ZONE | SCOPE_SURVIVAL)
}

impl Table {
    /// The rows to put in force in place of those of `before`.
    pub fn rows_after(&self, before: impl IntoIterator<Item = Row>) -> Vec<Row> {
        let mut rows = self.rows.clone();
        if self.host_stays {
            rows.extend(before.into_iter().filter(is_of_host));
        }
        rows
    }
}
