//! The table of rows and the trie of destinations.
//!
//! Promises: a reload is one pointer: verdicts see the old table or the new one, whole. What does
//! not fit is refused before anything changes.

use governor_common::{
    Plain, Row, RowKey,
    names::{self, EGRESS_ROWS, SCOPE_ZONE, TABLE_ROWS, ZONE_HOST},
    net::{AF_INET, EGRESS_EXACT_BITS, EgressKey, EgressRow},
    row::MODE_ENFORCE,
};

use std::{collections::BTreeSet, os::fd::AsFd as _};

use aya::maps::{IterableMap, lpm_trie::Key};

use super::{
    Gate, GateError,
    edition::{self, Change},
    maps::{EgressKeyBytes, Inner, RowBytes, RowKeyBytes},
    state::is_absent,
    sys,
};
use crate::progress;

/// A destination rule: key, bits of the address that count, ports.
pub type EgressRule = (EgressKey, u32, EgressRow);

impl Gate {
    /// Puts `rows` in force in place of all rows before them.
    pub fn swap_table(&mut self, rows: Vec<Row>) -> Result<(), GateError> {
        // One without rows only takes away.
        let change = if rows.is_empty() {
            Change::Takes
        } else {
            Change::Grants
        };
        self.swap(rows, change)
    }

    /// There may be a million, so none is kept twice.
    fn swap(&mut self, mut rows: Vec<Row>, change: Change) -> Result<(), GateError> {
        let limit = TABLE_ROWS;
        let size = u32::try_from(rows.len()).ok().filter(|size| *size <= limit);
        let Some(size) = size else {
            return Err(GateError::TooMany {
                what: "rows",
                count: rows.len(),
                limit,
            });
        };
        rows.sort_unstable_by_key(|row| row.key);
        if rows.windows(2).any(|two| two[0].key == two[1].key) {
            let twice = "filling the new table: a row is there twice";
            return Err(GateError::Invalid(twice.to_owned()));
        }
        let inner = Inner::create(size.max(1), 0)
            .map_err(GateError::map(names::TABLE, "making a new table"))?;
        fill(&inner, &rows)?;
        // From here on only the kernel could change it: what is read back below stays as it is, also
        // if somebody got hold of it while it was filled.
        let data = IterableMap::map(&inner);
        sys::freeze(data.fd().as_fd())
            .map_err(|error| GateError::Invalid(format!("freezing a new table: {error}")))?;
        holds_exactly(&inner, &rows)?;
        self.judge_opens(&rows)?;
        let id = data
            .info()
            .map_err(GateError::map(names::TABLE, "reading a new table's id"))?
            .id();
        let before = self.inner_id();
        self.protect_table(id)?;
        edition::change(self, change, |gate| {
            gate.maps.table.set(0, &inner, 0).map_err(GateError::map(
                names::TABLE,
                "putting the new table in force",
            ))
        })?;
        match self.inner()? {
            Some(inner) => holds_exactly(&inner, &rows)?,
            None => return Err(differs(rows.len())),
        }
        if let Some(before) = before.filter(|before| *before != id) {
            self.unprotect_table(before)?;
        }
        Ok(())
    }

    /// The rows in force, in order of key; none if there is no table.
    pub fn table(&self) -> Result<Vec<Row>, GateError> {
        let Some(inner) = self.inner()? else {
            return Ok(Vec::new());
        };
        rows_of(&inner)
    }

    /// Whether the table in force makes the whole host a zone that denies.
    pub fn host_is_enforced(&self) -> Result<bool, GateError> {
        let rows = self.table()?;
        let own = |row: &&Row| row.key.zone == ZONE_HOST && row.key.scope == SCOPE_ZONE;
        Ok(rows
            .iter()
            .find(own)
            .is_some_and(|row| row.mode == MODE_ENFORCE))
    }

