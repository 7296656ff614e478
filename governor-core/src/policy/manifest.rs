//! `SHA256SUMS`: the one file that is signed stands for all the others.
//!
//! Promises: every file of the bundle except the manifest and its signature is listed once and has
//! the listed digest, and every listed file is there. Refuses anything else by name, and reports
//! all of it at once. Runs after the signature was verified, over the same bytes.

use std::collections::BTreeMap;

use super::{
    bundle::{MANIFEST, RawBundle, SIGNATURE, clean_name},
    error::Diagnostics,
    report::{Complaint, Report, quoted},
    sums,
};
use crate::digest::Digest;

/// Checks the bundle against its manifest.
pub(super) fn check(bundle: &RawBundle) -> Result<(), Diagnostics> {
    let mut report = Report::default();
    let bytes = bundle.get(MANIFEST).unwrap_or_default();
    let Ok(text) = str::from_utf8(bytes) else {
        report.enter(MANIFEST, "");
        report.error(0, Complaint::new("manifest is not UTF-8"));
        return report.finish().map(drop);
    };
    report.enter(MANIFEST, text);
    let listed = read(text, &mut report);
    for (name, (digest, at)) in &listed {
        match bundle.get(name) {
            None => report.error(
                *at,
                Complaint::new(format!("file {} is listed but missing", quoted(name))),
            ),
            Some(bytes) if Digest::of(bytes) != *digest => report.error(
                *at,
                Complaint::new(format!(
                    "file {} differs from its listed digest",
                    quoted(name)
                ))
                .hint("sign the directory again"),
            ),
            Some(_) => {}
        }
    }
    for (name, _) in bundle.files() {
        if name != MANIFEST && name != SIGNATURE && !listed.contains_key(name) {
            let complaint = Complaint::new(format!("file {} is not listed", quoted(name)));
            report.error(0, complaint.hint("remove it, or sign the directory again"));
        }
    }
    report.finish().map(drop)
}

/// The manifest that lists this bundle as it is.
pub fn write(bundle: &RawBundle) -> String {
    let mut text = String::new();
    for (name, bytes) in bundle.files() {
        if name != MANIFEST && name != SIGNATURE {
            text.push_str(&format!("{}  {name}\n", Digest::of(bytes)));
        }
    }
    text
}

fn read<'a>(text: &'a str, report: &mut Report<'_>) -> BTreeMap<&'a str, (Digest, usize)> {
    let mut listed = BTreeMap::new();
    for (start, line) in sums::lines(text) {
        let sum = match sums::line(line) {
            Ok(sum) => sum,
            Err((at, complaint)) => {
                report.error(start + at, complaint);
                continue;
            }
        };
        let at = start + sum.name_at;
        if let Err(why) = clean_name(sum.name) {
            let message = format!("{} is not a clean relative path: {why}", quoted(sum.name));
            report.error(at, Complaint::new(message));
        } else if sum.name == MANIFEST || sum.name == SIGNATURE {
            let message = format!("{} cannot list itself or its signature", quoted(MANIFEST));
            report.error(at, Complaint::new(message));
        } else if listed.insert(sum.name, (sum.digest, at)).is_some() {
            let message = format!("file {} is listed twice", quoted(sum.name));
            report.error(at, Complaint::new(message));
        }
    }
    listed
}
