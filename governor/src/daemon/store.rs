//! Where an accepted policy is kept so that a restart finds it.
//!
//! One file per policy, named by its digest. What is read back is verified again from its
//! signature on; the file itself is trusted for nothing.

use std::{
    collections::BTreeMap,
    fs::{self, File},
    io::Write as _,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result};
use governor_core::{digest::Digest, policy::RawBundle};
use prost::Message;

/// The directory of kept policies.
#[derive(Debug)]
pub(crate) struct Store {
    dir: PathBuf,
}

#[derive(Clone, PartialEq, Message)]
struct Kept {
    #[prost(btree_map = "string, bytes", tag = "1")]
    files: BTreeMap<String, Vec<u8>>,
}

impl Store {
    /// Policies below the daemon's state directory. The directory is made with the first.
    pub(crate) fn open(state: &Path) -> Self {
        Self {
            dir: state.join("policy"),
        }
    }

    /// Keeps a bundle, durably.
    pub(crate) fn keep(&self, digest: Digest, bundle: &RawBundle) -> Result<()> {
        let path = self.path(digest);
        let context = || format!("keeping the policy in `{}`", path.display());
        fs::create_dir_all(&self.dir).with_context(context)?;
        let mut file = tempfile::NamedTempFile::new_in(&self.dir).with_context(context)?;
        let files = bundle
            .files()
            .map(|(name, bytes)| (name.to_owned(), bytes.to_vec()))
            .collect();
        let kept = Kept { files };
        file.write_all(&kept.encode_to_vec())
            .with_context(context)?;
        file.as_file().sync_all().with_context(context)?;
        file.persist(&path).with_context(context)?;
        File::open(&self.dir)
            .and_then(|dir| dir.sync_all())
            .with_context(context)
    }

    /// The bundle kept under `digest`, if there is one.
    pub(crate) fn load(&self, digest: Digest) -> Result<Option<RawBundle>> {
        let path = self.path(digest);
        let bytes = match fs::read(&path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(error) => {
                return Err(error).with_context(|| format!("reading `{}`", path.display()));
            }
        };
        let kept = Kept::decode(bytes.as_slice())
            .with_context(|| format!("reading the kept policy `{}`", path.display()))?;
        let bundle = RawBundle::new(kept.files)
            .with_context(|| format!("reading the kept policy `{}`", path.display()))?;
        Ok(Some(bundle))
    }

    /// Forgets every policy but this one. What cannot be removed is only clutter.
    pub(crate) fn forget_others(&self, digest: Digest) {
        let keep = self.path(digest);
        let Ok(entries) = fs::read_dir(&self.dir) else {
            return;
        };
        for entry in entries.flatten() {
            if entry.path() != keep {
                drop(fs::remove_file(entry.path()));
            }
        }
    }

    fn path(&self, digest: Digest) -> PathBuf {
        self.dir.join(format!("{digest}.bundle"))
    }
}