    /// Takes rows out of the table in force; how many. Rows that are not there are no error.
    pub fn remove_rows(&mut self, keys: &[RowKey]) -> Result<usize, GateError> {
        let mut rows = self.table()?;
        let before = rows.len();
        let keys: BTreeSet<&RowKey> = keys.iter().collect();
        rows.retain(|row| !keys.contains(&row.key));
        let removed = before - rows.len();
        if removed == 0 {
            // Perhaps they went before, and it could not be said that what was looked up of them is void.
            edition::change(self, Change::Takes, |_| Ok(()))?;
        } else {
            // A table in force never changes: one without the rows takes its place.
            self.swap(rows, Change::Takes)?;
        }
        Ok(removed)
    }

    /// Makes exactly these the destination rules of a generation. Rows of the table name the generation
    /// they use, so rules take effect with the table that is swapped in after them. What an attempt
    /// that failed left under the same number goes first: it was never decided in this one.
    pub fn set_egress(&mut self, generation: u32, rules: &[EgressRule]) -> Result<(), GateError> {
        let limit = EGRESS_ROWS;
        if rules.len() > limit as usize {
            return Err(GateError::TooMany {
                what: "destination rules",
                count: rules.len(),
                limit,
            });
        }
        self.drop_egress(|found| found == Some(generation))?;
        for (key, bits, value) in rules {
            let longest = if u32::from(key.family) == AF_INET {
                32
            } else {
                128
            };
            if *bits > longest {
                return Err(GateError::Invalid(format!(
                    "a prefix of {bits} bits is longer than its address"
                )));
            }
            let key = EgressKey { generation, ..*key };
            let key: EgressKeyBytes = exact(key.bytes())?;
            self.maps
                .egress
                .insert(
                    &Key::new(EGRESS_EXACT_BITS + bits, key),
                    exact(value.bytes())?,
                    0,
                )
                .map_err(GateError::map(names::EGRESS, "adding a destination"))?;
        }
        Ok(())
    }

    /// Removes the destination rules of every other generation.
    pub fn drop_egress_except(&mut self, generation: u32) -> Result<(), GateError> {
        self.drop_egress(|found| found != Some(generation))
    }

    /// Removes the destination rules of the generations that `goes` names.
    fn drop_egress(&mut self, goes: impl Fn(Option<u32>) -> bool) -> Result<(), GateError> {
        let keys: Vec<Key<EgressKeyBytes>> = self
            .maps
            .egress
            .keys()
            .collect::<Result<_, _>>()
            .map_err(GateError::map(names::EGRESS, "listing destinations"))?;
        for key in keys {
            if !goes(EgressKey::read(&key.data()).map(|key| key.generation)) {
                continue;
            }
            match self.maps.egress.remove(&key) {
                Ok(()) => {}
                Err(error) if is_absent(&error) => {}
                Err(error) => {
                    return Err(GateError::map(names::EGRESS, "removing a destination")(
                        error,
                    ));
                }
            }
        }
        Ok(())
    }

    /// The id of the table in force, if there is one.
    pub(super) fn inner_id(&self) -> Option<u32> {
        let inner = self.inner().ok()??;
        Some(IterableMap::map(&inner).info().ok()?.id())
    }

    fn inner(&self) -> Result<Option<Inner>, GateError> {
        match self.maps.table.get(&0, 0) {
            Ok(inner) => Ok(Some(inner)),
            Err(error) if is_absent(&error) => Ok(None),
            Err(error) => Err(GateError::map(names::TABLE, "opening the table in force")(
                error,
            )),
        }
    }
}

fn fill(inner: &Inner, rows: &[Row]) -> Result<(), GateError> {
    let map = IterableMap::map(inner).fd();
    for part in rows.chunks(BATCH) {
        let keys = part.iter().map(|row| exact(row.key.bytes()));
        let keys: Vec<RowKeyBytes> = keys.collect::<Result<_, _>>()?;
        let values = part.iter().map(|row| exact(row.bytes()));
        let values: Vec<RowBytes> = values.collect::<Result<_, _>>()?;
        sys::store_batch(map.as_fd(), &keys, &values)
            .map_err(|error| GateError::Invalid(format!("filling the new table: {error}")))?;
        progress::made();
    }
    Ok(())
}

