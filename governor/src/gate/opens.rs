//! The hook that judges what is opened. The kernel calls it for every file that anybody on the host opens, so
//! it is attached when the first table comes that has somebody open only what is listed. Which one it is the
//! kernel says: one that can measure what is opened, or else one that knows only what was measured before.
//!
//! Promises: it is attached before such a table is in force, and no daemon after that lets go of it: labels
//! outlive the table that they came from.

use std::path::Path;

use aya::programs::links::{FdLink, PinnedLink};
use governor_common::{Row, row::OPENS_LISTED};
use governor_core::engine::OpensJudged;

use super::{
    Gate, GateError, HookState, HookStatus, OBJECT,
    error::whole,
    load::{HOOKS, Hook, Loaded, POST_OPEN, RECALLED_OPEN},
    pins::{self, Pins},
};

/// Each, the better one first, and what is said of it: only one of them is ever attached.
const EITHER: [(&Hook, OpensJudged, &str); 2] = [
    (
        &POST_OPEN,
        OpensJudged::Measured,
        "what is opened is measured then",
    ),
    (
        &RECALLED_OPEN,
        OpensJudged::Recalled,
        "what is opened must have been measured before",
    ),
];

/// What to say of a hook that is attached where policy needs it; nothing of any other.
pub fn detail(name: &str) -> &'static str {
    let mut either = EITHER.iter();
    let named = either.find(|(hook, ..)| hook.name == name);
    named.map_or("", |(.., said)| said)
}

/// What there is for it where `carries` says what the kernel has.
pub(super) fn fitting(carries: impl Fn(&Hook) -> bool) -> Option<&'static Hook> {
    let fits = EITHER.iter().find(|(hook, ..)| carries(hook));
    fits.map(|(hook, ..)| *hook)
}

/// Whether programs that stand, ours or another object's, judge what is opened; or may have, where some are
/// gone: labels outlive them.
pub(super) fn are_judged(pins: &Pins) -> Result<bool, GateError> {
    if pins.lost_some(HOOKS.iter().map(|hook| hook.name)) {
        return Ok(true);
    }
    let others = pins.other_links()?;
    let mut every = others.iter().chain([&pins.links]);
    Ok(every.any(|links| {
        let mut either = EITHER.iter();
        either.any(|(hook, ..)| links.join(hook.name).exists())
    }))
}

/// Takes what is pinned, or has it made. The inner error is why the hook is missing.
pub(super) fn pinned(
    path: &Path,
    attach: impl FnOnce() -> Result<Result<FdLink, String>, GateError>,
) -> Result<Result<FdLink, String>, GateError> {
    if path.exists() {
        let pinned = PinnedLink::from_pin(path).map(FdLink::from);
        return Ok(pinned.map_err(|error| format!("its pin cannot be opened: {}", whole(&error))));
    }
    let link = match attach()? {
        Ok(link) => link,
        Err(reason) => return Ok(Err(reason)),
    };
    let pinned = link.pin(path).map(FdLink::from);
    Ok(pinned.map_err(|error| format!("it cannot be pinned: {}", whole(&error))))
}

impl Gate {
    /// How this kernel lets what is opened be judged.
    pub fn opens_judged(&self) -> OpensJudged {
        let ours = |hook: &Hook| self.opens.is_some_and(|ours| ours.name == hook.name);
        let mut either = EITHER.iter();
        let found = either.find(|(hook, ..)| ours(hook));
        found.map_or(OpensJudged::Never, |(_, how, _)| *how)
    }

    /// Has it ask, if `rows` need that.
    pub(super) fn judge_opens(&mut self, rows: &[Row]) -> Result<(), GateError> {
        if !rows.iter().any(|row| row.roles & OPENS_LISTED != 0) {
            return Ok(());
        }
        let hook = self.opens.ok_or_else(|| GateError::Hook {
            name: POST_OPEN.name,
            reason: "this kernel has no such hook".to_owned(),
        })?;
        let name = hook.name;
        if self.hooks.iter().any(|hook| hook.name == name) {
            return Ok(());
        }
        let path = self.pinned_links.join(name);
        let maps = &self.pinned_maps;
        // Others would be made in their place, which nothing else that is in force reads.
        let missing = pins::missing(maps);
        if !missing.is_empty() {
            return Err(GateError::Missing {
                dir: maps.clone(),
                names: missing.join("`, `"),
            });
        }
        let link = pinned(&path, || Ok(Loaded::with_maps(OBJECT, maps)?.attach(hook)))?;
        let failed = |reason| GateError::Hook { name, reason };
        let link = link.map_err(failed)?;
        let info = link
            .info()
            .map_err(|error| failed(format!("its link cannot be read: {}", whole(&error))))?;
        let prog_id = info.program_id();
        self.links.push(link);
        // It counts as there when it is guarded: otherwise the next table tries again.
        self.protect_objects()?;
        let state = HookState::Attached { prog_id };
        self.hooks.push(HookStatus { name, state });
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_can_be_measured_is_not_only_recalled() {
        let name = |carried: &[&str]| {
            let fits = fitting(|hook| carried.contains(&hook.name));
            fits.map(|hook| hook.name)
        };
        let (post, recalled) = ("file_post_open", "file_open_recalled");
        assert_eq!(name(&[post, recalled]), Some(post));
        assert_eq!(name(&[recalled]), Some(recalled));
        assert_eq!(name(&[]), None);
    }

    #[test]
    fn where_programs_are_gone_what_judged_opens_may_be_among_them() {
        let dir = tempfile::tempdir().unwrap();
        let pins = Pins::find(dir.path(), b"object");
        std::fs::create_dir_all(&pins.links).unwrap();
        let judged = || are_judged(&pins).unwrap();
        assert!(!judged(), "a first start");
        for hook in HOOKS {
            std::fs::write(pins.links.join(hook.name), "").unwrap();
        }
        assert!(!judged(), "all of them");
        for hook in [&HOOKS[0], &HOOKS[9]] {
            std::fs::remove_file(pins.links.join(hook.name)).unwrap();
            assert!(judged(), "without `{}`", hook.name);
        }
    }

    #[test]
    fn whatever_judged_opens_before_has_a_successor() {
        for (standing, judged) in [
            ("links-0123/file_post_open", true),
            ("links-0123/file_open_recalled", true),
            ("links-0123/file_open", false),
            ("maps-3/file_post_open", false),
        ] {
            let dir = tempfile::tempdir().unwrap();
            let at = dir.path().join(standing);
            std::fs::create_dir_all(at.parent().unwrap()).unwrap();
            std::fs::write(at, "").unwrap();
            let pins = Pins::find(dir.path(), b"object");
            assert_eq!(are_judged(&pins).unwrap(), judged, "{standing}");
            std::fs::create_dir_all(&pins.links).unwrap();
            std::fs::write(pins.links.join(POST_OPEN.name), "").unwrap();
            assert!(are_judged(&pins).unwrap(), "our own");
        }
    }
}
