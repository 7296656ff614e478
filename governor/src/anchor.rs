//! The anchor: what the ledger said of itself last, in a file beside it.
//!
//! Promises: it is replaced whole or not at all, and never says more than the ledger that is on disk;
//! that a ledger was found broken stays written here until an operator begins another. It guards
//! against a ledger that is put back or taken away alone, also over a reboot; not against somebody
//! who replaces the whole directory.

use std::{
    fs::{self, File},
    io::Write as _,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result};
use governor_core::{
    digest::Digest,
    lineage::{Flaw, Head},
};
use serde::{Deserialize, Serialize};

/// The anchor's file in a state directory.
#[derive(Debug)]
pub(crate) struct Anchor {
    path: PathBuf,
}

/// What it says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Anchored {
    pub(crate) head: Head,
    pub(crate) broken: Option<(Flaw, String)>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    size: u64,
    head: String,
    broken: Option<WrittenFlaw>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct WrittenFlaw {
    flaw: String,
    detail: String,
}

impl Anchor {
    pub(crate) fn of(state: &Path) -> Self {
        Self {
            path: state.join("anchor"),
        }
    }

    /// What it says; none: there is none. The outer error: it could not be read now. The inner one: what it
    /// says is nothing that was ever written.
    pub(crate) fn read(&self) -> Result<Option<Result<Anchored>>> {
        let context = || format!("reading the ledger's anchor `{}`", self.path.display());
        let bytes = match fs::read(&self.path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error).with_context(context),
        };
        let text = str::from_utf8(&bytes).context("it is not text");
        Ok(Some(text.and_then(Anchored::parse).with_context(context)))
    }

    /// Replaces it, durably.
    pub(crate) fn write(&self, anchored: &Anchored) -> Result<()> {
        let context = || format!("writing the ledger's anchor `{}`", self.path.display());
        let text = anchored.write().with_context(context)?;
        let dir = self.path.parent().unwrap_or(Path::new("/"));
        let mut file = tempfile::NamedTempFile::new_in(dir).with_context(context)?;
        file.write_all(text.as_bytes()).with_context(context)?;
        file.as_file().sync_data().with_context(context)?;
        file.persist(&self.path).with_context(context)?;
        File::open(dir)
            .and_then(|dir| dir.sync_all())
            .with_context(context)
    }
}

impl Anchored {
    /// Reads what [`Self::write`] wrote.
    pub(crate) fn parse(text: &str) -> Result<Self> {
        let written: Written = toml::from_str(text)?;
        let digest = Digest::from_hex(&written.head).context("its head is not a digest")?;
        let broken = written.broken.map(|broken| {
            // A name that is not known here is a flaw all the same.
            let flaw = Flaw::from_name(&broken.flaw).unwrap_or(Flaw::Contradicting);
            (flaw, broken.detail)
        });
        let head = Head {
            size: written.size,
            digest,
        };
        Ok(Self { head, broken })
    }

    /// The anchor's text.
    pub(crate) fn write(&self) -> Result<String> {
        let written = Written {
            size: self.head.size,
            head: self.head.digest.to_string(),
            broken: self.broken.as_ref().map(|(flaw, detail)| WrittenFlaw {
                flaw: flaw.name().to_owned(),
                detail: detail.clone(),
            }),
        };
        Ok(toml::to_string(&written)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_and_anything_else_is_an_error() {
        let dir = tempfile::tempdir().unwrap();
        let anchor = Anchor::of(dir.path());
        assert!(anchor.read().unwrap().is_none());
        for broken in [None, Some((Flaw::RolledBack, "it had \"5\"\n".to_owned()))] {
            let anchored = Anchored {
                head: Head::EMPTY.push(b"record"),
                broken,
            };
            anchor.write(&anchored).unwrap();
            assert_eq!(anchor.read().unwrap().unwrap().unwrap(), anchored);
        }
        for text in ["", "size = 1\n", "size = 1\nhead = \"ab\"\n", "\u{7f}"] {
            fs::write(dir.path().join("anchor"), text).unwrap();
            assert!(anchor.read().unwrap().unwrap().is_err(), "{text}");
        }
        fs::write(dir.path().join("anchor"), [0xff]).unwrap();
        assert!(anchor.read().unwrap().unwrap().is_err(), "no text");
        fs::remove_file(dir.path().join("anchor")).unwrap();
        fs::create_dir(dir.path().join("anchor")).unwrap();
        assert!(anchor.read().is_err(), "nothing that can be read");
    }
}
