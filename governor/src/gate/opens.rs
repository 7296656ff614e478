//! The hook that judges what is opened. The kernel calls it for every file that anybody on the host opens, so
//! it is attached when the first table comes that has somebody open only what is listed.
//!
//! Promises: it is attached before such a table is in force, and no daemon after that lets go of it: labels
//! outlive the table that they came from.

use std::path::Path;

use aya::programs::links::{FdLink, PinnedLink};
use governor_common::{Row, row::OPENS_LISTED};

use super::{
    Gate, GateError, HookState, HookStatus, OBJECT,
    error::whole,
    load::{Loaded, POST_OPEN},
    pins::Pins,
};

/// Whether programs that stand, ours or another object's, judge what is opened.
pub(super) fn are_judged(pins: &Pins) -> Result<bool, GateError> {
    let others = pins.other_links()?;
    let mut every = others.iter().chain([&pins.links]);
    Ok(every.any(|links| links.join(POST_OPEN.name).exists()))
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
    /// Whether this kernel asks about what was opened.
    pub fn can_judge_opens(&self) -> bool {
        self.can_judge_opens
    }

    /// Has it ask, if `rows` need that.
    pub(super) fn judge_opens(&mut self, rows: &[Row]) -> Result<(), GateError> {
        let name = POST_OPEN.name;
        let needed = rows.iter().any(|row| row.roles & OPENS_LISTED != 0);
        if !needed || self.hooks.iter().any(|hook| hook.name == name) {
            return Ok(());
        }
        let path = self.pinned_links.join(name);
        let maps = &self.pinned_maps;
        let link = pinned(&path, || {
            Ok(Loaded::with_maps(OBJECT, maps)?.attach(&POST_OPEN))
        })?;
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
    fn whatever_judged_opens_before_has_a_successor() {
        for (standing, judged) in [
            ("links-0123/file_post_open", true),
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
