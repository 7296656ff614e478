//! `governor measure`: files as a set in the format of `sha256sum`.
//!
//! Promises: what is printed is what the kernel would measure, and a set that lint reads. A file
//! that cannot be read, or whose name a set cannot carry, fails the whole command.

use std::{path::PathBuf, process::ExitCode};

use anyhow::{Result, bail};
use clap::ArgGroup;
use serde_json::json;

use super::{Done, Globals, output};
use crate::{
    bundle::{self, Empty, Measurement},
    text,
};

#[derive(Debug, clap::Args)]
#[command(group = ArgGroup::new("what").required(true).multiple(true))]
pub(super) struct Args {
    /// Files
    #[arg(group = "what", value_name = "PATH")]
    paths: Vec<PathBuf>,
    /// Every file below a directory
    #[arg(long, group = "what", value_name = "DIR")]
    tree: Vec<PathBuf>,
    /// Every file of an installed Debian package
    #[arg(long, group = "what", value_name = "P")]
    package: Vec<String>,
    /// Also files that are empty, for a set that only `data` uses
    #[arg(long, conflicts_with = "survival")]
    data: bool,
    /// Everything that this host cannot go on without, in the sets of a `[survival]` table
    #[arg(long, group = "what", conflicts_with_all = ["paths", "tree", "package"])]
    survival: bool,
    /// Write the sets into a directory, and print the lines for policy.toml
    #[arg(long, value_name = "DIR", requires = "survival")]
    #[arg(conflicts_with_all = ["paths", "tree", "package"])]
    out: Option<PathBuf>,
}

pub(super) fn measure(globals: &Globals, args: Args) -> Done {
    let Args {
        paths,
        tree,
        package,
        data,
        survival,
        out,
    } = args;
    if survival {
        return super::survival::measure(globals, out.as_deref());
    }
    let empty = if data {
        Empty::Listed
    } else {
        Empty::NotListed
    };
    let mut measured = bundle::measure(&paths, empty)?;
    for directory in &tree {
        measured.extend(bundle::measure_tree(directory, empty)?);
    }
    for name in &package {
        measured.extend(bundle::measure_package(name, empty)?);
    }
    if globals.json {
        let listed: Vec<_> = measured
            .iter()
            .map(|one| json!({ "sha256": one.digest.to_string(), "path": one.path }))
            .collect();
        output::print_lossless(&listed)?;
    } else {
        // All lines or none: half a set would be taken for a whole one.
        let lines = measured.iter().map(line).collect::<Result<Vec<_>>>()?;
        output::print(&lines.join("\n"))?;
    }
    Ok(ExitCode::SUCCESS)
}

fn line(one: &Measurement) -> Result<String> {
    let shown = text::strip(&one.path);
    if shown != one.path {
        bail!(
            "a set cannot carry the name `{shown}`, which has invisible characters; rename the file"
        );
    }
    Ok(one.to_string())
}

#[cfg(test)]
mod tests {
    use governor_core::digest::Digest;

    use super::*;

    #[test]
    fn names_that_hide_something_are_refused() {
        let named = |path: &str| Measurement {
            digest: Digest::of(b""),
            path: path.into(),
        };
        assert!(
            line(&named("/bin/l s"))
                .expect("a line")
                .ends_with("  /bin/l s")
        );
        assert!(line(&named("/tmp/\u{202e}gpj.exe")).is_err());
    }
}
