//! TOML with places: a closed way to read tables.
//!
//! A [`Table`] is opened with the keys it may have, and every other key is an error there and then.
//! Reading a key of the wrong type is an error and reads as absent, so one mistake is reported once
//! and the rest of the document is still looked at.

use toml::{
    Spanned,
    de::{DeTable, DeValue},
};

use super::report::{Complaint, Report, did_you_mean, quoted};

/// A value and the offset it stands at.
#[derive(Clone, Copy, Debug)]
pub(super) struct At<T> {
    pub(super) value: T,
    pub(super) at: usize,
}

/// One table of the document.
#[derive(Clone, Debug)]
pub(super) struct Table<'a> {
    pub(super) map: &'a DeTable<'a>,
    pub(super) at: usize,
    title: String,
}

/// Parses `text`, reporting every syntax error.
pub(super) fn parse<'a>(text: &'a str, report: &mut Report<'_>) -> Spanned<DeTable<'a>> {
    let (document, errors) = DeTable::parse_recoverable(text);
    for error in errors {
        let at = error.span().map_or(0, |span| span.start);
        report.error(at, Complaint::new(error.message().replace('\n', " ")));
    }
    document
}

impl<'a> Table<'a> {
    /// The document itself.
    pub(super) fn root(map: &'a DeTable<'a>, known: &[&str], report: &mut Report<'_>) -> Self {
        let table = Self {
            map,
            at: 0,
            title: "the policy".to_owned(),
        };
        table.close(known, report);
        table
    }

    fn close(&self, known: &[&str], report: &mut Report<'_>) {
        for key in self.map.keys() {
            let name: &str = key.get_ref();
            if known.contains(&name) {
                continue;
            }
            let what = format!("unknown key {} in {}", quoted(name), self.title);
            let complaint = Complaint::new(what);
            report.error(
                key.span().start,
                match did_you_mean(name, known.iter().copied()) {
                    Some(hint) => complaint.hint(hint),
                    None if known.is_empty() => complaint,
                    None => complaint.hint(format!("known here: {}", known.join(", "))),
                },
            );
        }
    }

    /// Reports each of `keys` that is absent.
    pub(super) fn require(&self, keys: &[&str], report: &mut Report<'_>) {
        for key in keys.iter().filter(|key| !self.map.contains_key(**key)) {
            let message = format!("{} has no `{key}`", self.title);
            report.error(self.at, Complaint::new(message).hint("which is required"));
        }
    }

    pub(super) fn has(&self, key: &str) -> bool {
        self.map.contains_key(key)
    }

    /// Whether `key` is an array without elements.
    pub(super) fn empty(&self, key: &str) -> bool {
        matches!(self.map.get(key).map(Spanned::get_ref), Some(DeValue::Array(a)) if a.is_empty())
    }

    /// The table at `key`.
    pub(super) fn table(&self, key: &str, known: &[&str], report: &mut Report<'_>) -> Option<Self> {
        let (name, value) = self.map.get_key_value(key)?;
        let DeValue::Table(map) = value.get_ref() else {
            self.wrong(key, value, "a table", report);
            return None;
        };
        let table = Self {
            map,
            at: name.span().start,
            title: format!("[{key}]"),
        };
        table.close(known, report);
        Some(table)
    }

    /// The tables at `key`, by name: `[key.NAME]`. Without `known` keys nothing is closed.
    pub(super) fn tables(
        &self,
        key: &str,
        known: &[&str],
        report: &mut Report<'_>,
    ) -> Vec<(At<&'a str>, Self)> {
        let Some(value) = self.map.get(key) else {
            return Vec::new();
        };
        let DeValue::Table(map) = value.get_ref() else {
            self.wrong(key, value, "a table of tables", report);
            return Vec::new();
        };
        let mut found = Vec::new();
        for (name, value) in map {
            let at = name.span().start;
            let name: &'a str = name.get_ref();
            let title = format!("[{key}.{}]", quoted(name).trim_matches('`'));
            let DeValue::Table(map) = value.get_ref() else {
                let message = format!("{title} must be a table, not {}", kind(value.get_ref()));
                report.error(at, Complaint::new(message));
                continue;
            };
            let table = Self { map, at, title };
            table.close(known, report);
            found.push((At { value: name, at }, table));
        }
        found
    }

    /// Every key with its string: `[set]`.
    pub(super) fn entries(&self, report: &mut Report<'_>) -> Vec<(At<&'a str>, At<&'a str>)> {
        let mut found = Vec::new();
        for (name, value) in self.map {
            let key: &'a str = name.get_ref();
            if let Some(text) = self.string_of(key, value, report) {
                found.push((
                    At {
                        value: key,
                        at: name.span().start,
                    },
                    text,
                ));
            }
        }
        found
    }

    /// The keys, for looking up references before the tables are read.
    pub(super) fn names(&self, key: &str) -> Vec<&'a str> {
        match self.map.get(key).map(Spanned::get_ref) {
            Some(DeValue::Table(map)) => map.keys().map(|name| name.get_ref().as_ref()).collect(),
            _ => Vec::new(),
        }
    }

    /// Where the elements of an array stand, whatever they are.
    pub(super) fn elements(&self, key: &str, report: &mut Report<'_>) -> Vec<usize> {
        let items = self.array(key, "an array", report).unwrap_or_default();
        items.iter().map(|item| item.span().start).collect()
    }

    /// An array of inline tables, each closed over `known`.
    pub(super) fn records(&self, key: &str, known: &[&str], report: &mut Report<'_>) -> Vec<Self> {
        let mut found = Vec::new();
        for item in self
            .array(key, "an array of tables", report)
            .unwrap_or_default()
        {
            let DeValue::Table(map) = item.get_ref() else {
                self.wrong(key, item, "an array of tables", report);
                continue;
            };
            let title = format!("an entry of `{key}`");
            let table = Self {
                map,
                at: item.span().start,
                title,
            };
            table.close(known, report);
            found.push(table);
        }
        found
    }

    pub(super) fn array(
        &self,
        key: &str,
        wanted: &str,
        report: &mut Report<'_>,
    ) -> Option<&'a [Spanned<DeValue<'a>>]> {
        let value = self.map.get(key)?;
        if let DeValue::Array(items) = value.get_ref() {
            Some(items)
        } else {
            self.wrong(key, value, wanted, report);
            None
        }
    }

    pub(super) fn wrong(
        &self,
        key: &str,
        value: &Spanned<DeValue<'_>>,
        wanted: &str,
        report: &mut Report<'_>,
    ) {
        let found = kind(value.get_ref());
        let message = format!(
            "{} in {} must be {wanted}, not {found}",
            quoted(key),
            self.title
        );
        report.error(value.span().start, Complaint::new(message));
    }
}

fn kind(value: &DeValue<'_>) -> &'static str {
    match value {
        DeValue::String(_) => "a string",
        DeValue::Integer(_) => "an integer",
        DeValue::Float(_) => "a float",
        DeValue::Boolean(_) => "a boolean",
        DeValue::Datetime(_) => "a date or time",
        DeValue::Array(_) => "an array",
        DeValue::Table(_) => "a table",
    }
}
