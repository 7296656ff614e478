//! Letting go of what is held.
//!
//! Promises: a cgroup goes on only if every label in it and below it is on the list of what may, and
//! every label could be read, as the kernel lists them; whatever else is held stays and is counted. Without an operator only
//! what the loss of trust froze goes on. What nobody here froze is left alone.
//!
//! Labels are read once, before the first cgroup goes on, and whoever comes into one after that is not
//! looked at. A second look would not find more than it lets by:
//!
//! - Nobody else stops or holds meanwhile: both are done by the loop that does this, one after the other.
//! - What is frozen moves nowhere, forks nothing and executes nothing by itself. Who is moved in ran before,
//!   and gains nothing; or was held elsewhere, and whoever moved it could as well have moved it to any cgroup
//!   that is not frozen, where the kernel lets it go without a thaw, at any other time.
//! - What is not frozen yet, since it has not come back from the kernel, may have a child or another label. A
//!   child has its parent's label, or that of another who is on the same list; another label comes only of an
//!   exec that the gate judges when it commits, by what holds then.

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result};
use governor_common::{Carrier, Line};
use governor_core::engine::Thaw;

use super::{
    Scene, is_meant,
    mark::Mark,
    tree::{self, has_vanished},
};

/// cgroups that went on, and that stay held although they were meant.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Thawed {
    pub(crate) thawed: usize,
    pub(crate) kept: usize,
}

impl std::ops::AddAssign for Thawed {
    fn add_assign(&mut self, other: Self) {
        self.thawed += other.thawed;
        self.kept += other.kept;
    }
}

/// What the labels of a cgroup say.
#[derive(Clone, Copy, Debug, Default)]
struct Content {
    meant: bool,
    forbidden: bool,
}

/// Lets go of what is held below `root` and may go on.
pub(crate) fn thaw(scene: &Scene<'_>, root: &Path, thaw: &Thaw) -> Result<Thawed> {
    let mut done = Thawed::default();
    let held = held(scene, root)?;
    if held.is_empty() {
        return Ok(done);
    }
    // All of it is frozen by now, and the kernel's list costs less than asking each.
    let carriers = (scene.carriers)()?;
    for (cgroup, mark) in held {
        if !thaw.by_hand && mark != Mark::Frozen {
            continue;
        }
        let content = content(&carriers, &cgroup, thaw);
        if !content.meant {
            continue;
        }
        if content.forbidden {
            done.kept += 1;
            continue;
        }
        // The mark goes last: what is frozen has one.
        let thawed = tree::write(&cgroup.join("cgroup.freeze"), "0")
            .and_then(|()| scene.marks.clear(&cgroup));
        match thawed {
            Ok(()) => done.thawed += 1,
            Err(error) if has_vanished(&error) => {}
            Err(error) => {
                return Err(error).with_context(|| format!("thawing `{}`", cgroup.display()));
            }
        }
    }
    Ok(done)
}

/// What is frozen below `root` does not go on for the return of trust alone.
pub(crate) fn bar(scene: &Scene<'_>, root: &Path) -> Result<()> {
    for (cgroup, _) in held(scene, root)? {
        match scene.marks.raise(&cgroup, Mark::Barred) {
            Err(error) if !has_vanished(&error) => {
                return Err(error).with_context(|| format!("marking `{}`", cgroup.display()));
            }
            Ok(()) | Err(_) => {}
        }
    }
    Ok(())
}

fn held(scene: &Scene<'_>, root: &Path) -> Result<Vec<(PathBuf, Mark)>> {
    let below = tree::below(root);
    if let Some((cgroup, error)) = below.unread {
        return Err(error).with_context(|| format!("listing `{}`", cgroup.display()));
    }
    let mut held = Vec::new();
    for cgroup in below.cgroups {
        match scene.marks.get(&cgroup) {
            Ok(mark) => held.extend(mark.map(|mark| (cgroup, mark))),
            Err(error) if has_vanished(&error) => {}
            Err(error) => {
                let doing = || format!("reading why `{}` is held", cgroup.display());
                return Err(error).with_context(doing);
            }
        }
    }
    Ok(held)
}

fn content(carriers: &[Carrier], cgroup: &Path, thaw: &Thaw) -> Content {
    let mut content = Content {
        meant: thaw.running == governor_core::engine::Running::All,
        forbidden: false,
    };
    let below = tree::below(cgroup);
    // Whoever is there would go on too.
    let mut unknown = |place: &Path, why: &str| {
        let (cgroup, place) = (cgroup.display(), place.display());
        tracing::warn!("`{cgroup}` stays held: what is in `{place}` cannot be told: {why}");
        content.forbidden = true;
    };
    if let Some((place, error)) = below.unread {
        unknown(&place, &error.to_string());
    }
    if let Some(place) = below.too_deep {
        unknown(&place, "it is too deep for a path");
    }
    let mut here = BTreeSet::new();
    for cgroup in below.cgroups {
        match tree::id(&cgroup) {
            Ok(id) => drop(here.insert(id)),
            Err(error) => content.forbidden |= !has_vanished(&error),
        }
    }
    for carrier in carriers.iter().filter(|one| here.contains(&one.cgroup)) {
        match Line::from_u32(carrier.line) {
            Some(Line::Labelled) => {
                let label = &carrier.label;
                content.meant |= label.zone == thaw.zone && is_meant(thaw.running, label);
                let listed = thaw.allowed.get(&label.workload);
                content.forbidden |= label.zone != thaw.zone
                    || !listed.is_some_and(|digests| digests.contains(&label.digest));
            }
            // It may be anybody's.
            Some(Line::Unread | Line::End) | None => content.forbidden = true,
        }
    }
    content
}
