//! A policy directory as bytes.
//!
//! Promises: at most [`MAX_FILES`] files of at most [`MAX_FILE`] bytes, [`MAX_TOTAL`] together,
//! under names that are clean relative paths, so that nothing later needs to think about size or
//! about leaving the directory. Refuses everything else at the door.

use std::collections::BTreeMap;

use super::report::quoted;

/// Files in a bundle.
pub const MAX_FILES: usize = 256;
/// Bytes of one file.
pub const MAX_FILE: usize = 64 << 20;
/// Bytes of all files together.
pub const MAX_TOTAL: usize = 128 << 20;
/// Bytes of a name.
pub const MAX_NAME: usize = 255;

/// The file the policy itself is in.
pub const POLICY: &str = "policy.toml";
/// The digests of all the other files.
pub const MANIFEST: &str = "SHA256SUMS";
/// The signatures over [`MANIFEST`].
pub const SIGNATURE: &str = "SHA256SUMS.sig";

/// Relative paths with `/` and what the files contain.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RawBundle {
    files: BTreeMap<String, Vec<u8>>,
    total: usize,
}

/// Why a file cannot be part of a bundle.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BundleError {
    #[error("file name {} is not a clean relative path: {why}", quoted(name))]
    Name { name: String, why: &'static str },
    #[error("file {} is in the bundle twice", quoted(name))]
    Twice { name: String },
    #[error("file {} has {size} bytes, the limit is {MAX_FILE}", quoted(name))]
    FileTooLarge { name: String, size: usize },
    #[error("files up to {} exceed {MAX_TOTAL} bytes together", quoted(name))]
    TotalTooLarge { name: String },
    #[error("more than {MAX_FILES} files, {} is one too many", quoted(name))]
    TooMany { name: String },
}

impl RawBundle {
    /// All of `files`, or why not.
    pub fn new(files: BTreeMap<String, Vec<u8>>) -> Result<Self, BundleError> {
        let mut bundle = Self::default();
        for (name, bytes) in files {
            bundle.insert(name, bytes)?;
        }
        Ok(bundle)
    }

    /// Adds one file.
    pub fn insert(&mut self, name: String, bytes: Vec<u8>) -> Result<(), BundleError> {
        if let Err(why) = clean_name(&name) {
            return Err(BundleError::Name { name, why });
        }
        if self.files.contains_key(&name) {
            return Err(BundleError::Twice { name });
        }
        if self.files.len() >= MAX_FILES {
            return Err(BundleError::TooMany { name });
        }
        if bytes.len() > MAX_FILE {
            return Err(BundleError::FileTooLarge {
                name,
                size: bytes.len(),
            });
        }
        // Both terms are bounded, so the sum does not wrap.
        let total = self.total + bytes.len();
        if total > MAX_TOTAL {
            return Err(BundleError::TotalTooLarge { name });
        }
        self.total = total;
        self.files.insert(name, bytes);
        Ok(())
    }

    /// One file's content.
    pub fn get(&self, name: &str) -> Option<&[u8]> {
        self.files.get(name).map(Vec::as_slice)
    }

    /// All files in order of name.
    pub fn files(&self) -> impl Iterator<Item = (&str, &[u8])> {
        self.files
            .iter()
            .map(|(name, bytes)| (name.as_str(), bytes.as_slice()))
    }
}

/// Whether `name` stays inside the directory and can stand in a manifest without escapes.
pub(super) fn clean_name(name: &str) -> Result<(), &'static str> {
    if name.is_empty() {
        return Err("it is empty");
    }
    if name.len() > MAX_NAME {
        return Err("it is longer than 255 bytes");
    }
    if name.starts_with('/') {
        return Err("it begins with `/`");
    }
    if name.contains('\\') {
        return Err("it contains a backslash");
    }
    if name.chars().any(char::is_control) {
        return Err("it contains a control character");
    }
    if name.split('/').any(|part| matches!(part, "" | "." | "..")) {
        return Err("it contains `.`, `..` or an empty component");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn add(name: &str, size: usize) -> Result<(), BundleError> {
        RawBundle::default().insert(name.to_owned(), vec![0; size])
    }

    #[test]
    fn names_stay_inside() {
        for name in ["policy.toml", "sets/a b.sha256", "sets/..x", "ü"] {
            assert_eq!(add(name, 1), Ok(()), "{name}");
        }
        for name in [
            "", "/a", "a/../b", "..", "./a", "a//b", "a/", "a\n", "a\u{7f}", "a\\b",
        ] {
            assert!(
                matches!(add(name, 1), Err(BundleError::Name { .. })),
                "{name}"
            );
        }
        assert!(add(&"x".repeat(256), 1).is_err());
    }

    #[test]
    fn sizes_are_bounded() {
        assert_eq!(add("a", MAX_FILE), Ok(()));
        assert!(matches!(
            add("a", MAX_FILE + 1),
            Err(BundleError::FileTooLarge { .. })
        ));
        let mut bundle = RawBundle::default();
        bundle.insert("a".into(), vec![0; MAX_FILE]).expect("fits");
        bundle.insert("b".into(), vec![0; MAX_FILE]).expect("fits");
        let one_more = bundle.insert("c".into(), vec![0]);
        assert!(matches!(one_more, Err(BundleError::TotalTooLarge { .. })));
        let mut bundle = RawBundle::default();
        for n in 0..MAX_FILES {
            bundle.insert(n.to_string(), vec![]).expect("fits");
        }
        assert!(matches!(
            bundle.insert("x".into(), vec![]),
            Err(BundleError::TooMany { .. })
        ));
        assert!(matches!(
            bundle.insert("1".into(), vec![]),
            Err(BundleError::Twice { .. })
        ));
    }
}
