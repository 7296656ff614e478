//! Strings, numbers and moments of a [`Table`], alone or in arrays.
//!
//! What has the wrong type is reported where it stands and reads as absent.

use toml::{Spanned, de::DeValue};

use super::{
    document::{At, Table},
    report::{Complaint, Report},
};
use crate::time::WallTime;

impl<'a> Table<'a> {
    pub(super) fn string(&self, key: &str, report: &mut Report<'_>) -> Option<At<&'a str>> {
        self.string_of(key, self.map.get(key)?, report)
    }

    pub(super) fn integer(&self, key: &str, report: &mut Report<'_>) -> Option<At<i64>> {
        self.integer_of(key, self.map.get(key)?, report)
    }

    pub(super) fn boolean(&self, key: &str, report: &mut Report<'_>) -> Option<At<bool>> {
        let value = self.map.get(key)?;
        let DeValue::Boolean(flag) = value.get_ref() else {
            self.wrong(key, value, "a boolean", report);
            return None;
        };
        Some(At {
            value: *flag,
            at: value.span().start,
        })
    }

    /// Whether `key` holds exactly this string; reports nothing.
    pub(super) fn is_word(&self, key: &str, word: &str) -> bool {
        matches!(self.map.get(key).map(Spanned::get_ref), Some(DeValue::String(text)) if text == word)
    }

    pub(super) fn strings(&self, key: &str, report: &mut Report<'_>) -> Option<Vec<At<&'a str>>> {
        let items = self.array(key, "an array of strings", report)?;
        Some(
            items
                .iter()
                .filter_map(|item| self.string_of(key, item, report))
                .collect(),
        )
    }

    pub(super) fn integers(&self, key: &str, report: &mut Report<'_>) -> Option<Vec<At<i64>>> {
        let items = self.array(key, "an array of integers", report)?;
        Some(
            items
                .iter()
                .filter_map(|item| self.integer_of(key, item, report))
                .collect(),
        )
    }

    /// A moment: a date and time with its offset, in whole seconds.
    pub(super) fn moment(&self, key: &str, report: &mut Report<'_>) -> Option<At<WallTime>> {
        let value = self.map.get(key)?;
        let DeValue::Datetime(datetime) = value.get_ref() else {
            self.wrong(
                key,
                value,
                "a date and time such as 2026-11-01T00:00:00Z",
                report,
            );
            return None;
        };
        let at = value.span().start;
        if datetime.offset.is_none() {
            let complaint = Complaint::new(format!("`{key}` has no offset from UTC"));
            report.error(at, complaint.hint("write it like 2026-11-01T00:00:00Z"));
            return None;
        }
        match datetime.to_string().parse::<jiff::Timestamp>() {
            Ok(moment) if moment.subsec_nanosecond() == 0 => Some(At {
                value: WallTime(moment.as_second()),
                at,
            }),
            Ok(_) => {
                report.error(
                    at,
                    Complaint::new(format!("`{key}` has a fraction of a second")),
                );
                None
            }
            Err(_) => {
                report.error(
                    at,
                    Complaint::new(format!("`{key}` is not a moment that exists")),
                );
                None
            }
        }
    }

    pub(super) fn string_of(
        &self,
        key: &str,
        value: &'a Spanned<DeValue<'a>>,
        report: &mut Report<'_>,
    ) -> Option<At<&'a str>> {
        if let DeValue::String(text) = value.get_ref() {
            Some(At {
                value: text,
                at: value.span().start,
            })
        } else {
            self.wrong(key, value, "a string", report);
            None
        }
    }

    fn integer_of(
        &self,
        key: &str,
        value: &'a Spanned<DeValue<'a>>,
        report: &mut Report<'_>,
    ) -> Option<At<i64>> {
        let DeValue::Integer(number) = value.get_ref() else {
            self.wrong(key, value, "an integer", report);
            return None;
        };
        let at = value.span().start;
        if let Ok(value) = i64::from_str_radix(number.as_str(), number.radix()) {
            Some(At { value, at })
        } else {
            report.error(
                at,
                Complaint::new(format!("`{key}` does not fit in 63 bits")),
            );
            None
        }
    }
}
