//! The digests of what a host needs, held against a survival set.
//!
//! Promises: what is measured is content as it lies on disk now, in small parts, each file once however
//! many names it has. What a user runs is measured up to a limit, so that nobody keeps us busy with it.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    io::{self, ErrorKind},
    os::unix::fs::MetadataExt as _,
};

use governor_core::{digest::Digest, policy::Survival};

use super::{Need, Needs, Role, Why};
use crate::bundle;

/// What of running programs is measured: in one file, and in all.
const MAX_RUNNING: u64 = 512 << 20;
const MAX_ALL_RUNNING: u64 = 8 << 30;

/// What a look at a file found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Found {
    /// Its content, which is not listed.
    Unlisted(Digest),
    /// Nothing has its name any more.
    Gone,
    /// It cannot be measured, and why.
    Unmeasured(String),
}

/// A need that a survival set does not cover.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Missing {
    pub need: Need,
    pub found: Found,
}

impl Missing {
    /// Whether the operator would be shut out for it. A program whose file is gone cannot be started
    /// anyway, and one that goes on running is not judged again.
    pub fn is_vital(&self) -> bool {
        self.need.why.is_vital() && self.found != Found::Gone
    }
}

impl fmt::Display for Missing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { need, found } = self;
        write!(
            f,
            "{} ({}): {}",
            need.path.display(),
            need.role,
            need.reason()
        )?;
        match found {
            Found::Unlisted(_) => Ok(()),
            Found::Gone => f.write_str("; its file is gone, so restart what runs it"),
            Found::Unmeasured(why) => write!(f, "; it cannot be measured: {why}"),
        }
    }
}

/// What of `needs` the set does not list in its role. A mapping is judged by libraries and programs both.
pub fn missing(needs: &Needs, survival: &Survival) -> Vec<Missing> {
    let listed = |role, digest: &Digest| match role {
        Role::Executable => survival.exec.contains(digest),
        Role::Library => survival.libraries.contains(digest) || survival.exec.contains(digest),
        Role::Script => survival.scripts.contains(digest),
    };
    measured(needs)
        .filter_map(|(need, found)| match found {
            Ok(digest) if listed(need.role, &digest) => None,
            Ok(digest) => Some((need, Found::Unlisted(digest))),
            Err(found) => Some((need, found)),
        })
        .map(|(need, found)| Missing {
            need: need.clone(),
            found,
        })
        .collect()
}

/// The sets that cover a host's needs.
#[derive(Clone, Debug, Default)]
pub struct Listing {
    /// In order of path, each content once in a role.
    pub sets: BTreeMap<Role, Vec<(Digest, Need)>>,
    /// What is in none of them.
    pub left_out: Vec<Missing>,
}

/// Measures all of `needs`.
pub fn listing(needs: &Needs) -> Listing {
    let mut all = Listing::default();
    let mut seen = BTreeSet::new();
    for (need, found) in measured(needs) {
        match found {
            Ok(digest) if seen.insert((need.role, digest)) => {
                all.sets
                    .entry(need.role)
                    .or_default()
                    .push((digest, need.clone()));
            }
            Ok(_again) => {}
            Err(found) => all.left_out.push(Missing {
                need: need.clone(),
                found,
            }),
        }
    }
    all
}

/// The same content behind several names.
type Identity = (u64, u64, u64, i64, i64, i64, i64);

fn measured(needs: &Needs) -> impl Iterator<Item = (&Need, Result<Digest, Found>)> {
    let mut known: BTreeMap<Identity, Option<Digest>> = BTreeMap::new();
    let mut left = MAX_ALL_RUNNING;
    needs.list.iter().filter_map(move |need| {
        match measure(needs, need, &mut known, &mut left) {
            Ok(Some(digest)) => Some((need, Ok(digest))),
            // Nothing executes an empty file.
            Ok(None) => None,
            Err(found) => Some((need, Err(found))),
        }
    })
}

fn measure(
    needs: &Needs,
    need: &Need,
    known: &mut BTreeMap<Identity, Option<Digest>>,
    left: &mut u64,
) -> Result<Option<Digest>, Found> {
    if need.gone {
        return Err(Found::Gone);
    }
    let failed = |error: io::Error| {
        if error.kind() == ErrorKind::NotFound {
            Found::Gone
        } else {
            Found::Unmeasured(error.to_string())
        }
    };
    let mut file = needs.root.open(&need.path).map_err(failed)?;
    let metadata = file.metadata().map_err(failed)?;
    let identity = (
        metadata.dev(),
        metadata.ino(),
        metadata.size(),
        metadata.mtime(),
        metadata.mtime_nsec(),
        metadata.ctime(),
        metadata.ctime_nsec(),
    );
    if let Some(digest) = known.get(&identity) {
        return Ok(*digest);
    }
    if let Why::Running(_) = need.why {
        let size = metadata.size();
        if size > MAX_RUNNING.min(*left) {
            return Err(Found::Unmeasured(format!(
                "its {size} bytes are more than are measured of what only runs"
            )));
        }
        *left -= size;
    }
    let digest = bundle::measure_open(&mut file).map_err(failed)?;
    known.insert(identity, digest);
    Ok(digest)
}
