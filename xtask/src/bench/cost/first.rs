//! What the very first exec of a large file costs, with governor and without: where policy lists it by path,
//! so that it was measured ahead, and where it does not, so that it is read then.

use super::{PATIENCE, WORKLOAD, Work, files, judged, one, prepared};
use crate::{
    guest::Guest,
    image::Kernel,
    install,
    kit::{Kit, Spec},
    paths, status,
};
use anyhow::{Context as _, Result, ensure};

/// Its lines of the table.
pub(in crate::bench) fn measure(kernel: Kernel) -> Result<Vec<String>> {
    let (mut guest, sets) = prepared(kernel, "")?;
    let listed = files::make_large(&mut guest, DIR, COUNT)?;
    let none = each(&mut guest)?;
    files::make_large(&mut guest, DIR, COUNT)?;
    let again = each(&mut guest)?;
    install::package(&mut guest, &paths::target().join("dist/governor.deb"))
        .context("installing the package")?;
    let kit = Kit::new(&mut guest)?;
    let libraries = files::of_the_script(&mut guest)?.libraries;
    let spec = |lines: &str| Spec {
        lease: "300s",
        every: "60s",
        tables: WORKLOAD,
        sets: vec![
            ("cost", format!("{}{lines}", sets.programs)),
            ("cost-libraries", libraries.clone()),
            ("filler", "1".repeat(64) + "  f\n"),
        ],
        ..Spec::default()
    };
    // Files that nobody ever executed, each time.
    files::make_large(&mut guest, DIR, COUNT)?;
    kit.load(&mut guest, &spec(&listed))?;
    let looked = status::once_measured_ahead(&mut guest, PATIENCE)?;
    let known = looked.number(&["measurements", "ahead", "known"]);
    ensure!(known >= COUNT, "only {known} files were measured ahead");
    let ahead = each(&mut guest)?;
    files::make_large(&mut guest, DIR, COUNT)?;
    kit.load(&mut guest, &spec(&listed.replace(DIR, "")))?;
    status::once_measured_ahead(&mut guest, PATIENCE)?;
    let then = each(&mut guest)?;
    let row = |name: &str, count: f64, bound: Option<f64>| {
        let (again, ratio) = (again / none, count / none);
        let (bound, verdict) = bound.map_or_else(Default::default, |bound| {
            (bound.to_string(), judged(ratio, bound))
        });
        format!(
            "| first exec of 60 MB, {name} | {none:.0} | {again:.4} | {ratio:.4} | {bound} | {verdict} |"
        )
    };
    Ok(vec![
        String::new(),
        "| work | instructions | same again | enforcing | at most | |".to_owned(),
        "|---|---|---|---|---|---|".to_owned(),
        row("measured ahead", ahead, Some(1.05)),
        row("read then", then, None),
    ])
}

/// The median of what the first exec of each took.
fn each(guest: &mut Guest) -> Result<f64> {
    let work = Work::inside("first exec", &["each", DIR], 1.05);
    one(guest, &work, work.of(1))
}

const DIR: &str = "/opt/first";
/// How many files.
const COUNT: u64 = 15;
