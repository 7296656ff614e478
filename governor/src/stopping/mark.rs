//! Why a cgroup is frozen, kept on the cgroup itself.
//!
//! Promises: the mark lives and dies with the cgroup, so it outlives the daemon and tells the next one
//! what may go on; a milder reason never replaces a stricter one; what cannot be understood counts as
//! the strictest. An extended attribute of the `trusted` kind, which only root can write.

use std::{io, path::Path};

use rustix::{
    fs::{XattrFlags, getxattr, removexattr, setxattr},
    io::Errno,
};

/// Why, from what ends by itself to what only an operator ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Mark {
    /// Policy said so when an authorization ended.
    Frozen,
    /// The same, and trust that returns does not end it.
    Barred,
    /// An operator paused it.
    Paused,
    Quarantined,
}

impl Mark {
    const fn name(self) -> &'static str {
        match self {
            Self::Frozen => "frozen",
            Self::Barred => "barred",
            Self::Paused => "paused",
            Self::Quarantined => "quarantined",
        }
    }

    fn of(bytes: &[u8]) -> Self {
        [Self::Frozen, Self::Barred, Self::Paused]
            .into_iter()
            .find(|mark| mark.name().as_bytes() == bytes)
            .unwrap_or(Self::Quarantined)
    }
}

/// Where marks are kept.
pub(crate) trait Marks {
    fn get(&self, cgroup: &Path) -> io::Result<Option<Mark>>;
    fn set(&self, cgroup: &Path, mark: Mark) -> io::Result<()>;
    fn clear(&self, cgroup: &Path) -> io::Result<()>;

    /// Sets a mark unless a stricter one stands.
    fn raise(&self, cgroup: &Path, mark: Mark) -> io::Result<()> {
        if self.get(cgroup)? < Some(mark) {
            self.set(cgroup, mark)?;
        }
        Ok(())
    }
}

/// In an extended attribute of the cgroup's directory.
pub(crate) struct OnCgroup;

impl Marks for OnCgroup {
    fn get(&self, cgroup: &Path) -> io::Result<Option<Mark>> {
        let mut bytes = [0u8; 32];
        match getxattr(cgroup, NAME, &mut bytes[..]) {
            Ok(length) => Ok(Some(Mark::of(bytes.get(..length).unwrap_or_default()))),
            Err(Errno::NODATA) => Ok(None),
            // Longer than any of ours.
            Err(Errno::RANGE) => Ok(Some(Mark::Quarantined)),
            Err(error) => Err(error.into()),
        }
    }

    fn set(&self, cgroup: &Path, mark: Mark) -> io::Result<()> {
        let value = mark.name().as_bytes();
        Ok(setxattr(cgroup, NAME, value, XattrFlags::empty())?)
    }

    fn clear(&self, cgroup: &Path) -> io::Result<()> {
        match removexattr(cgroup, NAME) {
            Ok(()) | Err(Errno::NODATA) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }
}

const NAME: &str = "trusted.governor.held";

#[cfg(test)]
pub(crate) mod fake {
    use std::{cell::RefCell, collections::BTreeMap, path::PathBuf};

    use super::*;

    /// Marks of directories that are no cgroups.
    #[derive(Default)]
    pub(crate) struct InMemory(RefCell<BTreeMap<PathBuf, Mark>>);

    impl Marks for InMemory {
        fn get(&self, cgroup: &Path) -> io::Result<Option<Mark>> {
            Ok(self.0.borrow().get(cgroup).copied())
        }

        fn set(&self, cgroup: &Path, mark: Mark) -> io::Result<()> {
            self.0.borrow_mut().insert(cgroup.to_owned(), mark);
            Ok(())
        }

        fn clear(&self, cgroup: &Path) -> io::Result<()> {
            self.0.borrow_mut().remove(cgroup);
            Ok(())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{fake::InMemory, *};

    #[test]
    fn a_milder_reason_replaces_nothing() {
        let (marks, cgroup) = (InMemory::default(), Path::new("/x"));
        for (raised, expected) in [
            (Mark::Frozen, Mark::Frozen),
            (Mark::Paused, Mark::Paused),
            (Mark::Barred, Mark::Paused),
            (Mark::Quarantined, Mark::Quarantined),
            (Mark::Frozen, Mark::Quarantined),
        ] {
            marks.raise(cgroup, raised).unwrap();
            assert_eq!(marks.get(cgroup).unwrap(), Some(expected));
        }
    }

    #[test]
    fn what_cannot_be_read_is_the_strictest() {
        for mark in [Mark::Frozen, Mark::Barred, Mark::Paused, Mark::Quarantined] {
            assert_eq!(Mark::of(mark.name().as_bytes()), mark);
        }
        assert_eq!(Mark::of(b"paused?"), Mark::Quarantined);
        assert_eq!(Mark::of(b""), Mark::Quarantined);
    }
}