/// What a table holds, in order of key.
fn rows_of(inner: &Inner) -> Result<Vec<Row>, GateError> {
    let mut rows = Vec::new();
    each_row(inner, |row| rows.push(row))?;
    rows.sort_unstable_by_key(|row| row.key);
    Ok(rows)
}

/// Fails unless a table holds these, which are in order of key and each once, and nothing else.
fn holds_exactly(inner: &Inner, rows: &[Row]) -> Result<(), GateError> {
    let mut compared = Compared::with(rows);
    each_row(inner, |row| compared.meets(&row))?;
    if compared.differs() {
        return Err(differs(rows.len()));
    }
    Ok(())
}

/// Rows in order of key, each once, beside those that a table is read to hold.
struct Compared<'r> {
    rows: &'r [Row],
    /// Which were not met yet.
    left: Vec<bool>,
    others: bool,
}

impl<'r> Compared<'r> {
    fn with(rows: &'r [Row]) -> Self {
        Self {
            rows,
            left: vec![true; rows.len()],
            others: false,
        }
    }

    fn meets(&mut self, row: &Row) {
        let at = self.rows.binary_search_by_key(&row.key, |row| row.key);
        let at = at.ok().filter(|at| self.rows.get(*at) == Some(row));
        match at.and_then(|at| self.left.get_mut(at)) {
            Some(left) if *left => *left = false,
            Some(_) | None => self.others = true,
        }
    }

    fn differs(&self) -> bool {
        self.others || self.left.contains(&true)
    }
}

/// Reads a table row by row, in the kernel's order.
fn each_row(inner: &Inner, mut row: impl FnMut(Row)) -> Result<(), GateError> {
    let map = IterableMap::map(inner).fd();
    let failed = |error: &dyn std::fmt::Display| {
        GateError::Invalid(format!("reading the rows of a table: {error}"))
    };
    let mut keys = vec![[0; size_of::<RowKey>()]; BATCH];
    let mut values = vec![[0; size_of::<Row>()]; BATCH];
    let mut from = None;
    loop {
        let (count, next) = sys::read_batch(map.as_fd(), from, &mut keys, &mut values)
            .map_err(|error| failed(&error))?;
        for (key, value) in keys.iter().zip(&values).take(count) {
            let read = Row::read(value).filter(|row| row.key.bytes() == key);
            row(read.ok_or_else(|| failed(&"one is not what it is kept under"))?);
        }
        if next.is_none() {
            return Ok(());
        }
        from = next;
        progress::made();
    }
}

fn differs(size: usize) -> GateError {
    GateError::ReadBack {
        name: names::TABLE,
        detail: format!("the table differs from the {size} rows stored"),
    }
}

pub(super) fn exact<const N: usize>(bytes: &[u8]) -> Result<[u8; N], GateError> {
    bytes
        .try_into()
        .map_err(|_error| GateError::Invalid(format!("a value has {} bytes, not {N}", bytes.len())))
}

/// How many rows are handed to the kernel at once: more than it ever keeps in one place of the table,
/// which it reads whole or not at all.
const BATCH: usize = 4096;

#[cfg(test)]
mod tests {
    use super::*;

    fn row(scope: u32, roles: u32) -> Row {
        Row {
            key: RowKey {
                zone: 1,
                scope,
                ..RowKey::default()
            },
            roles,
            ..Row::default()
        }
    }

    #[test]
    fn whatever_a_table_holds_else_is_noticed() {
        let stored = [row(1, 1), row(2, 1), row(3, 1)];
        let differs = |held: &[Row]| {
            let mut compared = Compared::with(&stored);
            held.iter().for_each(|row| compared.meets(row));
            compared.differs()
        };
        assert!(!differs(&[row(3, 1), row(1, 1), row(2, 1)]), "in any order");
        assert!(differs(&stored[1..]), "one is missing");
        assert!(
            differs(&[stored[0], stored[1], row(3, 3)]),
            "one is another"
        );
        assert!(
            differs(&[stored[0], stored[1], stored[1]]),
            "one is there twice"
        );
        assert!(differs(&[&stored[..], &[row(4, 1)]].concat()), "one more");
        assert!(differs(&[]));
    }
}
